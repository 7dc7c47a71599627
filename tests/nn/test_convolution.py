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
