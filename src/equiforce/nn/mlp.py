"""A multilayer perceptron of scalars whose outputs have unit variance at initialisation."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from equiforce.geometry.irreps import Irreps
from equiforce.kernels import GatePlan, LinearPlan, gate, linear


def _unit_second_moment(activation: Callable[[Tensor], Tensor]) -> float:
    """The factor that gives ``activation`` of a standard normal variable a second moment of 1."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    values = activation(torch.from_numpy(nodes)).numpy()
    return float(math.sqrt(math.sqrt(2 * math.pi) / np.sum(weights * values**2)))


SILU_GAIN = _unit_second_moment(torch.nn.functional.silu)
TANH_GAIN = _unit_second_moment(torch.tanh)


class ScalarMLP(nn.Module):
    """Matrices without bias, with SiLU between them.

    There is no bias because an input of zero must give zero: what vanishes at the cutoff then still vanishes there.

    Args:
        n_in: number of inputs.
        hidden: width of each hidden layer.
        n_out: number of outputs.
    """

    def __init__(self, n_in: int, hidden: list[int], n_out: int):
        super().__init__()
        scalars = [Irreps([(width, "0e")]) for width in (n_in, *hidden, n_out)]
        self.plans = [LinearPlan(a, b) for a, b in pairwise(scalars)]
        self.activations = [GatePlan(width) for width in scalars[1:-1]]
        self.weights = nn.ParameterList([torch.randn(a.dim, b.dim) for a, b in pairwise(scalars)])

    def linear_maps(self) -> list[tuple[nn.Parameter, LinearPlan]]:
        return list(zip(self.weights, self.plans, strict=True))

    def forward(self, x: Float[Tensor, "rows inputs"]) -> Float[Tensor, "rows outputs"]:
        """Compute the outputs [rows, n_out] from the inputs [rows, n_in]."""
        return self.last(self.hidden(x))

    def hidden(self, x: Float[Tensor, "rows inputs"]) -> Float[Tensor, "rows width"]:
        """Compute the input of the last matrix."""
        for number, activation in enumerate(self.activations):
            x = gate(self._times(x, number), activation, SILU_GAIN, TANH_GAIN)
        return x

    def last(self, x: Float[Tensor, "rows width"]) -> Float[Tensor, "rows outputs"]:
        """Multiply by the last matrix, which no activation follows."""
        return self._times(x, -1)

    def _times(self, x: Tensor, number: int) -> Tensor:
        return linear(x, self.weights[number].view(1, -1), None, self.plans[number])
