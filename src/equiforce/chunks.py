"""Energies and forces of systems that do not fit into memory: chunk by chunk, each with all that it depends on."""

from collections.abc import Iterator
from functools import reduce
from operator import add
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from equiforce.errors import InputError
from equiforce.graph import AtomicGraph, Prediction
from equiforce.memory import GB, available, footprint, in_words
from equiforce.potential import Potential

OF_A_PART = 72  # bytes of an edge: indices and shifts once more, and what finds them


class ChunkPlan(NamedTuple):
    """How a graph will be computed."""

    chunks: tuple[Int[Tensor, " _"], ...]  # atoms of each; a single one is the whole graph
    need: float  # bytes that the whole would take
    limit: float | None  # bytes
    largest: float  # bytes of the largest chunk
    work: float  # atoms that are computed, for each one that there is

    @property
    def n_atoms(self) -> int:
        return sum(len(chunk) for chunk in self.chunks)

    def words(self) -> str:
        """What a user ought to know of it."""
        said = f"about {in_words(self.need)} for energy and forces of {self.n_atoms:,} atoms"
        said += f", {in_words(self.limit)} available"
        if len(self.chunks) == 1:
            return said
        return (
            f"{said}: computed in {len(self.chunks)} chunks of at most {in_words(self.largest)}, which with their "
            f"surroundings are {self.work:.1f} times as much work"
        )


class ChunkedPotential:
    """A potential for graphs of any size: those that would take too much memory are computed in chunks.

    Energies, forces and stress are the same to rounding. A chunk's surroundings reach as far as the energy of an atom
    does, so that small chunks cost much more work.

    Args:
        potential: what computes.
        max_memory: in GB; None is what is available when the first graph comes.
    """

    def __init__(self, potential: Potential, max_memory: float | None = None):
        if max_memory is not None and not max_memory > 0:
            raise InputError(f"max_memory={max_memory} GB leaves no memory to compute with: give a number above 0")
        self.potential = potential
        self._footprint = footprint(potential)
        self._limit = None if max_memory is None else GB * max_memory
        self._measured = max_memory is not None
        self._latest = (0, 1)  # number of atoms, and in how many chunks

    def __call__(self, graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
        """As :meth:`equiforce.potential.Potential.forward`; raises InputError where no chunk is small enough."""
        chunks = self.plan(graph).chunks
        if len(chunks) == 1:
            return self.potential(graph, forces=forces, stress=stress)
        return in_chunks(self.potential, graph, chunks, stress=stress)

    def plan(self, graph: AtomicGraph) -> ChunkPlan:
        """Whether, and into which chunks, a graph will be divided; raises InputError where no chunk is small enough."""
        if not self._measured:  # once, for what was computed before leaves traces in what is available
            self._limit, self._measured = available(self.potential.device), True
        need, limit = self._footprint.bytes(graph.n_atoms, graph.n_edges), self._limit
        if limit is None or need <= limit:
            return ChunkPlan((torch.arange(graph.n_atoms),), need, limit, need, 1.0)
        n_atoms, n_chunks = self._latest
        n_chunks = n_chunks if n_atoms == graph.n_atoms else 2
        while n_chunks <= graph.n_atoms:
            chunks, largest, total = compact(graph, n_chunks), 0.0, 0
            for own in chunks:
                atoms, edges = (int(mask.sum()) for mask in surroundings(graph, own, self.potential.model.n_hops))
                largest, total = max(largest, self._footprint.bytes(atoms, edges) + OF_A_PART * edges), total + atoms
                if largest > limit:
                    break
            else:
                self._latest = (graph.n_atoms, n_chunks)
                return ChunkPlan(tuple(chunks), need, limit, largest, total / graph.n_atoms)
            n_chunks *= 2
        raise InputError(
            f"energy and forces of {graph.n_atoms:,} atoms need about {in_words(need)} of memory and do not fit into "
            f"{in_words(limit)} even in chunks, each of which needs all atoms that its own interact with: raise "
            "max_memory, take a machine with more memory, or a model with fewer channels, fewer layers or a shorter "
            "cutoff"
        )


def in_chunks(
    potential: Potential, graph: AtomicGraph, chunks: tuple[Int[Tensor, " _"], ...], *, stress: bool = False
) -> Prediction:
    """The prediction for a graph as the sum over chunks, each of which predicts what some atoms' energies give."""

    def parts() -> Iterator[Prediction]:
        for own in chunks:
            atoms, edges = surroundings(graph, own, potential.model.n_hops)
            energy_mask = torch.zeros_like(atoms)
            energy_mask[own] = True
            found = potential(graph.part(atoms, edges), stress=stress, energy_mask=energy_mask[atoms])
            yield found.in_larger(atoms)

    return reduce(add, parts())


def surroundings(
    graph: AtomicGraph, own: Int[Tensor, " own"], n_steps: int
) -> tuple[Bool[Tensor, " atoms"], Bool[Tensor, " edges"]]:
    """The atoms within ``n_steps`` edges of some, and the edges that end nearer than that.

    What the outermost atoms receive would change only features that the energies of ``own`` do not depend on.
    """
    atoms = torch.zeros(graph.n_atoms, dtype=torch.bool, device=graph.positions.device)
    atoms[own] = True
    for _ in range(n_steps):
        edges = atoms[graph.centers]
        atoms[graph.neighbors[edges]] = True
    return atoms, edges


def compact(graph: AtomicGraph, n_chunks: int) -> list[Int[Tensor, " _"]]:
    """The atoms in so many groups of about one size, each halved across its longest side (Berger and Bokhari 1987).

    Atoms that have left their cell count where their image in it is.
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
