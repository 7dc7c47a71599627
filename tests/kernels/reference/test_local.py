"""The definitions against e3nn's tensor product, and their normalisation."""

import pytest
import torch
from e3nn import o3

from equiforce.geometry.irreps import Irreps, blocks, hidden_irreps
from equiforce.geometry.spherical_harmonics import spherical_harmonics
from equiforce.kernels import CouplingTable
from equiforce.kernels.reference.local import environment, lookup, tensor_product, weighted_harmonics
from tests.kernels.cases import random_graph
from tests.kernels.reference.test_convolution import exact_e3nn, to_e3nn  # noqa: F401 - a fixture

C = 3


def natural(l_max: int, channels: int = C) -> Irreps:
    return hidden_irreps((channels,) * (l_max + 1), odd=False)


@pytest.mark.parametrize(
    ("l_max", "odd", "scalars"), [(1, False, 1), (2, True, 1), (3, False, 1), (2, False, 3), (1, True, 2)]
)
def test_equals_the_tensor_product_of_e3nn(l_max, odd, scalars, exact_e3nn):  # noqa: F811
    torch.manual_seed(0)
    irreps = Irreps([(C, "0e")] * (scalars - 1)) + hidden_irreps((C,) * (l_max + 1), odd=odd)
    targets = hidden_irreps((C,) * (l_max + 1), odd=odd)
    table, graph = CouplingTable(irreps, l_max, targets), random_graph(6, 20)
    features = torch.randn(20, irreps.dim, dtype=torch.float64)
    environments = torch.randn(6, table.dim_environment, dtype=torch.float64)
    weights = torch.randn(table.n_paths, C, dtype=torch.float64)
    source, target = ({block.start: i for i, block in enumerate(blocks(ir))} for ir in (irreps, table.split))
    instructions = [
        (source[p.source.start], p.l2, target[p.target.start + p.channel], "uuu", True) for p in table.paths
    ]
    # component normalisation, without e3nn's own weighting of paths
    product = o3.TensorProduct(
        irreps, natural(l_max), table.split, instructions, path_normalization="none",
        internal_weights=False, shared_weights=True,
    )  # fmt: skip
    shares = [1.0 if p.target.name == "0e" else table.paths_to[p.target.name] ** -0.5 for p in table.paths]
    share = torch.tensor(shares, dtype=torch.float64).unsqueeze(1)
    expected = product(
        to_e3nn(features, irreps), to_e3nn(environments, natural(l_max))[graph.centers], (share * weights).flatten()
    )
    actual = to_e3nn(tensor_product(features, environments, weights, graph.centers, table), table.split)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-11)


def test_environment_is_a_sum_of_weighted_harmonics():
    graph = random_graph(5, 30)
    weights = torch.randn(30, 3 * C, dtype=torch.float64)
    harmonics = spherical_harmonics(torch.randn(30, 3, dtype=torch.float64), 2)
    expected = torch.zeros(5, 9, C, dtype=torch.float64)
    for edge, center in enumerate(graph.centers.tolist()):
        for l in range(3):
            for m in range(l**2, (l + 1) ** 2):
                expected[center, m] += weights[edge, C * l : C * (l + 1)] * harmonics[edge, m]
    torch.testing.assert_close(environment(weights, harmonics, graph.centers, 5), expected.flatten(1))


def test_unit_variance_in_gives_unit_variance_out():
    torch.manual_seed(0)
    table = CouplingTable(natural(2, 16), 2, natural(2, 16))
    centers = torch.arange(2000)
    features, environments = torch.randn(2000, 9 * 16), torch.randn(2000, table.dim_environment)
    out = tensor_product(features, environments, torch.randn(table.n_paths, 16), centers, table)
    for block in blocks(table.irreps_out):
        assert block.of(out).square().mean().item() == pytest.approx(1.0, rel=0.5)


def test_each_edge_reads_the_table_of_its_kind():
    values = torch.zeros(2, 8, 1, dtype=torch.float64)
    values[1] = 3.0
    knot_coordinates, kinds = torch.tensor([1.5, 1.5], dtype=torch.float64), torch.tensor([0, 1])
    torch.testing.assert_close(
        lookup(values, knot_coordinates, kinds).flatten(), torch.tensor([0.0, 3.0], dtype=torch.float64)
    )


def test_weighted_harmonics_have_a_row_of_channels_for_each_harmonic():
    rows = weighted_harmonics(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[1.0, 10.0, 20.0, 30.0]]))
    assert rows.tolist() == [[1, 2, 30, 40, 60, 80, 90, 120]]
