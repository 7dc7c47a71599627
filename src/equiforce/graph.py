"""The types that cross modules: structures, graphs, labels and predictions. Energies are in eV, lengths in Å."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from equiforce.ase_atoms import AseAtoms, geometry_of, labels_of
from equiforce.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Structure:
    """Atoms in space, with the reference labels that are known of them.

    Args:
        atomic_numbers: [atoms].
        positions: in Å [atoms 3].
        cell: rows are lattice vectors in Å [3 3]; zeros for a molecule without a box.
        pbc: whether each direction is periodic [3].
        energy: in eV, or None.
        forces: in eV/Å [atoms 3], or None.
        stress: in eV/Å³, positive under tension as in ASE [3 3], or None.
        group: what errors are grouped by, such as a file's ``config_type``.
        source: what messages call the structure, such as "train.xyz, frame 12".
    """

    atomic_numbers: Int[np.ndarray, " atoms"]
    positions: Float[np.ndarray, "atoms 3"]
    cell: Float[np.ndarray, "3 3"]
    pbc: Bool[np.ndarray, "3"]
    energy: float | None = None
    forces: Float[np.ndarray, "atoms 3"] | None = None
    stress: Float[np.ndarray, "3 3"] | None = None
    group: str = ""
    source: str = ""

    def __len__(self) -> int:
        return len(self.atomic_numbers)

    @classmethod
    def from_ase(cls, atoms: AseAtoms, *, labels: bool = True, source: str = "") -> "Structure":
        """The structure of ASE's atoms. Nothing is computed, and nothing is shared with the atoms.

        Labels are the energy, forces and stress that the atoms' calculator has computed of them; results of earlier
        positions are left out, and so is the stress of atoms without a volume. Constraints do not change the forces.
        The group is ``info["config_type"]`` or ``info["group"]``. All else that atoms may have is dropped, such as
        velocities, masses, charges, constraints, and labels under other names, which :func:`equiforce.read` finds.

        Args:
            atoms: an ``ase.Atoms``.
            labels: whether to take the calculator's results.
            source: what messages call the structure.

        Returns:
            A structure in eV and Å.

        Raises:
            InputError: ``atoms`` is no ``ase.Atoms``, or a result has the wrong shape or is not finite.
        """
        geometry = geometry_of(atoms)
        return cls(**geometry, **(labels_of(atoms, source or "the atoms") if labels else {}), source=source)


class HaloExchange(ABC):
    """The communication between the parts of a system that several processes compute together.

    The last atoms of a part are ghosts: they are neighbours but never centres, and another process computes their
    features. That process is this one itself where a ghost is the periodic image of an atom of its own. All processes
    call the same methods in the same order. The names are those of LAMMPS.
    """

    n_owned: int  # atoms that come before the ghosts

    @abstractmethod
    def forward_comm(self, x: Float[Tensor, "owned features"]) -> Float[Tensor, "atoms features"]:
        """Returns the features of the owned atoms, followed by those of the ghosts."""

    @abstractmethod
    def reverse_comm(self, g: Float[Tensor, "atoms features"]) -> Float[Tensor, "owned features"]:
        """Adds what ghosts gathered to the atoms that they stand for: the transpose of :meth:`forward_comm`."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, weakref_slot=True)
