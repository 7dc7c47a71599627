import torch

from equiforce.kernels.cpu import build
from equiforce.kernels.cpu.targets import TARGETS


def test_widths():
    assert [TARGETS[name].width("float") for name in ("avx512", "avx2", "portable")] == [16, 8, 4]
    assert [TARGETS[name].width("double") for name in ("avx512", "avx2", "portable")] == [8, 4, 2]


def test_this_machine_has_one():
    assert build.target() in TARGETS.values()
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        assert build.target().name == "avx512"
