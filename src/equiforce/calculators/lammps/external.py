"""Runs a model in a LAMMPS that Python drives: ``fix external`` calls the model on every rank, without a compiler.

    from lammps import lammps
    from equiforce.calculators.lammps.external import attach

    lmp = lammps()  # needs the MPI library that the second import loads
    lmp.file("in.setup")  # units metal, boundary, read_data and the like; no pair_style
    attach(lmp, "model.eqf", ["O", "H"])
    lmp.command("run 100")

Run this as ``mpirun -np 4 python script.py`` or without mpirun. The numbers are those of ``pair_style equiforce``,
except that ``compute heat/flux`` and ``compute centroid/stress/atom`` do not work with fix external.
"""

import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

try:
    from mpi4py import MPI

    HAS_MPI = True
except (ImportError, RuntimeError):  # not installed, or without an MPI library
    HAS_MPI = False

from equiforce import model_file
from equiforce.calculators.lammps.host import ranks_of_this_machine, species_of, threads_of_a_rank
from equiforce.calculators.lammps.masses import check_masses
from equiforce.calculators.lammps.plugin import SUPPORTED
from equiforce.calculators.lammps.tag_halo import TagHalo
from equiforce.errors import InputError
from equiforce.graph import Topology
from equiforce.kernels import pair_gradient
from equiforce.neighbors import COINCIDENT, coincidence, find_pairs
from equiforce.potential import Potential

OLDEST = 20250722  # the first release of LAMMPS that is known to have all functions used here
ENERGY_UNITS = {"metal": 1.0, "real": 23.060549}  # per eV, with LAMMPS' own conversion factor
SKIN = 1.0  # Å that are added to the cutoff when pairs are listed, so that the list stays valid while atoms move little
VIRIAL = ([0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2])  # LAMMPS' order: xx yy zz xy xz yz
GRACE = 1.0  # s to wait before an abort, so that mpirun forwards the error message before it ends
Result = TypeVar("Result")


def attach(
    lmp: Any,
    model: str | Path,
    elements: Sequence[str],
    *,
    precision: str | None = None,
    fix: str = "equiforce",
) -> None:
    """Make a model compute all forces of a LAMMPS simulation from the next run on; every rank must call this.

    It gives LAMMPS the commands ``pair_style zero``, ``pair_coeff``, ``fix external`` and ``fix_modify``. The model
    sees all pairs; ``special_bonds`` and ``neigh_modify exclude`` have no effect. Energy and virial enter ``pe`` and
    ``press``, ``compute pe/atom`` and ``compute stress/atom``. An error during a run is printed in one sentence and
    ends the processes of all ranks, because a callback of LAMMPS cannot raise an exception.

    Args:
        lmp: a ``lammps.lammps`` whose box and atoms exist, in units metal or real.
        model: the path of a model file.
        elements: the chemical symbol of each atom type, in their order; ``NULL`` for a type that the model ignores.
        precision: ``float32`` or ``float64`` for the weights; None keeps the precision of the file.
        fix: the ID of the fix. If a model is already attached under this ID, the new model replaces it.

    Raises:
        InputError: on all ranks, if something is missing or does not fit the simulation.
    """
    ranks = _ranks_of(lmp)
    energy_unit = _agreed(ranks, _check_simulation, lmp, len(elements), fix)
    potential, species = _agreed(ranks, _load, model, elements, precision, ranks.size)
    lmp.commands_list(
        [
            f"pair_style zero {potential.cutoff!r}",
            "pair_coeff * *",
            f"fix {fix} all external pf/callback 1 1",
            f"fix_modify {fix} energy yes virial yes",
        ]
    )
    callback = _External(lmp, fix, ranks, potential, elements, species, energy_unit)
    lmp.set_fix_external_callback(fix, callback)


