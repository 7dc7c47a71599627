"""The Python side of ``pair_style equiforce``: the functions that the pair style calls on every rank of LAMMPS."""

import ctypes
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equiforce import model_file
from equiforce.calculators.lammps.masses import check_masses
from equiforce.calculators.lammps.names import file_of
from equiforce.errors import InputError
from equiforce.graph import HaloExchange, Topology
from equiforce.memory import StepMemory, available, format_bytes, step_memory
from equiforce.neighbors import COINCIDENT
from equiforce.potential import EDGES_AT_ONCE, Potential

PROBLEM = 1024  # bytes of an error message, as in pair_equiforce.h


class _Model(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("number", "n_hops", "n_species", "edges_at_once")),
        *((name, ctypes.c_double) for name in ("cutoff", "coincident")),
        ("problem", ctypes.c_char * PROBLEM),
        ("note", ctypes.c_char * PROBLEM),
    )


class _Batch(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("model", "n_centers", "n_atoms", "n_edges")),
        *((name, ctypes.c_void_p) for name in ("species", "centers", "neighbors", "by_neighbor", "vectors")),
        *((name, ctypes.c_void_p) for name in ("energy_mask", "energies", "edge_gradients", "pair")),
        ("problem", ctypes.c_char * PROBLEM),
    )


_Load = ctypes.CFUNCTYPE(
    None,
    *(ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int),
    *(ctypes.POINTER(ctypes.c_int64), ctypes.POINTER(_Model)),
)
_CheckMasses = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Model), ctypes.POINTER(ctypes.c_double))
_Compute = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Batch))
_Exchange = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int)


class _Functions(ctypes.Structure):
    _fields_ = (("load", _Load), ("check_masses", _CheckMasses), ("compute", _Compute), ("exchange", _Exchange))


class LammpsHalo(HaloExchange):
    """The halo exchange by LAMMPS, with ``forward_comm`` and ``reverse_comm`` of the pair style."""

    def __init__(self, n_owned: int, n_atoms: int, exchange: Callable[[int, int, int, int], None]):
        self.n_owned, self.n_atoms = n_owned, n_atoms
        self.exchange = exchange

    def forward_comm(self, x: Tensor) -> Tensor:
        rows = x.new_empty(self.n_atoms, x.shape[1])
        rows[: self.n_owned] = x
        self.exchange(rows.data_ptr(), rows.shape[1], rows.element_size(), 0)
        return rows

    def reverse_comm(self, g: Tensor) -> Tensor:
        rows = g.clone(memory_format=torch.contiguous_format)
        self.exchange(rows.data_ptr(), rows.shape[1], rows.element_size(), 1)
        return rows[: self.n_owned]


class Host:
    """The models that the pair styles of this process use."""

    def __init__(self, exchange: Callable[..., None]):
        self.exchange = exchange
        self.potentials: list[Potential] = []
        self.elements: list[list[str]] = []  # of the atom types, for each model
        self.step_memories: list[StepMemory] = []
        self.n_ranks_here = 1  # number of ranks on this machine
        # bytes that each model was allowed to take; it may still hold them, so they no longer count as free memory
        self.granted: dict[int, float] = {}

    def load(
        self, path: bytes, elements: bytes, precision: bytes, n_ranks: int, species_of_type: Any, model: _Model
    ) -> None:
        """Load a model file, which must reproduce its reference values, and write its properties for the pair style.

        Args:
            path: the path of the model file, as LAMMPS reads it.
            elements: the chemical symbol of each atom type, or ``NULL``, with spaces between them.
            precision: ``float32`` or ``float64`` for the weights, or empty for that of the file.
            n_ranks: the number of ranks on all machines.
            species_of_type: output, the species of each atom type, -1 for ``NULL``.
            model: output, the properties of the model.

        Raises:
            InputError: the model cannot be loaded or does not know an element.
        """
        self.n_ranks_here = ranks_of_this_machine(n_ranks)
        torch.set_num_threads(threads_of_a_rank(self.n_ranks_here))
        file, symbols = file_of(path), elements.decode(errors="replace").split()
        potential = model_file.load(file, dtype=precision.decode() or None)
        for number, symbol in enumerate(symbols):
            species_of_type[number] = -1 if symbol == "NULL" else species_of(symbol, number + 1, potential, str(file))
        if all(symbol == "NULL" for symbol in symbols):
            raise InputError(
                "pair_coeff says NULL for all atom types: give the chemical symbol of each type that the model computes"
            )
        model.number, model.n_hops = len(self.potentials), potential.model.n_hops
        model.n_species, model.cutoff = len(potential.species), potential.cutoff
        model.edges_at_once, model.coincident = EDGES_AT_ONCE[potential.device.type], COINCIDENT
        self.potentials.append(potential)
        self.elements.append(symbols)
        self.step_memories.append(step_memory(potential))

    def check_masses(self, model: _Model, masses: Any) -> None:
        """Compare the masses of the atom types with their elements, and write a warning about what is doubtful.

        Raises:
            InputError: a mass is that of another element of the model.
        """
        elements = self.elements[model.number]
        potential = self.potentials[model.number]
        notes = check_masses(elements, masses[: len(elements)], potential.species, "pair_coeff")
        notes = [*potential.model.config.cautions, *notes]
        model.note = "; ".join(notes).encode()[: PROBLEM - 1]

    def compute(self, batch: _Batch) -> None:
        """Compute the energies and the edge gradients of a batch, and write them to LAMMPS' memory."""
        n_centers, n_atoms, n_edges = batch.n_centers, batch.n_atoms, batch.n_edges
        integers = partial(_view, dtype=np.int64)
        vectors = _view(batch.vectors, (n_edges, 3), np.float64)
        potential = self.potentials[batch.model]
        if potential.model.n_hops > 1:
            self.refuse_what_does_not_fit(batch.model, n_centers, n_atoms, n_edges)
        exchange = partial(self.exchange, batch.pair)
        topology = Topology(
            species=integers(batch.species, (n_atoms,)),
            centers=integers(batch.centers, (n_edges,)),
            neighbors=integers(batch.neighbors, (n_edges,)),
            by_neighbor=integers(batch.by_neighbor, (n_edges,)),
            halo=LammpsHalo(n_centers, n_atoms, exchange),
        )
        energy_mask = _view(batch.energy_mask, (n_centers,), np.bool_)
        energies, edge_gradients = potential.energies_and_edge_gradients(topology, vectors, energy_mask)
        _view(batch.energies, (n_centers,), np.float64).copy_(energies.detach())
        _view(batch.edge_gradients, (n_edges, 3), np.float64).copy_(edge_gradients)

    def refuse_what_does_not_fit(self, number: int, n_owned: int, n_atoms: int, n_edges: int) -> None:
        """Raise InputError if a model needs more memory than is free, because the system would kill the process."""
        potential, granted = self.potentials[number], self.granted.get(number, 0.0)
        need = self.step_memories[number].bytes(n_atoms, n_edges)
        if need <= granted:
            return
        free = available(potential.device)
        if free is not None and need - granted > free / self.n_ranks_here:
            raise InputError(
                f"energy and forces of {n_owned:,} atoms and {n_atoms - n_owned:,} ghosts on one rank need about "
                f"{format_bytes(need)} of memory, but each of the {self.n_ranks_here} ranks on this machine has "
                f"{format_bytes(granted + free / self.n_ranks_here)}: use more machines, a smaller model, or an "
                "Allegro model, which needs little memory"
            )
        self.granted[number] = need


