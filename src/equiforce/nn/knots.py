"""The knots of the cubic splines that replace radial networks."""

from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

LEAST = 4  # intervals on each side of a seam


@dataclass(frozen=True)
class Knots:
    """The knots of cubic splines that interpolate radial functions: K intervals between 0 and the cutoff.

    The spline of a function f is sum_k c_k B_k(r). It equals f on all knots, has two continuous derivatives, and is
    zero at the cutoff together with its first derivative. The third derivative is continuous at the first inner knot,
    which keeps the order of the approximation down to r = 0.

    Without a seam the intervals are equal, and the last three coefficients are zero, so that the second derivative too
    vanishes at the cutoff.

    A function whose second derivative jumps at some distance has a seam there. Two splines then meet at the seam with
    the same value and the same first derivative. Each has equal intervals, and the rows of the second follow those of
    the first. At the cutoff the second derivative is free.

    Args:
        n_knots: K, the number of intervals.
        cutoff: in Å, or 1 if distances are divided by the cutoff.
        seam: where the second derivative jumps, in the unit of the cutoff; None if it is continuous everywhere.
    """

    n_knots: int
    cutoff: float
    seam: float | None = None

    @property
    def n_before(self) -> int:
        """The number of intervals before the seam; all without one."""
        if self.seam is None:
            return self.n_knots
        return min(max(round(self.n_knots * self.seam / self.cutoff), LEAST), self.n_knots - LEAST)

    @property
    def per_length(self) -> float:
        """The number of intervals in a unit of length before the seam.

        A distance times this number is its knot coordinate, which :meth:`across_seam` corrects beyond the seam.
        """
        return self.n_before / (self.seam or self.cutoff)

    @property
    def stretch(self) -> float:
        """The number of intervals in a unit of length after the seam, divided by that before it."""
        seam = self.seam or 0.0
        return (self.n_knots - self.n_before) / (self.cutoff - seam) / self.per_length

    @property
    def n_samples(self) -> int:
        """The number of knots on which a function is evaluated."""
        return self.n_knots - 1 if self.seam is None else self.n_knots

    def across_seam(self, knot_coordinates: Float[Tensor, " edges"]) -> Float[Tensor, " edges"]:
        """The knot coordinates of distances that were multiplied by ``per_length``."""
        if self.seam is None:
            return knot_coordinates
        beyond = (knot_coordinates - self.n_before) * self.stretch + self.n_before + 3
        return torch.where(knot_coordinates < self.n_before, knot_coordinates, beyond)

    def lengths(self, like: Tensor) -> Float[Tensor, " samples"]:
        """The distances of the knots on which functions are evaluated, with the dtype and device of ``like``."""
        return _sampled_lengths(self, like.dtype, like.device)

    def interpolation(self, like: Tensor) -> Float[Tensor, "rows samples"]:
        """The matrix that computes spline coefficients from samples, with the dtype and device of ``like``."""
        return _interpolation(self, like.dtype, like.device)


# Both functions compute in float64 and round once, so that the knots of a float64 model are exact to float64. Their
# results are cached for all models. They must not be inference tensors, because training cannot use those.
@cache
@torch.inference_mode(False)
def _sampled_lengths(knots: Knots, dtype: torch.dtype, device: torch.device) -> Tensor:
    n_before, seam = knots.n_before, knots.seam or knots.cutoff
    lengths = torch.linspace(0, seam, n_before + 1, dtype=torch.float64)
    beyond = torch.linspace(seam, knots.cutoff, knots.n_knots - n_before + 1, dtype=torch.float64)[1:]
    return torch.cat([lengths, beyond])[: knots.n_samples].to(device=device, dtype=dtype)


@cache
@torch.inference_mode(False)
def _interpolation(knots: Knots, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The inverse of the constant banded matrix that evaluates a spline on the knots."""
    matrix = _of_one_spline(knots.n_knots) if knots.seam is None else _of_two_splines(knots)
    return matrix.to(device=device, dtype=dtype)


VALUE, SLOPE, JUMP = ([1 / 6, 4 / 6, 1 / 6], [-0.5, 0.0, 0.5], [1.0, -4.0, 6.0, -4.0, 1.0])  # of B-splines on a knot


def _of_one_spline(n_knots: int) -> Tensor:
    sampled = torch.zeros(n_knots, n_knots + 3, dtype=torch.float64)
    for knot in range(n_knots - 1):
        sampled[knot, knot : knot + 3] = torch.tensor(VALUE, dtype=torch.float64)
    sampled[-1, :5] = torch.tensor(JUMP, dtype=torch.float64)
    inverse = torch.linalg.inv(sampled[:, :n_knots])[:, : n_knots - 1]
    return torch.cat([inverse, inverse.new_zeros(3, n_knots - 1)])


def _of_two_splines(knots: Knots) -> Tensor:
    n_rows, first = knots.n_knots + 6, knots.n_before + 3  # the first row of the second spline
    value, slope, jump = (torch.tensor(numbers, dtype=torch.float64) for numbers in (VALUE, SLOPE, JUMP))
    conditions = torch.zeros(n_rows, n_rows, dtype=torch.float64)
    samples = torch.zeros(n_rows, knots.n_samples, dtype=torch.float64)
    places = [*range(knots.n_before + 1), *range(first, n_rows - 2)]  # of the first of three rows of each knot
    for number, place in enumerate(places):
        conditions[number, place : place + 3] = value
        sample = number if number <= knots.n_before else number - 1  # both splines have the sample on the seam
        if sample < knots.n_samples:  # the value at the cutoff is zero
            samples[number, sample] = 1
    at_start, at_seam, at_end, continuous = range(len(places), n_rows)
    conditions[at_start, :5] = jump
    conditions[at_seam, first - 5 : first] = jump
    conditions[at_end, -3:] = slope
    conditions[continuous, first - 3 : first] = slope
    conditions[continuous, first : first + 3] = -knots.stretch * slope
    coefficients: Tensor = torch.linalg.solve(conditions, samples)
    return coefficients
