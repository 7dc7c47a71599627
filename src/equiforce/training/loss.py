"""The training loss: one term for each quantity, with a weight that may change during the run."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from equiforce.graph import AtomicGraph, Prediction
from equiforce.labels import Labels, residual
from equiforce.options import option
from equiforce.quantities import ENERGY, FORCES, QUANTITIES, STRESS, Quantity

HIGHEST = 1e9  # of a loss weight
Weight = float | list[tuple[float, float]]


def _reason(quantity: Quantity, labels: str) -> str:
    """The explanation of the loss weight of a quantity; ``labels`` names its labels in the plural."""
    per_component = " per component" if quantity.shape else ""
    unit = f"{quantity.residual_unit}{per_component}"
    return f"loss weight of the residuals in {unit}; default {quantity.weight:g} if the data have {labels}, else 0"


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The options of the loss: the sum over quantities of weight x mean penalty of the residuals.

    A weight is a number, or a list of (fraction of the run, weight) between which it is interpolated linearly.
    """

    energy: Weight | None = option(None, _reason(ENERGY, "energies"))
    forces: Weight | None = option(None, _reason(FORCES, "forces"))
    stress: Weight | None = option(None, _reason(STRESS, "stresses"))
    kind: Literal["mse", "mae", "huber"] = option(
        "mse", "penalty of a residual: mse (its square, as in the paper), mae, or huber, which weighs outliers less"
    )
    huber_delta: float = option(
        0.01,
        "residual at which huber changes from square to absolute value",
        unit=", ".join(quantity.residual_unit for quantity in QUANTITIES),
        gt=0,
        le=1e6,
        only_if=("loss.kind is huber", lambda loss: loss.kind == "huber"),
    )

    def __post_init__(self) -> None:
        for quantity in QUANTITIES:
            name, weight = quantity.name, self.weight(quantity)
            points = [(0.0, weight or 0.0)] if isinstance(weight, int | float | None) else weight
            if not points or any(not (0 <= when <= 1 and 0 <= value <= HIGHEST) for when, value in points):
                raise ValueError(
                    f"loss.{name}={weight} is not a loss weight: give a number from 0 to {HIGHEST:g}, or a list of "
                    "pairs (fraction of the run from 0 to 1, number), as in [[0, 1], [0.5, 10]]"
                )

    def weight(self, quantity: Quantity) -> Weight | None:
        """The configured weight of a quantity; None if the user did not set it."""
        return getattr(self, quantity.name)


class Term(NamedTuple):
    """One term of the loss before the division; several processes first sum each of the two parts."""

    total: Float[Tensor, ""]  # the sum of the penalties
    n: Float[Tensor, ""]  # the number of the penalties


def weight_at(weight: Weight, progress: float) -> float:
    """The value of a weight when the fraction ``progress`` of the run, between 0 and 1, is done."""
    if isinstance(weight, (int, float)):
        return float(weight)
    points = sorted(weight)
    if progress <= points[0][0]:
        return points[0][1]
    for (start, low), (stop, high) in pairwise(points):
        if progress <= stop:
            return low + (high - low) * (progress - start) / max(stop - start, 1e-12)
    return points[-1][1]


def highest(weight: Weight | None) -> float:
    """The largest value of a weight during the run."""
    if weight is None:
        return 0.0
    return float(weight) if isinstance(weight, (int, float)) else max(value for _, value in weight)


def penalty(residual: Tensor, config: LossConfig) -> Tensor:
    """The penalty of each residual; huber is scaled such that it equals mse near zero."""
    if config.kind == "mse":
        return residual.square()
    if config.kind == "mae":
        return residual.abs()
    return 2 * torch.nn.functional.huber_loss(
        residual, torch.zeros_like(residual), reduction="none", delta=config.huber_delta
    )


def terms(prediction: Prediction, labels: Labels, graph: AtomicGraph, config: LossConfig) -> dict[Quantity, Term]:
    """The sum and the number of the penalties of each quantity over the components of its residuals.

    Structures without a label do not contribute.

    Args:
        prediction: the prediction for ``graph``.
        labels: the labels of ``graph``.
        graph: the batch.
        config: the options of the loss.

    Returns:
        The term of every quantity, which is zero for a quantity without labels.
    """
    zero = prediction.energy.new_zeros(())
    found = dict.fromkeys(QUANTITIES, Term(zero, zero))
    for quantity in labels:
        residuals = residual(quantity, prediction, labels, graph)
        if residuals is not None:
            found[quantity] = _masked(penalty(residuals, config), labels.known_rows(quantity, graph))
    return found


def _masked(values: Tensor, known: Tensor) -> Term:
    per_row = values.flatten(1).sum(1) if values.dim() > 1 else values
    columns = values[0].numel() if len(values) and values.dim() > 1 else 1
    mask = known.to(values.dtype)
    return Term((per_row * mask).sum(), mask.sum() * columns)
