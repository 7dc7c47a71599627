"""The chemical symbols, in order of atomic number; index 0 stands for no element."""

from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np
from jaxtyping import Int

from equiforce.errors import InputError

_TABLE = (
    "X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr "
    "Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt "
    "Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv "
    "Ts Og"
)
SYMBOLS = tuple(_TABLE.split())
LIGHTEST = 10  # elements of the first two periods


def atomic_number(symbol: str) -> int:
    """The atomic number of a chemical symbol; raises InputError if there is no such element."""
    if symbol in SYMBOLS[1:]:
        return SYMBOLS.index(symbol)
    nearest = get_close_matches(symbol.capitalize(), SYMBOLS[1:], n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    raise InputError(f"there is no chemical element {symbol!r}{hint or ': correct the symbol'}")


def column(symbol: str) -> int:
    """The column of the periodic table: groups 1 to 18; lanthanides have -1 and actinides -2."""
    number = atomic_number(symbol)
    if 57 <= number <= 71 or 89 <= number <= 103:
        return -1 if number <= 71 else -2
    if number <= 2:
        return 1 if number == 1 else 18
    first = max(start for start in (3, 11, 19, 37, 55, 87) if start <= number)
    place = number - first + 1  # in its period
    if first <= 11:
        return place if place <= 2 else place + 10
    return place if first < 55 or place <= 2 else place - 14


def most_similar(symbol: str, known: Sequence[str]) -> str:
    """The known element in the same column of the periodic table, or else of any column, with the nearest number.

    The first ten elements differ much from the heavier ones of their columns, so they stand for one another first. Of
    two that are equally near, the lighter one is taken.
    """
    number = atomic_number(symbol)
    alike = [other for other in known if column(other) == column(symbol)]

    def distance(other: str) -> tuple[bool, int, int]:
        its = atomic_number(other)
        return bool(alike) and (its <= LIGHTEST) != (number <= LIGHTEST), abs(its - number), its

    return min(alike or known, key=distance)


def symbols_by_number(atomic_numbers: Int[np.ndarray, " atoms"]) -> list[str]:
    """The symbols of the elements that occur among atoms, in order of atomic number."""
    return [SYMBOLS[z] for z in np.unique(atomic_numbers)]


def formula(atomic_numbers: Int[np.ndarray, " atoms"]) -> str:
    """The formula of atoms, with carbon and hydrogen first, as chemists write it, such as C2H6O."""
    counts = {SYMBOLS[z]: int(n) for z, n in zip(*np.unique(atomic_numbers, return_counts=True), strict=True)}
    order = sorted(counts, key=lambda symbol: (symbol != "C", symbol != "H", symbol))
    return "".join(f"{symbol}{counts[symbol] if counts[symbol] > 1 else ''}" for symbol in order)


def species_index(
    atomic_numbers: Int[np.ndarray, " atoms"], species: Sequence[str], source: str = "the structure"
) -> Int[np.ndarray, " atoms"]:
    """The index in ``species`` of each atom's element.

    Args:
        atomic_numbers: the atomic numbers [atoms].
        species: the chemical symbols of a model.
        source: the name of the structure in messages.

    Returns:
        The indices [atoms].

    Raises:
        InputError: an element is not in ``species``.
    """
    place = np.full(len(SYMBOLS), -1, dtype=np.int64)
    place[[atomic_number(symbol) for symbol in species]] = np.arange(len(species))
    numbers = np.asarray(atomic_numbers, dtype=np.int64)
    known = (numbers > 0) & (numbers < len(SYMBOLS))
    index = np.where(known, place[np.where(known, numbers, 0)], -1)
    if len(index) and index.min() < 0:
        atom = int(np.flatnonzero(index < 0)[0])
        element = SYMBOLS[numbers[atom]] if known[atom] else f"with atomic number {numbers[atom]}"
        raise InputError(
            f"{source}: atom {atom} (counted from 0) is an element {element} that the model does not know: "
            f"it was trained on {', '.join(species)}, so remove the atom or use another model"
        )
    return index
