"""The weight matrices of a network, and where they lie in its parameters."""

import math
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from equiforce.kernels import LinearPlan


@runtime_checkable
class HasLinearMaps(Protocol):
    """A module that multiplies channels by matrices."""

    def linear_maps(self) -> list[tuple[nn.Parameter, LinearPlan]]:
        """Return each parameter that holds matrices, with the plan that says where they lie in it."""


class Matrix(NamedTuple):
    """One matrix [rows, columns] inside a parameter."""

    weights: nn.Parameter
    start: int  # index of its first number in the flat parameter
    rows: int
    columns: int

    def of(self, values: Tensor) -> Tensor:
        """The matrix in a tensor of the parameter's shape, such as the parameter or its gradient; a view."""
        return values.view(-1)[self.start : self.start + math.prod(self.shape)].view(self.shape)

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.columns


def matrices(network: nn.Module) -> list[Matrix]:
    """All weight matrices of a network, a separate one for each irrep and each species."""
    return [
        Matrix(weights, species * plan.n_weights + m.weight, m.source.channels, m.target.channels)
        for module in network.modules()
        if isinstance(module, HasLinearMaps)
        for weights, plan in module.linear_maps()
        for species in range(plan.n_species)
        for m in plan.matrices
    ]
