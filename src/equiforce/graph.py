"""The types of models that cross modules: topologies, graphs and predictions. Energies are in eV, lengths in Å."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from equiforce.checks import check_index, check_tensor, version_of
from equiforce.errors import InputError
from equiforce.quantities import QUANTITIES, Quantity


class HaloExchange(ABC):
    """The communication between processes that compute one system together; its methods are named as in LAMMPS.

    The last atoms of each process are ghosts. A ghost is a neighbour but never a centre. Its features are those of the
    atom that it stands for, which another process computes, or the same process if the ghost is a periodic image of one
    of its own atoms. All processes call the same methods in the same order.
    """

    n_owned: int  # number of atoms before the ghosts

    @abstractmethod
    def forward_comm(self, x: Float[Tensor, "owned features"]) -> Float[Tensor, "atoms features"]:
        """Return the features of the owned atoms, followed by those of the ghosts."""

    @abstractmethod
    def reverse_comm(self, g: Float[Tensor, "atoms features"]) -> Float[Tensor, "owned features"]:
        """Add the gradients of ghosts to those of the atoms that they stand for: the transpose of forward_comm."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, weakref_slot=True)
class Topology:
    """The atoms and their neighbours: all that a model needs in addition to the edge vectors.

    Every pair of neighbours has two edges, one in each direction. Indices are int64.

    Args:
        species: index of each atom's element in the model's list of species; not the atomic number [atoms].
        centers: the atom i that receives the message of each edge; edges that are not sorted by it are sorted when they
            are used [edges].
        neighbors: the atom j that sends the message of each edge [edges].
        by_neighbor: the permutation that sorts the edges by neighbour [edges].
        halo: communication with the other processes, if several processes compute the system; else None.

    Raises:
        InputError: a tensor has the wrong dtype, shape or device or, on a CPU, an index is out of range.
    """

    species: Int[Tensor, " atoms"]
    centers: Int[Tensor, " edges"]
    neighbors: Int[Tensor, " edges"]
    by_neighbor: Int[Tensor, " edges"]
    halo: HaloExchange | None = None
    checked: tuple[int, ...] = field(init=False, repr=False)  # the state that passed the last check

    def __post_init__(self) -> None:
        self.check()

    @property
    def state(self) -> tuple[int, ...]:
        """Numbers that differ after an index has been changed in place: the versions of the indices, and n_centers."""
        return (self.n_centers, *[version_of(index) for index in self.indices])

    def check(self) -> None:
        """Raise InputError if a tensor has the wrong dtype, shape or device or, on a CPU, an index is out of range."""
        kind, device = type(self).__name__, self.species.device
        n_atoms, n_edges, n_centers = self.n_atoms, self.n_edges, self.n_centers
        if not isinstance(n_centers, int) or not 0 <= n_centers <= n_atoms:
            raise InputError(f"{kind}.halo.n_owned is {n_centers!r}, but has to be a whole number from 0 to {n_atoms}")
        check_tensor(self.species, f"{kind}.species", torch.int64, (n_atoms,), device)
        for name, tensor, n_rows, rows in (
            ("centers", self.centers, n_centers, "atoms that may be centres"),
            ("neighbors", self.neighbors, n_atoms, "atoms"),
            ("by_neighbor", self.by_neighbor, n_edges, "edges"),
        ):
            check_tensor(tensor, f"{kind}.{name}", torch.int64, (n_edges,), device)
            if device.type == "cpu":  # on a GPU the check would wait for the device
                check_index(tensor, f"{kind}.{name}", n_rows, rows)
        object.__setattr__(self, "checked", self.state)  # the class is frozen

    @property
    def indices(self) -> tuple[Tensor, ...]:
        """The tensors that hold indices."""
        return self.species, self.centers, self.neighbors, self.by_neighbor

    @property
    def n_atoms(self) -> int:
        return self.species.shape[0]

    @property
    def n_centers(self) -> int:
        """The number of atoms that are not ghosts; these have energies and features."""
        return self.n_atoms if self.halo is None else self.halo.n_owned

    @property
    def n_edges(self) -> int:
        return self.centers.shape[0]

    @property
    def species_of_centers(self) -> Int[Tensor, " centers"]:
        return self.species if self.halo is None else self.species[: self.n_centers]

    def select_edges(self, edges: Bool[Tensor, " edges"]) -> "Topology":
        """Return the topology with the same atoms and the selected edges."""
        centers, neighbors, by_neighbor = self._selected(edges)
        return Topology(
            species=self.species, centers=centers, neighbors=neighbors, by_neighbor=by_neighbor, halo=self.halo
        )

    def _selected(self, edges: Bool[Tensor, " edges"]) -> tuple[Tensor, Tensor, Tensor]:
        """Centers, neighbors and by_neighbor of the selected edges."""
        place = edges.cumsum(0) - 1
        by_neighbor = place[self.by_neighbor[edges[self.by_neighbor]]]
        return self.centers[edges], self.neighbors[edges], by_neighbor

    def sorted_by_center(self) -> tuple["Topology", Int[Tensor, " edges"]] | None:
        """Sort the edges by centre.

        Returns:
            The sorted topology and the permutation that sorts the edges; None if the edges are sorted already and
            ``by_neighbor`` sorts them by neighbour.

        Raises:
            InputError: ``by_neighbor`` does not name every edge once.
        """
        seen = torch.zeros_like(self.by_neighbor, dtype=torch.bool)
        seen[self.by_neighbor] = True
        if not bool(seen.all()):
            wrong = f"{type(self).__name__}.by_neighbor names an edge twice"
            raise InputError(f"{wrong}: it has to name every edge once, as neighbors.argsort() does")
        centers, neighbors = self.centers, self.neighbors[self.by_neighbor]
        if bool((centers[1:] >= centers[:-1]).all()) and bool((neighbors[1:] >= neighbors[:-1]).all()):
            return None
        order = centers.argsort(stable=True)
        neighbors = self.neighbors[order]
        ordered = Topology(
            species=self.species,
            centers=centers[order],
            neighbors=neighbors,
            by_neighbor=neighbors.argsort(stable=True),
            halo=self.halo,
        )
        return ordered, order


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AtomicGraph(Topology):
    """A batch of structures: their :class:`Topology` and their geometry, float64 in Å.

    Args:
        species, centers, neighbors, by_neighbor, halo: as in :class:`Topology`.
        positions: position of each atom [atoms 3].
        cell: lattice vectors of each structure, one in each row [structures 3 3]; zeros for a molecule.
        shifts: S of each edge; the neighbour is displaced by these whole numbers of lattice vectors [edges 3].
        structure_of_atom: index of each atom's structure, int64 [atoms].

    Raises:
        InputError: a tensor has the wrong dtype, shape or device or, on a CPU, an index is out of range.
    """

    positions: Float[Tensor, "atoms 3"]
    cell: Float[Tensor, "structures 3 3"]
    shifts: Float[Tensor, "edges 3"]
    structure_of_atom: Int[Tensor, " atoms"]

    def check(self) -> None:
        """Raise InputError if a tensor has the wrong dtype, shape or device or, on a CPU, an index is out of range."""
        kind, device = type(self).__name__, self.species.device
        for name, tensor, shape in (
            ("positions", self.positions, (self.n_atoms, 3)),
            ("cell", self.cell, (self.n_structures, 3, 3)),
            ("shifts", self.shifts, (self.n_edges, 3)),
        ):
            check_tensor(tensor, f"{kind}.{name}", torch.float64, shape, device)
        check_tensor(self.structure_of_atom, f"{kind}.structure_of_atom", torch.int64, (self.n_atoms,), device)
        if device.type == "cpu":
            check_index(self.structure_of_atom, f"{kind}.structure_of_atom", self.n_structures, "structures")
        # last, because it notes the state that passed; super() fails where dataclass(slots=True) replaces the class
        Topology.check(self)

    @property
    def indices(self) -> tuple[Tensor, ...]:
        """The tensors that hold indices."""
        return self.species, self.centers, self.neighbors, self.by_neighbor, self.structure_of_atom

    @property
    def n_structures(self) -> int:
        return self.cell.shape[0]

    def edge_vectors(self) -> Float[Tensor, "edges 3"]:
        """Compute r_ij = r_j + S·cell − r_i, from centre to neighbour, in Å."""
        vectors = self.positions[self.neighbors] - self.positions[self.centers]
        if self.n_structures == 1:
            return torch.addmm(vectors, self.shifts, self.cell[0])
        structure = self.structure_of_atom[self.centers]
        for axis in range(3):  # one axis at a time, because a cell for each edge would need more memory than all else
            vectors = torch.addcmul(vectors, self.shifts[:, axis : axis + 1], self.cell[structure, axis])
        return vectors

    def part(self, atoms: Bool[Tensor, " atoms"], edges: Bool[Tensor, " edges"]) -> "AtomicGraph":
        """Return the graph of the selected atoms and edges, with all cells and in the same order.

        Args:
            atoms: which atoms to keep [atoms].
            edges: which edges to keep [edges]; the caller has to keep both atoms of each, which is not checked.
        """
        place = atoms.cumsum(0) - 1
        centers, neighbors, by_neighbor = self._selected(edges)
        return AtomicGraph(
            positions=self.positions[atoms],
            species=self.species[atoms],
            cell=self.cell,
            structure_of_atom=self.structure_of_atom[atoms],
            centers=place[centers],
            neighbors=place[neighbors],
            shifts=self.shifts[edges],
            by_neighbor=by_neighbor,
        )

    def volumes(self) -> Float[Tensor, " structures"]:
        """Compute the volume of each structure in Å³; it is zero without a cell."""
        determinants: Tensor = torch.linalg.det(self.cell)
        return determinants.abs()

    def atoms_per_structure(self) -> Int[Tensor, " structures"]:
        return torch.bincount(self.structure_of_atom, minlength=self.n_structures)

    def to(self, device: torch.device | str) -> "AtomicGraph":
        """Move the graph to a device; a graph that is on the device already is returned as it is."""
        if self.species.device == torch.device(device):
            return self
        tensors = (entry.name for entry in fields(self) if entry.init and entry.name != "halo")
        non_blocking = torch.device(device).type != "cpu"  # a copy to the CPU is checked at once
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=non_blocking) for name in tensors})


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The results of a potential for a batch; None is a result that was not requested or does not exist.

    Args:
        energy: energy of each structure in eV [structures].
        energies: site energy of each atom that is not a ghost, in eV [centers].
        forces: in eV/Å [atoms 3].
        virial: −dE/dε in eV [structures 3 3].
        stress: in eV/Å³, positive under tension [structures 3 3]; None unless every structure has a volume.
    """

    energy: Float[Tensor, " structures"]
    energies: Float[Tensor, " centers"]
    forces: Float[Tensor, "atoms 3"] | None = None
    virial: Float[Tensor, "structures 3 3"] | None = None
    stress: Float[Tensor, "structures 3 3"] | None = None

    def of(self, quantity: Quantity) -> Tensor | None:
        """The values of a quantity, one row for each structure or atom; None if there are none."""
        values: Tensor | None = getattr(self, quantity.name)
        return values

    def split(self, n_atoms: Sequence[int]) -> "list[Prediction]":
        """Split the prediction into one for each structure, on the CPU and without gradients.

        Args:
            n_atoms: number of atoms of each structure.
        """
        sizes = {True: list(n_atoms), False: [1] * len(n_atoms)}
        parts: dict[str, Sequence[Any]] = {
            name: [None] * len(n_atoms) if value is None else torch.split(value.detach().cpu(), sizes[of_atoms])
            for name, of_atoms, value in self._fields()
        }
        return [replace(self, **{name: values[k] for name, values in parts.items()}) for k in range(len(n_atoms))]

    def in_larger(self, atoms: Bool[Tensor, " all"]) -> "Prediction":
        """Extend the prediction to a larger graph.

        Args:
            atoms: which atoms of the larger graph this prediction is for; the others get zeros.
        """

        def enlarged(value: Tensor) -> Tensor:
            return value.new_zeros(len(atoms), *value.shape[1:]).index_put((atoms,), value)

        per_atom = {name: value for name, of_atoms, value in self._fields() if of_atoms and value is not None}
        return replace(self, **{name: enlarged(value) for name, value in per_atom.items()})

    def __add__(self, other: "Prediction") -> "Prediction":
        """Add the predictions for two disjoint sets of the atoms of one graph."""
        pairs = zip(self._fields(), other._fields(), strict=True)
        sums: dict[str, Any] = {name: None if a is None or b is None else a + b for (name, _, a), (_, _, b) in pairs}
        return replace(self, **sums)

    def _fields(self) -> Iterator[tuple[str, bool, Tensor | None]]:
        """Yield the name of each field, whether its rows are atoms, and its value."""
        of_atoms = {"energies", *(quantity.name for quantity in QUANTITIES if quantity.of_atoms)}
        for entry in fields(self):
            yield entry.name, entry.name in of_atoms, getattr(self, entry.name)


def without_edges(species: Int[Tensor, " atoms"]) -> Topology:
    """Make the topology of isolated atoms of these species."""
    return Topology(species=species, centers=species[:0], neighbors=species[:0], by_neighbor=species[:0])


def batch(graphs: Sequence[AtomicGraph]) -> AtomicGraph:
    """Join several graphs into one; gradients flow back to each of them.

    Args:
        graphs: at least one graph.

    Returns:
        A graph with the atoms, edges and structures of all graphs, one graph after the other.

    Raises:
        InputError: a graph has ghosts, which means that it is only a part of a system.
    """
    if len(graphs) == 1:
        return graphs[0]
    if any(graph.halo is not None for graph in graphs):
        raise InputError("a graph with ghosts is a part of a system and cannot be batched: compute it alone")
    atoms, edges = [g.n_atoms for g in graphs], [g.n_edges for g in graphs]
    return AtomicGraph(
        positions=torch.cat([g.positions for g in graphs]),
        species=torch.cat([g.species for g in graphs]),
        cell=torch.cat([g.cell for g in graphs]),
        structure_of_atom=_offset([g.structure_of_atom for g in graphs], [g.n_structures for g in graphs]),
        centers=_offset([g.centers for g in graphs], atoms),
        neighbors=_offset([g.neighbors for g in graphs], atoms),
        shifts=torch.cat([g.shifts for g in graphs]),
        by_neighbor=_offset([g.by_neighbor for g in graphs], edges),
    )


def _offset(indices: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """Join indices, each raised by the counts of those before it."""
    starts = [0, *np.cumsum(counts[:-1]).tolist()]
    return torch.cat([index + start for index, start in zip(indices, starts, strict=True)])
