"""A multilayer perceptron of scalars whose outputs keep unit variance at initialisation."""

import math
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn


def _unit_second_moment(activation) -> float:
    """The factor that gives ``activation`` of a standard normal variable a second moment of 1."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    values = activation(torch.from_numpy(nodes)).numpy()
    return float(math.sqrt(math.sqrt(2 * math.pi) / np.sum(weights * values**2)))


SILU_GAIN = _unit_second_moment(torch.nn.functional.silu)
TANH_GAIN = _unit_second_moment(torch.tanh)


def silu(x: Tensor) -> Tensor:
    """SiLU, scaled to unit second moment: without this, the features of a deep network drift."""
    return SILU_GAIN * torch.nn.functional.silu(x)


def tanh(x: Tensor) -> Tensor:
    """tanh, scaled to unit second moment; odd, so it keeps the parity of a pseudoscalar."""
    return TANH_GAIN * torch.tanh(x)


class ScalarMLP(nn.Module):
    """Matrices without bias, SiLU between them: zero gives zero, so that what vanishes at the cutoff stays so."""

    def __init__(self, n_in: int, hidden: list[int], n_out: int):
        super().__init__()
        widths = [n_in, *hidden, n_out]
        self.weights = nn.ParameterList([torch.randn(a, b) for a, b in pairwise(widths)])

    def forward(self, x: Float[Tensor, "rows inputs"]) -> Float[Tensor, "rows outputs"]:
        return self.last(self.hidden(x))

    def hidden(self, x: Float[Tensor, "rows inputs"]) -> Float[Tensor, "rows width"]:
        """What the last matrix is given."""
        for weight in self.weights[:-1]:
            x = silu(self._times(x, weight))
        return x

    def last(self, x: Float[Tensor, "rows width"]) -> Float[Tensor, "rows outputs"]:
        """The last matrix, which is linear."""
        return self._times(x, self.weights[-1])

    @staticmethod
    def _times(x: Tensor, weight: Tensor) -> Tensor:
        return x @ (weight / math.sqrt(weight.shape[0]))
