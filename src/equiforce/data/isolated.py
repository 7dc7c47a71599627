"""Recognizes isolated atoms and other structures without neighbours, which have exactly their reference energy."""

from collections.abc import Sequence

import numpy as np

from equiforce.neighbors import find_pairs
from equiforce.structure import Structure

TYPICAL_CUTOFF = 5.0  # Å, of most models
FARTHEST = 50.0  # Å; the largest distance that is looked for


def is_isolated_atom(structure: Structure, cutoff: float) -> bool:
    """Whether a structure is a single atom without a neighbour, such as an image of itself, within the cutoff in Å."""
    return len(structure) == 1 and not has_neighbors(structure, cutoff)


def has_neighbors(structure: Structure, cutoff: float) -> bool:
    """Whether at least one atom of a structure has a neighbour within the cutoff in Å."""
    steps = np.diff(structure.positions, axis=0)  # in most files some atoms that follow one another are bonded
    if (np.einsum("ax,ax->a", steps, steps) <= cutoff**2).any():
        return True
    if len(structure) == 1 and not structure.pbc.any():
        return False
    pairs = find_pairs(structure.positions, structure.cell, structure.pbc, cutoff, structure.source or "the structure")
    return len(pairs.distances) > 0


def called_isolated(structures: Sequence[Structure], cutoff: float) -> list[str]:
    """A note for single atoms whose group is called IsolatedAtom although they have neighbours within the cutoff."""
    wrong = [s for s in structures if len(s) == 1 and _is_called_isolated(s) and has_neighbors(s, cutoff)]
    if not wrong:
        return []
    more = f" and {len(wrong) - 1} more frames are" if len(wrong) > 1 else " is"
    return [
        f"{wrong[0].source}{more} called {wrong[0].group}, but images of the atom are closer than the cutoff of "
        f"{cutoff:g} Å, so it is a crystal and no reference energy: compute it in a larger box"
    ]


def _is_called_isolated(structure: Structure) -> bool:
    return structure.group.lower().replace("_", "").replace("-", "").replace(" ", "") == "isolatedatom"


def without_neighbors(structures: Sequence[Structure], cutoff: float) -> list[str]:
    """A note for structures of several atoms in which no atom has a neighbour within the cutoff."""
    alone = [s for s in structures if not has_neighbors(s, cutoff)]
    if not alone:
        return []
    more = f" and {len(alone) - 1} more training structures have" if len(alone) > 1 else " has"
    return [
        f"{alone[0].source}{more} no neighbours within the cutoff of {cutoff:g} Å, so predicted energies are sums of "
        "reference energies there, whatever the labels: leave such frames out, or choose a larger cutoff"
    ]


def smallest_distance(structures: Sequence[Structure], least: float) -> float | None:
    """The smallest distance in Å between atoms that are farther apart than ``least``; None if it is above 50 Å."""
    cutoff = least
    while cutoff < FARTHEST:
        cutoff = min(2 * cutoff, FARTHEST)
        found = [find_pairs(s.positions, s.cell, s.pbc, cutoff, s.source).distances for s in structures]
        if distances := [float(d.min()) for d in found if len(d)]:
            return min(distances)
    return None
