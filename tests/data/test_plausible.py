from dataclasses import replace

import numpy as np
import pytest
from ase import units
from ase.spacegroup import crystal

from equiforce.data.plausible import check, distances, total_forces
from equiforce.data.read import read
from equiforce.errors import InputError
from equiforce.structure import Structure
from tests.data_sets import crystals, labelled, molecules


def named(structures):
    return [replace(s, source=f"a.xyz, frame {i}") for i, s in enumerate(structures)]


@pytest.fixture(scope="module")
def copper():
    return named([labelled(atoms) for atoms in crystals(30)])


@pytest.fixture(scope="module")
def water():
    return named([labelled(atoms) for atoms in molecules(30)])


def atom(symbol_number, energy, **extra):
    return Structure(
        atomic_numbers=np.array([symbol_number]),
        positions=np.zeros((1, 3)),
        cell=np.eye(3) * 20,
        pbc=np.full(3, True),
        energy=energy,
        source="atom.xyz, frame 0",
        extra=extra,
    )


def test_good_data_have_no_findings(copper, water):
    assert check(copper, 5.0) == []
    assert check(water, 5.0) == []
    assert check([], 5.0) == []


def test_gradients_and_contradictory_copies_are_errors_unless_the_user_knows(copper):
    gradients = [replace(s, forces=-s.forces) for s in copper]
    with pytest.raises(InputError, match="as if gradients were stored as forces"):
        check(gradients, 5.0)
    [note] = check(gradients, 5.0, refuse=False)
    assert "as if gradients" in note
    twice = [*copper, replace(copper[3], energy=copper[3].energy + 1.0)]
    with pytest.raises(InputError, match="1 frame has the same positions as an earlier frame but energies"):
        check(twice, 5.0)


def test_charges_that_vary_are_an_error(water):
    with pytest.raises(InputError, match=r"'charge' is 0 in 15 and 1 in 15 frames of H2O"):
        check([replace(s, extra={"charge": i % 2}) for i, s in enumerate(water)], 5.0)


def test_isolated_atoms_may_have_several_charges_and_energies(water):
    assert check([*water, atom(8, 0.0, charge=0), atom(8, 13.6, charge=1)], 5.0) == []


def test_positions_in_bohr_are_noticed(water):
    [found] = distances([replace(s, positions=s.positions / units.Bohr) for s in water])
    assert "1.8 times those of covalent bonds" in found.sentence
    assert "data.length_unit=Bohr" in found.sentence
    [found] = distances([replace(s, positions=s.positions * units.Bohr) for s in water])
    assert "0.5" in found.sentence


def test_noble_gases_have_no_bonds():
    argon = crystal("Ar", [(0, 0, 0)], spacegroup=225, cellpar=[5.3, 5.3, 5.3, 90, 90, 90])
    assert distances([Structure.from_ase(argon)]) == []


def test_forces_of_atoms_in_another_order_turn_a_molecule(water):
    wrong = [replace(s, forces=s.forces[[1, 2, 0]]) if i < 20 else s for i, s in enumerate(water)]
    [found] = total_forces(wrong)
    assert not found.sure
    assert found.sentence.startswith("the forces of 20 of 30 structures turn them as a whole")


def test_forces_that_push_are_noticed_and_those_of_fixed_atoms_are_not(copper):
    pushed = [replace(s, forces=s.forces + np.array([1.0, 0, 0])) for s in copper]
    [found] = total_forces(pushed)
    assert found.sentence.startswith("the forces of 30 of 30 structures push them as a whole")
    fixed = [replace(s, forces=s.forces * [[0], [1], [1], [1]]) for s in copper]
    assert total_forces(fixed) == []


def test_files_with_other_units_than_the_first_are_an_error(copper):
    """Such as a test file whose forces are gradients; each file alone, and together, looks like noise."""
    wrong = [replace(s, forces=-s.forces, source=s.source.replace("a.xyz", "test.xyz")) for s in copper[18:]]
    with pytest.raises(InputError, match=r"the forces of test\.xyz have the opposite sign of those that follow from a"):
        check([*copper[:18], *wrong], 5.0)


@pytest.mark.slow
def test_published_sets_have_no_findings(shared_data):
    names = ("3bpa_train_300K", "acac_train_300K", "md17_aspirin_val", "rmd17_ethanol_train", "mlearn_Li_train",
             "mlearn_Si_train", "monbtaw_binary_SS", "si64_nequip_tutorial", "lips_700")  # fmt: skip
    assert {name: check(read(shared_data / f"{name}.xyz"), 5.0) for name in names} == {name: [] for name in names}
