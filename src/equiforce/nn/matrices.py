"""The matrices of a network: which of its weights multiply channels, and how they lie in its parameters."""

import math
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from equiforce.kernels import LinearPlan


@runtime_checkable
class HasLinearMaps(Protocol):
    """A module that multiplies channels by matrices of its own."""

    def linear_maps(self) -> list[tuple[nn.Parameter, LinearPlan]]:
        """Its weights, and for each how matrices lie in them."""


class Matrix(NamedTuple):
    """A matrix [rows, columns] of the weights of a parameter, and where it begins."""

    weights: nn.Parameter
    start: int
    rows: int
    columns: int

    def of(self, values: Tensor) -> Tensor:
        """The matrix in what has the shape of the parameter: its gradient, or itself; a view."""
        return values.view(-1)[self.start : self.start + math.prod(self.shape)].view(self.shape)

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.columns


def matrices(network: nn.Module) -> list[Matrix]:
    """All matrices of a network, each irrep's and each species' by itself."""
    return [
        Matrix(weights, species * plan.n_weights + p.weight, p.source.channels, p.target.channels)
        for module in network.modules()
        if isinstance(module, HasLinearMaps)
        for weights, plan in module.linear_maps()
        for species in range(plan.n_species)
        for p in plan.products
    ]
