"""What Allegro takes of a machine: memory, and generated kernels."""

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
from equiforce.models.base import Footprint, Moment


class StepFactors(NamedTuple):
    """A factor for energies and forces, and one for training on them."""

    forces: float
    training: float


DOUBLE = 8  # bytes of a float64
# how often what a local model writes out on edges is there at once, and without fused kernels products; measured
OF_EDGES_AGAIN = StepFactors(forces=0.95, training=2.5)
OF_PRODUCTS_IN_TORCH = StepFactors(forces=4.7, training=10.5)


class LayerShape(NamedTuple):
    """What a layer computes for each edge."""

    table: CouplingTable  # of its product
    latent: int  # numbers, of all layers of its scalars' network
    environment: int  # weights of the next layer's sums over neighbours
    mixed: int  # numbers, after channels were mixed

    @property
    def of_edge(self) -> int:
        """All numbers that are written out for an edge."""
        return sum(self.table.dims) + self.latent + self.environment + self.mixed

    @property
    def products(self) -> int:
        """Products of two numbers and a coupling coefficient."""
        return len(self.table.elements) * self.table.channels


def footprint(
    layers: Sequence[LayerShape], *, two_body: int, hidden: int, example: Tensor, training: bool
) -> Footprint:
    """What a strictly local model adds to the memory of a step: nearly all of it is on edges.

    Args:
        layers: of each layer.
        two_body: numbers of each edge that its two-body functions give.
        hidden: numbers of each edge inside the two-body network; 0 where splines take its place.
        example: a weight, for its precision and device.
        training: whether the step is one of training.
    """
    number, fused, times = example.itemsize, kernels.fused(example.device), OF_EDGES_AGAIN[training]
    # the first layer's features are written out for torch alone, and for their gradient too
    of_edge = two_body + (-1 if fused else 1) * layers[0].table.dims[0]
    of_edge += sum(layer.of_edge for layer in layers) + 4 * hidden
    products = sum(layer.products for layer in layers)
    passing = number * (times * of_edge + (0.0 if fused else OF_PRODUCTS_IN_TORCH[training] * products))
    # kept for training: each atom's sum over its neighbours, and the operator that it is in the product
    of_atom = number * times * sum(layer.products + layer.table.dim_environment for layer in layers)
    return Footprint((Moment(of_atom if training else 0.0, 2 * 3 * DOUBLE),), passing=passing)


def needed_kernels(tables: Sequence[CouplingTable], *, splines: bool, dtype: torch.dtype) -> list[KernelSource]:
    """Those of edges, scalars and splines, and of each layer's sum over neighbours and product.

    Args:
        tables: of the product of each layer.
        splines: whether two-body functions are read from splines.
        dtype: the precision of weights and features.
    """
    found: list[KernelSource] = [*cpu_convolution.needed_for_edges(tables[0].l_max, dtype), *cpu_nodes.needed(dtype)]
    found += cpu_local.needed_for_lookup(dtype) if splines else []
    for number, table in enumerate(tables):
        found += cpu_local.needed_for_environments(table.l_max, table.channels, dtype)
        found += cpu_local.needed_for_products(table, dtype, of_harmonics=number == 0)
    return found