class Topology:
    """Which atom is the neighbour of which: all that a model needs beside the vectors of the edges.

    Every pair occurs twice, once in each direction. Indices are int64.

    Args:
        species: the place of each atom's element in the model's list, not the atomic number [atoms].
        centers: the atom i that receives the message of each edge [edges]; edges are sorted by it.
        neighbors: the atom j that sends it [edges].
        by_neighbor: the order of edges that sorts them by neighbour [edges].
        halo: where this is one part of a system that several processes compute, its communication with the others.

    Raises:
        InputError: a tensor has the wrong dtype, shape or device, or an index points to no atom.
    """

    species: Int[Tensor, " atoms"]
    centers: Int[Tensor, " edges"]
    neighbors: Int[Tensor, " edges"]
    by_neighbor: Int[Tensor, " edges"]
    halo: HaloExchange | None = None

    def __post_init__(self) -> None:
        self._check()

    def _check(self) -> None:
        kind, device = type(self).__name__, self.species.device
        n_atoms, n_edges = len(self.species), len(self.centers)
        for name, tensor, n_rows in (
            ("species", self.species, n_atoms),
            ("centers", self.centers, n_edges),
            ("neighbors", self.neighbors, n_edges),
            ("by_neighbor", self.by_neighbor, n_edges),
        ):
            check_tensor(tensor, f"{kind}.{name}", torch.int64, (n_rows,), device)
        if device.type == "cpu" and n_edges:  # on a GPU this would wait for the device
            for name, tensor, n_rows, rows in (
                ("centers", self.centers, self.n_centers, "atoms that may be centres"),
                ("neighbors", self.neighbors, n_atoms, "atoms"),
                ("by_neighbor", self.by_neighbor, n_edges, "edges"),
            ):
                check_index(tensor, f"{kind}.{name}", n_rows, rows)

    @property
    def n_atoms(self) -> int:
        return self.species.shape[0]

    @property
    def n_centers(self) -> int:
        """The number of atoms that have energies and features here: all that are not ghosts."""
        return self.n_atoms if self.halo is None else self.halo.n_owned

    @property
    def n_edges(self) -> int:
        return self.centers.shape[0]

    @property
    def species_of_centers(self) -> Int[Tensor, " centers"]:
        return self.species if self.halo is None else self.species[: self.n_centers]

    def select_edges(self, edges: Bool[Tensor, " edges"]) -> "Topology":
        """The same atoms with some of the edges."""
        centers, neighbors, by_neighbor = self._selected(edges)
        return Topology(
            species=self.species, centers=centers, neighbors=neighbors, by_neighbor=by_neighbor, halo=self.halo
        )

    def _selected(self, edges: Bool[Tensor, " edges"]) -> tuple[Tensor, Tensor, Tensor]:
        """Centres, neighbours and the order by neighbour of some of the edges."""
        place = edges.cumsum(0) - 1
        by_neighbor = place[self.by_neighbor[edges[self.by_neighbor]]]
        return self.centers[edges], self.neighbors[edges], by_neighbor

    def sorted_by_center(self) -> tuple["Topology", Int[Tensor, " edges"]] | None:
        """The same edges in order, and that order; None where they are in order already.

        Raises:
            InputError: ``by_neighbor`` does not name every edge once.
        """
        seen = torch.zeros_like(self.by_neighbor, dtype=torch.bool)
        seen[self.by_neighbor] = True
        if not bool(seen.all()):
            raise InputError(f"{type(self).__name__}.by_neighbor names an edge twice: it has to name every edge once")
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
    """A batch of structures: their :class:`Topology`, and where the atoms are. Lengths are in Å and float64.

    Args:
        species, centers, neighbors, by_neighbor, halo: as in :class:`Topology`.
        positions: of each atom [atoms 3].
        cell: rows are the lattice vectors of each structure [structures 3 3]; zeros for a molecule.
        shifts: S of each edge, whole numbers of lattice vectors by which the neighbour is displaced [edges 3].
        structure_of_atom: the place of each atom's structure in ``cell`` [atoms], int64.

    Raises:
        InputError: a tensor has the wrong dtype, shape or device, or an index points to no atom.
    """

    positions: Float[Tensor, "atoms 3"]
    cell: Float[Tensor, "structures 3 3"]
    shifts: Float[Tensor, "edges 3"]
    structure_of_atom: Int[Tensor, " atoms"]

    def __post_init__(self) -> None:
        self._check()  # not super(): a class with slots is made twice, and super() would mean the first one
        kind, device = type(self).__name__, self.species.device
        for name, tensor, shape in (
            ("positions", self.positions, (self.n_atoms, 3)),
            ("cell", self.cell, (len(self.cell), 3, 3)),
            ("shifts", self.shifts, (self.n_edges, 3)),
        ):
            check_tensor(tensor, f"{kind}.{name}", torch.float64, shape, device)
        check_tensor(self.structure_of_atom, f"{kind}.structure_of_atom", torch.int64, (self.n_atoms,), device)
        if device.type == "cpu" and self.n_structures != 1:
            check_index(self.structure_of_atom, f"{kind}.structure_of_atom", self.n_structures, "structures")

    @property
    def n_structures(self) -> int:
        return self.cell.shape[0]

    def edge_vectors(self) -> Float[Tensor, "edges 3"]:
        """r_ij = r_j + S·cell − r_i, from centre to neighbour, in Å."""
        vectors = self.positions[self.neighbors] - self.positions[self.centers]
        if self.n_structures == 1:
            return torch.addmm(vectors, self.shifts, self.cell[0])
        structure = self.structure_of_atom[self.centers]
        for axis in range(3):  # one by one: a cell for each edge would be the largest thing in memory
            vectors = torch.addcmul(vectors, self.shifts[:, axis : axis + 1], self.cell[structure, axis])
        return vectors

    def part(self, atoms: Bool[Tensor, " atoms"], edges: Bool[Tensor, " edges"]) -> "AtomicGraph":
        """Some of the atoms and some of the edges between them, in the order that they have here; every cell."""
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
        """Volume of each cell in Å³, zero where there is none."""
        return torch.linalg.det(self.cell).abs()

    def atoms_per_structure(self) -> Int[Tensor, " structures"]:
        return torch.bincount(self.structure_of_atom, minlength=self.n_structures)

    def to(self, device: torch.device | str) -> "AtomicGraph":
        """The same graph on a device; itself where it is there already."""
        if self.species.device == torch.device(device):
            return self
        tensors = (field.name for field in fields(self) if field.name != "halo")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in tensors})


