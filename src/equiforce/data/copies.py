"""Finds structures that are copies of one another, and copies whose labels contradict one another."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from equiforce.data.isolated import TYPICAL_CUTOFF, is_isolated_atom
from equiforce.data.states import relevance
from equiforce.errors import InputError
from equiforce.structure import Structure

SAME_POSITION = 1e-4  # Å; programs print positions with fewer digits than they compute with
SAME_ENERGY = 1e-3  # eV/atom; repeated calculations of one geometry differ by less
SAME_FORCE = 0.1  # eV/Å, of a component
N_PROJECTIONS = 4
AT_ONCE = 4096  # structures or pairs that are compared in one array


def first_copies(structures: Sequence[Structure]) -> Int[np.ndarray, " structures"]:
    """Find the first structure that each one is a copy of.

    Copies have equal elements, in the same order, and equal positions and cells to 1e-4 Å. A copy may be moved as a
    whole, and each of its atoms by lattice vectors. Labels may differ.

    Args:
        structures: the structures.

    Returns:
        For each structure the index of the first one that equals it, its own if none is earlier.
    """
    kinds: dict[bytes, list[int]] = {}
    for i, s in enumerate(structures):
        kinds.setdefault(s.atomic_numbers.astype(np.int64).tobytes() + bytes(s.pbc.tolist()), []).append(i)
    copy_of = np.arange(len(structures))
    for kind in kinds.values():
        if len(kind) > 1:
            # thousands of identical structures would be compared in pairs
            different, of = _without_identical(structures, kind)
            copy_of[kind] = np.array(different)[_near_copies([structures[i] for i in different])[of]]
    return copy_of


def _without_identical(structures: Sequence[Structure], kind: Sequence[int]) -> tuple[list[int], list[int]]:
    """The indices of the structures that differ in at least one bit, and the place of each structure among them."""
    places: dict[bytes, int] = {}
    different: list[int] = []
    of: list[int] = []
    for i in kind:
        content = structures[i].positions.tobytes() + structures[i].cell.tobytes()
        of.append(places.setdefault(content, len(places)))
        if of[-1] == len(different):
            different.append(i)
    return different, of


def _near_copies(structures: Sequence[Structure]) -> Int[np.ndarray, " structures"]:
    """The first structure that each one of the same elements and boundaries equals within the tolerance."""
    # Near-equal structures have near-equal projections. Hashes of rounded coordinates would separate some of them.
    projections = np.concatenate(
        [_projections(structures[i : i + AT_ONCE]) for i in range(0, len(structures), AT_ONCE)]
    )
    within = 6 * SAME_POSITION * np.sqrt(len(structures[0]))
    copy_of = np.arange(len(structures))
    # of two grids that are shifted by half a cell, one has both of two near-equal numbers in the same cell
    for shift in (0.0, 0.5):
        cells = np.floor(projections[:, 0] / (2 * within) + shift)
        places = (cells - cells.min()) * (np.ptp(projections[:, 1]) + 2 * within) + projections[:, 1]
        order, gap = np.argsort(places, kind="stable"), 1
        while gap < len(order):
            first = copy_of[order] == order
            if first.sum() < len(order) // 2:  # so that many copies of one structure are not compared in pairs
                order, gap = order[first], 1
                continue
            near = np.flatnonzero(places[order[gap:]] - places[order[:-gap]] <= within)
            if not len(near):
                break
            one, other = order[near], order[near + gap]
            near_too = (np.abs(projections[other] - projections[one]) <= within).all(axis=1)
            one, other = (side[near_too & (copy_of[other] == other)] for side in (one, other))
            same = _same(structures, one, other)
            copy_of[other[same]] = one[same]
            gap += 1
    while (copy_of[copy_of] != copy_of).any():
        copy_of = copy_of[copy_of]
    _, first, group = np.unique(copy_of, return_index=True, return_inverse=True)
    return first[group]


def _projections(structures: Sequence[Structure]) -> Float[np.ndarray, "structures projections"]:
    """Numbers in Å that change continuously with the positions, and not with the choice of periodic images."""
    moved, fractions, cells = _relative(structures)
    lattice = cells[:, structures[0].pbc]
    angles, widths = 2 * np.pi * fractions, np.linalg.norm(lattice, axis=2)[:, None, :] / (2 * np.pi)
    free = moved - fractions @ lattice
    coordinates = np.concatenate([free, widths * np.cos(angles), widths * np.sin(angles)], axis=2)
    weights = np.random.default_rng(0).normal(size=(*coordinates.shape[1:], N_PROJECTIONS)) / np.sqrt(3)
    return np.einsum("sax,axk->sk", coordinates, weights)


def _relative(structures: Sequence[Structure]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions relative to the first atom in Å, their parts along the periodic vectors, and the cells."""
    pbc = structures[0].pbc
    moved = np.stack([s.positions - s.positions[0] for s in structures])
    cells = np.where(pbc[:, None], np.stack([s.cell for s in structures]), 0.0)
    return moved, moved @ np.linalg.pinv(cells[:, pbc]), cells


