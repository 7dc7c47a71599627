import pytest
import torch

from equiforce.kernels import pair_gradient, pair_vectors
from tests.kernels.cases import assert_same, derivatives, random_graph, shuffled
from tests.systems import atom, crystal, ethanol, graph_of, slab


@pytest.mark.parametrize(
    "structures", [[ethanol()], [crystal()], [slab(), ethanol(), atom("H"), crystal()], [atom("H")]]
)
def test_vectors_are_those_of_the_graph(structures):
    graph = graph_of(*structures)
    torch.testing.assert_close(pair_vectors(graph, "cpu"), graph.edge_vectors(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("n_atoms", "n_edges"), [(1, 0), (7, 30), (50, 9000)])
def test_gradients_and_their_derivatives(n_atoms, n_edges):
    graph = random_graph(n_atoms, n_edges)
    torch.manual_seed(0)
    edge_gradients = torch.randn(n_edges, 3, dtype=torch.float64)
    fused, reference = (
        derivatives(lambda p, backend=backend: pair_gradient(p, graph, backend) ** 2, [edge_gradients])
        for backend in ("cpu", "reference")
    )
    assert_same(fused, reference, 1e-12)


def test_gradients_of_edges_in_any_order():
    graph = random_graph(9, 60)
    edge_gradients = torch.randn(60, 3, dtype=torch.float64)
    order = torch.randperm(60)
    torch.testing.assert_close(
        pair_gradient(edge_gradients[order], shuffled(graph, order)), pair_gradient(edge_gradients, graph)
    )