def _ranks_of(lmp: Any) -> Any:
    """Return the MPI communicator of the ranks that share a simulation."""
    install = f"pip install '{SUPPORTED}' mpi4py"
    if not HAS_MPI:
        raise InputError(f"mpi4py, by which the ranks of LAMMPS communicate, is not installed: {install}")
    ranks = lmp.get_mpi_comm() or MPI.COMM_SELF
    if ranks.size != lmp.extract_setting("world_size"):
        raise InputError(f"mpi4py and LAMMPS use two different MPI libraries: {install} in a new environment")
    if lmp.version() < OLDEST:
        raise InputError(f"LAMMPS {lmp.version()} is older than {OLDEST} and lacks functions used here: {install}")
    return ranks


def _check_simulation(lmp: Any, n_elements: int, fix: str) -> float:
    """Check that a model can be attached, and return the value of 1 eV in the units of the simulation."""
    units = lmp.extract_global("units")
    if units not in ENERGY_UNITS:
        raise InputError(
            f"equiforce supports units metal (and real, by conversion), not units {units}: write units metal and give "
            "all other settings in these units"
        )
    if not lmp.extract_setting("box_exist"):
        raise InputError("LAMMPS has no box yet: attach the model after read_data or create_box")
    if n_elements != lmp.extract_setting("ntypes"):
        raise InputError(
            f"there are {n_elements} elements for {lmp.extract_setting('ntypes')} atom types: give the chemical symbol "
            "of each type, or NULL for a type that the model ignores"
        )
    others = any(lmp.eval(f"is_active(pair,{feature})") for feature in ("single", "manybody"))
    if others and not lmp.has_id("fix", fix):
        raise InputError(
            "LAMMPS already has a pair style, which pair_style zero would replace: remove it, or use pair_style "
            "equiforce, which can be part of hybrid/overlay"
        )
    return ENERGY_UNITS[units]


def _load(
    model: str | Path, elements: Sequence[str], precision: str | None, n_ranks: int
) -> tuple[Potential, Int[np.ndarray, " types"]]:
    """Load the potential, and map each atom type (from 1 on) to a species, -1 for a type that the model ignores."""
    if n_ranks > 1:
        torch.set_num_threads(threads_of_a_rank(ranks_of_this_machine(n_ranks)))
    potential = model_file.load(model, dtype=precision)
    if all(element == "NULL" for element in elements):
        raise InputError("all atom types are NULL: give the chemical symbols of the types that the model computes")
    numbered = enumerate(elements, start=1)
    species_of_type = [
        -1 if name == "NULL" else species_of(name, number, potential, str(model)) for number, name in numbered
    ]
    return potential, np.array([-1, *species_of_type])


@dataclass(frozen=True, kw_only=True)
class _Atoms:
    """The atoms of a rank between two reneighbourings of LAMMPS: first the owned atoms, then the ghosts."""

    tags: Int[np.ndarray, " atoms"]  # LAMMPS' atom IDs
    species: Int[np.ndarray, " atoms"]
    computed: Bool[np.ndarray, " atoms"]  # False for atoms whose type the model ignores
    n_owned: int


@dataclass(frozen=True, kw_only=True)
class _PairList:
    """The pairs within cutoff + SKIN, sorted by centre, and the positions at which they were listed."""

    positions: Float[np.ndarray, "atoms 3"]
    centers: Int[np.ndarray, " edges"]
    neighbors: Int[np.ndarray, " edges"]


