import numpy as np
import pytest
import torch

from equiforce.errors import InputError
from equiforce.geometry.irreps import hidden_irreps
from equiforce.kernels import using
from equiforce.models.allegro import Allegro, AllegroConfig
from equiforce.neighbors import build_graph
from equiforce.structure import Structure
from tests.systems import CUTOFF, SPECIES, crystal, ethanol, graph_of, potential_of

pytestmark = pytest.mark.usefixtures("plain_torch")
SMALL = {"kind": "allegro", "scalar_channels": 8, "tensor_channels": 4, "latent_width": 8}


def chain(*, moved: float = 0.0) -> Structure:
    """Eight atoms 0.8 cutoffs apart on a crooked line, the last of which may move."""
    positions = np.array([[0.8 * CUTOFF * i, 0.3 * (-1) ** i, 0.2 * (i % 3)] for i in range(8)])
    positions[-1, 1] += moved
    return Structure(
        atomic_numbers=np.array([1, 6, 8, 1, 6, 8, 1, 6]),
        positions=positions,
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, bool),
    )


@pytest.mark.parametrize("n_layers", [1, 2, 3, 4])
def test_an_atom_sees_its_neighbours_and_nothing_else(n_layers):
    potential = potential_of(**SMALL, n_layers=n_layers)
    before, after = (potential(graph_of(chain(moved=d))).energies for d in (0.0, 0.4))
    assert torch.equal(after[:-2], before[:-2])  # beyond the cutoff not one bit changes
    assert (after[-2:] != before[-2:]).all()
    message_passing = potential_of("nequip", n_layers=4, l_max=1, channels=4)
    before, after = (message_passing(graph_of(chain(moved=d))).energies for d in (0.0, 0.4))
    assert (after[3:] != before[3:]).all()


@pytest.mark.parametrize("n_layers", [1, 3])
def test_the_derivative_of_an_energy_reaches_one_cutoff(n_layers):
    potential = potential_of(**SMALL, n_layers=n_layers)
    graph = graph_of(chain())
    for atom in range(8):
        energy_mask = torch.arange(8) == atom
        reached = potential(graph, energy_mask=energy_mask).forces.abs().sum(1) > 0
        assert reached.tolist() == [abs(other - atom) <= 1 for other in range(8)]


@pytest.mark.parametrize("n_layers", [2, 3])
def test_no_weight_is_idle(n_layers):
    for options in ({}, {"parity": n_layers > 2}, {"channel_mixing": True, "residual": True}, {"latent_depth": 0}):
        width = {} if options.get("latent_depth") == 0 else {"latent_width": 8}
        shape = {"scalar_channels": 8, "tensor_channels": 4, "n_layers": n_layers, "bessel_trainable": True, **width}
        potential = potential_of("allegro", **{**shape, **options}).train()
        prediction = potential(graph_of(ethanol(), crystal()))
        (prediction.energy.sum() + prediction.forces.square().sum()).backward()
        weights = {name: p for name, p in potential.named_parameters() if p.requires_grad}
        used = torch.tensor([[a != 8 or b != 8 for b in (1, 6, 8)] for a in (1, 6, 8)]).flatten()  # no O-O in reach
        idle = [
            n for n, p in weights.items() if p.grad is None or (p.grad[used] if p.shape[0] == 9 else p.grad).eq(0).any()
        ]
        assert not idle


OPTIONS = [
    {"cutoff": 3.0},
    {"pair_cutoffs": {"H-C": 2.0}},
    {"n_layers": 2},
    {"l_max": 2},
    {"parity": True},
    {"scalar_channels": 6},
    {"tensor_channels": 6},
    {"radial_basis": "spline"},
    {"n_basis": 6},
    {"bessel_trainable": True},
    {"envelope_p": 2},
    {"envelope_multiplies": "basis"},
    {"radial_depth": 1},
    {"radial_width": 32},
    {"radial_knots": 32},
    {"radial_knots": None},
    {"latent_depth": 2},
    {"latent_width": 16},
    {"channel_mixing": True},
    {"residual": True},
    {"readout_depth": 0},
    {"readout_width": 8},
    {"mean_neighbors": 4.0},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_has_an_effect(options):
    graph = graph_of(ethanol())

    def of(**changed):
        potential = potential_of(**{**SMALL, "l_max": 1, "n_layers": 3, **changed})
        n_trainable = sum(p.numel() for p in potential.model.parameters() if p.requires_grad)
        return n_trainable, potential(graph).energy.item()

    assert of(**options) != of()


@pytest.mark.parametrize(
    ("pair_cutoffs", "message"),
    [
        ({"H-N": 2.0, "HO": 1.0}, "has H-N, HO, but the elements are H, C, O: write a pair as H-O, centre first"),
    ],
)
def test_pair_cutoffs_that_cannot_be(pair_cutoffs, message):
    with pytest.raises(InputError, match=message):
        Allegro(AllegroConfig(cutoff=3.5, pair_cutoffs=pair_cutoffs), SPECIES)


def test_a_pair_cutoff_is_that_of_the_ordered_pair():
    """H sees no O beyond its cutoff, O still sees H; and what is left out changes nothing."""
    apart = Structure(
        atomic_numbers=np.array([1, 8]),
        positions=np.array([[0.0, 0, 0], [2.5, 0, 0]]),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, bool),
    )
    potential = potential_of(**SMALL, pair_cutoffs={"H-O": 2.0})
    energies = potential(graph_of(apart)).energies - potential.atomic_energies[[0, 2]]
    assert energies[0] == 0
    assert energies[1] != 0


