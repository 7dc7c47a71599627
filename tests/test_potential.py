from dataclasses import fields, replace

import pytest
import torch

from equiforce.errors import InputError
from equiforce.kernels import using
from equiforce.potential import EDGES_AT_ONCE, Potential
from tests.systems import (
    ATOMIC_ENERGIES,
    SPECIES,
    Images,
    atom,
    crystal,
    ethanol,
    graph_of,
    potential_of,
    slab,
    with_ghosts,
)


def test_trainable_shift_and_scale_have_gradients():
    for trainable in (True, False):
        potential = potential_of(l_max=0, n_layers=1, channels=4)
        potential.atomic_energies.requires_grad_(trainable)
        potential.scale.requires_grad_(trainable)
        potential.train()
        potential(graph_of(ethanol())).energy.sum().backward()
        if trainable:
            assert potential.atomic_energies.grad.tolist() == [6.0, 2.0, 1.0]  # H, C and O atoms of ethanol
            assert potential.scale.grad.abs().min() > 0
        else:
            assert potential.atomic_energies.grad is None


def test_scale_of_a_species_scales_its_atoms():
    potential, graph = potential_of(l_max=1, n_layers=2, channels=4), graph_of(ethanol())
    before = potential(graph).energies
    potential.scale[0] *= 3  # hydrogen
    after = potential(graph).energies
    hydrogen = graph.species == 0
    torch.testing.assert_close(after[hydrogen] - ATOMIC_ENERGIES[0], 3 * (before[hydrogen] - ATOMIC_ENERGIES[0]))
    assert torch.equal(after[~hydrogen], before[~hydrogen])


def test_nothing_is_computed_that_was_not_asked_for():
    potential, graph = potential_of(l_max=1, n_layers=2, channels=4), graph_of(crystal())
    energy_only = potential(graph, forces=False)
    assert (energy_only.forces, energy_only.virial, energy_only.stress) == (None, None, None)
    stress_only = potential(graph, forces=False, stress=True)
    assert stress_only.forces is None
    assert stress_only.stress.shape == (1, 3, 3)
    assert torch.equal(energy_only.energy, stress_only.energy)


def test_evaluation_leaves_no_graph_behind():
    prediction = potential_of(l_max=1, n_layers=2, channels=4)(graph_of(crystal()), stress=True)
    assert not any(getattr(prediction, field.name).requires_grad for field in fields(prediction))


def test_stress_exists_where_every_structure_has_a_volume():
    potential = potential_of(l_max=0, n_layers=1, channels=2)
    assert potential(graph_of(crystal(), slab()), stress=True).stress.shape == (2, 3, 3)
    mixed = potential(graph_of(crystal(), atom()), stress=True)
    assert mixed.stress is None
    assert mixed.virial.shape == (2, 3, 3)


def test_parts_that_share_out_the_atoms_add_up():
    potential, graph = potential_of(l_max=1, n_layers=2, channels=4, zbl=True), graph_of(crystal(), ethanol())
    mask = torch.arange(graph.n_atoms) % 3 == 0
    whole = potential(graph, stress=True)
    one, other = (potential(graph, stress=True, energy_mask=energy_mask) for counted in (mask, ~mask))
    assert torch.equal(one.energies, torch.where(mask, whole.energies, 0.0))
    for quantity in ("energy", "energies", "forces", "virial"):
        total = getattr(one, quantity) + getattr(other, quantity)
        torch.testing.assert_close(total, getattr(whole, quantity), rtol=0, atol=1e-10)


def test_the_virial_of_a_batch_is_that_of_each_structure():
    potential = potential_of(l_max=1, n_layers=2, channels=4)
    structures = (crystal(), slab(), crystal(1))
    alone = torch.cat([potential(graph_of(s), stress=True).virial for s in structures])
    torch.testing.assert_close(potential(graph_of(*structures), stress=True).virial, alone, rtol=0, atol=1e-10)


def test_float32_weights_give_float64_results():
    potential = potential_of(dtype="float32", l_max=1, n_layers=2, channels=4)
    prediction = potential(graph_of(ethanol()))
    assert potential.dtype == torch.float32
    assert {value.dtype for value in (prediction.energy, prediction.energies, prediction.forces)} == {torch.float64}
    exact = potential_of(l_max=1, n_layers=2, channels=4)
    exact.load_state_dict(potential.state_dict())
    torch.testing.assert_close(prediction.forces, exact(graph_of(ethanol())).forces, rtol=0, atol=1e-4)


def test_shifts_and_scales_must_match_the_species():
    with pytest.raises(InputError, match="3 species have 2 shifts"):
        Potential(torch.nn.Linear(1, 1), species=SPECIES, cutoff=3.0, atomic_energies=[0.0, 0.0], scale=[1.0] * 3)


