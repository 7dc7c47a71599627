"""How much memory energies, forces and training take, known before they start, and how much there is."""

import math
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from equiforce import kernels
from equiforce.errors import InputError
from equiforce.models.allegro import Allegro
from equiforce.potential import EDGES_AT_ONCE, Potential


class Times(NamedTuple):
    """A factor for energies and forces, and one for training on them."""

    forces: float
    training: float


GB = 1e9
DOUBLE = 8  # bytes of a float64
# What an allocator holds beyond what tensors fill, since freed memory lies in pieces that do not fit: measured with
# glibc as 1.1 to 1.5, for 1,500 to 12,000 atoms
ALLOCATOR = 1.45
OF_EVERY_ATOM = 24 * DOUBLE  # bytes: energy, forces, labels
OF_EVERY_WEIGHT = 4  # beside a weight: its gradient, the optimiser's two moments, its average
ZBL = 20 * DOUBLE  # bytes of an edge, and as many again in training
# how often what a local model writes out on edges is there at once, and without fused kernels products; measured
OF_EDGES_AGAIN, OF_PRODUCTS_IN_TORCH = Times(forces=0.95, training=2.5), Times(forces=4.7, training=10.5)
MESSAGES_AGAIN, NETWORKS_AGAIN = 2.5, 4.5  # how much more training keeps of what is written out; measured
SHARE = 0.9  # of what is free: the rest of the program, and other programs, grow too
CGROUP = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))  # versions 2 and 1


class Moment(NamedTuple):
    """Bytes that tensors fill at one point of a step."""

    per_atom: float
    per_edge: float


class Footprint(NamedTuple):
    """What a step takes, beyond the graph and the weights that were there before it."""

    moments: tuple[Moment, ...]
    fixed: float = 0.0  # bytes
    passing: float = 0.0  # bytes of each edge that is computed at the same time
    edges_at_once: float = math.inf

    def bytes(self, n_atoms: int, n_edges: int) -> float:
        """At the peak, for a graph of this size; a little more than what is measured."""
        lasting = max(a * n_atoms + e * n_edges for a, e in self.moments)
        passing = self.passing * min(n_edges, self.edges_at_once) if self.passing else 0.0
        return ALLOCATOR * (lasting + passing + self.fixed)


def footprint(potential: Potential, *, training: bool = False) -> Footprint:
    """What energies and forces take, or with ``training`` the gradient of a loss of both."""
    return (_of_allegro if isinstance(potential.model, Allegro) else _of_nequip)(potential, training)


def _of_allegro(potential: Potential, training: bool) -> Footprint:
    """Nearly all is on edges, and without training on no more of them than are computed at once."""
    model, number = potential.model, potential.dtype.itemsize
    fused = kernels.fused(potential.device)
    of_edge = sum(head.weights[0].shape[1] for head in model.two_body.heads)
    # the first layer's features are written out for torch alone, and for their gradient too
    of_edge += (-1 if fused else 1) * model.layers[0].table.dims[0]
    for layer in model.layers:
        of_edge += sum(layer.table.dims) + sum(sum(w.shape) for w in layer.latent.weights)
        of_edge += 0 if layer.for_environment is None else layer.for_environment.weights[0].shape[1]
        of_edge += 0 if layer.mixing is None else layer.mixing.plan.dims[1]
    if model.two_body.knots is None:
        of_edge += 4 * model.config.radial_width * model.config.radial_depth
    times, of_products = OF_EDGES_AGAIN[training], 0.0
    if not fused:
        elements = sum(len(layer.table.elements) * layer.table.channels for layer in model.layers)
        of_products = OF_PRODUCTS_IN_TORCH[training] * elements
    passing = number * (times * of_edge + of_products)
    if potential.zbl is not None:
        passing += 2 * ZBL if training else ZBL
    of_atom = sum(
        len(layer.table.elements) * layer.table.channels + layer.table.dim_environment for layer in model.layers
    )
    if training:
        vectors = Moment(OF_EVERY_ATOM + number * times * of_atom, 3 * 3 * DOUBLE)
        weights = OF_EVERY_WEIGHT * sum(p.numel() * p.itemsize for p in potential.parameters())
        return Footprint((vectors,), float(weights), passing)
    vectors = Moment(OF_EVERY_ATOM, 3 * 3 * DOUBLE)
    return Footprint((vectors,), 0.0, passing, EDGES_AT_ONCE[potential.device.type])


