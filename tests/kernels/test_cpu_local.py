"""What is done around each centre, by generated C, against the reference: value, first and second derivatives."""

import pytest
import torch

from equiforce.geometry.irreps import Irreps, hidden_irreps
from equiforce.kernels import CouplingTable, contract, environment, lookup, weighted_harmonics
from tests.kernels.cases import TOLERANCE, assert_same, derivatives, random_graph

COUPLINGS = {
    "scalars": CouplingTable(Irreps("5x0e"), 0, Irreps("5x0e")),
    "l1": CouplingTable(hidden_irreps((20, 20), odd=False), 1, hidden_irreps((20, 20), odd=False)),
    "l2": CouplingTable(hidden_irreps((32,) * 3, odd=False), 2, hidden_irreps((32,) * 3, odd=False)),
    "l2-both-parities": CouplingTable(hidden_irreps((7,) * 3, odd=True), 2, hidden_irreps((7,) * 3, odd=True)),
    "l2-not-summed": CouplingTable(hidden_irreps((9,) * 3, odd=False), 2, hidden_irreps((9,) * 3, odd=False), False),
    "l3-to-scalars": CouplingTable(hidden_irreps((16,) * 4, odd=False), 3, Irreps("16x0e")),
    "gaps": CouplingTable(Irreps("3x1e + 3x2o"), 3, Irreps("3x3o + 3x0e + 3x1o")),
}


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
    of_edges = lambda w, y, backend: weighted_harmonics(w, y, backend)  # noqa: E731
    assert_same(
        *both(lambda w, y, b: environment(w, y, graph, b) if summed else of_edges(w, y, b), inputs), TOLERANCE[dtype]
    )


@pytest.mark.parametrize("name", COUPLINGS)
def test_contraction(name, dtype):
    torch.manual_seed(0)
    table, graph = COUPLINGS[name], random_graph(9, 150)
    inputs = [
        torch.randn(graph.n_edges, table.irreps_in.dim, dtype=dtype),
        torch.randn(graph.n_atoms, table.dim_environment, dtype=dtype),
        torch.randn(table.n_paths, table.channels, dtype=dtype),
    ]
    assert_same(*both(lambda v, g, w, b: contract(v, g, w, graph, table, b), inputs), TOLERANCE[dtype])


@pytest.mark.parametrize("columns", [1, 16, 37])
def test_lookup(columns, dtype):
    torch.manual_seed(0)
    kinds = torch.randint(3, (300,))
    inputs = [torch.randn(3, 12, columns, dtype=dtype), 9 * torch.rand(300, dtype=dtype)]
    assert_same(*both(lambda values, t, b: lookup(values, t, kinds, b), inputs), TOLERANCE[dtype])
