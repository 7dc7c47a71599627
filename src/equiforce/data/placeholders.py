"""Labels that are exactly zero where they cannot be: placeholders for values that were not computed."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from ase.data import covalent_radii

from equiforce.neighbors import find_pairs
from equiforce.quantities import ENERGY, FORCES, STRESS, Quantity
from equiforce.structure import Structure

BONDED = 1.5  # times the sum of the covalent radii; atoms that are farther apart may have no interaction
FEWEST_ATOMS = 2  # the only bond of a dimer may have its best length, so that there is no force
ASYMMETRIC = 0.05  # of one neighbour; a larger vector cannot be an error of rounded positions
# Zero is far from the other energies, and not the lowest of relative energies, if those (all but a few) are large, or
# larger than thermal energies and than their spread; in eV/atom.
FEW, LARGE, THERMAL, SPREADS = 0.05, 2.5, 0.3, 5.0
FEWEST_ENERGIES = 4  # other than zero, with which zeros are compared
STRONGEST_COHESION = 12.0  # eV/atom, above the cohesive energy of every material


def without_placeholders(structures: Sequence[Structure]) -> tuple[list[Structure], list[str]]:
    """Leave out energies, forces and stresses that are exactly zero where they cannot be.

    Forces are zero by symmetry in perfect crystals, everything is zero where atoms do not interact, and the lowest of
    relative energies is zero. Such labels stay.

    Args:
        structures: the structures of a file.

    Returns:
        The structures without placeholders, and notes for the user.
    """
    sizes = np.array([abs(s.energy) / len(s) for s in structures if s.energy and len(s) > 1])
    lowest, highest = np.quantile(sizes, (FEW, 1 - FEW)) if len(sizes) >= FEWEST_ENERGIES else (0.0, 0.0)
    zero_is_far = lowest > LARGE or lowest > max(THERMAL, SPREADS * (highest - lowest))
    if not len(sizes):
        zero_is_far = sum(s.energy is not None for s in structures) >= FEWEST_ENERGIES

    def lacks_energy(s: Structure) -> bool:
        if s.energy != 0.0:
            return False
        return bool(lowest > STRONGEST_COHESION if len(s) == 1 else zero_is_far and _is_bonded(s))

    def lacks_forces(s: Structure) -> bool:
        is_zero = len(s) > FEWEST_ATOMS and s.forces is not None and not s.forces.any()
        return is_zero and bool(_asymmetric(s).any())

    def lacks_stress(s: Structure) -> bool:
        return s.stress is not None and not s.stress.any() and _is_bonded(s)

    rules: list[tuple[Quantity, Callable[[Structure], bool], str]] = [
        (ENERGY, lacks_energy, ""),
        (FORCES, lacks_forces, " on all atoms, though no symmetry demands it"),
        (STRESS, lacks_stress, " in all components"),
    ]
    kept, notes = list(structures), []
    for quantity, is_placeholder, where in rules:
        wrong = [i for i, s in enumerate(kept) if is_placeholder(s)]
        for i in wrong:
            unknown: dict[str, Any] = {quantity.name: None}
            kept[i] = replace(kept[i], **unknown)
        if wrong:
            are, were, them = ("are", "they were", "them") if quantity.of_atoms else ("is", "it was", "it")
            notes.append(
                f"the {quantity.name} of {len(wrong)} of {len(kept)} frames, first {_frame(kept[wrong[0]])}, {are} "
                f"exactly 0{where}: {were} left out as not known; --set data.keep_zeros=true takes {them}"
            )
    return kept, [*notes, *_frozen(kept)]


def _frozen(structures: Sequence[Structure]) -> list[str]:
    """A note about atoms without forces beside atoms with forces, as constraints leave them."""
    found: list[tuple[str, int]] = []
    for s in structures:
        if s.forces is None or len(zero := np.flatnonzero(~s.forces.any(axis=1))) in (0, len(s)):
            continue
        if len(zero := zero[_asymmetric(s)[zero]]):
            found.append((_frame(s), int(zero[0])))
    if not found:
        return []
    (where, atom), n = found[0], len(found)
    return [
        f"in {n} of {len(structures)} frames, first {where}, some atoms (first: atom {atom}) have forces of exactly 0, "
        "though no symmetry demands it: if a constraint has removed their forces, store the forces without constraints"
    ]


def _frame(structure: Structure) -> str:
    """The name of a frame without its file."""
    return structure.source.rpartition(", ")[2]


def _is_bonded(structure: Structure) -> bool:
    """Whether at least two atoms, or an atom and its own image, are so close that they interact."""
    radii = covalent_radii[structure.atomic_numbers]
    pairs = find_pairs(structure.positions, structure.cell, structure.pbc, 2 * BONDED * float(radii.max()))
    return bool((pairs.distances < BONDED * (radii[pairs.centers] + radii[pairs.neighbors])).any())


def _asymmetric(structure: Structure) -> np.ndarray:
    """Whether the surroundings of each atom allow a force on it [atoms].

    A vector that follows from the surroundings of an atom, here a weighted sum of directions to its neighbours, is zero
    wherever symmetry forces the force to be zero.
    """
    radii = covalent_radii[structure.atomic_numbers]
    pairs = find_pairs(structure.positions, structure.cell, structure.pbc, 2 * BONDED * float(radii.max()))
    vectors = structure.positions[pairs.neighbors] - structure.positions[pairs.centers] + pairs.shifts @ structure.cell
    reduced = pairs.distances / (radii[pairs.centers] + radii[pairs.neighbors])
    weights = np.exp(-2 * (reduced - 1)) * np.clip(BONDED - reduced, 0, None) ** 2 / (BONDED - 1) ** 2
    weights *= 1 + 0.1 * np.sqrt(structure.atomic_numbers[pairs.neighbors])  # elements are not alike
    sums = np.zeros((len(structure), 3))
    np.add.at(sums, pairs.centers, (weights / pairs.distances)[:, None] * vectors)
    return np.linalg.norm(sums, axis=1) > ASYMMETRIC
