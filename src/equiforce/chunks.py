"""Energies and forces of systems that do not fit into memory, computed in chunks of atoms with their surroundings."""

from collections.abc import Iterator
from functools import reduce
from operator import add
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from equiforce.errors import InputError
from equiforce.graph import AtomicGraph, Prediction
from equiforce.memory import GB, available, format_bytes, step_memory
from equiforce.potential import Potential

OF_CHUNK_EDGE = 72  # bytes of an edge of a chunk: copies of indices and shifts, and the masks that select them


class ChunkPlan(NamedTuple):
    """The chunks in which a graph is computed, and the memory that this needs."""

    chunks: tuple[Int[Tensor, " _"], ...]  # the atoms of each chunk; a single chunk is the whole graph
    need: float  # bytes that the graph would need as a whole
    limit: float | None  # bytes that are available; None if unknown
    largest: float  # bytes that the largest chunk needs
    work: float  # computed atoms, including surroundings, for each atom of the graph

    @property
    def n_atoms(self) -> int:
        return sum(len(chunk) for chunk in self.chunks)

    def describe(self) -> str:
        """Describe the plan for the user."""
        need = f"energy and forces of {self.n_atoms:,} atoms need about {format_bytes(self.need)}"
        sentence = f"{need}; available: {format_bytes(self.limit)}"
        if len(self.chunks) == 1:
            return sentence
        return (
            f"{sentence}; they are computed in {len(self.chunks)} chunks of at most {format_bytes(self.largest)}, "
            f"which is {self.work:.1f} times as much work because chunks include their surroundings"
        )


class ChunkedPotential:
    """A potential for graphs of any size: graphs that would need too much memory are computed in chunks.

    Energies, forces and stress are the same up to rounding. The surroundings of a chunk contain all atoms on which the
    energies of its atoms depend, so small chunks cost much more work.

    Args:
        potential: the potential.
        max_memory: the memory limit in GB; None takes the memory that is available at the first graph.

    Raises:
        InputError: ``max_memory`` is not above 0.
    """

    def __init__(self, potential: Potential, max_memory: float | None = None):
        if max_memory is not None and not max_memory > 0:
            raise InputError(f"max_memory={max_memory} GB leaves no memory to compute with: give a number above 0")
        self.potential = potential
        self._memory = step_memory(potential)
        self._limit = None if max_memory is None else GB * max_memory
        self._measured = max_memory is not None
        self._latest = (0, 1)  # the numbers of atoms and of chunks of the latest graph in chunks

    def __call__(self, graph: AtomicGraph, **requested: bool) -> Prediction:
        """Compute what ``self.potential`` computes, in chunks if needed.

        Args:
            graph: the graph.
            requested: the keyword arguments of the potential, such as ``forces`` and ``stress``.

        Raises:
            InputError: even small chunks do not fit into memory.
        """
        chunks = self.plan(graph).chunks
        if len(chunks) == 1:
            return self.potential(graph, **requested)
        return in_chunks(self.potential, graph, chunks, **requested)

    def plan(self, graph: AtomicGraph) -> ChunkPlan:
        """Choose the chunks of a graph, if it needs any; raises InputError if even small chunks do not fit."""
        if not self._measured:  # only once, because earlier computations change the available memory
            self._limit, self._measured = available(self.potential.device), True
        need, limit = self._memory.bytes(graph.n_atoms, graph.n_edges), self._limit
        if limit is None or need <= limit:
            return ChunkPlan((torch.arange(graph.n_atoms),), need, limit, need, 1.0)
        n_atoms, n_chunks = self._latest
        n_chunks = n_chunks if n_atoms == graph.n_atoms else 2
        while n_chunks <= graph.n_atoms:
            chunks, largest, total = compact(graph, n_chunks), 0.0, 0
            for own in chunks:
                atoms, edges = (int(mask.sum()) for mask in surroundings(graph, own, self.potential.model.n_hops))
                largest, total = max(largest, self._memory.bytes(atoms, edges) + OF_CHUNK_EDGE * edges), total + atoms
                if largest > limit:
                    break
            else:
                self._latest = (graph.n_atoms, n_chunks)
                return ChunkPlan(tuple(chunks), need, limit, largest, total / graph.n_atoms)
            n_chunks *= 2
        raise InputError(
            f"energy and forces of {graph.n_atoms:,} atoms need about {format_bytes(need)} of memory and do not fit "
            f"into {format_bytes(limit)} even in chunks, because a chunk needs all atoms that its own interact "
            "with: raise max_memory, or use a machine with more memory, or a model with fewer channels, fewer layers "
            "or a shorter cutoff"
        )


def in_chunks(
    potential: Potential, graph: AtomicGraph, chunks: tuple[Int[Tensor, " _"], ...], **requested: bool
) -> Prediction:
    """Compute the prediction for a graph as a sum over chunks.

    Args:
        potential: the potential.
        graph: the graph.
        chunks: the atoms of each chunk; each atom is in exactly one chunk.
        requested: the keyword arguments of the potential, such as ``forces`` and ``stress``.

    Returns:
        The sum of what the energies of each chunk's atoms contribute to energy, forces, virial and stress.
    """

    def parts() -> Iterator[Prediction]:
        for own in chunks:
            atoms, edges = surroundings(graph, own, potential.model.n_hops)
            energy_mask = torch.zeros_like(atoms)
            energy_mask[own] = True
            found = potential(graph.part(atoms, edges), energy_mask=energy_mask[atoms], **requested)
            yield found.in_larger(atoms)

    return reduce(add, parts())


def surroundings(
    graph: AtomicGraph, own: Int[Tensor, " own"], n_hops: int
) -> tuple[Bool[Tensor, " atoms"], Bool[Tensor, " edges"]]:
    """The atoms on which the energies of the atoms ``own`` depend, and the edges that they depend on.

    Args:
        graph: the graph.
        own: indices of atoms [own].
        n_hops: the number of edges over which an energy depends on other atoms, at least 1.

    Returns:
        Masks of the atoms within ``n_hops`` edges of ``own``, and of the edges whose centres are within
        ``n_hops`` − 1 edges. Messages to the outermost atoms do not matter for the energies of ``own``.
    """
    atoms = torch.zeros(graph.n_atoms, dtype=torch.bool, device=graph.positions.device)
    atoms[own] = True
    for _ in range(n_hops):
        edges = atoms[graph.centers]
        atoms[graph.neighbors[edges]] = True
    return atoms, edges


def compact(graph: AtomicGraph, n_chunks: int) -> list[Int[Tensor, " _"]]:
    """Divide atoms into compact groups of similar size by recursive bisection (Berger and Bokhari 1987).

    Each group is halved across its longest side. An atom outside its cell counts at the position of its image inside.

    Args:
        graph: the graph.
        n_chunks: the number of groups.

    Returns:
        The indices of the atoms of each group.
    """
    cell = graph.cell[graph.structure_of_atom]
    images = torch.einsum("na,nab->nb", graph.positions, torch.linalg.pinv(cell)).floor()
    positions = graph.positions - torch.einsum("na,nab->nb", images, cell)

    def divided(atoms: Tensor, n: int) -> list[Tensor]:
        if n == 1:
            return [atoms]
        inside = positions[atoms]
        longest = (inside.amax(dim=0) - inside.amin(dim=0)).argmax()
        ordered, first = atoms[inside[:, longest].argsort()], len(atoms) * (n // 2) // n
        return divided(ordered[:first], n // 2) + divided(ordered[first:], n - n // 2)

    return divided(torch.arange(graph.n_atoms, device=graph.positions.device), n_chunks)
