"""What NequIP takes of a machine: memory, and generated kernels."""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from equiforce import kernels
from equiforce.kernels import PathTable
from equiforce.kernels.cpu import convolution as cpu_convolution
from equiforce.kernels.cpu import nodes as cpu_nodes
from equiforce.kernels.cpu.targets import KernelSource
from equiforce.models.base import Footprint, Moment

DOUBLE = 8  # bytes of a float64
MESSAGES_AGAIN, NETWORKS_AGAIN = 2.5, 4.5  # how much more training keeps of what is written out; measured


class LayerShape(NamedTuple):
    """How many numbers a layer has for each atom, and its radial network for each distance."""

    table: PathTable  # of its convolution
    gated: int  # before the gate
    result: int
    hidden: int  # of the radial network

    @property
    def features(self) -> int:
        """What comes in; as much is sent to neighbours."""
        return self.table.irreps_in.dim

    @property
    def messages(self) -> int:
        """The sum of what neighbours send."""
        return self.table.irreps_out.dim

    @property
    def weights(self) -> int:
        """Radial weights of each edge."""
        return self.table.n_weights

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


def footprint(
    layers: Sequence[LayerShape], *, n_harmonics: int, n_knots: int, example: Tensor, training: bool
) -> Footprint:
    """What message passing adds to the memory of a step.

    Autograd keeps what each operation needs again: the features that are sent to neighbours and what the gate is given;
    in training also what each matrix multiplies, and the derivatives of the energy with respect to all of these. An
    edge has its vector, harmonics and knot coordinate, and nothing for each channel unless kernels are fused.

    Args:
        layers: of each layer.
        n_harmonics: of each edge.
        n_knots: of the splines of radial functions; 0 where the radial networks are evaluated on every edge.
        example: a weight, for its precision and device.
        training: whether the step is one of training.
    """
    number, geometry = example.itemsize, n_harmonics + 1  # and the knot coordinate
    splines = n_knots > 0
    written_out = 0.0 if splines and kernels.fused(example.device) else _written_out(layers, splines, training)
    of_every_edge = 3 * number + number * written_out
    moments = [
        Moment(number * atoms, number * geometry * sets + 3 * DOUBLE * (vectors - 1) + of_every_edge)
        for atoms, sets, vectors in (_of_training(layers) if training else _of_forces(layers))
    ]
    on_knots = number * n_knots * sum(3 * layer.hidden + 2 * layer.weights for layer in layers)
    return Footprint(tuple(moments), float(on_knots) if training else 0.0)


def _of_forces(layers: Sequence[LayerShape]) -> list[tuple[int, int, int]]:
    """Of each moment as the derivative goes back by layers, what :class:`Moment` is made of.

    Numbers of each atom; sets of harmonics and knot coordinate of each edge; vectors of each edge in float64, of which
    one is the potential's.
    """
    moments = []
    for layer, kept in zip(layers, accumulate(layer.kept for layer in layers), strict=True):
        later = 0 if layer is layers[-1] else 1  # layers have left gradients of each edge
        moments.append((kept + layer.messages + layer.features, 1 + later, 1))
        moments.append((kept - layer.gated + 2 * layer.features, 2 + later, 1))
    return moments


def _of_training(layers: Sequence[LayerShape]) -> list[tuple[int, int, int]]:
    """The same as the second derivative goes forward again: what it has used is free, what it has found waits."""
    kept, again = (
        sum(column) for column in zip(*((layer.kept_in_training, layer.kept_again) for layer in layers), strict=True)
    )
    moments = [(kept + again, 2, 4)]  # forces have just given their gradient to edges
    for layer in layers:
        moments.append((kept + again + layer.kept_in_training, 2, 1))
        again += layer.features + layer.gated - layer.kept_again
    return moments


def _written_out(layers: Sequence[LayerShape], splines: bool, training: bool) -> float:
    """Numbers that each edge has for its channels where kernels are not fused."""
    rows = 5 if splines else 1  # an edge's radial weights, and the four rows of the splines that they are read from
    messages = sum(layer.features + 2 * layer.messages + rows * layer.weights for layer in layers)
    networks = 0 if splines else sum(3 * layer.hidden for layer in layers)
    return MESSAGES_AGAIN * messages + NETWORKS_AGAIN * networks if training else float(messages + networks)


def needed_kernels(tables: Sequence[PathTable], dtype: torch.dtype, *, training: bool) -> list[KernelSource]:
    """Those of edges and atoms, and of each layer's convolution.

    Args:
        tables: of the convolution of each layer.
        dtype: the precision of weights and features.
        training: whether those of training are wanted too.
    """
    found: list[KernelSource] = [*cpu_convolution.needed_for_edges(tables[0].l_max, dtype), *cpu_nodes.needed(dtype)]
    for table in tables:
        found += cpu_convolution.needed(table, dtype, training)
    return found
