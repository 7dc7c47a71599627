"""Units in headers are the units in which a file is read."""

import numpy as np
import pytest

from equiforce.data.frames import Contents, Frame
from equiforce.data.stated_units import check_stated_units, states_a_unit, subject_of
from equiforce.errors import InputError

IN_EV = {"energy": 1.0, "length": 1.0, "forces": 1.0, "stress": 1.0}


def contents(**values):
    frame = Frame(np.array([1]), np.zeros((1, 3)), np.zeros((3, 3)), np.zeros(3, dtype=bool), values, "")
    return Contents("a.xyz", [frame], {}, "eV", "Å")


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("energy-unit", "energy"),
        ("Energies_Units", "energy"),
        ("e_unit", "energy"),
        ("unit_of_energy", "energy"),
        ("virial_unit", "energy"),
        ("r_unit", "length"),
        ("position_unit", "length"),
        ("units_length", "length"),
        ("forceunit", "forces"),
        ("pressure_unit", "stress"),
        ("unit_cell", None),
        ("formula_units", None),
        ("energy", None),
    ],
)
def test_what_has_the_unit(name, subject):
    assert subject_of(name) == subject
    assert states_a_unit(name) == (subject is not None)


@pytest.mark.parametrize("words", ["eV", "eV, Angstrom", "metal", "eV/Å", "Ang eV eV/Ang", "ase", "eV and Å"])
def test_general_statements_that_agree(words):
    check_stated_units(contents(units=words), IN_EV, ())


@pytest.mark.parametrize("words", ["Hartree", "real", "atomic", "eV, Bohr", "kcal/mol/Å", "furlong"])
def test_general_statements_that_do_not_agree(words):
    with pytest.raises(InputError, match=rf"frame 0: 'units' is '{words}', but .*--set data\.ignore=units"):
        check_stated_units(contents(units=words), IN_EV, ())
    check_stated_units(contents(units=words), IN_EV, {"energy"})
    check_stated_units(contents(units=words), IN_EV, (), {"units"})


def test_a_unit_of_the_user_wins():
    with pytest.raises(InputError, match="'energy_unit' is 'Hartree', but equiforce would read another unit"):
        check_stated_units(contents(energy_unit="Hartree"), IN_EV, ())
    check_stated_units(contents(energy_unit="Hartree"), IN_EV, {"energy"})
    with pytest.raises(InputError, match="'e_unit' is 'parsec', but 'parsec' is not a unit of energy"):
        check_stated_units(contents(e_unit="parsec"), IN_EV, {"length"})
    check_stated_units(contents(e_unit=None), IN_EV, ())
