"""The neighbour search: pairs of atoms within the cutoff, sorted by centre. Only this module uses vesin."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import vesin
from jaxtyping import Bool, Float, Int

from equiforce.elements import species_index
from equiforce.errors import InputError
from equiforce.graph import AtomicGraph
from equiforce.structure import Structure

COINCIDENT = 0.1  # Å; closer atoms are an error everywhere, because the shortest bond, that of H2, is 0.74 Å long
COINCIDENT_SEARCH = 1.0  # Å; the search for coincident atoms is fastest with about this cutoff
FLAT = 0.1  # Å; the smallest thickness of a periodic cell
SMALL_MOLECULE = 64  # atoms; up to this size, computing all distances is faster than a search
# vesin hangs or divides by zero beyond these limits
LARGEST_EXTENT = 1e4  # Å
LARGEST_COORDINATE = 1e7  # Å
# vesin divides space into at most this many cells; their number in a short direction must not be rounded to zero
MOST_CELLS = 1e5
FEWEST_CELLS = 3.0  # in the shortest direction, before the numbers are rounded


class Pairs(NamedTuple):
    """Pairs of atoms within a cutoff, each in both directions, sorted by centre; an atom also pairs with its images."""

    centers: Int[np.ndarray, " edges"]
    neighbors: Int[np.ndarray, " edges"]
    shifts: Float[np.ndarray, "edges 3"]
    distances: Float[np.ndarray, " edges"]  # Å


def find_pairs(
    positions: Float[np.ndarray, "atoms 3"],
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, "3"],
    cutoff: float,
    source: str = "the structure",
) -> Pairs:
    """Find all pairs within the cutoff; the order of the pairs is reproducible.

    Atoms may lie outside the cell, and the cell may be skewed or smaller than the cutoff.

    Args:
        positions: in Å [atoms 3].
        cell: lattice vectors in Å, one in each row [3 3]; those of directions that are not periodic are ignored.
        pbc: whether each direction is periodic [3].
        cutoff: in Å.
        source: name of the structure in messages.

    Raises:
        InputError: positions or cell are not finite, the cell is flat, or the structure is too wide.
    """
    positions = np.ascontiguousarray(positions, dtype=np.float64)
    pbc = np.asarray(pbc, dtype=bool)
    if positions.shape[1:] != (3,) or np.shape(cell) != (3, 3) or pbc.shape != (3,):  # before they reach compiled code
        shapes = f"{list(positions.shape)}, {list(np.shape(cell))} and {list(pbc.shape)}"
        raise InputError(
            f"{source}: positions, cell and pbc have the shapes {shapes}: give three numbers for each atom, three "
            "lattice vectors and three flags"
        )
    cell = np.where(pbc[:, None], np.asarray(cell, dtype=np.float64), 0.0)
    check_geometry(positions, cell, pbc, source)
    positions = _without_gaps(positions, cell[pbc], cutoff)
    searched = _searched_cutoff(positions, cell, pbc, cutoff)
    search = vesin.NeighborList(cutoff=searched, full_list=True, sorted=True)
    pairs, shifts, distances = search.compute(positions, cell, pbc, "PSd")
    if searched > cutoff:
        near = distances <= cutoff
        pairs, shifts, distances = pairs[near], shifts[near], distances[near]
    centers, neighbors = np.ascontiguousarray(pairs.T, dtype=np.int64)
    return Pairs(centers, neighbors, shifts.astype(np.float64), distances)


def build_graph(structure: Structure, species: Sequence[str], cutoff: float) -> AtomicGraph:
    """Build the graph of one structure, in float64 on the CPU.

    Args:
        structure: positions and cell in Å.
        species: the model's chemical symbols, ``potential.species``; ``graph.species`` is the index into this list.
        cutoff: in Å, ``potential.cutoff``.

    Returns:
        A graph with an edge for every pair of atoms, or of their periodic images, within the cutoff. No tensor requires
        grad.

    Raises:
        InputError: the model does not know an element, atoms coincide, or positions are not finite.
    """
    source = structure.source or "the structure"
    if len(structure.positions) != len(structure.atomic_numbers):
        raise InputError(
            f"{source} has {len(structure.atomic_numbers)} atomic numbers and {len(structure.positions)} positions: "
            "give one of each for each atom"
        )
    index = species_index(structure.atomic_numbers, species, source)
    pairs = find_pairs(structure.positions, structure.cell, structure.pbc, cutoff, source)
    _check_separations(pairs.distances, pairs.centers, pairs.neighbors, source)
    cell = structure.cell if structure.pbc.any() else np.zeros((3, 3))
    return _graph(index, structure.positions, cell, pairs, _order_by(pairs.neighbors, len(structure)))


def refuse_coincident(structure: Structure) -> None:
    """Raise InputError if two atoms, or an atom and its own image, are closer than ``COINCIDENT``."""
    source, positions = structure.source or "the structure", structure.positions
    if len(structure) <= SMALL_MOLECULE and not structure.pbc.any():
        check_geometry(positions, structure.cell, structure.pbc, source)
        centers, neighbors = np.triu_indices(len(structure), k=1)
        distances = np.linalg.norm(positions[neighbors] - positions[centers], axis=1)
    else:
        centers, neighbors, _, distances = find_pairs(
            positions, structure.cell, structure.pbc, COINCIDENT_SEARCH, source
        )
    _check_separations(distances, centers, neighbors, source)


def coincidence(i: int, j: int, distance: float, numbers: str = "counted from 0") -> str:
    """The sentence about two atoms that are closer than ``COINCIDENT``.

    Args:
        i: the number of the first atom.
        j: the number of the second atom; equal to ``i`` for an atom and its own image.
        distance: in Å.
        numbers: how the atoms are numbered, for the message.
    """
    who = f"atoms {i} and {j} ({numbers})" if i != j else f"atom {i} ({numbers}) and its own image"
    return (
        f"{who} are {distance:.2g} Å apart, closer than {COINCIDENT:g} Å: is one a copy, is the cell or the unit of "
        "length wrong, or has the simulation exploded?"
    )


class VerletList:
    """The graph of moving atoms, with a new neighbour search only when the last one may miss a pair.

    The search finds pairs within the cutoff plus ``skin``. Its result is valid until an atom has moved by half of the
    skin (Verlet 1967, doi:10.1103/PhysRev.159.98). The strain of the cell is taken into account, so that a barostat
    does not cause a search at every step.

    Args:
        species_index: species index of each atom, as in ``graph.species`` [atoms].
        cutoff: in Å.
        skin: in Å; 0 means a search every time.
        source: name of the structure in messages.
    """

    def __init__(self, species_index: Int[np.ndarray, " atoms"], cutoff: float, skin: float, source: str = "") -> None:
        self.species_index = np.asarray(species_index, dtype=np.int64)
        self.cutoff = cutoff
        self.skin = skin
        self.source = source or "the structure"
        self.n_builds = 0
        self._built: _Built | None = None

    @property
    def searched_at(self) -> tuple[Float[np.ndarray, "atoms 3"], Float[np.ndarray, "3 3"]] | None:
        """The positions and the cell in Å of the last search, which decide the order of the pairs; None before it."""
        return None if self._built is None else (self._built.positions, self._built.cell)

    def graph(
        self, positions: Float[np.ndarray, "atoms 3"], cell: Float[np.ndarray, "3 3"], pbc: Bool[np.ndarray, "3"]
    ) -> AtomicGraph:
        """Build the graph of the pairs within the cutoff; raises InputError as :func:`build_graph` does."""
        positions = np.array(positions, dtype=np.float64)
        pbc = np.array(pbc, dtype=bool)
        cell = np.where(pbc.any(), np.array(cell, dtype=np.float64), 0.0)
        if self.skin <= 0 or self._built is None or not self._holds(self._built, positions, cell, pbc):
            found = find_pairs(positions, cell, pbc, self.cutoff + max(self.skin, 0.0), self.source)
            by_neighbor = _order_by(found.neighbors, len(positions))
            self._built = _Built(positions, cell, pbc, *found[:3], found.shifts @ cell, by_neighbor)
            self.n_builds += 1
        return self._within_cutoff(self._built, positions, cell)

    def _holds(self, built: "_Built", positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> bool:
        """Whether the last search found every pair that is within the cutoff now."""
        if positions.shape != built.positions.shape or not np.array_equal(pbc, built.pbc):
            return False
        if not np.isfinite(cell).all():
            return False
        # x -> x D maps the old lattice to the new one and does not change directions that are not periodic
        deformation = np.eye(3) + np.linalg.pinv(built.cell[pbc]) @ (cell[pbc] - built.cell[pbc])
        contraction = np.linalg.norm(deformation, ord=-2)
        moved = np.linalg.norm(positions - built.positions @ deformation, axis=1).max(initial=0.0)
        # this comparison is false for NaN positions, so they count as moved
        return bool(self.cutoff + 2 * moved <= contraction * (self.cutoff + self.skin))

    def _within_cutoff(self, built: "_Built", positions: np.ndarray, cell: np.ndarray) -> AtomicGraph:
        centers, neighbors, shifts = built.centers, built.neighbors, built.shifts
        # numpy's take is several times faster than indexing
        vectors = positions.take(neighbors, axis=0)
        vectors -= positions.take(centers, axis=0)
        vectors += built.translations if np.array_equal(cell, built.cell) else shifts @ cell
        distances = np.sqrt(np.einsum("ea,ea->e", vectors, vectors))
        _check_separations(distances, centers, neighbors, self.source)
        inside = distances <= self.cutoff
        kept = np.flatnonzero(inside)
        pairs = Pairs(centers.take(kept), neighbors.take(kept), shifts.take(kept, axis=0), distances.take(kept))
        by_neighbor = built.by_neighbor[inside.take(built.by_neighbor)]
        new_place = np.cumsum(inside) - 1
        return _graph(self.species_index, positions, cell, pairs, new_place.take(by_neighbor))


class _Built(NamedTuple):
    positions: Float[np.ndarray, "atoms 3"]
    cell: Float[np.ndarray, "3 3"]
    pbc: Bool[np.ndarray, "3"]
    centers: Int[np.ndarray, " edges"]  # of the pairs within cutoff + skin
    neighbors: Int[np.ndarray, " edges"]
    shifts: Float[np.ndarray, "edges 3"]
    translations: Float[np.ndarray, "edges 3"]  # Å
    by_neighbor: Int[np.ndarray, " edges"]


def _order_by(neighbors: np.ndarray, n_atoms: int) -> np.ndarray:
    """The stable permutation that sorts edges by neighbour."""
    # numpy's radix sort of 16-bit integers is ten times faster than its merge sort of 64-bit integers
    return np.argsort(neighbors.astype(np.uint16) if n_atoms <= 2**16 else neighbors, kind="stable")


def _graph(
    species: np.ndarray, positions: np.ndarray, cell: np.ndarray, pairs: Pairs, by_neighbor: np.ndarray
) -> AtomicGraph:
    return AtomicGraph(
        positions=torch.tensor(positions, dtype=torch.float64),
        species=torch.tensor(species, dtype=torch.int64),
        cell=torch.tensor(cell[None], dtype=torch.float64),
        structure_of_atom=torch.zeros(len(species), dtype=torch.int64),
        centers=torch.from_numpy(pairs.centers),
        neighbors=torch.from_numpy(pairs.neighbors),
        shifts=torch.from_numpy(pairs.shifts),
        by_neighbor=torch.from_numpy(by_neighbor),
    )


def _without_gaps(positions: np.ndarray, periodic: np.ndarray, cutoff: float) -> np.ndarray:
    """Move atoms along directions that are not periodic so that no gap is wider than twice the cutoff.

    The pairs stay the same. The time of vesin grows with the square of the thickness of a slab or a wire, so that one
    atom that has left it would take minutes.
    """
    if len(positions) < 2 or len(periodic) in (0, 3):
        return positions
    for axis in np.linalg.svd(periodic)[2][len(periodic) :]:
        along = positions @ axis
        order = np.argsort(along, kind="stable")
        excess = np.maximum(np.diff(along[order]) - 2 * cutoff, 0.0)
        if excess.any():
            shifts = np.zeros(len(positions))
            shifts[order[1:]] = np.cumsum(excess)
            positions = positions - shifts[:, None] * axis
    return positions


def check_geometry(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, source: str) -> None:
    """Raise InputError if :func:`find_pairs` cannot search these positions and this cell, as it says."""
    invalid = np.flatnonzero(~(np.abs(positions) < LARGEST_COORDINATE).all(axis=1))
    if len(invalid):
        where = " ".join(f"{x:g}" for x in positions[invalid[0]])
        raise InputError(
            f"{source}: atom {invalid[0]} (counted from 0) is at ({where}) Å, which is not a valid position: "
            "check the coordinates; if they come from a simulation, it has exploded"
        )
    if not np.isfinite(cell).all():
        raise InputError(f"{source}: the cell holds a value that is not finite: correct the cell")
    _, thickness, axes = np.linalg.svd(cell[pbc])
    if thickness.min(initial=np.inf) < FLAT:
        raise InputError(
            f"{source}: the cell is flat because its periodic vectors are zero or linearly dependent: give the full "
            "cell, or set pbc to False in directions that do not repeat"
        )
    free = positions @ axes[int(pbc.sum()) :].T
    extent = max(thickness.max(initial=0.0), np.ptp(free, axis=0).max(initial=0.0) if len(free) else 0.0)
    if extent > LARGEST_EXTENT:
        raise InputError(
            f"{source}: the structure is {extent:.3g} Å wide, more than the {LARGEST_EXTENT:g} Å that the neighbour "
            "search can handle: check the unit of length, and whether atoms have escaped"
        )


@np.errstate(over="ignore")
def _searched_cutoff(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float) -> float:
    """The cutoff of the search in Å: a larger one in wide and thin structures, in which vesin would divide by zero."""
    widest = np.where(pbc, np.linalg.norm(cell, axis=1), np.ptp(positions, axis=0).sum() if len(positions) else 0.0)
    if np.prod(widest / cutoff + 4) <= MOST_CELLS:
        return cutoff
    axes = np.linalg.svd(cell[pbc])[2][int(pbc.sum()) :]
    free = np.ptp(positions @ axes.T, axis=0) if len(axes) and len(positions) else np.zeros(len(axes))
    between_faces = 1 / np.linalg.norm(np.linalg.pinv(cell[pbc]), axis=0)
    least = np.concatenate([between_faces, free]) / cutoff
    most = np.concatenate([between_faces, free + 4 * cutoff])  # vesin leaves room around free atoms
    n_cells = np.prod(np.maximum(1.0, most / cutoff))
    if max(1.0, least.min()) * np.cbrt(MOST_CELLS / n_cells) >= FEWEST_CELLS:
        return cutoff
    while np.prod(np.maximum(1.0, most / cutoff)) > MOST_CELLS:
        cutoff *= 1.1
    return cutoff


def _check_separations(distances: np.ndarray, centers: np.ndarray, neighbors: np.ndarray, source: str) -> None:
    if distances.min(initial=np.inf) >= COINCIDENT:
        return
    nearest = int(distances.argmin())
    sentence = coincidence(int(centers[nearest]), int(neighbors[nearest]), float(distances[nearest]))
    raise InputError(f"{source}: {sentence}")
