"""Compares the masses of atom types with the elements that they are said to be."""

from collections.abc import Iterator, Sequence

import numpy as np
from ase.data import atomic_masses

from equiforce.elements import atomic_number
from equiforce.errors import InputError

# mass numbers of the isotopes that occur in nature, and of tritium
_ISOTOPES = """
H 1 2 3; He 3 4; Li 6 7; Be 9; B 10 11; C 12 13; N 14 15; O 16 17 18; F 19; Ne 20 21 22; Na 23; Mg 24 25 26; Al 27;
Si 28 29 30; P 31; S 32 33 34 36; Cl 35 37; Ar 36 38 40; K 39 40 41; Ca 40 42 43 44 46 48; Sc 45; Ti 46 47 48 49 50;
V 50 51; Cr 50 52 53 54; Mn 55; Fe 54 56 57 58; Co 59; Ni 58 60 61 62 64; Cu 63 65; Zn 64 66 67 68 70; Ga 69 71;
Ge 70 72 73 74 76; As 75; Se 74 76 77 78 80 82; Br 79 81; Kr 78 80 82 83 84 86; Rb 85 87; Sr 84 86 87 88; Y 89;
Zr 90 91 92 94 96; Nb 93; Mo 92 94 95 96 97 98 100; Ru 96 98 99 100 101 102 104; Rh 103; Pd 102 104 105 106 108 110;
Ag 107 109; Cd 106 108 110 111 112 113 114 116; In 113 115; Sn 112 114 115 116 117 118 119 120 122 124; Sb 121 123;
Te 120 122 123 124 125 126 128 130; I 127; Xe 124 126 128 129 130 131 132 134 136; Cs 133;
Ba 130 132 134 135 136 137 138; La 138 139; Ce 136 138 140 142; Pr 141; Nd 142 143 144 145 146 148 150;
Sm 144 147 148 149 150 152 154; Eu 151 153; Gd 152 154 155 156 157 158 160; Tb 159; Dy 156 158 160 161 162 163 164;
Ho 165; Er 162 164 166 167 168 170; Tm 169; Yb 168 170 171 172 173 174 176; Lu 175 176; Hf 174 176 177 178 179 180;
Ta 180 181; W 180 182 183 184 186; Re 185 187; Os 184 186 187 188 189 190 192; Ir 191 193; Pt 190 192 194 195 196 198;
Au 197; Hg 196 198 199 200 201 202 204; Tl 203 205; Pb 204 206 207 208; Bi 209; Th 232; Pa 231; U 234 235 238
"""
ISOTOPES = {symbol: tuple(map(int, numbers)) for symbol, *numbers in map(str.split, _ISOTOPES.split(";"))}

DEFECT = 0.11  # u; the largest difference between the mass of an isotope and its mass number
ROUNDING = 0.5  # u; masses are often written as whole numbers
EXACT = 0.02  # u; a mass with one or two decimals
HEAVIEST_HYDROGEN = 4.2  # u; hydrogen mass repartitioning makes hydrogen three or four times as heavy
BONDED_HYDROGENS = 4  # the largest number of hydrogen atoms to which one atom gives mass
DEUTERIUM, TRITIUM = (2.0141, 0.0012), (3.0160, 0.004)  # u; mass and tolerance, which tell 2.016 and 3.024 apart


def check_masses(elements: Sequence[str], masses: Sequence[float], species: Sequence[str], said_by: str) -> list[str]:
    """Compare the mass of each atom type with its element.

    Isotopes and hydrogen mass repartitioning are allowed. A mass that fits another element of the model much better is
    refused.

    Args:
        elements: the chemical symbol of each atom type, or ``NULL``.
        masses: the mass of each atom type in u; not above 0 or NaN if it is not known.
        species: the chemical symbols of the model.
        said_by: what gave the elements, for messages.

    Returns:
        Sentences about masses that are doubtful.

    Raises:
        InputError: a mass is that of another element of the model.
    """
    types = [_Type(n, e, m) for n, (e, m) in enumerate(zip(elements, masses, strict=True), 1) if e != "NULL" and m > 0]
    shifts = [t.mass - _standard("H") for t in types if t.element == "H" and _repartitioned(t.mass)]
    equal = len({t.element for t in types}) > 1 and np.ptp([t.mass for t in types]) == 0
    doubtful = []
    for one in types:
        if one.fits_hydrogens(shifts):
            continue
        others = [symbol for symbol in species if symbol != one.element]
        rival = min((s for s in others if _fits(s, one.mass)), key=lambda s: abs(one.mass - _standard(s)), default=None)
        if not one.fits and rival and not equal:
            raise InputError(one.refusal(rival, said_by))
        if one.fits and rival and abs(one.mass - _standard(rival)) < EXACT < 0.1 < one.error:
            if not one.is_isotope:
                raise InputError(one.refusal(rival, said_by))
            doubtful.append(f"{one} is an isotope of {one.element}, but the mass is also that of {rival}: is it meant?")
        elif not one.fits:
            doubtful.append(
                f"{one} is {one.element} according to {said_by}, which has {_standard(one.element):.6g} u: check the "
                "element and the mass"
            )
    return doubtful


class _Type:
    """An atom type whose mass is known."""

    def __init__(self, number: int, element: str, mass: float):
        self.number, self.element, self.mass = number, element, mass
        self.error = abs(mass - _standard(element))
        self.is_isotope = _is_isotope(element, mass)
        self.fits = _fits(element, mass)

    def __str__(self) -> str:
        return f"atom type {self.number} with mass {self.mass:.6g} u"

    def fits_hydrogens(self, shifts: Sequence[float]) -> bool:
        """Whether the atoms are hydrogen, which may be heavy, or have given mass to bonded hydrogen atoms."""
        if self.element == "H":
            return 0.9 <= self.mass <= HEAVIEST_HYDROGEN
        return self.element != "He" and any(abs(m - self.mass) < 0.1 for m in _lighter(self.element, shifts))

    def refusal(self, rival: str, said_by: str) -> str:
        return (
            f"{self} is {rival} ({_standard(rival):.6g} u) and not {self.element} ({_standard(self.element):.6g} u) as "
            f"{said_by} says: give the elements in the order of the atom types, or correct the mass"
        )


def _standard(symbol: str) -> float:
    return float(atomic_masses[atomic_number(symbol)])


def _is_isotope(symbol: str, mass: float) -> bool:
    return any(abs(mass - number) <= DEFECT for number in ISOTOPES.get(symbol, ()))


def _fits(symbol: str, mass: float) -> bool:
    return _is_isotope(symbol, mass) or abs(mass - _standard(symbol)) <= ROUNDING


def _repartitioned(mass: float) -> bool:
    isotope = any(abs(mass - known) < tolerance for known, tolerance in (DEUTERIUM, TRITIUM))
    return 1.1 < mass <= HEAVIEST_HYDROGEN and not isotope


def _lighter(symbol: str, shifts: Sequence[float]) -> Iterator[float]:
    """The masses of atoms that have given some mass to bonded hydrogen atoms."""
    for shift in shifts:
        yield from (_standard(symbol) - n * shift for n in range(1, BONDED_HYDROGENS + 1))
