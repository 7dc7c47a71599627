"""Takes the weights of a file, and sets those of a network from dense matrices, one for each irrep.

The matrices are the same whatever normalisation the network has.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from equiforce.errors import InputError
from equiforce.kernels import LinearPlan
from equiforce.nn.equivariant import Linear, SpeciesLinear
from equiforce.nn.mlp import SILU_GAIN, ScalarMLP


class Weights:
    """The weights of a file, each of which is taken once.

    Args:
        weights: by name.
        constants: parts of the names of what is no weight, and may be left over.
    """

    def __init__(self, weights: Mapping[str, Tensor], constants: Sequence[str] = ()) -> None:
        self._left = dict(weights)
        self._constants = constants

    def __contains__(self, name: str) -> bool:
        """Whether there is a weight of this name that was not taken yet."""
        return name in self._left

    def take(self, name: str, *shape: int) -> Tensor:
        """A weight in float64; without a shape it may have any.

        Raises:
            InputError: it is missing, has another shape, or a number is not finite.
        """
        if (weight := self._left.pop(name, None)) is None:
            raise InputError(f"the weight {name} is missing: {UNKNOWN}")
        if shape and weight.shape != shape:
            raise InputError(f"the weight {name} is {shown(weight.shape)} instead of {shown(shape)}: {UNKNOWN}")
        if not weight.is_floating_point() or not torch.isfinite(weight).all():
            raise InputError(f"the weight {name} has a number that is not finite: the model is damaged")
        return weight.double()

    def take_if_there(self, name: str) -> Tensor | None:
        """A weight of any shape, or None."""
        return self.take(name) if name in self else None

    def find(self, name: str) -> Tensor | None:
        """The weight of a name if there is one, as it is; it is not taken."""
        return self._left.get(name)

    def require_end(self) -> None:
        """Raise InputError if a weight is left over."""
        found = (name for name, weight in self._left.items() if weight.numel())
        if left := [name[:100] for name in found if not any(constant in name for constant in self._constants)]:
            raise InputError(f"the weights {', '.join(left[:3])} belong to nothing that equiforce knows: {UNKNOWN}")


def set_linear(
    linear: Linear | SpeciesLinear, matrices: Mapping[str, Tensor], species: Iterable[int] | None = None
) -> None:
    """Let a linear map multiply by the given matrices.

    Args:
        linear: the map.
        matrices: the matrix of each irrep, such as ``"1o"`` [channels of x, channels of y].
        species: the species that get these matrices; None means all.

    Raises:
        InputError: a matrix is missing, is left over, or has another shape.
    """
    plan: LinearPlan = linear.plan
    left = dict(matrices)
    rows = list(range(len(linear.weights)) if species is None else species)
    with torch.no_grad():
        for part in plan.matrices:
            shape = (part.source.channels, part.target.channels)
            matrix = _taken(left, part.source.name, shape) / part.scale
            linear.weights[rows, part.weight : part.weight + matrix.numel()] = matrix.flatten().to(linear.weights)
    if left:
        raise InputError(f"matrices for {', '.join(left)} are left over: {UNKNOWN}")


def set_mlp(mlp: ScalarMLP, matrices: Sequence[Tensor]) -> None:
    """Let a perceptron compute x W_0, silu(...) W_1, and so on, with SiLU as it is, without a factor.

    Args:
        mlp: the perceptron.
        matrices: one for each layer [inputs, outputs].

    Raises:
        InputError: the number of matrices or a shape is another one.
    """
    if len(matrices) != len(mlp.weights):
        raise InputError(f"a network has {len(matrices)} matrices instead of {len(mlp.weights)}: {UNKNOWN}")
    with torch.no_grad():
        for number, (weight, matrix) in enumerate(zip(mlp.weights, matrices, strict=True)):
            if weight.shape != matrix.shape:
                raise InputError(f"a matrix is {shown(matrix.shape)} instead of {shown(weight.shape)}: {UNKNOWN}")
            weight.copy_(matrix * math.sqrt(len(weight)) / (SILU_GAIN if number else 1.0))


def _taken(left: dict[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    if (matrix := left.pop(name, None)) is None:
        raise InputError(f"the matrix for {name} is missing: {UNKNOWN}")
    if matrix.shape != shape:
        raise InputError(f"the matrix for {name} is {shown(matrix.shape)} instead of {shown(shape)}: {UNKNOWN}")
    return matrix


def shown(shape: Iterable[int]) -> str:
    """A shape in words, such as 8 x 64."""
    return " x ".join(map(str, shape)) or "a number"


UNKNOWN = "this file was written by a version of its program that equiforce does not know"