def species_of(element: str, atom_type: int, potential: Potential, path: str) -> int:
    """Return the model's index of a chemical symbol; raise InputError if the model does not know it."""
    if element not in potential.species:
        raise InputError(
            f"atom type {atom_type} has the element {element}, but the model {path} knows only "
            f"{', '.join(potential.species)}: give one of these for each atom type, in the order of the types, or NULL"
        )
    return potential.species.index(element)


def ranks_of_this_machine(n_ranks: int) -> int:
    """Return the number of ranks on this machine if MPI's launcher sets it in the environment, else ``n_ranks``."""
    environment = os.environ  # noqa: TID251 - the launcher has no other way to pass this number
    counts = (environment.get(name, "") for name in ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE"))
    return next((int(count) for count in counts if count.isdigit()), n_ranks)


def threads_of_a_rank(n_ranks_here: int) -> int:
    """Return the number of threads of a rank: OMP_NUM_THREADS, or its share of the processors that it may use."""
    environment = os.environ  # noqa: TID251 - the usual way to set the number of threads
    if environment.get("OMP_NUM_THREADS", "").isdigit():
        return max(1, int(environment["OMP_NUM_THREADS"]))
    return max(1, len(os.sched_getaffinity(0)) // n_ranks_here)


def attach(address: int) -> None:
    """Store the Python functions in the structure ``EquiforceFunctions`` of the pair style at this address."""
    functions = _Functions.from_address(address)
    host = Host(functions.exchange)

    def load(path, elements, precision, n_ranks, species_of_type, model) -> None:
        given = (path, elements, precision, n_ranks, species_of_type, model.contents)
        model.contents.problem = _problem(host.load, *given)

    def check(model, masses) -> None:
        model.contents.problem = _problem(host.check_masses, model.contents, masses)

    def compute(batch) -> int:
        batch.contents.problem = _problem(host.compute, batch.contents)
        return int(bool(batch.contents.problem))

    functions.load, functions.check_masses, functions.compute = _Load(load), _CheckMasses(check), _Compute(compute)
    _kept.append((host, functions.load, functions.check_masses, functions.compute))


_kept: list[Any] = []  # keeps alive the functions that C++ calls


def _problem(function: Callable[..., None], *arguments: Any) -> bytes:
    """Call a function and return its error message, empty for success.

    ctypes would ignore an exception, and the simulation would continue with wrong numbers.
    """
    try:
        function(*arguments)
    except InputError as error:
        text = str(error)
    except BaseException as error:  # any exception must stop the simulation
        traceback.print_exc()
        sys.stderr.flush()
        text = f"{type(error).__name__}: {error}"
    else:
        return b""
    return text.encode(errors="surrogateescape")[: PROBLEM - 1] or b"an error without a message"


def _view(address: int | None, shape: tuple[int, ...], dtype: type) -> Tensor:
    """Make a tensor that shares memory with LAMMPS."""
    if not address or 0 in shape:
        return torch.from_numpy(np.zeros(shape, dtype))
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = (ctypes.c_char * size).from_address(address)
    # numpy's stubs do not know that a ctypes array is a buffer
    return torch.from_numpy(np.frombuffer(memory, dtype).reshape(shape))  # type: ignore[call-overload]
