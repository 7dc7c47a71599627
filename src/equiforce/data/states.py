"""Charges, spins and levels of theory that frames state, which a potential of positions and elements does not see."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from equiforce.data.findings import Finding
from equiforce.elements import formula
from equiforce.structure import Structure

# names in lower case without punctuation
CHARGES = ("charge", "totalcharge", "netcharge", "molecularcharge", "systemcharge", "molcharge", "cellcharge")
SPINS = (
    "spin", "totalspin", "multiplicity", "spinmultiplicity", "totalmultiplicity", "mult", "unpairedelectrons",
    "nunpaired", "nupdown", "uhf",
)  # fmt: skip
LEVELS = (
    "level", "leveloftheory", "theory", "theorylevel", "method", "functional", "xc", "xcfunctional", "basis",
    "basisset", "code", "program",
)  # fmt: skip
STATES = CHARGES + SPINS


def relevance(key: str) -> int:
    """The rank of a key among those that may explain why labels of equal positions differ; 0 is the first."""
    return next((rank for rank, names in enumerate((STATES, LEVELS)) if _plain(key) in names), 2)


def varying_states(structures: Sequence[Structure]) -> list[Finding]:
    """Find charges, spins and levels of theory that vary between structures of one composition.

    Args:
        structures: the structures, without isolated atoms.

    Returns:
        A finding for each key. A charge that is the same for all structures of each composition is only noted.
    """
    keys = dict.fromkeys(key for s in structures for key in s.extra if relevance(key) < 2)
    return [finding for key in keys if (finding := _finding(key, structures)) is not None]


def _finding(key: str, structures: Sequence[Structure]) -> Finding | None:
    is_charge = _plain(key) in CHARGES
    stated = [(s, _value(s, key)) for s in structures]
    if _plain(key) in SPINS and any(isinstance(value, float) and value % 0.5 for _, value in stated):
        return None  # the magnetization of a calculation, which is a result
    if is_charge and any(value not in (None, 0.0) for _, value in stated):
        stated = [(s, 0.0 if value is None else value) for s, value in stated]  # programs leave out a charge of zero
    by_composition: dict[bytes, dict[Any, list[Structure]]] = {}
    for s, value in stated:
        if value is not None:
            composition = np.bincount(s.atomic_numbers, minlength=1).tobytes()
            by_composition.setdefault(composition, {}).setdefault(value, []).append(s)
    most = max(by_composition.values(), key=lambda values: (len(values), sum(map(len, values.values()))), default={})
    if len(most) > 1:
        return _varies(key, most)
    charges = {value for _, value in stated}
    if is_charge and charges - {None, 0.0}:
        what = f"is {_word(*charges)} in all frames" if len(charges) == 1 else "follows from the composition"
        return Finding(
            sentence=f"{key!r} {what}: the potential does not see it, and holds for these charges only", sure=False
        )
    return None


def _varies(key: str, structures: Mapping[Any, Sequence[Structure]]) -> Finding:
    """The finding that the value of a key varies between structures of one composition."""
    values = sorted(structures, key=lambda value: -len(structures[value]))[:3]
    counts = [f"{_word(value)} in {len(structures[value])}" for value in values]
    first, second = (structures[value][0] for value in values[:2])
    which = (
        f"{key!r} is {', '.join(counts[:-1])} and {counts[-1]} frames of {formula(first.atomic_numbers)}, such as "
        f"{first.source} and {second.source}"
    )
    if relevance(key) > 0:
        return Finding(
            sentence=f"{which}: energies of different levels of theory do not fit one potential, so train on one of "
            "them if this is a level of theory",
            sure=False,
        )
    return Finding(
        sentence=f"{which}, but a potential sees only positions and elements: keep the frames of one {key}", sure=True
    )


def _value(structure: Structure, key: str) -> Any:
    """A value of a whole structure as a number or a word; None for a missing value and for values of atoms."""
    value = structure.extra.get(key)
    if value is None or np.size(value) != 1 or np.shape(value)[:1] == (len(structure),):
        return None
    plain = np.asarray(value).reshape(-1)[0]
    try:
        return round(float(plain), 6)
    except (TypeError, ValueError):
        return str(plain).strip()


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plain(key: str) -> str:
    return re.sub(r"[^a-z0-9]", "", key.lower())
