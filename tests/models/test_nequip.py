import copy

import numpy as np
import pytest
import torch

from equiforce.errors import InputError
from equiforce.geometry.irreps import Irreps
from equiforce.models.nequip import NequIP, NequIPConfig
from equiforce.neighbors import build_graph
from equiforce.structure import Structure
from tests.systems import SPECIES, crystal, ethanol, graph_of, potential_of

pytestmark = pytest.mark.usefixtures("plain_torch")


def star(angle):
    """Two arms of 1 Å about a centre, their ends out of each other's reach: no distance tells the angle."""
    arms = [[1.0, 0, 0], [np.cos(angle), np.sin(angle), 0]]
    return Structure(
        atomic_numbers=np.array([8, 1, 1]),
        positions=np.array([[0.0, 0, 0], *arms]),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, bool),
    )


@pytest.mark.parametrize(("l_max", "sees_angles"), [(0, False), (1, True), (2, True)])
def test_only_equivariant_features_see_angles(l_max, sees_angles):
    potential = potential_of(l_max=l_max, n_layers=3, channels=8, cutoff=1.5)
    energies = [potential(graph_of(star(np.radians(a)), cutoff=1.5)).energy.item() for a in (100.0, 150.0)]
    difference = abs(energies[0] - energies[1])
    assert difference > 1e-6 if sees_angles else difference < 1e-10


@pytest.mark.parametrize("n_layers", [1, 3])
def test_an_invariant_network_sees_angles_and_hands_on_scalars(n_layers):
    potential = potential_of(l_max=2, n_layers=n_layers, channels=[8, 4, 2], cutoff=1.5, invariant=True)
    energies = [potential(graph_of(star(np.radians(a)), cutoff=1.5)).energy.item() for a in (100.0, 150.0)]
    assert abs(energies[0] - energies[1]) > 1e-6
    for layer in potential.model.layers:
        assert layer.irreps_out == Irreps("14x0e")
        assert layer.convolution.table.irreps_out.lmax == 2


