"""A simulation that has gone wrong is noticed, and told by what."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

import equiforce
from equiforce.calculators.ase import Calculator
from equiforce.calculators.guard import Guard


@pytest.fixture(scope="module")
def potential():
    return equiforce.untrained(["H", "O"], l_max=0, channels=4, n_layers=1, cutoff=4.0, seed=0).potential


def guarded(potential, atoms: Atoms, stop_on_escape: bool = True) -> Guard:
    atoms.calc = Calculator(potential)
    atoms.get_forces()
    return Guard(atoms, 300.0, stop_on_escape)


def test_sound_atoms_pass(potential):
    for atoms in (Atoms("O"), molecule("H2O"), Atoms("O", cell=[2, 2, 2], pbc=True)):
        guard = guarded(potential, atoms)
        assert guard.problem(atoms, 5000.0) is None


def test_heat_is_noticed(potential):
    atoms = molecule("H2O")
    guard = guarded(potential, atoms)
    assert "temperature is 10001 K" in guard.problem(atoms, 10001.0)
    assert "temperature" in guard.problem(atoms, float("nan"))


def test_forces_that_are_not_finite_are_noticed(potential):
    atoms = molecule("H2O")
    guard = guarded(potential, atoms)
    atoms.calc.results["forces"] = np.full((3, 3), np.nan)
    assert "not finite" in guard.problem(atoms, 300.0)


def test_atoms_that_fall_into_one_another_are_noticed(potential):
    atoms = molecule("H2O")
    guard = guarded(potential, atoms)
    atoms.positions[1] = atoms.positions[2] + [0.1, 0, 0]
    atoms.get_forces()
    problem = guard.problem(atoms, 300.0)
    assert "atom 1 (H)" in problem
    assert "atom 2 (H)" in problem
    assert "0.10 Å" in problem


def test_an_atom_that_leaves_is_noticed_unless_it_may(potential):
    atoms = molecule("H2O")
    strict, lenient = guarded(potential, atoms), guarded(potential, atoms, stop_on_escape=False)
    atoms.positions[2] += [0, -9, 0]
    atoms.get_forces()
    assert "atom 2 (H) has lost all neighbours within the cutoff of 4 Å" in strict.problem(atoms, 300.0)
    assert lenient.problem(atoms, 300.0) is None


def test_parts_that_part_are_noticed(potential):
    atoms = molecule("H2O") + molecule("H2O")
    atoms.positions[3:] += [2.8, 0, 0]
    guard = guarded(potential, atoms)
    atoms.positions[3:] += [300.0, 0, 0]
    atoms.get_forces()
    assert "Å from the centre of mass" in guard.problem(atoms, 300.0)


def test_atoms_that_were_apart_from_the_start_may_be(potential):
    atoms = Atoms("HO", positions=[[0, 0, 0], [500, 0, 0]])
    assert guarded(potential, atoms).problem(atoms, 300.0) is None