@pytest.mark.parametrize("options", [{"kind": "allegro"}, {"kind": "nequip", "l_max": 0, "n_layers": 1}], ids=str)
@pytest.mark.parametrize("at_once", [1, 40, 300])
def test_in_center_batches_is_the_whole(options, at_once, monkeypatch):
    potential = potential_of(**options, zbl=True)
    graph = graph_of(ethanol(), crystal(), atom(), slab())
    mask = torch.arange(graph.n_atoms) % 3 > 0
    order = torch.randperm(graph.n_edges, generator=torch.Generator().manual_seed(0))
    neighbors = graph.neighbors[order]
    shuffled = replace(
        graph,
        centers=graph.centers[order],
        neighbors=neighbors,
        shifts=graph.shifts[order],
        by_neighbor=neighbors.argsort(stable=True),
    )
    whole = [potential(graph, stress=True), potential(graph, energy_mask=mask), potential(shuffled, forces=False)]
    monkeypatch.setitem(EDGES_AT_ONCE, "cpu", at_once)
    parts = [potential(graph, stress=True), potential(graph, energy_mask=mask), potential(shuffled, forces=False)]
    for one, other in zip(parts, whole, strict=True):
        for a, b in ((getattr(one, f.name), getattr(other, f.name)) for f in fields(one)):
            assert (a is None) == (b is None)
            if a is not None:
                torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
    values = [getattr(parts[0], field.name) for field in fields(parts[0])]
    assert not any(value.requires_grad for value in values if value is not None)


def test_a_model_that_sees_further_is_never_computed_in_center_batches(monkeypatch):
    potential, graph = potential_of(l_max=1, n_layers=2, channels=4), graph_of(ethanol())
    before = potential(graph).energies
    monkeypatch.setitem(EDGES_AT_ONCE, "cpu", 1)
    assert torch.equal(potential(graph).energies, before)


GHOST_MODELS = [
    {"kind": "nequip", "l_max": 2, "n_layers": 3, "channels": 4},
    {"kind": "nequip", "l_max": 1, "n_layers": 2, "channels": 4, "first_self_connection": True, "residual": False},
    {"kind": "nequip", "l_max": 1, "n_layers": 3, "channels": 4, "residual": True},
    {"kind": "allegro", "l_max": 1},
]


@pytest.mark.parametrize("options", GHOST_MODELS, ids=str)
@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("structure", [crystal(), slab(), ethanol()], ids=["crystal", "slab", "molecule"])
def test_images_may_be_ghosts_whose_features_are_fetched(options, backend, structure):
    potential = potential_of(**options, zbl=True)
    graph = graph_of(structure)
    apart = with_ghosts(graph)
    whole = potential(graph, stress=True)
    with using(backend):
        energies, edge_gradients = potential.energies_and_edge_gradients(apart, apart.edge_vectors())
        found = potential(apart, stress=True)
    torch.testing.assert_close(energies.detach(), whole.energies, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.energy, whole.energy, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.virial, whole.virial, rtol=0, atol=1e-10)
    assert len(found.forces) == apart.n_atoms
    assert edge_gradients.shape == (graph.n_edges, 3)
    # what ghosts feel is felt by the atoms that they are images of
    torch.testing.assert_close(apart.halo.reverse_comm(found.forces), whole.forces, rtol=0, atol=1e-10)


def test_ghosts_are_fetched_once_for_each_layer_that_hears_of_neighbours_features(monkeypatch):
    calls = []
    apart = with_ghosts(graph_of(crystal()))
    for name in ("forward_comm", "reverse_comm"):
        method = getattr(Images, name)
        monkeypatch.setattr(Images, name, lambda self, x, n=name, m=method: (calls.append(n), m(self, x))[1])
    potential_of(l_max=1, n_layers=3, channels=4)(apart)
    assert calls == ["forward_comm"] * 2 + ["reverse_comm"] * 2
    calls.clear()
    molecule = graph_of(ethanol())  # has no images, but must go along: others may need its features
    potential_of(l_max=1, n_layers=3, channels=4)(replace(molecule, halo=Images(9, torch.tensor([], dtype=int))))
    assert calls == ["forward_comm"] * 2 + ["reverse_comm"] * 2
    calls.clear()
    potential_of("allegro")(apart)
    assert calls == []


def test_training_through_ghosts():
    potential = potential_of(l_max=1, n_layers=3, channels=4).train()
    graph = graph_of(crystal())
    apart, weights = with_ghosts(graph), [w for w in potential.model.parameters() if w.requires_grad]
    alone, shared = potential(graph).forces, apart.halo.reverse_comm(potential(apart).forces)
    wanted = torch.autograd.grad(alone.square().sum(), weights, allow_unused=True)
    found = torch.autograd.grad(shared.square().sum(), weights, allow_unused=True)
    for a, b in zip(found, wanted, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b)
