"""Zeros that stand for values that are not known, and zeros that are right."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from equiforce.data.placeholders import without_placeholders
from equiforce.structure import Structure


def structure(atoms, number=0, rattle=0.05, **labels):
    atoms = atoms.copy()
    if rattle:
        atoms.rattle(rattle, seed=number + 1)
    return replace(Structure.from_ase(atoms, labels=False, source=f"a.xyz, frame {number}"), **labels)


def waters(n=5, energy=-2080.0):
    rng = np.random.default_rng(0)
    return [structure(molecule("H2O"), i, energy=energy + 0.1 * i, forces=rng.normal(size=(3, 3))) for i in range(n)]


def test_forces_of_zero_on_a_molecule_are_placeholders():
    frames = waters()
    frames[2] = replace(frames[2], forces=np.zeros((3, 3)))
    kept, notes = without_placeholders(frames)
    assert [s.forces is None for s in kept] == [False, False, True, False, False]
    assert all(s.energy is not None for s in kept)
    assert notes == [
        "the forces of 1 of 5 frames, first frame 2, are exactly 0 on all atoms, though no symmetry demands it: they "
        "were left out as not known; --set data.keep_zeros=true takes them"
    ]


@pytest.mark.parametrize(
    "atoms",
    [
        bulk("Cu", cubic=True),
        bulk("Si", cubic=True),
        bulk("NaCl", "rocksalt", a=5.64),
        bulk("Ti"),
        bulk("Cu", cubic=True) * (2, 1, 1),
        Atoms("Cu"),
        Atoms("Ar3", [[0, 0, 0], [9, 0, 0], [0, 9, 0]]),
        Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]),
    ],
    ids=str,
)
def test_forces_that_are_zero_by_symmetry_or_distance_stay(atoms):
    one = structure(atoms, rattle=0, energy=-1.0, forces=np.zeros((len(atoms), 3)))
    kept, notes = without_placeholders([one])
    assert kept[0].forces is not None
    assert not notes
    if len(atoms) > 3 and "Ar" not in str(atoms.symbols):
        moved = structure(atoms, rattle=0.1, energy=-1.0, forces=np.zeros((len(atoms), 3)))
        assert without_placeholders([moved])[0][0].forces is None


def test_a_sheared_perfect_crystal_has_no_forces():
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.1 * np.eye(3, k=1)), scale_atoms=True)
    kept, notes = without_placeholders([structure(atoms, rattle=0, forces=np.zeros((len(atoms), 3)))])
    assert kept[0].forces is not None
    assert not notes


def test_energies_of_zero_among_others():
    frames = waters()
    frames[1] = replace(frames[1], energy=0.0)
    atom = structure(Atoms("H"), 5, rattle=0, energy=0.0)
    kept, notes = without_placeholders([*frames, atom])
    assert [s.energy is None for s in kept] == [False, True, False, False, False, True]
    assert notes[0].startswith("the energy of 2 of 6 frames, first frame 1, is exactly 0: it was left out as not known")


@pytest.mark.parametrize("energies", [[0.0, 0.2, 0.3, 0.5], [0.0, -1.0, -2.0, -3.0], [0.0, 0.61, 0.65, 0.7]])
def test_the_lowest_of_relative_energies_may_be_zero(energies):
    frames = [replace(s, energy=e) for s, e in zip(waters(4), energies, strict=True)]
    kept, notes = without_placeholders(frames)
    assert [s.energy for s in kept] == energies
    assert not notes


def test_cohesive_energies_count_from_free_atoms():
    crystal = structure(bulk("Cu", cubic=True), rattle=0, energy=-4 * 3.5)
    kept, _ = without_placeholders([crystal, structure(Atoms("Cu"), 1, rattle=0, energy=0.0)])
    assert kept[1].energy == 0.0


def test_stresses_of_zero():
    frames = [structure(bulk("Cu", cubic=True), i, stress=np.eye(3) * 0.01 * (i > 0)) for i in range(3)]
    kept, notes = without_placeholders(frames)
    assert [s.stress is None for s in kept] == [True, False, False]
    assert "the stress of 1 of 3 frames, first frame 0, is exactly 0 in all components" in notes[0]
    lonely = structure(Atoms("Cu", cell=[20, 20, 20], pbc=True), rattle=0, stress=np.zeros((3, 3)))
    assert without_placeholders([lonely])[0][0].stress is not None


def test_forces_that_a_constraint_has_removed_are_said():
    frames = waters(3)
    forces = frames[1].forces.copy()
    forces[0] = 0
    kept, notes = without_placeholders([frames[0], replace(frames[1], forces=forces), frames[2]])
    assert kept[1].forces is not None
    assert notes[0].startswith("in 1 of 3 frames, first frame 1, some atoms (first: atom 0) have forces of exactly 0")
