"""Fits power laws to learning curves, error = prefactor × size^exponent, with intervals, and compares two curves.

Noise is the scatter of seeds at one size. It is estimated from the deviations of runs from the mean of their size, so
that the curvature of a curve does not count as noise; the exponents of the early and of the late sizes show it. The
variance of a size is pooled with those of the neighbouring sizes: three seeds alone are too few, and errors at small
sizes scatter more than those at large sizes, so pooling all sizes would make the small ones look too precise.

Intervals are bootstrap-t intervals. Each draw gives every run a new deviation, in units of the noise of its size, and
compares the estimate with its own standard error in that draw, which makes the intervals as wide as few seeds require.
Subsets of a seed are nested: the errors of sizes N < M of one seed correlate by up to sqrt(N/M), as means of nested
samples do. The share of the noise that comes from the subsets is unknown, so the standard error is the larger one of
those for no share and for the whole. Drawing whole seeds would respect any correlation, but with three seeds a 95 %
interval would cover only about 75 %.

Two models are compared run by run, by the ratio of their errors at the same size and seed, so that the influence of the
common subset cancels.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from equiforce.errors import InputError

CONFIDENCE = 0.95
SIGNIFICANT = 0.05  # a difference with at most this p value counts as found; its interval excludes zero
DRAWS = 9_999
NO_NOISE = 1e-9  # of a logarithm; a smaller scatter means that the seeds made no difference

ErrorsOfRuns = Mapping[tuple[int, int], float]  # by size and seed


class Estimate(NamedTuple):
    """A number, its 95 % interval and the two-sided p value of no effect; None if there are too few seeds."""

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None

    def shown(self, digits: int = 2) -> str:
        """Write the estimate as in ``−0.63 (−0.66, −0.60)``, with one more digit if a limit would look like zero."""
        known = [x for x in (self.value, self.low, self.high) if x is not None]
        if any(0 < abs(x) < 0.5 * 10**-digits for x in known[1:]):
            digits += 1
        value, *limits = (number(x, digits) for x in known)
        return f"{value} ({', '.join(limits)})" if limits else value

    def mapped(self, function: Callable[[float], float]) -> "Estimate":
        """Return the estimate of a monotonic function of the number."""
        value = float(function(self.value))
        if self.low is None or self.high is None:
            return Estimate(value, None, None, self.p)
        low, high = sorted(float(function(x)) for x in (self.low, self.high))
        return Estimate(value, low, high, self.p)


class PowerLaw(NamedTuple):
    """The power law of a learning curve; ``early`` and ``late`` are None if a half of the curve has one size only."""

    exponent: Estimate
    prefactor: Estimate  # the error at one structure, in the unit of the errors
    early: Estimate | None
    late: Estimate | None
    curvature: Estimate | None  # late minus early
    sizes: tuple[int, ...]
    n_seeds: int
    n_runs: int


class CurveDifference(NamedTuple):
    """The difference between a first and a second curve, from the runs that both have."""

    exponent: Estimate  # exponent of the first minus that of the second; positive if the second is steeper
    late: Estimate | None  # the same difference for the late sizes
    ratio: Estimate  # error of the first over error of the second at ``size``; p is the p value of a ratio of one
    size: float  # the geometric mean of the sizes
    sizes: tuple[int, ...]
    n_runs: int

    def slope_in_words(self, p: float | None) -> str:
        """Say whether the second curve is steeper or flatter; ``p`` is corrected for the number of comparisons."""
        if p is None:
            return f"cannot be said: {self.exponent.shown()} without an interval"
        if p > SIGNIFICANT:
            return f"no difference found: {self.exponent.shown()}, {_p(p)}"
        if self.exponent.value > 0:
            return f"steeper by {self.exponent.shown()}, {_p(p)}"
        return f"flatter by {self.exponent.mapped(lambda x: -x).shown()}, {_p(p)}"

    def shift_in_words(self, p: float | None) -> str:
        """Say by how much the error of the second is lower or higher; ``p`` is corrected as for the slope."""
        above = self.ratio.value < 1
        ratio = self.ratio.mapped(lambda x: 1 / x) if above else self.ratio
        text = f"{ratio.shown()} times {'higher' if above else 'lower'} at {self.size:.0f} structures"
        if p is None:
            return f"cannot be said: {text}, without an interval"
        return f"{text if p <= SIGNIFICANT else f'no difference found: {text}'}, {_p(p)}"


def found_in_words(slope: float | None, shift: float | None) -> str:
    """Name the differences that were found, of slope and shift, from their corrected p values."""
    if slope is None or shift is None:
        return "cannot be said"
    names = [name for name, p in (("slope", slope), ("shift", shift)) if p <= SIGNIFICANT]
    return " and ".join(names) or "neither"


def _p(p: float) -> str:
    return f"p = {p:.3f}" if p >= 0.0005 else "p < 0.001"


def number(value: float, digits: int) -> str:
    """Write a number with this many decimals, with a typographic minus, and without minus zero."""
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def halves(sizes: Sequence[int]) -> tuple[list[int], list[int]]:
    """Split sizes into early and late ones; the middle one of an odd number belongs to both."""
    ordered = sorted(sizes)
    half = (len(ordered) + 1) // 2
    return ordered[:half], ordered[-half:]


def fit_power_law(errors: ErrorsOfRuns, n_draws: int = DRAWS) -> PowerLaw | None:
    """Fit a power law by least squares of the logarithms of all runs; return None for fewer than two sizes.

    Args:
        errors: the error at each size and seed, in any unit; some may be missing.
        n_draws: number of bootstrap draws; at least 99, or 0 to leave out the intervals.

    Raises:
        InputError: an error is not a positive number.
    """
    runs = _Runs.of(_logarithms(errors))
    if len(runs.sizes) < 2:
        return None
    slope, (first_half, last_half) = runs.slope(), (runs.slope(half) for half in halves(runs.sizes))
    assert slope is not None  # there are two sizes
    weights = [slope, runs.mean() - runs.x.mean() * slope]
    if first_half is not None and last_half is not None:
        weights += [first_half, last_half, last_half - first_half]
    exponent, prefactor, *rest = _estimates(runs, np.array(weights), n_draws)
    early, late, curvature = rest if rest else (None, None, None)
    return PowerLaw(exponent, prefactor.mapped(np.exp), early, late, curvature, runs.sizes, runs.n_seeds, len(runs.y))


def compare(first: ErrorsOfRuns, second: ErrorsOfRuns, n_draws: int = DRAWS) -> CurveDifference | None:
    """Estimate slope and shift between two curves from their common sizes and seeds; None for fewer than two sizes.

    Args:
        first: the error of a model at each size and seed.
        second: the errors of another model, in the same unit.
        n_draws: number of bootstrap draws; at least 99, or 0 to leave out the intervals.

    Raises:
        InputError: an error is not a positive number.
    """
    one, other = _logarithms(first), _logarithms(second)
    runs = _Runs.of({cell: one[cell] - other[cell] for cell in one if cell in other})
    if len(runs.sizes) < 2:
        return None
    late = runs.slope(halves(runs.sizes)[1])
    weights = [runs.slope(), runs.mean(), *([] if late is None else [late])]
    exponent, ratio, *rest = _estimates(runs, np.array(weights), n_draws)
    size = float(np.exp(runs.x.mean()))
    return CurveDifference(exponent, rest[0] if rest else None, ratio.mapped(np.exp), size, runs.sizes, len(runs.y))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct p values for their number by Holm's method (1979), which bounds the chance of any false positive.

    None stays None.
    """
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[index] = largest
    return corrected


