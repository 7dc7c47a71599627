"""Chunks add up to the whole, each needs less memory, and they are made where there is too little."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from equiforce.chunks import ChunkedPotential, compact, in_chunks, surroundings
from equiforce.errors import InputError
from equiforce.memory import step_memory
from tests.systems import CUTOFF, crystal, ethanol, graph_of, potential_of, slab, structure_of


def box(*repeats: int, pbc: bool = True) -> Atoms:
    """Water that is longer than chunks and their surroundings, with atoms that have left the cell."""
    atoms = molecule("H2O", cell=[3.1, 3.3, 3.4], pbc=pbc).repeat(repeats)
    atoms.rattle(0.1, seed=1)
    atoms.positions[::5] += 3 * atoms.cell[0] if pbc else 0.0
    return atoms


def skewed() -> Atoms:
    atoms = box(14, 1, 1)
    atoms.set_cell(atoms.cell.array + np.array([[0, 2, 1], [1, 0, 0], [0, 1, 0]]), scale_atoms=True)
    return atoms


SYSTEMS = {
    "liquid": [structure_of(box(14, 1, 1))],
    "wide liquid": [structure_of(box(7, 2, 1))],
    "skewed cell": [structure_of(skewed())],
    "chain in vacuum": [structure_of(box(14, 1, 1, pbc=False))],
    "atoms out of reach": [structure_of(Atoms("HOH", positions=[[0, 0, 0], [20, 0, 0], [40, 0, 0]]))],
    "several": [ethanol(), crystal(), slab(), structure_of(box(9, 1, 1))],
}


POTENTIALS = {
    "nequip": {"l_max": 1, "n_layers": 2, "channels": 4},
    "allegro": {"kind": "allegro", "l_max": 1, "tensor_channels": 4, "scalar_channels": 8, "latent_width": 8},
}


@pytest.fixture(scope="module", params=POTENTIALS)
def potential(request):
    return potential_of(**POTENTIALS[request.param], zbl=True)


@pytest.mark.parametrize(
    "n_chunks", [pytest.param(2, marks=pytest.mark.slow), 3, pytest.param(5, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", SYSTEMS)
def test_chunks_add_up_to_the_whole(name, n_chunks, potential):
    graph = graph_of(*SYSTEMS[name])
    n_chunks = min(n_chunks, graph.n_atoms)
    whole = potential(graph, stress=True)
    chunks = compact(graph, n_chunks)
    assert sorted(torch.cat(chunks).tolist()) == list(range(graph.n_atoms))
    parts = in_chunks(potential, graph, tuple(chunks), stress=True)
    for quantity in (field.name for field in fields(whole)):
        one, other = getattr(parts, quantity), getattr(whole, quantity)
        if other is None:
            assert one is None
        else:
            size = max(1.0, other.abs().max().item())
            assert torch.allclose(one, other, rtol=0, atol=1e-10 * size), quantity
    assert in_chunks(potential, graph, tuple(chunks)).virial is None
    energies = in_chunks(potential, graph, tuple(chunks), forces=False)
    assert energies.forces is None
    assert torch.allclose(energies.energy, whole.energy, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize(("n_layers", "l_max"), [(1, 0), (3, 1)])
def test_the_reach_grows_with_the_layers(n_layers, l_max):
    potential, graph = potential_of(l_max=l_max, n_layers=n_layers, channels=4), graph_of(structure_of(box(40, 1, 1)))
    own = compact(graph, 4)[1]
    atoms, edges = surroundings(graph, own, potential.model.n_hops)
    sure = torch.zeros(graph.n_atoms, dtype=torch.bool)
    sure[own] = True
    assert len(own) < atoms.sum() < graph.n_atoms
    assert edges.sum() < (atoms[graph.centers] & atoms[graph.neighbors]).sum()  # none that end at the outermost atoms
    exact = potential(graph).energies[sure]
    found = potential(graph.part(atoms, edges), energy_mask=sure[atoms]).energies
    torch.testing.assert_close(found[sure[atoms]], exact, rtol=0, atol=1e-10)
    assert not found[~sure[atoms]].any()
    if n_layers > 1:  # surroundings that end one edge earlier are too small
        atoms, edges = surroundings(graph, own, potential.model.n_hops - 1)
        found = potential(graph.part(atoms, edges), energy_mask=sure[atoms]).energies
        assert (found[sure[atoms]] - exact).abs().max() > 1e-8


def test_chunks_are_compact_whatever_cell_an_atom_is_in():
    atoms = box(16, 1, 1)
    atoms.positions += np.random.default_rng(0).integers(-3, 4, size=(len(atoms), 3)) @ atoms.cell.array
    atoms_in_cell = atoms.copy()
    atoms_in_cell.wrap()
    chunks = compact(graph_of(structure_of(atoms)), 4)
    assert {len(chunk) for chunk in chunks} == {12}
    for chunk in chunks:
        assert np.ptp(atoms_in_cell.positions[chunk, 0]) < 16 * 3.1 / 4 + CUTOFF


def test_what_fits_is_computed_whole_and_what_does_not_in_chunks(potential):
    graph = graph_of(structure_of(box(60, 1, 1)))
    need = step_memory(potential).bytes(graph.n_atoms, graph.n_edges)
    roomy, narrow = (ChunkedPotential(potential, factor * need / 1e9) for factor in (1.01, 0.55))
    assert len(roomy.plan(graph).chunks) == 1
    plan = narrow.plan(graph)
    assert len(plan.chunks) > 1
    assert plan.largest <= plan.limit < plan.need == need
    assert 1 < plan.work < 4
    assert f"computed in {len(plan.chunks)} chunks of at most" in plan.describe()
    assert "chunks" not in roomy.plan(graph).describe()
    for stress in (False, True):
        whole, parts = roomy(graph, stress=stress), narrow(graph, stress=stress)
        torch.testing.assert_close(parts.forces, whole.forces, rtol=0, atol=1e-10)
        assert (parts.stress is None) is not stress
    assert [len(chunk) for chunk in narrow.plan(graph).chunks] == [len(chunk) for chunk in plan.chunks]


def test_what_does_not_fit_in_any_chunks_is_refused(potential):
    with pytest.raises(InputError, match=r"even in chunks.*: raise max_memory"):
        ChunkedPotential(potential, 1e-6)(graph_of(structure_of(box(3, 1, 1))))
    with pytest.raises(InputError, match=r"max_memory=0\.0 GB"):
        ChunkedPotential(potential, 0.0)


def test_memory_that_is_not_known_is_taken_as_enough(potential, monkeypatch):
    monkeypatch.setattr("equiforce.chunks.available", lambda device: None)
    plan = ChunkedPotential(potential).plan(graph_of(ethanol()))
    assert len(plan.chunks) == 1
    assert "; available: an unknown amount" in plan.describe()