def _of_nequip(potential: Potential, training: bool) -> Footprint:
    """What message passing takes.

    Autograd keeps what each operation needs again: the features that are sent to neighbours and what the gate is given;
    in training also what each matrix multiplies, and the derivatives of the energy with respect to all of these. An
    edge has its vector, harmonics and position along the splines, and nothing for each channel unless kernels are not
    fused.
    """
    layers = [_Widths.of(layer) for layer in potential.model.layers]
    number = potential.dtype.itemsize
    geometry = (potential.model.config.l_max + 1) ** 2 + 1  # harmonics and position
    of_every_edge = 3 * number + number * _written_out(potential, layers, training)
    if potential.zbl is not None:
        of_every_edge += 2 * ZBL if training else ZBL
    moments = [
        Moment(number * atoms + OF_EVERY_ATOM, number * geometry * sets + 3 * DOUBLE * vectors + of_every_edge)
        for atoms, sets, vectors in (_of_training(layers) if training else _of_forces(layers))
    ]
    return Footprint(tuple(moments), _of_weights(potential, layers) if training else 0.0)


class _Widths(NamedTuple):
    """How many numbers a layer has for each atom, and radial weights for each edge."""

    features: int  # that come in; as many are sent to neighbours
    messages: int
    gated: int  # before the gate
    result: int
    weights: int
    hidden: int  # of the radial network

    @classmethod
    def of(cls, layer: nn.Module) -> "_Widths":
        table, gate, radial = layer.convolution.table, layer.gate, layer.convolution.radial
        irreps = (table.irreps_in, table.irreps_out, gate.irreps_in, gate.irreps_out)
        hidden = sum(weight.shape[1] for weight in radial.mlp.weights[:-1])
        return cls(*(each.dim for each in irreps), table.n_weights, hidden)

    @property
    def kept(self) -> int:
        """For the derivative of the layer by the atoms' positions."""
        return self.features + self.gated

    @property
    def kept_in_training(self) -> int:
        """For the derivative by its weights too."""
        return 2 * self.features + self.messages + self.gated

    @property
    def kept_again(self) -> int:
        """For the derivative of that derivative."""
        return self.features + self.messages + self.gated + self.result


def _of_forces(layers: list[_Widths]) -> list[tuple[int, int, int]]:
    """Of each moment as the derivative goes back by layers, what :class:`Moment` is made of.

    Numbers of each atom; sets of harmonics and position of each edge; vectors of each edge in float64.
    """
    moments = []
    for layer, kept in zip(layers, accumulate(layer.kept for layer in layers), strict=True):
        later = 0 if layer is layers[-1] else 1  # layers have left gradients of each edge
        moments.append((kept + layer.messages + layer.features, 1 + later, 1))
        moments.append((kept - layer.gated + 2 * layer.features, 2 + later, 1))
    return moments


def _of_training(layers: list[_Widths]) -> list[tuple[int, int, int]]:
    """The same as the second derivative goes forward again: what it has used is free, what it has found waits."""
    kept, again = (
        sum(column) for column in zip(*((layer.kept_in_training, layer.kept_again) for layer in layers), strict=True)
    )
    moments = [(kept + again, 2, 4)]  # forces have just given their gradient to edges
    for layer in layers:
        moments.append((kept + again + layer.kept_in_training, 2, 1))
        again += layer.features + layer.gated - layer.kept_again
    return moments


def _of_weights(potential: Potential, layers: list[_Widths]) -> float:
    """Bytes that training has for weights, and for the radial networks on the knots of their splines."""
    weights = OF_EVERY_WEIGHT * sum(p.numel() * p.itemsize for p in potential.parameters())
    knots = potential.model.knots
    n_knots = 0 if knots is None else knots.n_samples
    return float(weights + potential.dtype.itemsize * n_knots * sum(3 * l.hidden + 2 * l.weights for l in layers))


def _written_out(potential: Potential, layers: list[_Widths], training: bool) -> float:
    """Numbers that each edge has for its channels: none where kernels are fused."""
    splines = potential.model.knots is not None
    if splines and kernels.fused(potential.device):
        return 0.0
    rows = 5 if splines else 1  # an edge's radial weights, and the four rows of the splines that they are read from
    messages = sum(layer.features + 2 * layer.messages + rows * layer.weights for layer in layers)
    networks = 0 if splines else sum(3 * layer.hidden for layer in layers)
    return MESSAGES_AGAIN * messages + NETWORKS_AGAIN * networks if training else float(messages + networks)


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
            "model.channels"
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