def _logarithms(errors: ErrorsOfRuns) -> dict[tuple[int, int], float]:
    for (size, seed), error in errors.items():
        if not (np.isfinite(error) and error > 0):
            raise InputError(
                f"the error at size {size}, seed {seed} is {error:g}, which has no logarithm: check this run in "
                "results.csv, and delete its row to run it again"
            )
    return {cell: float(np.log(error)) for cell, error in sorted(errors.items())}


class _Runs(NamedTuple):
    """The runs of one curve, or of the ratio of two curves."""

    y: np.ndarray  # [run] logarithm of the error or of the ratio
    x: np.ndarray  # [run] logarithm of the size
    at: np.ndarray  # [run] index of the size in ``sizes``
    seed: np.ndarray  # [run]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, logarithms: Mapping[tuple[int, int], float]) -> "_Runs":
        size, seed = np.array(list(logarithms), dtype=float).reshape(-1, 2).T
        sizes, at = np.unique(size, return_inverse=True)
        return cls(np.array(list(logarithms.values())), np.log(size), at, seed, tuple(int(s) for s in sizes))

    @property
    def n_seeds(self) -> int:
        return len(np.unique(self.seed))

    def mean(self) -> np.ndarray:
        return np.full(len(self.y), 1 / len(self.y))

    def slope(self, sizes: Sequence[int] | None = None) -> np.ndarray | None:
        """Weights [run] whose sum with ``y`` is the slope of least squares over some sizes; None for a single size."""
        chosen = np.isin(self.at, [self.sizes.index(s) for s in (self.sizes if sizes is None else sizes)])
        if len(np.unique(self.at[chosen])) < 2:
            return None
        centred = np.where(chosen, self.x - self.x[chosen].mean(), 0.0)
        return centred / (centred**2).sum()

    def nested(self) -> np.ndarray:
        """Correlation [run run] that the runs would have if all noise came from their nested subsets."""
        shared = np.exp(-abs(self.x[:, None] - self.x) / 2)
        return np.where(self.seed[:, None] == self.seed, shared, 0.0)


