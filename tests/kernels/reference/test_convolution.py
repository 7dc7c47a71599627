"""The reference kernel against e3nn's tensor product, and against its own derivatives."""

import math

import numpy as np
import pytest
import torch
from e3nn import o3
from scipy.interpolate import BSpline

from equiforce.geometry.irreps import Irreps, blocks, hidden_irreps
from equiforce.geometry.spherical_harmonics import spherical_harmonics
from equiforce.graph import AtomicGraph
from equiforce.kernels import PathTable, Radial, convolve

CASES = {
    "scalars": ((5,), (5,), 0, False),
    "l1": ((4, 3), (4, 3), 1, False),
    "l2": ((6, 4, 2), (6, 4, 2), 2, False),
    "l2-both-parities": ((3, 2, 4), (3, 2, 4), 2, True),
    "l4": ((2, 3, 1, 2, 2), (2, 3, 1, 2, 2), 4, False),
    "from-scalars": ((7,), (4, 3, 2), 2, False),
    "to-scalars": ((3, 4, 5), (3,), 2, True),
    "no-vectors": ((3, 0, 2), (3, 0, 2), 2, False),
}


def random_graph(n_atoms=6, n_edges=25, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randint(n_atoms, (n_edges,), generator=generator).sort().values
    neighbors = torch.randint(n_atoms, (n_edges,), generator=generator)
    return AtomicGraph(
        positions=torch.zeros(n_atoms, 3, dtype=torch.float64),
        species=torch.zeros(n_atoms, dtype=torch.int64),
        cell=torch.zeros(1, 3, 3, dtype=torch.float64),
        structure_of_atom=torch.zeros(n_atoms, dtype=torch.int64),
        centers=centers,
        neighbors=neighbors,
        shifts=torch.zeros(n_edges, 3, dtype=torch.float64),
        by_neighbor=neighbors.argsort(stable=True),
    )


def random_case(name, graph, dtype=torch.float64):
    channels_in, channels_out, l_max, odd = CASES[name]
    table = PathTable(hidden_irreps(channels_in, odd=odd), l_max, hidden_irreps(channels_out, odd=odd))
    torch.manual_seed(1)
    x = torch.randn(graph.n_atoms, table.irreps_in.dim, dtype=dtype)
    harmonics = spherical_harmonics(torch.randn(graph.n_edges, 3, dtype=dtype), l_max)
    return table, x, harmonics, torch.randn(graph.n_edges, table.n_weights, dtype=dtype)


def to_e3nn(features, irreps):
    """From channels last to e3nn's channels first."""
    return torch.cat([block.of(features).mT.flatten(1) for block in blocks(irreps)], dim=1)


@pytest.fixture
def exact_e3nn():
    """e3nn keeps its coupling constants in the default precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("name", CASES)
def test_equals_the_tensor_product_of_e3nn(name, exact_e3nn):
    graph = random_graph()
    table, x, harmonics, weights = random_case(name, graph)
    paths = sorted(table.paths, key=lambda p: (p.target.start, p.channel))
    number = {str(ir): i for i, (_, ir) in enumerate(table.irreps_in)}
    instructions = [(number[p.source.name], p.l2, i, "uvu", True) for i, p in enumerate(paths)]
    product = o3.TensorProduct(
        table.irreps_in,
        Irreps.spherical_harmonics(table.l_max),
        Irreps([(p.source.channels, p.target.name) for p in paths]),
        instructions,
        shared_weights=False,
        internal_weights=False,
    )
    ordered = torch.cat([weights[:, p.weight : p.weight + p.source.channels] for p in paths], dim=1)
    messages = product(to_e3nn(x, table.irreps_in)[graph.neighbors], harmonics, ordered)
    expected = torch.zeros(graph.n_atoms, messages.shape[1], dtype=torch.float64).index_add(0, graph.centers, messages)
    actual = to_e3nn(convolve(x, harmonics, Radial(weights), graph, table), table.irreps_out)
    # the blocks of irreps_out hold their paths side by side, as e3nn's sorted output does
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", ["l1", "l2-both-parities"])
def test_first_and_second_derivatives(name):
    graph = random_graph(3, 5)
    table, x, harmonics, weights = random_case(name, graph)
    inputs = tuple(value.requires_grad_() for value in (x, harmonics, weights))

    def function(x, harmonics, weights):
        return convolve(x, harmonics, Radial(weights), graph, table)

    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


def test_radial_table_is_a_cubic_spline():
    graph = random_graph()
    table, x, harmonics, _ = random_case("l2", graph)
    values = torch.randn(10, table.n_weights, dtype=torch.float64)
    knot_coordinates = 7 * torch.rand(graph.n_edges, dtype=torch.float64)
    spline = BSpline(np.arange(-3.0, 11.0), values.numpy(), 3)
    torch.testing.assert_close(
        convolve(x, harmonics, Radial(values, knot_coordinates), graph, table),
        convolve(x, harmonics, Radial(torch.from_numpy(spline(knot_coordinates.numpy()))), graph, table),
    )


def test_no_edges_and_one_atom():
    graph = random_graph(1, 0)
    table, x, harmonics, weights = random_case("l2", graph)
    out = convolve(x, harmonics, Radial(weights), graph, table)
    assert out.shape == (1, table.irreps_out.dim)
    assert not out.any()


def test_unit_variance_in_gives_unit_variance_out():
    graph = random_graph(200, 20_000)
    table, x, harmonics, weights = random_case("l2", graph)
    messages = convolve(x, harmonics, Radial(weights), graph, table) / math.sqrt(100)
    for block in blocks(table.irreps_out):
        assert block.of(messages).square().mean().item() == pytest.approx(1.0, rel=0.3)
