"""The memory that Allegro needs, and the generated kernels that it calls."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from equiforce import kernels
from equiforce.kernels import CouplingTable
from equiforce.kernels.cpu import convolution as cpu_convolution
from equiforce.kernels.cpu import local as cpu_local
from equiforce.kernels.cpu import nodes as cpu_nodes
from equiforce.kernels.cpu.targets import KernelSource
from equiforce.models.base import DOUBLE, Footprint, Peak


class StepFactors(NamedTuple):
    """A factor for a step of energies and forces, and one for a training step."""

    forces: float
    training: float


# the measured number of copies that are in memory at the same time: of the numbers of each edge, and, without fused
# kernels, of the products
COPIES_OF_EDGES = StepFactors(forces=0.95, training=2.5)
COPIES_OF_PRODUCTS = StepFactors(forces=4.7, training=10.5)


class AllegroLayerShape(NamedTuple):
    """How many numbers a layer computes for each edge."""

    table: CouplingTable  # of the tensor product
    latent: int  # all layers of the network of the scalars
    environment: int  # the next layer's environment weights
    mixed: int  # the tensors after channel mixing

    @property
    def of_edge(self) -> int:
        """All numbers that are stored for an edge."""
        return sum(self.table.dims) + self.latent + self.environment + self.mixed

    @property
    def products(self) -> int:
        """The number of products of an operator element with a feature."""
        return len(self.table.elements) * self.table.channels


def footprint(
    layers: Sequence[AllegroLayerShape], *, two_body: int, hidden: int, example: Tensor, training: bool
) -> Footprint:
    """Compute the memory of one step of Allegro; edges need nearly all of it.

    Args:
        layers: the shape of each layer.
        two_body: number of outputs of the two-body network for each edge.
        hidden: numbers of each edge inside the two-body network; 0 if splines replace it.
        example: a weight, for its dtype and device.
        training: whether the step is a training step.
    """
    itemsize, fused, copies = example.itemsize, kernels.fused(example.device), COPIES_OF_EDGES[training]
    # fused kernels do not store the first layer's features; torch stores them and their gradient
    of_edge = two_body + (-1 if fused else 1) * layers[0].table.dims[0]
    of_edge += sum(layer.of_edge for layer in layers) + 4 * hidden
    products = sum(layer.products for layer in layers)
    per_edge_at_once = itemsize * (copies * of_edge + (0.0 if fused else COPIES_OF_PRODUCTS[training] * products))
    # training keeps the environment of each atom and the operator of the product with it
    of_atom = itemsize * copies * sum(layer.products + layer.table.dim_environment for layer in layers)
    return Footprint((Peak(of_atom if training else 0.0, 2 * 3 * DOUBLE),), per_edge_at_once=per_edge_at_once)


def needed_kernels(tables: Sequence[CouplingTable], *, splines: bool, dtype: torch.dtype) -> list[KernelSource]:
    """List the kernels of edge geometry, linear maps, gates and splines, and of each layer's environment and product.

    Args:
        tables: coupling table of each layer.
        splines: whether splines replace the two-body network.
        dtype: the dtype of weights and features.
    """
    found: list[KernelSource] = [*cpu_convolution.needed_for_edges(tables[0].l_max, dtype), *cpu_nodes.needed(dtype)]
    found += cpu_local.needed_for_lookup(dtype) if splines else []
    for number, table in enumerate(tables):
        found += cpu_local.needed_for_environments(table.l_max, table.channels, dtype)
        found += cpu_local.needed_for_products(table, dtype, of_harmonics=number == 0)
    return found
