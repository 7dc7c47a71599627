"""The units that data come in, in eV and Å. A unit is spelled as people spell it: Hartree/Bohr, kcal/mol/Å, GPa."""

from collections.abc import Mapping
from difflib import get_close_matches
from unicodedata import normalize

from ase import units

from equiforce.errors import InputError
from equiforce.quantities import FORCES, STRESS

ENERGY = {
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
LENGTH = {"Å": 1.0, "Bohr": units.Bohr, "nm": units.nm, "pm": 1e-2, "m": units.m}
PRESSURE = {"GPa": units.GPa, "MPa": 1e-3 * units.GPa, "Pa": units.Pascal, "kbar": 1e3 * units.bar, "bar": units.bar}

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
    """The usual spelling of a unit of energy; raises InputError for one that is not known."""
    return _spelled(name, ENERGY, "energy")


def length_unit(name: str) -> str:
    """The usual spelling of a unit of length; raises InputError for one that is not known."""
    return _spelled("Bohr" if _plain(name) in ("au", "a.u.") else name, LENGTH, "length")


def energy_in_ev(name: str) -> float:
    """How many eV a unit of energy is."""
    return ENERGY[energy_unit(name)]


def length_in_angstrom(name: str) -> float:
    """How many Å a unit of length is."""
    return LENGTH[length_unit(name)]


def force_in_ev_per_angstrom(name: str) -> float:
    """How many eV/Å a unit of force is: a unit of energy over one of length."""
    energy, _, length = _plain(name).rpartition("/")
    if not energy:
        raise InputError(
            f"{name!r} is not a unit of force: write an energy over a length, such as eV/Å or Hartree/Bohr"
        )
    return energy_in_ev(energy) / length_in_angstrom(length)


def stress_in_ev_per_cubic_angstrom(name: str) -> float:
    """How many eV/Å³ a unit of stress is: a pressure, or a unit of energy over a cubed one of length."""
    energy, _, volume = _plain(name).rpartition("/")
    if not energy:
        return PRESSURE[_spelled(name, PRESSURE, "stress")]
    length = volume.removesuffix("3").removesuffix("^").removesuffix("**")
    if length == volume:
        raise InputError(
            f"{name!r} is not a unit of stress: write a pressure such as GPa, or an energy over a volume such as eV/Å^3"
        )
    return energy_in_ev(energy) / length_in_angstrom(length) ** 3


# the units of quantities that data may have in other units than those of their energies and lengths
OF_QUANTITY = {FORCES: force_in_ev_per_angstrom, STRESS: stress_in_ev_per_cubic_angstrom}


def product(energy: float, length: float, powers: tuple[int, int]) -> float:
    """The unit that is made of powers of those of energy and length, which are given in eV and Å."""
    of_energy, of_length = powers
    value = energy**of_energy
    return value * length**of_length if of_length >= 0 else value / length**-of_length


def _plain(name: str) -> str:
    # NFKC makes one of the ways to write Å, and of ³ a plain 3
    return normalize("NFKC", name).strip().lower().replace(" ", "")


def _spelled(name: str, known: Mapping[str, float], quantity: str) -> str:
    plain = _plain(name)
    spelled = {_plain(unit): unit for unit in known}
    spelled.update({other: unit for other, unit in _SPELLINGS.items() if unit in known})
    if plain in spelled:
        return spelled[plain]
    nearest = get_close_matches(plain, spelled, n=1, cutoff=0.4)
    hint = f"; did you mean {spelled[nearest[0]]!r}?" if nearest else ""
    raise InputError(f"{name!r} is not a unit of {quantity} known here ({', '.join(known)}){hint}")