def check_tensor(tensor: Tensor, name: str, dtype: torch.dtype, shape: tuple[int, ...], device: torch.device) -> None:
    """Raises InputError, which names the tensor, where its dtype, shape or device is not the one that is wanted."""
    if tensor.dtype != dtype:
        have, want = (str(kind).removeprefix("torch.") for kind in (tensor.dtype, dtype))
        raise InputError(f"{name} is {have}, and has to be {want}: convert it with .to(torch.{want})")
    if tensor.shape != shape:
        raise InputError(f"{name} has the shape {list(tensor.shape)}, and has to have {list(shape)}")
    if tensor.device != device:
        raise InputError(f"{name} is on {tensor.device}, and other tensors are on {device}: move all to one device")


def check_index(index: Tensor, name: str, n_rows: int, rows: str) -> None:
    """Raises InputError where a number of an index is not one of 0 ... ``n_rows`` - 1."""
    if not len(index):
        return
    low, high = (bound.item() for bound in index.aminmax())
    if low < 0 or high >= n_rows:
        wrong = low if low < 0 else high
        raise InputError(f"{name} holds {wrong}, but there are {n_rows} {rows}, counted from 0")


class Labels(NamedTuple):
    """Reference values of a batch; None where no structure has one. Entries whose mask is False are zero and unused.

    Args:
        energy: in eV [structures].
        forces: in eV/Å [atoms 3].
        stress: in eV/Å³, positive under tension [structures 3 3].
        has_energy, has_forces, has_stress: which structures have the label [structures].
    """

    energy: Float[Tensor, " structures"] | None
    forces: Float[Tensor, "atoms 3"] | None
    stress: Float[Tensor, "structures 3 3"] | None
    has_energy: Bool[Tensor, " structures"]
    has_forces: Bool[Tensor, " structures"]
    has_stress: Bool[Tensor, " structures"]

    def to(self, device: torch.device | str) -> "Labels":
        return Labels(*(None if value is None else value.to(device, non_blocking=True) for value in self))


class Prediction(NamedTuple):
    """What a potential says of a batch; None means that it was not asked for, or does not exist.

    Args:
        energy: of each structure in eV [structures].
        energies: of each atom in eV [atoms].
        forces: in eV/Å [atoms 3].
        virial: −dE/dε in eV [structures 3 3].
        stress: in eV/Å³, positive under tension [structures 3 3]; None unless every structure has a volume.
    """

    energy: Float[Tensor, " structures"]
    energies: Float[Tensor, " atoms"]
    forces: Float[Tensor, "atoms 3"] | None
    virial: Float[Tensor, "structures 3 3"] | None
    stress: Float[Tensor, "structures 3 3"] | None


def without_edges(species: Int[Tensor, " atoms"]) -> Topology:
    """Atoms of these species, each alone."""
    return Topology(species=species, centers=species[:0], neighbors=species[:0], by_neighbor=species[:0])


def batch(graphs: Sequence[AtomicGraph]) -> AtomicGraph:
    """One graph that holds several, side by side; gradients flow back to each.

    Args:
        graphs: at least one.

    Returns:
        The atoms, edges and structures of all graphs, one graph after the other.

    Raises:
        InputError: a graph has ghosts, and so is only a part of a system.
    """
    if len(graphs) == 1:
        return graphs[0]
    if any(graph.halo is not None for graph in graphs):
        raise InputError("a graph with ghosts is one part of a system and cannot be batched with others")

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
