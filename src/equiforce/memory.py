"""Estimates the memory that energies, forces and training need, and finds how much is available."""

import math
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import torch

from equiforce.errors import InputError
from equiforce.models import Footprint, Peak
from equiforce.models.base import DOUBLE
from equiforce.options import default_of
from equiforce.potential import EDGES_AT_ONCE, Potential

GB = 1e9
# The memory that an allocator holds, relative to that of the tensors, because freed memory is fragmented. With glibc it
# was measured as 1.1 to 1.5 for 1,500 to 12,000 atoms.
ALLOCATOR = 1.45
OF_EVERY_ATOM = 24 * DOUBLE  # bytes of an atom: energy, forces, labels
OF_EVERY_EDGE = 3 * DOUBLE  # bytes of an edge: its vector
OF_EVERY_WEIGHT = 4  # numbers besides a weight: its gradient, two moments of the optimizer, its moving average
OF_WEIGHTS = 5  # the weights, their gradient, the optimizer's state, their average and the best ones: at least so many
UNCERTAINTY = 2  # of the number of edges before neighbours are found, and hence of the memory of a step
OF_EDGE_WITH_ZBL = 20 * DOUBLE  # bytes of an edge for the repulsion of nuclei; training needs twice as many
SHARE = 0.9  # of the free memory, because the rest of this program and other programs may grow
CGROUP = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))  # versions 2 and 1


class StepMemory(NamedTuple):
    """The memory that a step of a potential needs in addition to its graph and weights."""

    footprint: Footprint
    edges_at_once: float  # the largest number of edges that are computed at the same time

    def bytes(self, n_atoms: int, n_edges: int) -> float:
        """The peak memory in bytes for a graph of this size; slightly above measured values."""
        lasting = max(per_atom * n_atoms + per_edge * n_edges for per_atom, per_edge in self.footprint.peaks)
        temporary = self.footprint.per_edge_at_once * min(n_edges, self.edges_at_once)
        return ALLOCATOR * (lasting + temporary + self.footprint.fixed)


def step_memory(potential: Potential, *, training: bool = False) -> StepMemory:
    """Estimate the memory of a step of a potential, which is that of its model and of the potential itself.

    The potential adds edge vectors, energies and forces, the repulsion of nuclei, and in training the gradients and
    moments of the weights.

    Args:
        potential: the potential.
        training: whether a step computes the gradient of a loss of energies and forces, or energies and forces only.

    Returns:
        The memory as a function of the size of the graph.
    """
    own, of_edge = potential.model.footprint(training=training), float(OF_EVERY_EDGE)
    fixed, per_edge_at_once = own.fixed, own.per_edge_at_once
    if training:
        fixed += OF_EVERY_WEIGHT * sum(p.numel() * p.itemsize for p in potential.parameters())
    repulsion = 0 if potential.zbl is None else (2 * OF_EDGE_WITH_ZBL if training else OF_EDGE_WITH_ZBL)
    if per_edge_at_once:  # the repulsion of nuclei is computed for the same edges as the model
        per_edge_at_once += repulsion
    else:
        of_edge += repulsion
    peaks = tuple(Peak(OF_EVERY_ATOM + per_atom, of_edge + per_edge) for per_atom, per_edge in own.peaks)
    in_batches = potential.model.n_hops == 1 and not training
    edges_at_once = EDGES_AT_ONCE[potential.device.type] if in_batches else math.inf
    return StepMemory(Footprint(peaks, fixed, per_edge_at_once), edges_at_once)


def require_room(potential: Potential, n_atoms: int, n_edges: int) -> str:
    """Compare the memory that a training step on the largest batch needs with the available memory.

    Args:
        potential: the potential, on the device of the training.
        n_atoms: the number of atoms in the largest batch.
        n_edges: the number of edges in the largest batch.

    Returns:
        A sentence for the user with both.

    Raises:
        InputError: the tensors of the step need more than the available memory.
    """
    need = step_memory(potential, training=True).bytes(n_atoms, n_edges)
    free = available(potential.device)
    if free is not None and need / ALLOCATOR > free:
        raise InputError(
            f"a training step on the largest batch ({n_atoms:,} atoms, {n_edges:,} edges) needs about "
            f"{format_bytes(need)} of memory, but {format_bytes(free)} are available: lower training.batch_size "
            "or training.max_edges, or use a smaller model"
        )
    return f"a training step on the largest batch needs about {format_bytes(need)}; available: {format_bytes(free)}"