@pytest.mark.parametrize(
    "options",
    [{}, {"pair_cutoffs": {"C-H": 2.0, "H-C": 2.5}}, {"radial_basis": "spline"}, {"envelope_multiplies": "basis"}],
    ids=str,
)
def test_many_knots_are_the_network_on_every_edge(options):
    def energy(knots):
        return potential_of(**SMALL, **options, radial_knots=knots)(graph_of(ethanol(), crystal())).energy

    exact = energy(None)
    assert (energy(1024) - exact).abs().max() < 1e-5
    assert (energy(128) - exact).abs().max() < 1e-3


@pytest.mark.parametrize("options", [{}, {"channel_mixing": True, "residual": True}, {"radial_knots": None}], ids=str)
def test_kernels_are_the_reference(options):
    potential, graph = potential_of(**SMALL, **options), graph_of(ethanol(), crystal())
    with using("auto"):
        fused = potential(graph, stress=True)
    plain = potential(graph, stress=True)
    for name in ("energy", "energies", "forces", "virial"):
        torch.testing.assert_close(getattr(fused, name), getattr(plain, name), rtol=1e-10, atol=1e-10)


def test_tensors_are_those_that_the_energy_can_depend_on():
    model = Allegro(AllegroConfig(n_layers=3, parity=True, tensor_channels=4, mean_neighbors=8.0), SPECIES)
    irreps = [str(layer.table.irreps_out) for layer in model.layers]
    assert irreps[0] == "12x0e+4x1o+4x1e+4x2e+4x2o"  # scalars of different paths stay apart
    assert irreps[1] == "20x0e+4x1o+4x2e"  # the other parity gives no scalar in one more step
    assert irreps[2] == "28x0e"
    assert model.layers[0].table.irreps_in == hidden_irreps((4, 4, 4), odd=False)


def test_energies_start_at_the_order_of_the_scale():
    torch.manual_seed(0)
    graph = build_graph(ethanol(), SPECIES, 5.0)
    model = Allegro(AllegroConfig(mean_neighbors=8.0), SPECIES)
    energies = model(graph, graph.edge_vectors().float())
    assert 0.01 < energies.abs().mean().item() < 3.0


def test_tables_are_kept_while_weights_rest_and_made_anew_when_they_move():
    potential = potential_of(**SMALL).requires_grad_(False)
    graph, two_body = graph_of(ethanol()), potential.model.two_body
    before = potential(graph).energy.item()
    kept = two_body.cache._kept.tensors[0]
    potential(graph)
    assert two_body.cache._kept.tensors[0] is kept
    with torch.no_grad():
        two_body.first.mul_(1.5)
    assert potential(graph).energy.item() != before
    assert two_body.cache._kept.tensors[0] is not kept


def test_edges_may_come_in_any_order():
    potential, graph = potential_of(**SMALL), graph_of(ethanol())
    order = torch.randperm(graph.n_edges, generator=torch.Generator().manual_seed(0))
    vectors = graph.edge_vectors()
    shuffled = type(graph)(
        positions=graph.positions,
        species=graph.species,
        cell=graph.cell,
        structure_of_atom=graph.structure_of_atom,
        centers=graph.centers[order],
        neighbors=graph.neighbors[order],
        shifts=graph.shifts[order],
        by_neighbor=graph.neighbors[order].argsort(stable=True),
    )
    torch.testing.assert_close(potential.model(shuffled, vectors[order]), potential.model(graph, vectors))