class _Noise:
    """The variance at each size, from the squared deviations of its runs and of those of the neighbouring sizes."""

    def __init__(self, runs: _Runs):
        n_sizes = len(runs.sizes)
        self.member = (runs.at[:, None] == np.arange(n_sizes)).astype(float)  # [run size]
        self.n_runs = self.member.sum(0)
        freedom, index = self.n_runs - 1, np.arange(n_sizes)
        near = (abs(index[:, None] - index) <= 1).astype(float)
        near[near @ freedom == 0] = 1.0  # a size without repeated runs nearby takes the noise of all sizes
        self.freedom = freedom.sum()
        self.pool = (near / np.maximum(near @ freedom, 1.0)[:, None]).T

    def variance(self, y: np.ndarray) -> np.ndarray:
        """Compute the variance at each size [... size] of values [... run]."""
        deviation = y - (y @ self.member / self.n_runs) @ self.member.T
        return deviation**2 @ self.member @ self.pool


def _estimates(runs: _Runs, weights: np.ndarray, n_draws: int) -> list[Estimate]:
    """Estimate the sum of the runs with each row of weights [estimate run], and its interval."""
    values, noise = weights @ runs.y, _Noise(runs)
    deviations = noise.variance(runs.y)[runs.at] ** 0.5
    if n_draws == 0 or noise.freedom == 0 or deviations.max() < NO_NOISE:
        return [Estimate(float(value)) for value in values]
    terms = weights * deviations
    nested = np.einsum("er,rs,es->e", terms, runs.nested(), terms)
    errors = np.maximum(nested, (terms**2).sum(1)) ** 0.5

    draws = _draws(runs, noise, deviations, n_draws)
    drawn_errors = (noise.variance(draws)[:, runs.at] @ weights.T**2) ** 0.5
    enough = drawn_errors > 1e-6 * errors
    ratios = np.where(enough, abs(draws @ weights.T) / np.where(enough, drawn_errors, 1.0), np.inf)
    widths = np.sort(ratios, axis=0)[int(np.ceil(CONFIDENCE * (n_draws + 1))) - 1] * errors
    p_values = (1 + (ratios >= abs(values) / errors).sum(0)) / (n_draws + 1)
    return [
        Estimate(float(value), float(value - width), float(value + width), float(p))
        if np.isfinite(width)
        else Estimate(float(value))
        for value, width, p in zip(values, widths, p_values, strict=True)
    ]


def _draws(runs: _Runs, noise: _Noise, deviations: np.ndarray, n_draws: int) -> np.ndarray:
    """Draw noise for all runs [draw run] with a fixed seed."""
    n_here = noise.n_runs[runs.at]
    several = n_here > 1
    from_mean = runs.y - (runs.y @ noise.member / noise.n_runs)[runs.at]
    # the deviations of n runs from their mean are too small, by this factor
    scaled = from_mean[several] * np.sqrt(n_here[several] / (n_here[several] - 1))
    standard = scaled / np.maximum(deviations[several], NO_NOISE)
    return np.random.default_rng(0).choice(standard, size=(n_draws, len(runs.y))) * deviations
