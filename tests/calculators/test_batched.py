"""Systems side by side get what each gets alone, whatever engines do to the batch between two calls."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from equiforce.calculators.batched import BatchedPotential
from equiforce.errors import InputError
from equiforce.graph import Prediction
from equiforce.neighbors import build_graph
from equiforce.structure import Structure
from tests.systems import atom, crystal, ethanol, potential_of, slab

POTENTIALS = {
    "nequip": {"l_max": 1, "channels": 4, "n_layers": 2},
    "allegro": {"kind": "allegro", "l_max": 1, "tensor_channels": 4, "scalar_channels": 8, "latent_width": 8},
}


@pytest.fixture(scope="module", params=POTENTIALS)
def potential(request):
    return potential_of(**POTENTIALS[request.param])


def assert_each_as_alone(found: Prediction, systems: list[Structure], potential) -> None:
    start = 0
    for k, system in enumerate(systems):
        alone = potential(build_graph(system, potential.species, potential.cutoff), stress=True)
        own = slice(start, start + len(system))
        torch.testing.assert_close(found.energy[k], alone.energy[0], rtol=0, atol=1e-10)
        torch.testing.assert_close(found.energies[own], alone.energies, rtol=0, atol=1e-10)
        torch.testing.assert_close(found.forces[own], alone.forces, rtol=0, atol=1e-10)
        torch.testing.assert_close(found.virial[k], alone.virial[0], rtol=0, atol=1e-10)
        start += len(system)


def moved(system: Structure, by: np.ndarray) -> Structure:
    return replace(system, positions=system.positions + by)


def test_a_batch_is_its_systems_while_they_come_move_and_go(potential):
    compute, rng = BatchedPotential(potential), np.random.default_rng(0)
    batches = [
        [ethanol(), crystal(), slab(), atom()],
        [crystal(1), crystal(2), ethanol(1)],  # others in the same places
        [crystal(2), ethanol(2)],
        [crystal(2), ethanol(2), ethanol(2), ethanol(3)],
    ]
    for batch in batches:
        systems = batch
        for _ in range(2):
            assert_each_as_alone(compute(systems, stress=True), systems, potential)
            systems = [moved(system, rng.normal(scale=0.03, size=(len(system), 3))) for system in systems]


def test_small_moves_and_jumps_by_a_lattice_vector_cost_no_search(potential):
    compute, rng = BatchedPotential(potential), np.random.default_rng(0)
    systems = [crystal(), slab(), ethanol()]
    for _ in range(5):
        # an engine puts atoms back into the cell along directions that are periodic, and only there
        jumps = [rng.integers(-3, 4, size=(len(s), 3)) * s.pbc for s in systems]
        systems = [moved(s, jump @ s.cell + 0.01) for s, jump in zip(systems, jumps, strict=True)]
        assert_each_as_alone(compute(systems, stress=True), systems, potential)
    assert compute.n_neighbor_builds == len(systems)


def test_a_changing_cell_is_followed(potential):
    compute, system = BatchedPotential(potential), crystal()
    for factor in (1.0, 1.001, 0.95, 1.2):
        strained = replace(system, cell=system.cell * factor, positions=system.positions * factor)
        assert_each_as_alone(compute([strained], stress=True), [strained], potential)


def test_what_cannot_be_is_named_and_forgotten(potential):
    compute, good = BatchedPotential(potential), ethanol()
    compute([good, good])
    astray = replace(good, positions=np.where(np.arange(9)[:, None] == 4, np.nan, good.positions), source="system 1")
    with pytest.raises(InputError, match="system 1: atom 4"):
        compute([good, replace(astray, source="system 1")])
    unknown = replace(good, atomic_numbers=np.where(np.arange(9) == 2, 79, good.atomic_numbers), source="system 1")
    with pytest.raises(InputError, match=r"system 1: atom 2 .* Au"):
        compute([good, unknown])
    assert_each_as_alone(compute([good, good], stress=True), [good, good], potential)


def test_threads_have_their_own_systems(potential):
    compute, rng = BatchedPotential(potential), np.random.default_rng(0)
    batches = [[ethanol(k), crystal(k)] if k % 2 else [slab(), ethanol(k), atom()] for k in range(8)]
    batches = [[moved(s, rng.normal(scale=0.03, size=(len(s), 3))) for s in systems] for systems in batches]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda systems: compute(systems, stress=True), batches))
            assert compute.n_neighbor_builds == 0  # here; each of the threads has searched its own
            assert pool.submit(lambda: compute.n_neighbor_builds).result() > 0
    finally:
        sys.setswitchinterval(before)
    for systems, prediction in zip(batches, found, strict=True):
        assert_each_as_alone(prediction, systems, potential)
