"""The training loss: energy per atom, forces and stress, each with a weight that may change during the run."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from equiforce.graph import AtomicGraph, Labels, Prediction
from equiforce.options import option

Weight = float | list[tuple[float, float]]
DEFAULT_ENERGY, DEFAULT_FORCES, DEFAULT_STRESS = 1.0, 1.0, 100.0


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is minimised: sum over terms of weight x mean of the chosen function of the residuals.

    A weight is a number, or a list of (fraction of the run, weight) between which it goes linearly.
    """

    energy: Weight | None = option(None, f"of residuals in eV/atom; {DEFAULT_ENERGY:g} where the data have energies")
    forces: Weight | None = option(
        None, f"of residuals in eV/Å, by component; {DEFAULT_FORCES:g} where the data have forces"
    )
    stress: Weight | None = option(
        None, f"of residuals in eV/Å³, by component; {DEFAULT_STRESS:g} where the data have stress"
    )
    kind: Literal["mse", "mae", "huber"] = option("mse", "the paper's; huber forgives outliers")
    huber_delta: float = option(
        0.01,
        "where huber goes from square to absolute",
        unit="eV/atom, eV/Å, eV/Å³",
        gt=0,
        only_if=("loss.kind is huber", lambda loss: loss.kind == "huber"),
    )

    def __post_init__(self) -> None:
        for name, weight in (("energy", self.energy), ("forces", self.forces), ("stress", self.stress)):
            values = [weight or 0.0] if isinstance(weight, int | float | None) else [value for _, value in weight]
            if not values or min(values) < 0:
                raise ValueError(
                    f"loss.{name}={weight} is no weight: give a number of at least 0, or a list of such at fractions "
                    "of the run, as in [[0, 1], [0.5, 10]]"
                )


class Term(NamedTuple):
    """One term of the loss before averaging: over several processes, both parts are summed first."""

    total: Float[Tensor, ""]
    n: Float[Tensor, ""]


def weight_at(weight: Weight, progress: float) -> float:
    """A weight at a fraction of the run between 0 and 1."""
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
    """The largest value that a weight takes during the run."""
    if weight is None:
        return 0.0
    return float(weight) if isinstance(weight, (int, float)) else max(value for _, value in weight)


def penalty(residual: Tensor, config: LossConfig) -> Tensor:
    """The chosen function of each residual; huber is scaled to equal mse near zero."""
    if config.kind == "mse":
        return residual.square()
    if config.kind == "mae":
        return residual.abs()
    return 2 * torch.nn.functional.huber_loss(
        residual, torch.zeros_like(residual), reduction="none", delta=config.huber_delta
    )


def terms(prediction: Prediction, labels: Labels, graph: AtomicGraph, config: LossConfig) -> tuple[Term, Term, Term]:
    """Sums and counts of the penalties of energy per atom, force components and stress components.

    Structures without a label add nothing to its term. Stress residuals are those of virial over volume, so that a
    batch may mix periodic structures and molecules.
    """
    zero = prediction.energy.new_zeros(())
    energy = forces = stress = Term(zero, zero)
    if labels.energy is not None:
        residual = (prediction.energy - labels.energy) / graph.atoms_per_structure()
        energy = _masked(penalty(residual, config), labels.has_energy)
    if labels.forces is not None and prediction.forces is not None:
        residual = prediction.forces - labels.forces
        forces = _masked(penalty(residual, config), labels.has_forces[graph.structure_of_atom])
    if labels.stress is not None and prediction.virial is not None:
        volumes = torch.where(labels.has_stress, graph.volumes(), 1.0).view(-1, 1, 1)
        residual = -prediction.virial / volumes - labels.stress
        stress = _masked(penalty(residual, config), labels.has_stress)
    return energy, forces, stress


def _masked(values: Tensor, known: Tensor) -> Term:
    per_row = values.flatten(1).sum(1) if values.dim() > 1 else values
    columns = values[0].numel() if len(values) and values.dim() > 1 else 1
    mask = known.to(values.dtype)
    return Term((per_row * mask).sum(), mask.sum() * columns)
