"""The start structures of a distillation: what is read, how long their time step is, and disturbed copies of them."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from jaxtyping import Float

from equiforce.calculators.soundness import refuse_unsound
from equiforce.data.copies import first_copies
from equiforce.data.isolated import is_isolated_atom
from equiforce.data.read import ReadOptions
from equiforce.data.write import MOVE_MASK, atoms_from_structure
from equiforce.distillation.options import DistillOptions
from equiforce.elements import symbols_by_number
from equiforce.errors import InputError
from equiforce.preparation import read_and_report
from equiforce.quantities import QUANTITIES
from equiforce.structure import Structure
from equiforce.terminal import Console, note

HYDROGEN = 1.008  # u
SHORTEST, LONGEST = 0.5, 2.0  # fs; bonds of hydrogen, which oscillate in 10 fs, need 20 steps each time
LEAST_RATTLE = 0.25  # of the largest one
COPIES = "copies"  # the group of disturbed copies
STARTS = "start"  # the group of the start structures


def read_starts(
    files: Sequence[str | Path], species: Sequence[str], cutoff: float, options: ReadOptions, console: Console
) -> list[Structure]:
    """Read the start structures, with the reference labels that they have, and leave out copies and isolated atoms.

    Args:
        files: of the structures, in any format.
        species: the elements of the teacher.
        cutoff: of the teacher in Å.
        options: keys and units of labels.
        console: prints what was found.

    Raises:
        InputError: a file cannot be read or has no structure of several atoms, the teacher does not know an element, or
            no simulation can start from a structure.
    """
    found = read_and_report([str(file) for file in files], options, console, labels_required=False)
    bound = [s for s in found if not is_isolated_atom(s, cutoff)]
    first = first_copies(bound) if bound else np.zeros(0, dtype=int)
    starts = [s for number, s in enumerate(bound) if first[number] == number]
    for count, what in ((len(found) - len(bound), "isolated atoms"), (len(bound) - len(starts), "copies of others")):
        if count:
            note(console, f"{count} of the {len(found)} start structures are {what} and left out")
    if not starts:
        raise InputError(
            f"{files[0]} has isolated atoms only, from which a student learns nothing: give structures of several atoms"
        )
    for start in starts:
        refuse_unsound(atoms_from_structure(bare(start)), start.source, species, cutoff=cutoff)
    return starts


def bare(structure: Structure, **changes: object) -> Structure:
    """The atoms of a structure without labels and other values; which atoms may move is kept.

    Args:
        structure: the structure.
        changes: other fields to replace, such as ``positions``.
    """
    kept = {key: value for key, value in structure.extra.items() if key == MOVE_MASK}
    labels = {quantity.name: None for quantity in QUANTITIES}
    fields = {"extra": kept, "of_atoms": structure.of_atoms & set(kept), **labels, **changes}
    return replace(structure, **fields)  # type: ignore[arg-type]


def time_step(starts: Sequence[Structure], options: DistillOptions) -> float:
    """The time step in fs: that of the user, or one that follows from the lightest atom."""
    if options.timestep is not None:
        return options.timestep
    lightest = min(float(atoms_from_structure(bare(start)).get_masses().min()) for start in starts)
    return round(min(LONGEST, max(SHORTEST, SHORTEST * math.sqrt(lightest / HYDROGEN))), 2)


def strained(structure: Structure, strain: Float[np.ndarray, "3 3"] | float) -> Structure:
    """A structure whose cell and atoms are strained along its periodic directions.

    Args:
        structure: the structure; one without periodic directions stays as it is.
        strain: a symmetric matrix [3 3], or a number for all directions alike.
    """
    if not structure.pbc.any():
        return structure
    lattice = structure.cell[structure.pbc]
    along = np.linalg.pinv(lattice) @ lattice  # projects onto the space of the periodic directions
    full = strain if isinstance(strain, np.ndarray) else strain * np.eye(3)
    deformation = np.eye(3) + along @ full @ along
    return replace(structure, positions=structure.positions @ deformation, cell=structure.cell @ deformation)


def disturbed(starts: Sequence[Structure], options: DistillOptions) -> list[Structure]:
    """Copies of the start structures with strained cells and moved atoms; atoms that are held fixed stay.

    Each copy has its own amplitude, so that structures near and far from the start occur. The same seed gives the same
    copies. Those in which atoms overlap are left out. Copies of all start structures follow one another.
    """
    copies = []
    for copy, (number, start) in product(range(options.copies), enumerate(starts)):
        rng = np.random.default_rng([options.seed, number, copy])
        part = rng.uniform(LEAST_RATTLE, 1.0)
        shear = rng.uniform(-1.0, 1.0, (3, 3))
        moved = strained(start, options.strain * part * (shear + shear.T) / 2)
        steps = rng.normal(scale=options.rattle * part, size=moved.positions.shape)
        source = f"copy {copy} of {start.source}"
        positions = moved.positions + _may_move(start) * steps
        disturbed_one = bare(moved, positions=positions, group=COPIES, source=source)
        try:
            refuse_unsound(atoms_from_structure(disturbed_one), source, symbols_by_number(start.atomic_numbers))
        except InputError:
            continue
        copies.append(disturbed_one)
    return copies


def _may_move(structure: Structure) -> np.ndarray:
    """Which atoms, or which of their coordinates, may move [atoms 1 or 3]."""
    if MOVE_MASK not in structure.of_atoms:
        return np.ones((len(structure), 1), dtype=bool)
    return np.asarray(structure.extra[MOVE_MASK], dtype=bool).reshape(len(structure), -1)
