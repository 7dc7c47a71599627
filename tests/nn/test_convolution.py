import pytest
import torch

from equiforce.geometry.irreps import Irreps
from equiforce.geometry.spherical_harmonics import spherical_harmonics
from equiforce.kernels import Radial
from equiforce.nn.convolution import Convolution
from tests.systems import atom, ethanol, graph_of

IRREPS = Irreps("4x0e + 3x1o")


def applied(graph, seed=0, **options):
    torch.manual_seed(seed)
    settings = {"l_max": 1, "n_basis": 5, "radial_depth": 1, "radial_width": 8, "mean_neighbors": 4.0, "n_species": 3}
    layer = Convolution(IRREPS, IRREPS, **{**settings, "self_connection": False, "from_species": False, **options})
    h = torch.linspace(-1, 1, graph.n_atoms * IRREPS.dim).reshape(graph.n_atoms, -1)
    harmonics = spherical_harmonics(graph.edge_vectors().float(), 1)
    basis = torch.linspace(0, 1, graph.n_edges * 5).reshape(-1, 5)
    return layer(h, harmonics, Radial(layer.radial(basis)), graph)


def test_messages_are_divided_by_the_root_of_the_number_of_neighbours():
    graph = graph_of(ethanol())
    torch.testing.assert_close(applied(graph, mean_neighbors=4.0), 2 * applied(graph, mean_neighbors=16.0))


@pytest.mark.parametrize("self_connection", [True, False])
def test_an_atom_alone_has_only_its_self_connection(self_connection):
    assert bool(applied(graph_of(atom()), self_connection=self_connection).any()) == self_connection


def test_each_species_can_send_by_weights_of_its_own():
    graph, linear = graph_of(ethanol()), Irreps("2x0e")
    torch.manual_seed(0)
    layer = Convolution(
        linear, linear, l_max=0, n_basis=5, radial_depth=1, radial_width=8, mean_neighbors=1.0, n_species=3,
        self_connection=False, from_species=False, linear_in_by_species=True,
    )  # fmt: skip
    h = torch.ones(graph.n_atoms, 2)
    harmonics, radial = torch.ones(graph.n_edges, 1), torch.ones(graph.n_edges, layer.table.n_weights)
    with torch.no_grad():
        layer.linear_in.weights[1:] = 0.0
    found = layer(h, harmonics, Radial(radial), graph)
    n_hydrogens = torch.zeros(graph.n_atoms).index_add(0, graph.centers, (graph.species[graph.neighbors] == 0).float())
    per_neighbor = found[n_hydrogens > 0] / n_hydrogens[n_hydrogens > 0].unsqueeze(1)
    torch.testing.assert_close(per_neighbor, per_neighbor[:1].expand_as(per_neighbor))
    assert per_neighbor.any()
    assert not found[n_hydrogens == 0].any()
