"""The memory that NequIP needs, and the generated kernels that it calls."""

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
from equiforce.models.base import DOUBLE, Footprint, Peak

MESSAGE_COPIES, NETWORK_COPIES = 2.5, 4.5  # measured number of copies of each edge's numbers that training keeps


class NequIPLayerShape(NamedTuple):
    """How many numbers a layer has for each atom, and its radial network for each distance."""

    table: PathTable  # of the convolution
    gated: int  # input of the gate
    result: int  # output of the gate
    hidden: int  # hidden layers of the radial network
    normed: bool = False  # whether the layer norm precedes the gate

    @property
    def features(self) -> int:
        """The input; the features that are sent to neighbours are as many."""
        return self.table.irreps_in.dim

    @property
    def messages(self) -> int:
        """The sum of the messages."""
        return self.table.irreps_out.dim

    @property
    def weights(self) -> int:
        """The radial weights of each edge."""
        return self.table.n_weights

    @property
    def of_norm(self) -> int:
        """What is kept for the derivatives of the layer norm."""
        return 2 * self.gated if self.normed else 0

    @property
    def kept(self) -> int:
        """What is kept for the derivative with respect to positions."""
        return self.features + self.gated + self.of_norm

    @property
    def kept_in_training(self) -> int:
        """What is kept for the derivatives with respect to positions and weights."""
        return 2 * self.features + self.messages + self.gated + self.of_norm

    @property
    def kept_for_second_derivatives(self) -> int:
        """What is kept for the second derivatives."""
        return self.features + self.messages + self.gated + self.result + self.of_norm


def footprint(
    layers: Sequence[NequIPLayerShape], *, n_harmonics: int, n_samples: int, example: Tensor, training: bool
) -> Footprint:
    """Compute the memory of one step of NequIP.

    Autograd keeps the inputs that a derivative needs: the features that are sent to neighbours and the input of the
    gate; in training also the input of each matrix, and the derivatives of the energy with respect to all of these. An
    edge has its vector, harmonics and knot coordinate. It has numbers for each channel only if kernels are not fused.

    Args:
        layers: the shape of each layer.
        n_harmonics: number of spherical harmonics of each edge.
        n_samples: number of knots on which the radial networks are evaluated; 0 if they are evaluated on every edge.
        example: a weight, for its dtype and device.
        training: whether the step is a training step.
    """
    itemsize, geometry = example.itemsize, n_harmonics + 1  # the 1 is the knot coordinate
    splines = n_samples > 0
    written_out = 0.0 if splines and kernels.fused(example.device) else _written_out(layers, splines, training)
    of_every_edge = 3 * itemsize + itemsize * written_out
    peaks = [
        Peak(itemsize * atoms, itemsize * geometry * sets + 3 * DOUBLE * (vectors - 1) + of_every_edge)
        for atoms, sets, vectors in (_of_training(layers) if training else _of_forces(layers))
    ]
    on_knots = itemsize * n_samples * sum(3 * layer.hidden + 2 * layer.weights for layer in layers)
    return Footprint(tuple(peaks), float(on_knots) if training else 0.0)


def _of_forces(layers: Sequence[NequIPLayerShape]) -> list[tuple[int, int, int]]:
    """List what is in memory at each point of the backward pass of a step of energies and forces.

    Returns:
        For each point: numbers of each atom; copies of the harmonics and knot coordinate of each edge; float64 vectors
        of each edge, one of which belongs to the potential.
    """
    peaks = []
    for layer, kept in zip(layers, accumulate(layer.kept for layer in layers), strict=True):
        later = 0 if layer is layers[-1] else 1  # later layers have already stored gradients of each edge
        peaks.append((kept + layer.messages + layer.features, 1 + later, 1))
        peaks.append((kept - layer.gated + 2 * layer.features, 2 + later, 1))
    return peaks


def _of_training(layers: Sequence[NequIPLayerShape]) -> list[tuple[int, int, int]]:
    """List the same for the second derivatives of a training step: a layer frees its inputs and stores its results."""
    kept = sum(layer.kept_in_training for layer in layers)
    again = sum(layer.kept_for_second_derivatives for layer in layers)
    peaks = [(kept + again, 2, 4)]  # the gradient of the loss has just reached the edges
    for layer in layers:
        peaks.append((kept + again + layer.kept_in_training, 2, 1))
        again += layer.features + layer.gated - layer.kept_for_second_derivatives
    return peaks


def _written_out(layers: Sequence[NequIPLayerShape], splines: bool, training: bool) -> float:
    """Count the numbers that each edge has for its channels if kernels are not fused."""
    rows = 5 if splines else 1  # the radial weights, and the four spline rows from which they are computed
    messages = sum(layer.features + 2 * layer.messages + rows * layer.weights for layer in layers)
    networks = 0 if splines else sum(3 * layer.hidden for layer in layers)
    return MESSAGE_COPIES * messages + NETWORK_COPIES * networks if training else float(messages + networks)


def needed_kernels(tables: Sequence[PathTable], dtype: torch.dtype, *, training: bool) -> list[KernelSource]:
    """List the kernels of edge geometry, linear maps and gates, and of each layer's convolution.

    Args:
        tables: path table of each layer's convolution.
        dtype: the dtype of weights and features.
        training: whether to include the kernels that only training calls.
    """
    found: list[KernelSource] = [*cpu_convolution.needed_for_edges(tables[0].l_max, dtype), *cpu_nodes.needed(dtype)]
    for table in tables:
        found += cpu_convolution.needed(table, dtype, training)
    return found