def _same(structures: Sequence[Structure], one: np.ndarray, other: np.ndarray) -> Bool[np.ndarray, " pairs"]:
    """Whether the structures of each pair are copies."""
    same = np.zeros(len(one), dtype=bool)
    for start in range(0, len(one), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        first, _, cells = _relative([structures[i] for i in one[part]])
        second, _, other_cells = _relative([structures[i] for i in other[part]])
        lattice = cells[:, structures[0].pbc]
        apart = second - first
        apart -= np.round(apart @ np.linalg.pinv(lattice)) @ lattice
        same[part] = (np.abs(apart) <= 2 * SAME_POSITION).all(axis=(1, 2))
        same[part] &= (np.abs(cells - other_cells) <= SAME_POSITION).all(axis=(1, 2))
    return same


def without_copies(
    structures: Sequence[Structure], held_out: Sequence[Structure], cutoff: float = TYPICAL_CUTOFF
) -> tuple[list[int], int]:
    """Choose structures to train on: no isolated atoms, and no copies of others or of structures in ``held_out``.

    Args:
        structures: the structures to choose from.
        held_out: the structures that are not for training.
        cutoff: in Å, within which isolated atoms have no neighbour.

    Returns:
        The indices of the chosen structures, and the number of copies that were left out.

    Raises:
        InputError: the labels of copies contradict one another.
    """
    copy_of = first_copies([*held_out, *structures])[len(held_out) :] - len(held_out)
    not_isolated = [i for i, s in enumerate(structures) if not is_isolated_atom(s, cutoff)]
    refuse_contradictions([*held_out, *(structures[i] for i in not_isolated)])
    usable = [i for i in not_isolated if copy_of[i] == i]
    return usable, len(not_isolated) - len(usable)


def refuse_contradictions(structures: Sequence[Structure]) -> None:
    """Raise InputError if the labels of copies contradict one another, before all but one of them are left out."""
    if (found := contradiction(structures)) is not None:
        raise InputError(str(found))


@dataclass(frozen=True, kw_only=True)
class Contradiction:
    """Copies of structures whose labels differ by more than repeated calculations of one geometry do."""

    n_copies: int
    energy: float  # eV, the largest difference
    energy_per_atom: float  # eV, of the same copies
    force: float  # eV/Å, the largest difference of a component
    first: Structure  # of the copies that differ most
    second: Structure
    keys: tuple[str, ...]  # of other values that differ between these two

    def __str__(self) -> str:
        much = f"energies that differ by up to {self.energy:.3g} eV ({self.energy_per_atom:.3g} eV per atom)"
        if self.energy_per_atom <= SAME_ENERGY:
            much = f"forces that differ by up to {self.force:.3g} eV/Å"
        values = [f"{key} ({self.first.extra.get(key)}, {self.second.extra.get(key)})" for key in self.keys[:3]]
        differ = f", and also differ in {' and '.join(values)}" if values else ""
        are = "frame has" if self.n_copies == 1 else "frames have"
        return (
            f"{self.n_copies} {are} the same positions as an earlier frame but {much}, such as {self.first.source} and "
            f"{self.second.source}{differ}: no potential can fit both, so keep the frames of one kind"
        )


def contradiction(structures: Sequence[Structure]) -> Contradiction | None:
    """Compare the labels of all copies.

    Args:
        structures: the structures, without isolated atoms, whose energies may differ by their spin state.

    Returns:
        The copies whose labels contradict those of the first one, or None if there are none.
    """
    copy_of = first_copies(structures)
    found: list[tuple[float, float, int]] = []
    for i in np.flatnonzero(copy_of != np.arange(len(copy_of))).tolist():
        energy, force = _differences(structures[copy_of[i]], structures[i])
        if energy > SAME_ENERGY * len(structures[i]) or force > SAME_FORCE:
            found.append((energy, force, i))
    if not found:
        return None
    energy, _, worst = max(found)
    first, second = structures[copy_of[worst]], structures[worst]
    return Contradiction(
        n_copies=len(found),
        energy=energy,
        energy_per_atom=energy / len(second),
        force=max(force for _, force, _ in found),
        first=first,
        second=second,
        keys=tuple(sorted(_different(first.extra, second.extra), key=relevance)),
    )


def _differences(one: Structure, other: Structure) -> tuple[float, float]:
    """The differences of the energies in eV and of the forces in eV/Å; 0 for a label that one does not have."""
    energy = 0.0 if one.energy is None or other.energy is None else abs(one.energy - other.energy)
    force = 0.0 if one.forces is None or other.forces is None else float(np.abs(one.forces - other.forces).max())
    return energy, force


def _different(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    """The keys whose values differ."""
    for key in dict.fromkeys([*one, *other]):
        a, b = one.get(key), other.get(key)
        if not (a is b or np.array_equal(a, b)):  # type: ignore[arg-type]
            yield key
