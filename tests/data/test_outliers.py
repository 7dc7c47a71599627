"""Single labels far from the others, and two groups of energies, are named; right labels are not."""

from dataclasses import replace

import pytest

from equiforce.data.outliers import energy_levels, energy_outliers, force_outliers
from tests.data_sets import crystals, labelled, molecules


def named(structures, file="a.xyz"):
    return [replace(s, source=f"{file}, frame {i}") for i, s in enumerate(structures)]


@pytest.fixture(scope="module", params=["copper", "ethanol", "both"])
def data(request):
    copper = [labelled(atoms) for atoms in crystals(60)]
    ethanol = [labelled(atoms) for atoms in molecules(40, name="CH3CH2OH")]
    return named({"copper": copper, "ethanol": ethanol, "both": copper + ethanol}[request.param])


def test_right_labels_are_not_named(data):
    assert energy_outliers(data) == []
    assert force_outliers(data) == []
    assert energy_levels(data) == []


def test_a_single_energy_far_away_is_named(data):
    one = [replace(s, energy=s.energy + 27.2) if i == 7 else s for i, s in enumerate(data)]
    [found] = energy_outliers(one)
    assert not found.sure
    assert found.sentence.startswith("a.xyz, frame 7: the energy is 2")
    many = [replace(s, energy=s.energy + 27.2) if i % 3 == 0 else s for i, s in enumerate(data)]
    assert energy_outliers(many) == []


def test_a_single_structure_with_huge_forces_is_named(data):
    one = [replace(s, forces=1000 * s.forces) if i == 7 else s for i, s in enumerate(data)]
    [found] = force_outliers(one)
    assert not found.sure
    assert found.sentence.startswith("a.xyz, frame 7: forces of up to")
    assert force_outliers(one[:8]) == []  # too few to know what is usual


@pytest.mark.parametrize("other", ["a.xyz", "b.xyz"])
def test_energies_of_two_units_are_two_groups(other):
    """In one file or in two."""
    kcal = 23.0605
    half = [labelled(atoms) for atoms in molecules(20)]
    half = [replace(s, energy=s.energy - 100) for s in half]  # as of a program with electrons
    mixed = named(half[:10]) + named(
        [replace(s, energy=kcal * s.energy, forces=kcal * s.forces) for s in half[10:]], other
    )
    [found] = energy_levels(mixed)
    assert found.sure
    assert "the energies of H2O form two groups" in found.sentence
    assert "(the ratio is that of eV and kcal/mol)" in found.sentence
    assert f"{other}, frame 0 " in found.sentence


def test_energies_of_two_levels_of_theory_are_two_groups():
    half = [labelled(atoms) for atoms in molecules(20)]
    [found] = energy_levels(named(half[:10]) + named([replace(s, energy=s.energy - 184) for s in half[10:]], "b.xyz"))
    assert found.sure
    assert "different units or of different levels of theory" in found.sentence


def test_a_crystal_and_its_melt_are_no_two_levels():
    """Their energies differ as much, but so do their forces."""
    copper = [labelled(atoms) for atoms in crystals(20)]
    melt = [replace(s, energy=s.energy + 0.6 * len(s), forces=3 * s.forces) for s in copper[10:]]
    assert energy_levels(named(copper[:10] + melt)) == []
    calm = [replace(s, energy=s.energy + 20 * len(s)) for s in copper[10:]]
    assert len(energy_levels(named(copper[:10] + calm))) == 1
