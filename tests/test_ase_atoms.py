"""What a structure takes of ASE's atoms, and what it leaves."""

import inspect

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from equiforce.ase_atoms import geometry_of
from equiforce.data.read import read
from equiforce.data.write import atoms_from_structure, write_structures
from equiforce.errors import InputError
from equiforce.structure import Structure

VOIGT = np.array([1.0, 2.0, 3.0, 0.1, 0.2, 0.3])  # xx, yy, zz, yz, xz, xy
MATRIX = np.array([[1.0, 0.3, 0.2], [0.3, 2.0, 0.1], [0.2, 0.1, 3.0]])


def water(**results) -> Atoms:
    atoms = molecule("H2O")
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def copper(**results) -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=0)
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def test_geometry_is_taken_and_not_shared():
    atoms = copper()
    atoms.pbc = (True, False, True)
    structure = Structure.from_ase(atoms)
    assert structure.atomic_numbers.dtype == np.int64
    np.testing.assert_array_equal(structure.atomic_numbers, atoms.numbers)
    np.testing.assert_array_equal(structure.positions, atoms.positions)
    np.testing.assert_array_equal(structure.cell, atoms.cell.array)
    assert structure.pbc.tolist() == [True, False, True]
    assert (structure.energy, structure.forces, structure.stress) == (None, None, None)
    before = structure.positions.copy()
    atoms.positions += 1.0
    np.testing.assert_array_equal(structure.positions, before)


def test_results_of_the_calculator_are_the_labels():
    forces = np.arange(12.0).reshape(4, 3)
    structure = Structure.from_ase(copper(energy=-1.5, forces=forces, stress=VOIGT), source="here")
    assert structure.energy == -1.5
    np.testing.assert_array_equal(structure.forces, forces)
    np.testing.assert_array_equal(structure.stress, MATRIX)
    assert structure.source == "here"
    without = Structure.from_ase(copper(energy=-1.5, forces=forces, stress=VOIGT), labels=False)
    assert (without.energy, without.forces, without.stress) == (None, None, None)


def test_only_what_was_computed_is_a_label_and_nothing_is_computed():
    atoms = copper()
    atoms.calc = EMT()
    assert Structure.from_ase(atoms).energy is None
    assert not atoms.calc.results
    energy = atoms.get_potential_energy()
    assert Structure.from_ase(atoms).energy == energy
    forces_only = Structure.from_ase(water(forces=np.ones((3, 3))))
    assert forces_only.energy is None
    assert forces_only.forces is not None


def test_results_of_earlier_positions_are_left_out():
    atoms = copper()
    atoms.calc = EMT()
    atoms.get_forces()
    results = dict(atoms.calc.results)
    atoms.rattle(0.1, seed=1)
    moved = Structure.from_ase(atoms)
    assert (moved.energy, moved.forces, moved.stress) == (None, None, None)
    assert atoms.calc.results.keys() == results.keys()  # asking has not thrown them away


def test_constraints_do_not_change_forces():
    atoms = copper()
    atoms.set_constraint(FixAtoms([0, 1, 2, 3]))
    atoms.calc = EMT()
    assert not atoms.get_forces().any()
    np.testing.assert_array_equal(Structure.from_ase(atoms).forces, atoms.get_forces(apply_constraint=False))
    assert Structure.from_ase(atoms).forces.any()


def test_the_sign_and_the_order_of_a_stress_are_those_of_ase():
    atoms = copper()
    atoms.calc = EMT()
    atoms.get_stress()
    np.testing.assert_allclose(Structure.from_ase(atoms).stress, atoms.get_stress(voigt=False), atol=1e-15)


def test_without_a_volume_there_is_no_stress():
    assert Structure.from_ase(water(energy=0.0, stress=VOIGT)).stress is None
    flat = copper(stress=VOIGT)
    flat.pbc = False
    flat.calc.atoms.pbc = False
    assert Structure.from_ase(flat).stress is None


@pytest.mark.parametrize("key", ["config_type", "group"])
def test_the_group_is_kept(key):
    atoms = water()
    atoms.info[key] = "liquid"
    assert Structure.from_ase(atoms).group == "liquid"
    assert Structure.from_ase(water()).group == ""


def test_results_that_cannot_be_labels_are_refused():
    odd = water(energy=1.0)
    for name, value, message in (
        ("forces", np.ones((2, 3)), r"forces has the shape \(2, 3\), but has to have \(3, 3\)"),
        ("energy", np.nan, "energy is not finite"),
    ):
        odd.calc.results = {name: value}
        with pytest.raises(InputError, match=f"^frame 7: the calculator's {message}"):
            Structure.from_ase(odd, source="frame 7")
        assert Structure.from_ase(odd, labels=False).energy is None


def test_other_things_than_atoms_are_refused():
    unchecked = inspect.unwrap(geometry_of)  # while tests run, all types are checked before a function is entered
    with pytest.raises(InputError, match=r"^str is not an ase\.Atoms: give ASE's atoms, or read a file with"):
        unchecked("water.xyz")


def test_the_way_back_and_the_way_through_a_file_give_the_same(tmp_path):
    first = Structure.from_ase(copper(energy=-1.5, forces=np.ones((4, 3)), stress=VOIGT))
    write_structures(tmp_path / "copper.xyz", [first])
    for other in (Structure.from_ase(atoms_from_structure(first)), read(tmp_path / "copper.xyz")[0]):
        assert other.energy == first.energy
        for name in ("positions", "cell", "forces", "stress"):
            np.testing.assert_allclose(getattr(other, name), getattr(first, name), atol=1e-8)
