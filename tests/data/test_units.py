import pytest

from equiforce.data import units
from equiforce.errors import InputError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("eV", 1.0),
        ("mev", 1e-3),
        ("kcal/mol", 0.0433641153),
        ("kcal mol-1", 0.0433641153),
        ("kJ/mol", 0.01036426966),
        ("Hartree", 27.211386246),
        ("Ha", 27.211386246),
        ("a.u.", 27.211386246),
        ("Ry", 13.605693123),
        ("rydberg", 13.605693123),
    ],
)
def test_energies(name, value):
    assert units.energy_in_ev(name) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Å", 1),
        ("A", 1),
        ("Angstrom", 1),
        ("Ang", 1),
        ("\u212b", 1),
        ("bohr", 0.529177211),
        ("au", 0.529177211),
        ("nm", 10),
    ],
)
def test_lengths(name, value):
    assert units.length_in_angstrom(name) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("eV/Å", 1.0),
        ("Hartree/Bohr", 51.42206748),
        ("Ha/A", 27.211386246),
        ("kcal/mol/Å", 0.0433641153),
        ("kcal/mol/bohr", 0.0819463),
        ("kJ/mol/nm", 0.001036426966),
        ("Ry/au", 25.71103374),
    ],
)
def test_forces(name, value):
    assert units.force_in_ev_per_angstrom(name) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("eV/Å^3", 1.0),
        ("eV/A3", 1.0),
        ("eV/Å³", 1.0),
        ("eV/Ang**3", 1.0),
        ("GPa", 0.00624150907),
        ("kbar", 0.000624150907),
        ("kB", 0.000624150907),
        ("bar", 6.24150907e-7),
        ("Hartree/Bohr^3", 183.6315353),
    ],
)
def test_stresses(name, value):
    assert units.stress_in_ev_per_cubic_angstrom(name) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(
    ("conversion", "name", "message"),
    [
        (units.energy_in_ev, "kcal/mole", "did you mean 'kcal/mol'"),
        (units.energy_in_ev, "hartee", "did you mean 'Hartree'"),
        (units.length_in_angstrom, "Angstrm", "did you mean 'Å'"),
        (units.force_in_ev_per_angstrom, "eV", "energy over a length"),
        (units.force_in_ev_per_angstrom, "eV/parsec", "'parsec' is not a unit of length"),
        (units.stress_in_ev_per_cubic_angstrom, "GPA/m", "GPA/m"),
        (units.stress_in_ev_per_cubic_angstrom, "GP", "did you mean 'GPa'"),
    ],
)
def test_unknown_units_name_the_nearest(conversion, name, message):
    with pytest.raises(InputError, match=message):
        conversion(name)