def require_room_to_build(build: Callable[[], Potential], device: torch.device, n_atoms: float, n_edges: float) -> None:
    """Compare the memory that training needs at least with the available memory, before a weight or kernel is made.

    Args:
        build: builds the potential; it is called once, and the tensors that it makes have no memory.
        device: the device of the training.
        n_atoms: about the number of atoms in a batch.
        n_edges: about the number of edges in a batch.

    Raises:
        InputError: the weights and a step need more than the available memory.
    """
    with torch.device("meta"):
        potential = build()
    free, tensors = available(device), (*potential.parameters(), *potential.buffers())
    weights = float(OF_WEIGHTS * sum(tensor.numel() * tensor.itemsize for tensor in tensors))
    step = step_memory(potential, training=True).bytes(round(n_atoms), round(n_edges)) / ALLOCATOR
    if free is None or weights + step / UNCERTAINTY <= free:
        return
    n_weights = sum(parameter.numel() for parameter in potential.parameters())
    larger = "" if weights > free else " lower training.batch_size or training.max_edges, or"
    raise InputError(
        f"training this model needs about {format_bytes(weights + step)} of memory: {format_bytes(weights)} for its "
        f"{n_weights:,} weights, with gradients, the optimizer's state, averages and the best weights, and "
        f"{format_bytes(step)} for a batch of about {n_atoms:,.0f} atoms and {n_edges:,.0f} edges; "
        f"{format_bytes(free)} are available:{larger} {_smaller(potential)}"
    )


def _smaller(potential: Potential) -> str:
    """How to make a model smaller: which options are larger than their defaults."""
    config, larger = potential.model.config, []
    for entry in fields(config):
        value, default = getattr(config, entry.name), default_of(entry)
        largest = max(value) if isinstance(value, list) and value else value
        if type(largest) is int and type(default) is int and largest > default:
            larger.append(f"model.{entry.name} ({value}; the default is {default})")
    return f"lower {', '.join(larger)}" if larger else "take a smaller model.preset"


def format_bytes(n_bytes: float | None) -> str:
    """A number of bytes in MB or GB, with the unit."""
    if n_bytes is None:
        return "an unknown amount"
    return f"{n_bytes / GB:.1f} GB" if n_bytes >= 0.1 * GB else f"{n_bytes / 1e6:.2g} MB"


def available(device: torch.device | str) -> float | None:
    """The memory in bytes that may be used on a device, nine tenths of what is free; None if it is unknown."""
    device = torch.device(device)
    free: float | None = None
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # torch can use what it has reserved on the device but not allocated
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    elif device.type == "cpu":
        free = of_machine()
    return None if free is None else SHARE * free


def of_machine(root: Path = Path("/")) -> float | None:
    """The free memory in bytes: what Linux calls available, or less if a control group limits it; None if unknown."""
    try:
        known = dict(line.split(":", 1) for line in (root / "proc/meminfo").read_text(encoding="utf-8").splitlines())
        free = 1024.0 * int(known["MemAvailable"].split()[0])
    except (OSError, LookupError, ValueError):
        return None
    return min([free, *_rooms(root)])


def _rooms(root: Path) -> Iterator[float]:
    """Yields the remaining memory in bytes of each control group (container, batch job) that contains this process."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        mounted = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        inner = mounted / group.lstrip("/")
        for folder in (inner, *inner.parents):
            for limit, usage in CGROUP:
                try:
                    granted, taken = ((folder / name).read_text(encoding="utf-8") for name in (limit, usage))
                    room = int(granted) - int(taken)
                    yield float(max(0, room + _reclaimable(folder)))
                except (OSError, ValueError):  # no such file, or "max"
                    continue
            if folder == mounted:
                break


def _reclaimable(folder: Path) -> int:
    """The bytes of cached files that count as used memory, but that the kernel frees on demand."""
    known = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="utf-8").splitlines())
    return int(known.get("total_inactive_file", known.get("inactive_file", 0)))
