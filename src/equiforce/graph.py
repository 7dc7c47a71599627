"""The only types that cross modules: structures, graphs, labels and predictions. Energies in eV, lengths in Å."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Structure:
    """Atoms in space, with the reference labels that are known of them.

    A direction that is not periodic has ``pbc`` False; a molecule without a box has a cell of zeros.
    Stress has ASE's sign: positive under tension, in eV/Å³.
    """

    atomic_numbers: Int[np.ndarray, " atoms"]
    positions: Float[np.ndarray, "atoms 3"]
    cell: Float[np.ndarray, "3 3"]
    pbc: Bool[np.ndarray, "3"]
    energy: float | None = None
    forces: Float[np.ndarray, "atoms 3"] | None = None
    stress: Float[np.ndarray, "3 3"] | None = None
    group: str = ""  # what errors are grouped by: config_type
    source: str = ""  # "train.xyz, frame 12", for messages

    def __len__(self) -> int:
        return len(self.atomic_numbers)


class Ghosts(ABC):
    """The last atoms of a graph belong to others: they are neighbours, never centres, and others know their features.

    Others are the processes that share a simulation with this one, or this one itself where a ghost is the image of
    an atom of its own. All of them call the same methods in the same order.
    """

    n_owned: int  # atoms that come before the ghosts

    @abstractmethod
    def fetch(self, x: Float[Tensor, "owned features"]) -> Float[Tensor, "atoms features"]:
        """Features of one's own atoms, followed by those of the ghosts."""

    @abstractmethod
    def give_back(self, g: Float[Tensor, "atoms features"]) -> Float[Tensor, "owned features"]:
        """The transpose of :meth:`fetch`: what was gathered for ghosts is added to the atoms that they stand for."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, weakref_slot=True)
class AtomicGraph:
    """A batch of structures and the pairs closer than the cutoff. Lengths in Å."""

    positions: Float[Tensor, "atoms 3"]
    species: Int[Tensor, " atoms"]  # index into the model's species list, not the atomic number
    cell: Float[Tensor, "structures 3 3"]  # rows are lattice vectors; zeros for a molecule
    structure_of_atom: Int[Tensor, " atoms"]
    centers: Int[Tensor, " edges"]  # i: receives the message; edges are sorted by it
    neighbors: Int[Tensor, " edges"]  # j: sends it
    shifts: Float[Tensor, "edges 3"]  # whole lattice translations of j
    by_neighbor: Int[Tensor, " edges"]  # the order of edges that sorts them by neighbour
    ghosts: Ghosts | None = None  # where the graph is a part of a system whose other parts others compute

    @property
    def n_atoms(self) -> int:
        return self.positions.shape[0]

    @property
    def n_centers(self) -> int:
        """How many atoms have energies and features here: all that are no ghosts."""
        return self.n_atoms if self.ghosts is None else self.ghosts.n_owned

    @property
    def n_structures(self) -> int:
        return self.cell.shape[0]

    @property
    def n_edges(self) -> int:
        return self.centers.shape[0]

    def edge_vectors(self) -> Float[Tensor, "edges 3"]:
        """r_ij = r_j + S·cell − r_i, from centre to neighbour, in Å."""
        vectors = self.positions[self.neighbors] - self.positions[self.centers]
        if self.n_structures == 1:
            return torch.addmm(vectors, self.shifts, self.cell[0])
        structure = self.structure_of_atom[self.centers]
        for axis in range(3):  # one by one: a cell for each edge would be the largest thing in memory
            vectors = torch.addcmul(vectors, self.shifts[:, axis : axis + 1], self.cell[structure, axis])
        return vectors

    def strained(self, strain: Float[Tensor, "structures 3 3"]) -> "AtomicGraph":
        """The graph deformed by 1 + ε, with ε the symmetric part of ``strain``."""
        strain = 0.5 * (strain + strain.mT)
        per_atom = strain[self.structure_of_atom]
        return replace(
            self,
            positions=self.positions + torch.einsum("na,nab->nb", self.positions, per_atom),
            cell=self.cell + self.cell @ strain,
        )

    def part(self, atoms: Bool[Tensor, " atoms"], edges: Bool[Tensor, " edges"]) -> "AtomicGraph":
        """Some of the atoms and some of the edges between them, in the order that they have here; every cell."""
        place, some = atoms.cumsum(0) - 1, self.with_edges(edges)
        return replace(
            some,
            positions=self.positions[atoms],
            species=self.species[atoms],
            structure_of_atom=self.structure_of_atom[atoms],
            centers=place[some.centers],
            neighbors=place[some.neighbors],
        )

    def with_edges(self, edges: Bool[Tensor, " edges"]) -> "AtomicGraph":
        """The same atoms with some of the edges."""
        place = edges.cumsum(0) - 1
        return replace(
            self,
            centers=self.centers[edges],
            neighbors=self.neighbors[edges],
            shifts=self.shifts[edges],
            by_neighbor=place[self.by_neighbor[edges[self.by_neighbor]]],
        )

    def sorted_by_center(self) -> tuple["AtomicGraph", Int[Tensor, " edges"]] | None:
        """The same graph with its edges in order, and that order; None where they are in order already."""
        centers, neighbors = self.centers, self.neighbors[self.by_neighbor]
        if bool((centers[1:] >= centers[:-1]).all()) and bool((neighbors[1:] >= neighbors[:-1]).all()):
            return None
        order = centers.argsort(stable=True)
        ordered = replace(
            self,
            centers=centers[order],
            neighbors=self.neighbors[order],
            shifts=self.shifts[order],
            by_neighbor=self.neighbors[order].argsort(stable=True),
        )
        return ordered, order

    def volumes(self) -> Float[Tensor, " structures"]:
        """Volume of each cell in Å³, zero where there is none."""
        return torch.linalg.det(self.cell).abs()

    def atoms_per_structure(self) -> Int[Tensor, " structures"]:
        return torch.bincount(self.structure_of_atom, minlength=self.n_structures)

    def to(self, device: torch.device | str) -> "AtomicGraph":
        tensors = (field.name for field in fields(self) if field.name != "ghosts")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in tensors})


class Stars(NamedTuple):
    """Some atoms with their edges, and nothing else."""

    graph: AtomicGraph
    atoms: slice  # of the whole graph; they come first in this one
    edges: slice


def stars(graph: AtomicGraph, n_species: int, most_edges: int) -> Iterator[Stars]:
    """The graph atom by atom, in parts of about one size and at most ``most_edges`` edges, which are sorted by centre.

    What lies around a neighbour is left out, and then all that matters of it is its species and the edge to it: one
    atom of each species, the last of each part, stands for all neighbours. Positions are those of the centres alone.
    """
    firsts = torch.searchsorted(graph.centers, torch.arange(graph.n_centers + 1, device=graph.centers.device))
    start, ghosts = 0, torch.arange(n_species, device=graph.species.device)
    share = math.ceil(graph.n_edges / max(1, math.ceil(graph.n_edges / most_edges)))
    while start < graph.n_centers:
        enough = torch.searchsorted(firsts, firsts[start] + share, right=True)
        stop = max(start + 1, min(int(enough) - 1, graph.n_centers))
        atoms, edges = slice(start, stop), slice(int(firsts[start]), int(firsts[stop]))
        neighbors = stop - start + graph.species[graph.neighbors[edges]]
        nowhere = graph.positions.new_zeros(n_species, 3)
        part = replace(
            graph,
            positions=torch.cat([graph.positions[atoms], nowhere]),
            species=torch.cat([graph.species[atoms], ghosts]),
            structure_of_atom=torch.cat([graph.structure_of_atom[atoms], torch.zeros_like(ghosts)]),
            centers=graph.centers[edges] - start,
            neighbors=neighbors,
            shifts=graph.shifts[edges],
            by_neighbor=neighbors.argsort(stable=True),
            ghosts=None,
        )
        yield Stars(part, atoms, edges)
        start = stop


class Labels(NamedTuple):
    """Reference values of a batch; None where no structure has one. Entries whose mask is False are zero and unused."""

    energy: Float[Tensor, " structures"] | None  # eV
    forces: Float[Tensor, "atoms 3"] | None  # eV/Å
    stress: Float[Tensor, "structures 3 3"] | None  # eV/Å³, positive under tension
    has_energy: Bool[Tensor, " structures"]
    has_forces: Bool[Tensor, " structures"]
    has_stress: Bool[Tensor, " structures"]

    def to(self, device: torch.device | str) -> "Labels":
        return Labels(*(None if value is None else value.to(device, non_blocking=True) for value in self))


class Prediction(NamedTuple):
    """What a potential says of a batch; None means that it was not asked for, or does not exist."""

    energy: Float[Tensor, " structures"]  # eV
    energies: Float[Tensor, " atoms"]  # eV, of each atom
    forces: Float[Tensor, "atoms 3"] | None  # eV/Å
    virial: Float[Tensor, "structures 3 3"] | None  # eV, −dE/dε
    stress: Float[Tensor, "structures 3 3"] | None  # eV/Å³; None unless every structure has a volume


def without_edges(species: Int[Tensor, " atoms"]) -> AtomicGraph:
    """Atoms of these species, each alone."""
    return AtomicGraph(
        positions=species.new_zeros(len(species), 3, dtype=torch.float64),
        species=species,
        cell=species.new_zeros(1, 3, 3, dtype=torch.float64),
        structure_of_atom=torch.zeros_like(species),
        centers=species[:0],
        neighbors=species[:0],
        shifts=species.new_zeros(0, 3, dtype=torch.float64),
        by_neighbor=species[:0],
    )


def batch(graphs: Sequence[AtomicGraph]) -> AtomicGraph:
    """One graph that holds several, side by side."""
    if len(graphs) == 1:
        return graphs[0]

    def offset(name: str, counts: list[int]) -> Tensor:
        starts = [0, *np.cumsum(counts[:-1]).tolist()]
        return torch.cat([getattr(graph, name) + start for graph, start in zip(graphs, starts, strict=True)])

    atoms, edges = [g.n_atoms for g in graphs], [g.n_edges for g in graphs]
    return AtomicGraph(
        positions=torch.cat([g.positions for g in graphs]),
        species=torch.cat([g.species for g in graphs]),
        cell=torch.cat([g.cell for g in graphs]),
        structure_of_atom=offset("structure_of_atom", [g.n_structures for g in graphs]),
        centers=offset("centers", atoms),
        neighbors=offset("neighbors", atoms),
        shifts=torch.cat([g.shifts for g in graphs]),
        by_neighbor=offset("by_neighbor", edges),
    )


def batch_labels(structures: Sequence[Structure], dtype: torch.dtype = torch.float64) -> Labels:
    """The labels of several structures in the layout of :func:`batch`."""

    def known(name: str) -> Tensor:
        return torch.tensor([getattr(s, name) is not None for s in structures])

    def stack(name: str, shape_of_absent) -> Tensor | None:
        values = [getattr(s, name) for s in structures]
        if all(value is None for value in values):
            return None
        filled = [
            np.zeros(shape_of_absent(s)) if value is None else np.asarray(value)
            for s, value in zip(structures, values, strict=True)
        ]
        return torch.as_tensor(np.concatenate(filled), dtype=dtype)

    energies = [[0.0 if s.energy is None else s.energy] for s in structures]
    stress = stack("stress", lambda _: (3, 3))
    return Labels(
        energy=torch.tensor(energies, dtype=dtype).flatten() if bool(known("energy").any()) else None,
        forces=stack("forces", lambda s: (len(s), 3)),
        stress=None if stress is None else stress.reshape(len(structures), 3, 3),
        has_energy=known("energy"),
        has_forces=known("forces"),
        has_stress=known("stress"),
    )
