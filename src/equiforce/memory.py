"""How much memory energies, forces and training take, known before they start, and how much there is."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from equiforce.errors import InputError
from equiforce.models import Footprint, Moment
from equiforce.potential import EDGES_AT_ONCE, Potential

GB = 1e9
DOUBLE = 8  # bytes of a float64
# What an allocator holds beyond what tensors fill, since freed memory lies in pieces that do not fit: measured with
# glibc as 1.1 to 1.5, for 1,500 to 12,000 atoms
ALLOCATOR = 1.45
OF_EVERY_ATOM = 24 * DOUBLE  # bytes: energy, forces, labels
OF_EVERY_EDGE = 3 * DOUBLE  # bytes: its vector
OF_EVERY_WEIGHT = 4  # beside a weight: its gradient, the optimiser's two moments, its average
ZBL = 20 * DOUBLE  # bytes of an edge, and as many again in training
SHARE = 0.9  # of what is free: the rest of the program, and other programs, grow too
CGROUP = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))  # versions 2 and 1


class StepMemory(NamedTuple):
    """What a step of a potential takes, beyond the graph and the weights that were there before it."""

    footprint: Footprint
    edges_at_once: float  # of those that a large graph has

    def bytes(self, n_atoms: int, n_edges: int) -> float:
        """At the peak, for a graph of this size; a little more than what is measured."""
        lasting = max(a * n_atoms + e * n_edges for a, e in self.footprint.moments)
        passing = self.footprint.passing * min(n_edges, self.edges_at_once)
        return ALLOCATOR * (lasting + passing + self.footprint.fixed)


def footprint(potential: Potential, *, training: bool = False) -> StepMemory:
    """What energies and forces take, or with ``training`` the gradient of a loss of both.

    That of the model, and what the potential adds: vectors, energies and forces, the repulsion of nuclei, and in
    training what belongs to the weights.
    """
    own, of_edge = potential.model.footprint(training=training), float(OF_EVERY_EDGE)
    fixed, passing = own.fixed, own.passing
    if training:
        fixed += OF_EVERY_WEIGHT * sum(p.numel() * p.itemsize for p in potential.parameters())
    repulsion = 0 if potential.zbl is None else (2 * ZBL if training else ZBL)
    if passing:  # the repulsion of nuclei is counted as the model counts its own edges
        passing += repulsion
    else:
        of_edge += repulsion
    moments = tuple(Moment(OF_EVERY_ATOM + per_atom, of_edge + per_edge) for per_atom, per_edge in own.moments)
    in_batches = potential.model.n_hops == 1 and not training
    edges_at_once = EDGES_AT_ONCE[potential.device.type] if in_batches else math.inf
    return StepMemory(Footprint(moments, fixed, passing), edges_at_once)


def require_room(potential: Potential, n_atoms: int, n_edges: int) -> str:
    """Says what a training step on the largest batch takes and what there is.

    Raises:
        InputError: what its tensors fill is more than what is available.
    """
    need, free = footprint(potential, training=True).bytes(n_atoms, n_edges), available(potential.device)
    if free is not None and need / ALLOCATOR > free:
        raise InputError(
            f"a training step on the largest batch ({n_atoms:,} atoms, {n_edges:,} pairs) needs about {in_words(need)} "
            f"of memory, but {in_words(free)} are available: lower training.batch_size or training.max_edges, or "
            "take a smaller model"
        )
    return f"about {in_words(need)} a step for the largest batch, {in_words(free)} available"


def in_words(n_bytes: float | None) -> str:
    """A number of bytes with its unit."""
    if n_bytes is None:
        return "an unknown amount"
    return f"{n_bytes / GB:.1f} GB" if n_bytes >= 0.1 * GB else f"{n_bytes / 1e6:.2g} MB"


def available(device: torch.device | str) -> float | None:
    """The bytes that may be used on a device, nine tenths of what is free; None where nothing says so."""
    device, free = torch.device(device), None
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # and what torch has taken from the device but not given out
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    elif device.type == "cpu":
        free = of_machine()
    return None if free is None else SHARE * free


def of_machine(root: Path = Path("/")) -> float | None:
    """What Linux calls available, or less where a container or a batch job is allowed less; None elsewhere."""
    try:
        known = dict(line.split(":", 1) for line in (root / "proc/meminfo").read_text().splitlines())
        free = 1024.0 * int(known["MemAvailable"].split()[0])
    except (OSError, LookupError, ValueError):
        return None
    return min([free, *_rooms(root)])


def _rooms(root: Path) -> Iterator[float]:
    """What each control group above this process leaves of its limit."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
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
                    room = int((folder / limit).read_text()) - int((folder / usage).read_text())
                    yield float(max(0, room + _reclaimable(folder)))
                except (OSError, ValueError):  # no such file, or "max"
                    continue
            if folder == mounted:
                break


def _reclaimable(folder: Path) -> int:
    """Bytes of files that the kernel keeps in memory while nobody needs it, which count as used."""
    known = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return int(known.get("total_inactive_file", known.get("inactive_file", 0)))
