import pytest

from equiforce.geometry.irreps import hidden_irreps
from equiforce.kernels.cpu.codegen.convolution import ConvolutionKernel
from equiforce.kernels.cpu.codegen.groups import GroupWriter
from equiforce.kernels.spec.paths import PathTable


@pytest.mark.parametrize("width", [4, 8, 16])
@pytest.mark.parametrize("channels", [1, 3, 16, 20, 33, 64, 100])
def test_every_channel_is_covered_once(width, channels):
    table = PathTable(hidden_irreps((channels,), odd=False), 0, hidden_irreps((channels,), odd=False))
    kernel = ConvolutionKernel(table, "float", "forward")
    writer = GroupWriter(kernel, table.groups[0], 0, width=width, n_registers=32, n_harmonics=1)
    covered = []
    for head, n_vectors, tail in writer._pieces():
        start, stop, step = (part.split("=")[-1].split("<")[-1].strip() for part in head[5:-1].split(";"))
        step = step.replace("u +", "").replace("*W", "").strip()
        for u in range(int(start), int(stop), int(step) * (1 if tail else width)):
            covered += range(u, u + (tail or n_vectors * width))
    assert covered == list(range(channels))


def test_sums_fit_into_the_registers():
    table = PathTable(hidden_irreps((64,) * 4, odd=False), 3, hidden_irreps((64,) * 4, odd=False))
    for group in table.groups:
        writer = GroupWriter(
            ConvolutionKernel(table, "float", "forward"), group, 0, width=16, n_registers=32, n_harmonics=16
        )
        for _, n_vectors, _ in writer._pieces():
            assert n_vectors == 1 or n_vectors * (2 * group.l3 + 1 + 2 * group.l1 + 1) < 32
