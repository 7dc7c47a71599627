from dataclasses import replace

import numpy as np
import pytest

from equiforce.data.copies import contradiction, first_copies, refuse_contradictions, without_copies
from equiforce.errors import InputError
from equiforce.structure import Structure


def structure(seed, n_atoms=4, box=None, **more):
    rng = np.random.default_rng(seed)
    values = {
        "atomic_numbers": np.ones(n_atoms, dtype=int),
        "positions": rng.random((n_atoms, 3)) * 2 + np.arange(n_atoms)[:, None],
        "cell": np.zeros((3, 3)) if box is None else box,
        "pbc": np.full(3, box is not None),
        "energy": 0.0,
        "forces": rng.normal(size=(n_atoms, 3)),
        "source": f"a.xyz, frame {seed}",
    }
    return Structure(**values | more)


def moved(s, by, **more):
    return replace(s, positions=s.positions + by, source=f"copy of {s.source}", **more)


SKEWED = np.array([[6.0, 0, 0], [2.5, 5.0, 0], [1.0, -2.0, 7.0]])


@pytest.mark.parametrize("box", [None, SKEWED])
def test_copies_are_found_whatever_the_rounding(box):
    structures = [structure(seed, box=box) for seed in range(40)]
    noise = np.random.default_rng(0).uniform(-5e-5, 5e-5, (40, 4, 3))
    copies = [moved(s, n) for s, n in zip(structures, noise, strict=True)]
    np.testing.assert_array_equal(first_copies([*structures, *copies, *structures]), list(range(40)) * 3)


@pytest.mark.parametrize(("difference", "is_copy"), [(5e-5, True), (1e-3, False)])
def test_one_atom_may_move_by_no_more_than_the_tolerance(difference, is_copy):
    one = structure(1)
    for atom in range(4):
        shift = np.zeros((4, 3))
        shift[atom, 1] = difference
        assert first_copies([one, moved(one, shift)]).tolist() == [0, 0 if is_copy else 1]


def test_copies_may_be_moved_as_a_whole_and_by_lattice_vectors():
    crystal = structure(1, box=SKEWED)
    images = np.random.default_rng(0).integers(-2, 3, size=(4, 3)) @ SKEWED
    assert first_copies([crystal, moved(crystal, images), moved(crystal, images + 0.7)]).tolist() == [0, 0, 0]
    assert first_copies([structure(1), moved(structure(1), 3.0)]).tolist() == [0, 0]
    slab = replace(crystal, pbc=np.array([True, True, False]))
    assert first_copies([slab, moved(slab, np.arange(4)[:, None] * SKEWED[0])]).tolist() == [0, 0]
    assert first_copies([slab, moved(slab, np.arange(4)[:, None] * SKEWED[2])]).tolist() == [0, 1]


def test_other_cells_boundaries_and_elements_are_no_copies():
    crystal = structure(1, box=SKEWED)
    assert first_copies([crystal, replace(crystal, cell=SKEWED * 1.001)]).tolist() == [0, 1]
    assert first_copies([crystal, structure(1)]).tolist() == [0, 1]
    assert first_copies([crystal, replace(crystal, atomic_numbers=np.array([1, 1, 1, 8]))]).tolist() == [0, 1]


def test_many_copies_take_no_time():
    one, rng = structure(0), np.random.default_rng(0)
    assert not first_copies([one] * 20_000).any()
    assert not first_copies([moved(one, rng.uniform(-1e-6, 1e-6, (4, 3))) for _ in range(3_000)]).any()


def test_what_may_be_drawn_leaves_out_atoms_and_copies():
    first, second, third = (structure(seed) for seed in range(3))
    pool = [first, structure(9, n_atoms=1), second, moved(first, 1e-8), third]
    assert without_copies(pool, [moved(third, 0.0)]) == ([0, 2], 2)
    assert without_copies(pool, []) == ([0, 2, 4], 1)
    with pytest.raises(InputError, match="same positions as an earlier frame"):
        without_copies(pool, [moved(third, 0.0, energy=1.0)])


def test_copies_with_other_energies_contradict_one_another():
    states = [{"id": 7 + i, "total_charge": i, "method": "PBE", "total_spin": 1 + i} for i in (0, 1)]
    neutral = [structure(seed, extra=states[0]) for seed in range(5)]
    charged = [moved(s, 0.0, energy=4.0 + i, extra=states[1]) for i, s in enumerate(neutral)]
    found = contradiction([*neutral, *charged])
    assert (found.n_copies, found.energy, found.energy_per_atom, found.force) == (5, 8.0, 2.0, 0.0)
    assert found.keys == ("total_charge", "total_spin", "id")  # what may explain the difference comes first
    assert str(found) == (
        "5 frames have the same positions as an earlier frame but energies that differ by up to 8 eV (2 eV per atom), "
        "such as a.xyz, frame 4 and copy of a.xyz, frame 4, and also differ in total_charge (0, 1) and total_spin "
        "(1, 2) and id (7, 8): no potential can fit both, so keep the frames of one kind"
    )
    with pytest.raises(InputError, match="5 frames have the same positions"):
        refuse_contradictions([*neutral, *charged])


def test_copies_with_other_forces_contradict_one_another():
    one = structure(1)
    found = contradiction([one, moved(one, 0.0, forces=one.forces + 0.3)])
    assert "1 frame has the same positions as an earlier frame but forces that differ by up to 0.3 eV/Å" in str(found)


def test_copies_within_the_noise_do_not_contradict_one_another():
    one = structure(1)
    repeated = moved(one, 5e-5, energy=0.9e-3 * 4, forces=one.forces + 0.05)
    assert contradiction([one, repeated, moved(one, 0.0, energy=None), moved(one, 0.0, forces=None)]) is None
    assert contradiction([one, structure(2, energy=9.0)]) is None
