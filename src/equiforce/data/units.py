"""The units of data, in eV and Å, in all usual spellings, such as Hartree/Bohr, kcal/mol/Å and GPa."""

from collections.abc import Mapping
from difflib import get_close_matches
from unicodedata import normalize

from ase import units

from equiforce.errors import InputError
from equiforce.quantities import FORCES, STRESS

ENERGY_UNITS = {
    "eV": 1.0,
    "meV": 1e-3,
    "kcal/mol": units.kcal / units.mol,
    "kJ/mol": units.kJ / units.mol,
    "Hartree": units.Hartree,
    "mHartree": 1e-3 * units.Hartree,
    "Ry": units.Ry,
    "K": units.kB,
    "J": units.J,
}
LENGTH_UNITS = {"Å": 1.0, "Bohr": units.Bohr, "nm": units.nm, "pm": 1e-2, "m": units.m}
PRESSURE_UNITS = {
    "GPa": units.GPa,
    "MPa": 1e-3 * units.GPa,
    "Pa": units.Pascal,
    "kbar": 1e3 * units.bar,
    "bar": units.bar,
}

_SPELLINGS = {
    "electronvolt": "eV",
    "kcal": "kcal/mol",
    "kcalmol-1": "kcal/mol",
    "kj": "kJ/mol",
    "kjmol-1": "kJ/mol",
    "ha": "Hartree",
    "eh": "Hartree",
    "e_h": "Hartree",
    "mha": "mHartree",
    "au": "Hartree",
    "a.u.": "Hartree",
    "rydberg": "Ry",
    "kelvin": "K",
    "a": "Å",
    "ang": "Å",
    "angstrom": "Å",
    "angstroms": "Å",
    "ångström": "Å",
    "ångstrom": "Å",
    "a0": "Bohr",
    "a_0": "Bohr",
    "nanometer": "nm",
    "kb": "kbar",
}


def energy_unit(name: str) -> str:
    """The usual spelling of a unit of energy; raises InputError if the unit is unknown."""
    return _spelled(name, ENERGY_UNITS, "energy")


def length_unit(name: str) -> str:
    """The usual spelling of a unit of length; raises InputError if the unit is unknown."""
    return _spelled("Bohr" if _plain(name) in ("au", "a.u.") else name, LENGTH_UNITS, "length")


def energy_in_ev(name: str) -> float:
    """The value of a unit of energy in eV; raises InputError if the unit is unknown."""
    return ENERGY_UNITS[energy_unit(name)]


def length_in_angstrom(name: str) -> float:
    """The value of a unit of length in Å; raises InputError if the unit is unknown."""
    return LENGTH_UNITS[length_unit(name)]


def force_in_ev_per_angstrom(name: str) -> float:
    """The value in eV/Å of a unit of force, which is spelled as a unit of energy over a unit of length.

    Raises:
        InputError: the unit is unknown.
    """
    energy, _, length = _plain(name).rpartition("/")
    if not energy:
        raise InputError(
            f"{name!r} is not a unit of force: write an energy over a length, such as eV/Å or Hartree/Bohr"
        )
    return energy_in_ev(energy) / length_in_angstrom(length)


def stress_in_ev_per_cubic_angstrom(name: str) -> float:
    """The value in eV/Å³ of a unit of stress: a pressure, or a unit of energy over a cubed unit of length.

    Raises:
        InputError: the unit is unknown.
    """
    energy, _, volume = _plain(name).rpartition("/")
    if not energy:
        return PRESSURE_UNITS[_spelled(name, PRESSURE_UNITS, "stress")]
    length = volume.removesuffix("3").removesuffix("^").removesuffix("**")
    if length == volume:
        raise InputError(
            f"{name!r} is not a unit of stress: write a pressure such as GPa, or an energy over a volume such as eV/Å^3"
        )
    return energy_in_ev(energy) / length_in_angstrom(length) ** 3


# the quantities with an option for their unit; other units follow from those of energy and length
UNIT_PARSERS = {FORCES: force_in_ev_per_angstrom, STRESS: stress_in_ev_per_cubic_angstrom}


def product(energy: float, length: float, powers: tuple[int, int]) -> float:
    """The product of powers of a unit of energy and a unit of length, in eV and Å."""
    energy_power, length_power = powers
    value = energy**energy_power
    return value * length**length_power if length_power >= 0 else value / length**-length_power


def _plain(name: str) -> str:
    # NFKC unifies the characters for Å and turns ³ into a plain 3
    return normalize("NFKC", name).strip().lower().replace(" ", "")


def _spelled(name: str, known: Mapping[str, float], quantity: str) -> str:
    plain = _plain(name)
    spelled = {_plain(unit): unit for unit in known}
    spelled.update({other: unit for other, unit in _SPELLINGS.items() if unit in known})
    if plain in spelled:
        return spelled[plain]
    nearest = get_close_matches(plain, spelled, n=1, cutoff=0.4)
    hint = f"; did you mean {spelled[nearest[0]]!r}?" if nearest else ""
    raise InputError(
        f"{name!r} is not a unit of {quantity} (the known ones are {', '.join(known)}){hint or ': give one of these'}"
    )
