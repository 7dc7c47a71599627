"""The start of a simulation: reads the structure, holds atoms fixed, and refuses what an ensemble cannot simulate."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms

from equiforce.calculators.md.options import MDOptions
from equiforce.data.files import read_last
from equiforce.data.write import why_outdated
from equiforce.elements import SYMBOLS
from equiforce.errors import InputError

AXES = "xyz"


def read_start(start: Atoms | str | Path) -> tuple[Atoms, list[str]]:
    """Copy the start structure, or read the last frame of its file.

    Returns:
        The atoms, and what the user should know about them.

    Raises:
        InputError: no structure can be read.
    """
    if isinstance(start, Atoms):
        return start.copy(), []
    atoms, remarks = read_last(str(start))
    for values in (atoms.info, atoms.arrays):  # those of the start would go into every frame
        for key in [key for key in values if why_outdated(str(key))]:
            del values[key]
    return atoms, [f"start: {remark}" for remark in remarks]


def refuse_unfit(atoms: Atoms, options: MDOptions) -> None:
    """Raise InputError if the ensemble does not fit the atoms, or if no atom is free to move."""
    if options.ensemble != "nve" and options.temperature <= 0:
        raise InputError(f"the {options.ensemble} ensemble needs a temperature above 0 K, not {options.temperature} K")
    if options.ensemble == "npt" and not (atoms.pbc.all() and atoms.cell.volume > 0):
        raise InputError(
            "the npt ensemble needs a cell that is periodic in all three directions: use langevin or bussi, or give "
            "the start structure a cell"
        )
    if options.ensemble == "npt" and atoms.constraints:
        raise InputError("the npt ensemble cannot hold atoms fixed: use langevin or bussi, or let all atoms move")
    if len(atoms) == 0:
        raise InputError("the start structure has no atoms: name a structure with atoms")
    if atoms.get_number_of_degrees_of_freedom() <= 0:
        raise InputError("no atom of the start structure can move: hold fewer atoms fixed")


def hold_fixed(atoms: Atoms, fixed: str | int | Sequence[str | int]) -> None:
    """Hold atoms fixed, beside those that a constraint of the start structure already holds.

    Args:
        atoms: the start structure, which gets the constraint.
        fixed: the atoms, as in the option ``fixed`` of :class:`~equiforce.calculators.md.options.MDOptions`.

    Raises:
        InputError: a term is none of the allowed ones, names no atom, or names an atom that is held along some axes.
    """
    terms = re.split(r"[,\s]+", fixed.strip()) if isinstance(fixed, str) else np.atleast_1d(np.array(fixed, dtype=str))
    chosen = np.zeros(len(atoms), dtype=bool)
    for term in terms:
        if term:
            chosen |= _atoms_of(term, atoms)
    if not chosen.any():
        return
    others = []
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            chosen[constraint.index] = True
        else:
            others.append(constraint)
    if clash := sorted({int(i) for c in others for i in np.atleast_1d(c.get_indices()) if chosen[i]}):
        raise InputError(f"atom {clash[0]} has a constraint in the start file already: leave it out of fixed")
    atoms.set_constraint([*others, FixAtoms(np.flatnonzero(chosen))])


def _atoms_of(term: str, atoms: Atoms) -> np.ndarray:
    """Which atoms a term of the option ``fixed`` names."""
    n_atoms, number = len(atoms), np.arange(len(atoms))
    if plane := re.fullmatch(r"([xyz])([<>])(-?(?:\d+\.?\d*|\.\d+))", term):
        along, limit = atoms.positions[:, AXES.index(plane[1])], float(plane[3])
        chosen = along < limit if plane[2] == "<" else along > limit
    elif term in SYMBOLS:
        chosen = np.array(atoms.get_chemical_symbols()) == term
    elif span := re.fullmatch(r"(\d+)-(\d+)", term):
        if int(span[2]) >= n_atoms:
            raise InputError(f"fixed={term} goes beyond the last atom of the start structure, which is {n_atoms - 1}")
        chosen = (number >= int(span[1])) & (number <= int(span[2]))
    elif term.isdecimal():
        chosen = number == int(term)
    else:
        raise InputError(
            f"fixed={term} is not understood: give elements (Cu), numbers from 0 (7), ranges (0-11) or planes (z<5), "
            "separated by commas"
        )
    if not chosen.any():
        raise InputError(f"fixed={term} names no atom of the start structure, which has atoms 0 to {n_atoms - 1}")
    return chosen


def constraints_in_words(atoms: Atoms) -> str:
    """The atoms that constraints hold, such as "4 atoms (Cu) by FixAtoms"; empty without constraints."""
    parts = []
    for constraint in atoms.constraints:
        try:
            held = np.unique(np.atleast_1d(constraint.get_indices()))
        except (AttributeError, NotImplementedError):  # a constraint on distances or on the whole system
            held = np.zeros(0, dtype=int)
        elements = ", ".join(sorted(set(np.array(atoms.get_chemical_symbols())[held])))
        kind = type(constraint).__name__
        parts.append(f"{len(held)} atom{'s' * (len(held) != 1)} ({elements}) by {kind}" if len(held) else kind)
    return "; ".join(parts)