OPTIONS = [
    {"cutoff": 3.0},
    {"pair_cutoffs": {"H-C": 2.0}},
    {"species_linear_in": True},
    {"n_layers": 2},
    {"l_max": 2},
    {"parity": True},
    {"reflections": False},
    {"xplor_on": 2.5},
    {"invariant": True},
    {"channels": 6},
    {"channels": [4, 2]},
    {"embedding_channels": 7},
    {"n_bessel": 6},
    {"bessel_trainable": True},
    {"envelope_p": 2},
    {"radial_depth": 1},
    {"radial_width": 32},
    {"radial_knots": 32},
    {"radial_knots": None},
    {"self_connection": False},
    {"first_self_connection": True},
    {"residual": True},
    {"readout_depth": 1},
    {"readout_depth": 1, "readout_width": 8},
    {"mean_neighbors": 4.0},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_has_an_effect(options):
    graph = graph_of(ethanol())

    def of(**changed):
        potential = potential_of(**{"l_max": 1, "n_layers": 4, "channels": 4, **changed})
        n_trainable = sum(p.numel() for p in potential.model.parameters() if p.requires_grad)
        return n_trainable, potential(graph).energy.item()

    assert of(**options) != of()


def test_layers_hold_what_can_be_reached_and_what_the_energy_can_depend_on():
    model = NequIP(NequIPConfig(l_max=2, channels=4, parity=True, n_layers=4, mean_neighbors=8.0), SPECIES[:2])
    irreps = [str(layer.irreps_out) for layer in model.layers]
    assert irreps[0] == "4x0e+4x1o+4x2e"  # from scalars, harmonics give natural parity only
    assert irreps[1] == "4x0e+4x1o+4x1e+4x2e+4x2o"
    assert irreps[2] == "4x0e+4x1o+4x2e"  # the other parity cannot give a scalar in one more step
    assert irreps[-1] == "4x0e"


@pytest.mark.parametrize(
    "options",
    [
        {"l_max": 0, "n_layers": 1},
        {"l_max": 2, "n_layers": 2, "channels": [4, 3, 2]},
        {"l_max": 2, "n_layers": 3, "channels": [4, 0, 2], "first_self_connection": True},
        {"l_max": 1, "n_layers": 4, "parity": True},
        {"l_max": 1, "n_layers": 3, "species_linear_in": True, "pair_cutoffs": {"H-H": 2.0}},
        {"l_max": 2, "n_layers": 5, "channels": [4, 3, 2], "parity": True, "bessel_trainable": True},
    ],
    ids=str,
)
def test_no_weight_is_idle(options):
    potential = potential_of(**{"channels": 4, **options}).train()
    prediction = potential(graph_of(ethanol(), crystal()))
    (prediction.energy.sum() + prediction.forces.square().sum()).backward()
    weights = {name: p for name, p in potential.named_parameters() if p.requires_grad}
    assert not [name for name, p in weights.items() if p.grad is None or (p.grad == 0).any()]


@pytest.mark.parametrize("options", [{"n_layers": 2}, {"n_layers": 4, "parity": True}], ids=str)
def test_a_residual_connection_that_joins_nothing_is_refused(options):
    with pytest.raises(InputError, match=r"model\.residual changes nothing"):
        NequIP(NequIPConfig(l_max=1, channels=4, residual=True, **options), SPECIES[:1])


def test_isolated_atoms_are_zero_by_construction():
    torch.manual_seed(0)
    model = NequIP(NequIPConfig(l_max=1, channels=4, n_layers=2, mean_neighbors=8.0), SPECIES[:3])
    assert not model.isolated().any()
    with_self = NequIP(
        NequIPConfig(l_max=1, channels=4, n_layers=2, mean_neighbors=8.0, first_self_connection=True), SPECIES[:3]
    )
    assert with_self.isolated().abs().min() > 0


def test_energies_start_at_the_order_of_the_scale():
    torch.manual_seed(0)
    graph = build_graph(ethanol(), ["H", "C", "O"], 5.0)
    model = NequIP(NequIPConfig(mean_neighbors=8.0), SPECIES[:3])
    energies = model(graph, graph.edge_vectors().float())
    assert 0.01 < energies.abs().mean().item() < 3.0


def test_many_knots_are_the_network_on_every_edge():
    def energy(knots):
        return potential_of(l_max=2, n_layers=3, channels=4, radial_knots=knots)(graph_of(crystal())).energy.item()

    exact = energy(None)
    assert abs(energy(1024) - exact) < 1e-8
    assert abs(energy(128) - exact) < 1e-4


def test_tables_are_kept_while_weights_rest_and_made_anew_when_they_move():
    potential = potential_of(l_max=1, n_layers=2, channels=4).requires_grad_(False)
    graph = graph_of(ethanol())
    before = potential(graph).energy.item()
    first = potential.model.radial_weights(torch.zeros(1, dtype=torch.float64))[0].values
    assert potential.model.radial_weights(torch.zeros(1, dtype=torch.float64))[0].values is first
    with torch.no_grad():
        potential.model.layers[0].convolution.radial.mlp.weights[0].mul_(1.5)
    assert potential(graph).energy.item() != before


def test_splines_of_weights_that_are_not_trained_are_computed_in_float64():
    """Then only the rounding of the coefficients is left, and no error of single precision is added to it."""
    potential = potential_of(l_max=1, channels=4, n_layers=2, radial_knots=512, dtype="float32")
    model, knots = potential.model, potential.model.knots
    trained = model.tables(knots)
    assert all(table.requires_grad for table in trained)
    model.requires_grad_(False)
    kept, exact = model.tables(knots), copy.deepcopy(model).double().tables(knots)
    for table, rounded, wanted in zip(trained, kept, exact, strict=True):
        assert rounded.dtype == torch.float32
        assert torch.equal(rounded, wanted.float())
        assert not torch.equal(table, rounded)
