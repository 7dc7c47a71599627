"""Files whose forces have another sign or unit than those of the largest file are named."""

from dataclasses import replace

import pytest
from ase import units

from equiforce.data.between_files import compare_files, fits_of_files
from tests.data_sets import crystals, labelled, molecules


def named(structures, file):
    return [replace(s, source=f"{file}, frame {i}") for i, s in enumerate(structures)]


@pytest.fixture(scope="module")
def copper():
    return [labelled(atoms) for atoms in crystals(60)]


def two_files(structures, factor):
    return named(structures[:40], "train.xyz") + named(
        [replace(s, forces=factor * s.forces) for s in structures[40:]], "test.xyz"
    )


def test_right_files_agree(copper):
    fits = fits_of_files(two_files(copper, 1))
    assert [len(fitted.structures) for fitted in fits] == [40, 20]
    assert compare_files(fits) == []
    assert compare_files([]) == []


def test_another_sign(copper):
    [found] = compare_files(fits_of_files(two_files(copper, -1)))
    assert found.sure
    assert found.sentence == (
        "the forces of test.xyz have the opposite sign of those that follow from train.xyz: multiply the forces of one "
        "of them by -1"
    )


@pytest.mark.parametrize(
    ("factor", "which"),
    [
        (units.mol / units.kcal, "they were in kcal/mol/Å"),
        (units.Bohr / units.Hartree, "they were in Hartree/Bohr"),
        (units.Hartree / units.Bohr, "those were in Hartree/Bohr"),
    ],
)
def test_another_unit(copper, factor, which):
    [found] = compare_files(fits_of_files(two_files(copper, factor)))
    assert found.sure
    assert f"as if {which}: convert one of them" in found.sentence


def test_files_of_a_few_structures_are_fitted_together(copper):
    """As those of a folder of calculations."""
    [fitted] = fits_of_files([s for i in range(20) for s in named([copper[i]], f"run{i}/vasprun.xml")])
    assert len(fitted.structures) == 20


def test_other_elements_are_not_compared(copper):
    water = named([labelled(atoms) for atoms in molecules(20)], "water.xyz")
    assert compare_files(fits_of_files([*named(copper, "copper.xyz"), *water])) == []