class _External:
    """The callback of fix external, which LAMMPS calls at every step on every rank."""

    def __init__(
        self,
        lmp: Any,
        fix: str,
        ranks: Any,
        potential: Potential,
        elements: Sequence[str],
        species_of_type: Int[np.ndarray, " types"],
        energy_unit: float,
    ):
        self.lmp, self.fix, self.ranks = lmp, fix, ranks
        self.potential = potential
        self.elements = elements
        self.species_of_type = species_of_type
        self.energy_unit = energy_unit
        self.atoms: _Atoms | None = None
        self.halo: TagHalo | None = None
        self.list: _PairList | None = None
        self.notes: list[str] = []

    def __call__(self, caller: Any, step: int, n_owned: int, tags: Any, x: Any, forces: Any) -> None:  # noqa: ARG002
        try:
            self.compute(step, forces)
        except InputError as error:  # all ranks have the same error, and one prints it
            if self.ranks.rank == 0:
                _end(self.ranks, f"ERROR: {error}\n")
            self.ranks.Barrier()  # waits for the abort of rank 0
        except BaseException:  # ctypes would ignore it, and the run would continue with wrong numbers
            _end(self.ranks, traceback.format_exc())

    def compute(self, step: int, forces: Float[np.ndarray, "owned 3"] | None) -> None:
        """Compute energies, forces and virial of a step, and give them to LAMMPS."""
        if self.atoms is None or self.halo is None or self.lmp.extract_setting("neigh_ago") == 0:
            self.atoms, self.list = _agreed(self.ranks, self._read_atoms), None
            n_owned = self.atoms.n_owned
            self.halo = TagHalo(self.ranks, self.atoms.tags[:n_owned], self.atoms.tags[n_owned:])
        topology, vectors = _agreed(self.ranks, self._topology, step)
        energy_mask = torch.from_numpy(self.atoms.computed[: self.atoms.n_owned])
        energies, edge_gradients = self.potential.energies_and_edge_gradients(topology, vectors, energy_mask)
        assert edge_gradients is not None
        energies, vectors = energies.detach(), vectors.detach()
        # the virial of an edge is assigned to its neighbour, as in the pair style
        edge_virials = -vectors[:, VIRIAL[0]] * edge_gradients[:, VIRIAL[1]]
        virial = edge_gradients.new_zeros(topology.n_atoms, 6).index_add_(0, topology.neighbors, edge_virials)
        owned = self.halo.reverse_comm(torch.cat([-pair_gradient(edge_gradients, topology), virial], dim=1))
        self._hand_over(self.energy_unit * energies.numpy(), self.energy_unit * owned.numpy(), step, forces)

    def check_masses(self) -> None:
        """Compare the masses of the atom types with their elements; masses of single atoms are not checked."""
        if self.lmp.extract_setting("rmass_flag"):
            return
        masses = self.lmp.extract_atom("mass")
        known = [masses[number] for number in range(1, len(self.elements) + 1)]
        notes = check_masses(self.elements, known, self.potential.species, "attach")
        if notes != self.notes and self.ranks.rank == 0:
            sys.stderr.write("".join(f"note: {note}\n" for note in notes))
        self.notes = notes

    def _read_atoms(self) -> _Atoms:
        if self.lmp.extract_global("respa_levels") is not None:
            raise InputError("run_style respa does not call fix external: use run_style verlet")
        groups = [group for group in self.lmp.available_ids("group") if group]
        for name, style in (("FixGCMC:", "gcmc"), ("FixWidom:", "widom")):
            if any(group.startswith(name) for group in groups):
                raise InputError(f"fix {style} does not work with fix external: use pair_style equiforce")
        self.check_masses()
        types, tags = self._per_atom("type"), self._per_atom("id").astype(np.int64)
        if tags.min(initial=1) < 1:
            raise InputError("some atoms have no ID, which the ranks need: remove atom_modify id no, or set the IDs")
        species = self.species_of_type[types]
        n_owned = self.lmp.extract_setting("nlocal")
        return _Atoms(tags=tags, species=np.maximum(species, 0), computed=species >= 0, n_owned=n_owned)

    def _per_atom(self, name: str, *columns: int) -> np.ndarray:
        """View an array of LAMMPS for all atoms of this rank, ghosts included; LAMMPS has no array for no atoms."""
        n_atoms = self.lmp.extract_setting("nall")
        return self.lmp.numpy.extract_atom(name, nelem=n_atoms) if n_atoms else np.zeros((0, *columns), dtype=np.int64)

    def _topology(self, step: int) -> tuple[Topology, Float[Tensor, "edges 3"]]:
        assert self.atoms is not None
        positions = self._per_atom("x", 3).astype(np.float64)
        # the condition is also true for NaN positions, which the search then refuses
        if self.list is None or not 2 * _farthest(positions - self.list.positions) <= SKIN:
            self.list = self._search(positions, step)
        centers, neighbors = self.list.centers, self.list.neighbors
        vectors = positions.take(neighbors, axis=0) - positions.take(centers, axis=0)
        squares = np.einsum("ea,ea->e", vectors, vectors)
        if squares.min(initial=np.inf) < COINCIDENT**2:
            nearest = squares.argmin()
            i, j = self.atoms.tags[[centers[nearest], neighbors[nearest]]]
            sentence = coincidence(i, j, math.sqrt(squares[nearest]), "IDs of LAMMPS")
            raise InputError(f"step {step}: {sentence}")
        inside = np.flatnonzero(squares < self.potential.cutoff**2)
        neighbors = neighbors.take(inside)
        topology = Topology(
            species=torch.from_numpy(self.atoms.species),
            centers=torch.from_numpy(centers.take(inside)),
            neighbors=torch.from_numpy(neighbors),
            by_neighbor=torch.from_numpy(np.argsort(neighbors, kind="stable")),
            halo=self.halo,
        )
        return topology, torch.from_numpy(vectors.take(inside, axis=0))

    def _search(self, positions: Float[np.ndarray, "atoms 3"], step: int) -> _PairList:
        """List the pairs of the owned atoms, without periodic boundaries because the ghosts are the images."""
        atoms = self.atoms
        assert atoms is not None
        if not atoms.n_owned:
            return _PairList(positions=positions, centers=np.empty(0, dtype=int), neighbors=np.empty(0, dtype=int))
        pairs = find_pairs(positions, np.zeros((3, 3)), np.zeros(3, bool), self.potential.cutoff + SKIN, f"step {step}")
        n_edges = np.searchsorted(pairs.centers, atoms.n_owned)  # other ranks compute the ghosts
        centers, neighbors = pairs.centers[:n_edges], pairs.neighbors[:n_edges]
        kept = np.flatnonzero(atoms.computed[centers] & atoms.computed[neighbors])
        return _PairList(positions=positions, centers=centers.take(kept), neighbors=neighbors.take(kept))

    def _hand_over(
        self,
        energies: Float[np.ndarray, " owned"],
        forces_and_virials: Float[np.ndarray, "owned 9"],
        step: int,
        forces: Float[np.ndarray, "owned 3"] | None,
    ) -> None:
        virials = np.ascontiguousarray(forces_and_virials[:, 3:])
        totals = np.array([energies.sum(), *virials.sum(axis=0)])
        self.ranks.Allreduce(MPI.IN_PLACE, totals)
        if not np.isfinite(totals).all():
            raise InputError(
                f"the energy or the forces are not finite in step {step}: use a shorter timestep, or train the model "
                "on structures like this one"
            )
        self.lmp.fix_external_set_energy_global(self.fix, totals[0])
        self.lmp.fix_external_set_virial_global(self.fix, totals[1:].tolist())
        if len(energies):
            assert forces is not None
            forces[:] = forces_and_virials[:, :3]
            self.lmp.numpy.fix_external_set_energy_peratom(self.fix, energies)
            self.lmp.numpy.fix_external_set_virial_peratom(self.fix, virials)


def _farthest(moves: Float[np.ndarray, "atoms 3"]) -> float:
    return math.sqrt(np.einsum("na,na->n", moves, moves).max(initial=0.0))


def _agreed(ranks: Any, function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function on all ranks; if it raises InputError on some, raise that of the lowest rank on all."""
    problem = None
    try:
        result = function(*arguments)
    except InputError as error:
        problem = str(error)
    first = ranks.allreduce(ranks.size if problem is None else ranks.rank, MPI.MIN)
    if first < ranks.size:
        raise InputError(ranks.bcast(problem, root=first))
    return result


def _end(ranks: Any, problem: str) -> None:
    """Print what is wrong and end the processes of all ranks."""
    sys.stderr.write(problem)
    sys.stderr.flush()
    time.sleep(GRACE)
    ranks.Abort(1)
    os._exit(1)  # MPI_Abort may return before it has ended this process
