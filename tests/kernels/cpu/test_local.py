"""What is done around each centre, by generated C, against the reference: value, first and second derivatives."""

import pytest
import torch

from equiforce.geometry.irreps import Irreps, hidden_irreps
from equiforce.kernels import (
    CouplingTable,
    environment,
    lookup,
    tensor_product,
    tensor_product_of_harmonics,
    weighted_harmonics,
)
from tests.kernels.cases import TOLERANCE, assert_same, derivatives, random_graph

COUPLINGS = {
    "scalars": CouplingTable(Irreps("5x0e"), 0, Irreps("5x0e")),
    "l1": CouplingTable(hidden_irreps((20, 20), odd=False), 1, hidden_irreps((20, 20), odd=False)),
    "l2": CouplingTable(hidden_irreps((32,) * 3, odd=False), 2, hidden_irreps((32,) * 3, odd=False)),
    "l2-both-parities": CouplingTable(hidden_irreps((7,) * 3, odd=True), 2, hidden_irreps((7,) * 3, odd=True)),
    "l2-not-summed": CouplingTable(hidden_irreps((9,) * 3, odd=False), 2, hidden_irreps((9,) * 3, odd=False), False),
    "scalars-apart": CouplingTable(Irreps("5x0e + 5x0e + 5x1o"), 1, hidden_irreps((5,) * 2, odd=False)),
    "l3-to-scalars": CouplingTable(hidden_irreps((16,) * 4, odd=False), 3, Irreps("16x0e")),
    "gaps": CouplingTable(Irreps("3x1e + 3x2o"), 3, Irreps("3x3o + 3x0e + 3x1o")),
}
SLOW = ("l2-both-parities", "l2-not-summed")


@pytest.fixture(params=[torch.float64, torch.float32], ids=str)
def dtype(request):
    return request.param


def both(function, inputs):
    return [
        derivatives(lambda *given, backend=backend: function(*given, backend), inputs)
        for backend in ("cpu", "reference")
    ]


@pytest.mark.parametrize(("l_max", "channels"), [(0, 5), (1, 16), (2, 32), (3, 21)])
@pytest.mark.parametrize("summed", [True, False])
def test_environment(l_max, channels, summed, dtype):
    torch.manual_seed(0)
    graph = random_graph(9, 400)
    inputs = [
        torch.randn(graph.n_edges, (l_max + 1) * channels, dtype=dtype),
        torch.randn(graph.n_edges, (l_max + 1) ** 2, dtype=dtype),
    ]
    assert_same(
        *both(lambda w, y, b: environment(w, y, graph, b) if summed else weighted_harmonics(w, y, b), inputs),
        TOLERANCE[dtype],
    )


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in COUPLINGS])
def test_contraction(name, dtype):
    torch.manual_seed(0)
    table, graph = COUPLINGS[name], random_graph(9, 150)
    inputs = [
        torch.randn(graph.n_edges, table.irreps_in.dim, dtype=dtype),
        torch.randn(graph.n_atoms, table.dim_environment, dtype=dtype),
        torch.randn(table.n_paths, table.channels, dtype=dtype),
    ]
    assert_same(*both(lambda v, g, w, b: tensor_product(v, g, w, graph, table, b), inputs), TOLERANCE[dtype])


@pytest.mark.parametrize("name", ["scalars", "l1", "l2", "l2-not-summed", "l3-to-scalars"])
def test_contraction_of_harmonics(name, dtype):
    torch.manual_seed(0)
    table, graph = COUPLINGS[name], random_graph(9, 150)
    inputs = [
        torch.randn(graph.n_edges, (table.l_max + 1) * table.channels, dtype=dtype),
        torch.randn(graph.n_edges, (table.l_max + 1) ** 2, dtype=dtype),
        torch.randn(graph.n_atoms, table.dim_environment, dtype=dtype),
        torch.randn(table.n_paths, table.channels, dtype=dtype),
    ]
    assert_same(
        *both(lambda w, y, g, p, b: tensor_product_of_harmonics(w, y, g, p, graph, table, b), inputs), TOLERANCE[dtype]
    )


@pytest.mark.parametrize("columns", [1, 16, 37])
def test_lookup(columns, dtype):
    torch.manual_seed(0)
    kinds = torch.randint(3, (300,))
    inputs = [torch.randn(3, 12, columns, dtype=dtype), 9 * torch.rand(300, dtype=dtype)]
    assert_same(*both(lambda values, t, b: lookup(values, t, kinds, b), inputs), TOLERANCE[dtype])


@pytest.mark.parametrize("n_threads", [1, 3])
def test_any_number_of_threads(n_threads):
    """Nine atoms, some without edges, and hundreds of edges of one: parts end where atoms do."""
    table, graph = COUPLINGS["l2"], random_graph(4, 1000)
    torch.manual_seed(0)
    inputs = [
        torch.randn(graph.n_edges, table.irreps_in.dim, dtype=torch.float64),
        torch.randn(graph.n_atoms, table.dim_environment, dtype=torch.float64),
        torch.randn(table.n_paths, table.channels, dtype=torch.float64),
    ]
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    fused, reference = both(lambda v, g, w, b: tensor_product(v, g, w, graph, table, b), inputs)
    torch.set_num_threads(before)
    assert_same(fused, reference, 1e-10)


def test_no_edges_and_one_atom():
    table, graph = COUPLINGS["l1"], random_graph(1, 0)  # 20 channels; two paths lead to scalars
    out = environment(torch.zeros(0, 40), torch.zeros(0, 4), graph, "cpu")
    assert out.shape == (1, 80)
    assert not out.any()
    assert tensor_product(torch.zeros(0, 80), out, torch.ones(table.n_paths, 20), graph, table, "cpu").shape == (0, 100)
    assert lookup(torch.zeros(2, 9, 3), torch.zeros(0), torch.zeros(0, dtype=torch.int64), "cpu").shape == (0, 3)


def test_splines_end_at_the_last_knot():
    values, kinds = torch.randn(1, 8, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.int64)
    ends = torch.tensor([4.999, 5.0, 5.5], dtype=torch.float64)
    assert_same(*both(lambda v, t, b: lookup(v, t, kinds, b), [values, ends]), 1e-10)


def test_third_derivatives_exist():
    """Every form is linear in each of its arguments, so that no derivative is the last."""
    torch.manual_seed(0)
    kinds = torch.randint(2, (12,))
    values, t = torch.randn(2, 9, 3, dtype=torch.float64), 6 * torch.rand(12, dtype=torch.float64)

    def third(backend):
        x = t.clone().requires_grad_()
        slope = lookup(values, x, kinds, backend).square().sum()
        for _ in range(3):
            (slope,) = torch.autograd.grad(slope, x, torch.ones_like(slope), create_graph=True)
        return slope.detach()

    torch.testing.assert_close(third("cpu"), third("reference"))
