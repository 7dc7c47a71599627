"""The unit of energy that numbers imply."""

import numpy as np
import pytest

from equiforce.data.frames import Contents, Frame
from equiforce.data.implied_units import Evidence, check_usual_unit, evidence_of, free_atom_energy, implied_unit
from equiforce.data.units import ENERGY_UNITS
from equiforce.errors import InputError

KEYS = {"energy": ("E",), "forces": ("F",)}


@pytest.mark.parametrize(
    ("z", "hartree"),
    [(1, -0.5), (2, -2.904), (6, -37.85), (8, -75.07), (14, -289.4), (26, -1263.6), (29, -1640.9), (47, -5200)],
)
def test_energies_of_free_atoms(z, hartree):
    """The values are those of accurate calculations without relativity."""
    assert free_atom_energy(z) / ENERGY_UNITS["Hartree"] == pytest.approx(hartree, rel=0.02)


def contents(energies, forces=None):
    """Water."""
    frames = []
    for i, energy in enumerate(energies):
        values = {"E": energy} | ({} if forces is None else {"F": forces[i]})
        frames.append(
            Frame(np.array([8, 1, 1]), np.zeros((3, 3)), np.zeros((3, 3)), np.zeros(3, dtype=bool), values, "")
        )
    return Contents("a.npz", frames, KEYS, "", "Å")


def evidence(unit, energy=-2080.0, force=1.0):
    value, rng = ENERGY_UNITS[unit], np.random.default_rng(0)
    energies, forces = (energy + rng.normal(size=5)) / value, force * rng.normal(size=(5, 3, 3)) / value
    return evidence_of(contents(energies, forces), KEYS)


@pytest.mark.parametrize("unit", ["eV", "kcal/mol", "kJ/mol"])
@pytest.mark.parametrize("force", [0.1, 1.0, 5.0])
def test_total_energies_tell_the_unit(unit, force):
    assert implied_unit("a.npz", evidence(unit, force=force)) == (unit, "energies")


@pytest.mark.parametrize("unit", ["eV", "kcal/mol"])
@pytest.mark.parametrize("energy", [-470.0, -14.2, -0.1])
def test_forces_tell_the_unit_where_energies_are_those_of_a_pseudopotential(unit, energy):
    assert implied_unit("a.npz", evidence(unit, energy)) == (unit, "forces")


def test_energies_alone_tell_the_unit():
    assert implied_unit("a.npz", evidence_of(contents([-2080.0, -2081.0]), KEYS)) == ("eV", "energies")
    with pytest.raises(
        InputError, match=r"a\.npz states no unit of energy, and its numbers do not tell it: add --energy"
    ):
        implied_unit("a.npz", evidence_of(contents([-14.0, -14.2]), KEYS))
    assert implied_unit("a.npz", evidence_of(contents([None, None]), KEYS)) == ("eV", "")


@pytest.mark.parametrize(("unit", "force"), [("eV", 0.1), ("eV", 4.0), ("Hartree", 1.0)])
def test_doubtful_numbers_are_an_error(unit, force):
    with pytest.raises(InputError, match="its numbers do not tell it"):
        implied_unit("a.npz", evidence(unit, -14.2, force))


def test_hartree_needs_the_unit_of_forces():
    with pytest.raises(InputError, match="may be Hartree/Bohr or Hartree/Å: give both"):
        implied_unit("a.npz", evidence("Hartree"))
    assert implied_unit("a.npz", evidence_of(contents([-76.4, -76.5]), KEYS)) == ("Hartree", "energies")


def test_energies_and_forces_in_units_that_do_not_fit():
    with pytest.raises(InputError, match=r"energies have the size of kJ/mol, but its forces, .*, do not: give both"):
        implied_unit("a.npz", Evidence(2, 96.485, 0.5))


@pytest.mark.parametrize("unit", ["kcal/mol", "kJ/mol", "Hartree"])
def test_files_that_are_usually_in_ev(unit):
    with pytest.raises(InputError, match=rf"in {unit}, not in eV: add --energy-unit {unit}"):
        check_usual_unit("a.xyz", evidence(unit))
    assert check_usual_unit("a.xyz", evidence("eV")) == ""
    assert check_usual_unit("a.xyz", evidence("eV", -14.2)) == ""
    alone = evidence(unit)._replace(force=None)
    assert f"--energy-unit {unit}, or --energy-unit eV" in check_usual_unit("a.xyz", alone)
    assert check_usual_unit("a.xyz", Evidence(2, None, 1.0)) == ""
