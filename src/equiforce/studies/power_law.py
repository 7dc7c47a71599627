"""Power laws of learning curves, error = prefactor × size^exponent: fits, intervals, and what tells two curves apart.

Noise is what seeds do at one size. It is estimated from the deviations of runs about the mean of their size, so
curvature is no noise: the exponents of the early and of the late sizes tell it. The variance of a size is pooled with
those of the sizes beside it, for three seeds alone are too few, and all sizes together would lend the small ones, whose
errors scatter more, the calm of the large ones.

Intervals are bootstrap-t: deviations in units of their size's noise are drawn anew for each run, and an estimate is
compared with its own standard error in every draw, which brings the width that few seeds ask for. Subsets of a seed
are nested: of sizes N < M its errors correlate by up to sqrt(N/M), as means of nested samples do. Which share of the
noise is the subset's is not known, so a standard error is the larger of those of none and of all of it. Drawing whole
seeds would respect any correlation, but of three seeds covers about 75 % where 95 % are promised.

Two models are compared run by run, by the ratio of their errors at the same size and seed, so what both owe to a subset
cancels.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from equiforce.errors import InputError

CONFIDENCE = 0.95
SIGNIFICANT = 0.05  # a difference of no higher p value counts as found; its interval leaves out zero
DRAWS = 9_999
NO_NOISE = 1e-9  # of a logarithm: seeds that agree so well did not differ

Errors = Mapping[tuple[int, int], float]  # of each size and seed


class Estimate(NamedTuple):
    """A number, its 95 % interval and the two-sided p value of no effect; None where seeds are too few to say."""

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None

    def shown(self, digits: int = 2) -> str:
        """As in ``−0.63 (−0.66, −0.60)``; a limit that would look like zero gets more digits."""
        known = [x for x in (self.value, self.low, self.high) if x is not None]
        if any(0 < abs(x) < 0.5 * 10**-digits for x in known[1:]):
            digits += 1
        value, *limits = (number(x, digits) for x in known)
        return f"{value} ({', '.join(limits)})" if limits else value

    def mapped(self, function: Callable[[float], float]) -> "Estimate":
        """The same of a monotonic function of it."""
        limits = [float(function(x)) for x in (self.low, self.high) if x is not None]
        return Estimate(float(function(self.value)), *(sorted(limits) or (None, None)), self.p)


class PowerLaw(NamedTuple):
    """What a learning curve is summed up by; ``early`` and ``late`` are None where a half has one size only."""

    exponent: Estimate
    prefactor: Estimate  # the error at one structure, in the unit of the errors
    early: Estimate | None
    late: Estimate | None
    curvature: Estimate | None  # late minus early
    sizes: tuple[int, ...]
    n_seeds: int
    n_runs: int


class Comparison(NamedTuple):
    """What tells a second curve from a first, of the runs that both have."""

    exponent: Estimate  # by how much the second falls more steeply: exponent of the first minus that of the second
    late: Estimate | None  # the same of the late sizes
    ratio: Estimate  # error of the first over that of the second at ``size``; p is that of a ratio of one
    size: float  # the geometric mean of the sizes
    sizes: tuple[int, ...]
    n_runs: int

    def slope_in_words(self, p: float | None) -> str:
        """Steeper, flatter, or no difference found; ``p`` is corrected for the number of comparisons."""
        if p is None:
            return f"cannot be said: {self.exponent.shown()} without an interval"
        if p > SIGNIFICANT:
            return f"no difference found: {self.exponent.shown()}, {_p(p)}"
        if self.exponent.value > 0:
            return f"steeper by {self.exponent.shown()}, {_p(p)}"
        return f"flatter by {self.exponent.mapped(lambda x: -x).shown()}, {_p(p)}"

    def shift_in_words(self, p: float | None) -> str:
        """By how much the second's error is lower or higher, or that no difference was found."""
        above = self.ratio.value < 1
        ratio = self.ratio.mapped(lambda x: 1 / x) if above else self.ratio
        text = f"{ratio.shown()} times {'higher' if above else 'lower'} at {self.size:.0f} structures"
        if p is None:
            return f"cannot be said: {text}, without an interval"
        return f"{text if p <= SIGNIFICANT else f'no difference found: {text}'}, {_p(p)}"


def found_in_words(slope: float | None, shift: float | None) -> str:
    """Which of slope and shift were found, of their corrected p values."""
    if slope is None or shift is None:
        return "cannot be said"
    names = [name for name, p in (("slope", slope), ("shift", shift)) if p <= SIGNIFICANT]
    return " and ".join(names) or "neither"


def _p(p: float) -> str:
    return f"p = {p:.3f}" if p >= 0.0005 else "p < 0.001"


def number(value: float, digits: int) -> str:
    """A fixed number of digits, with a real minus; never minus zero."""
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def halves(sizes: Sequence[int]) -> tuple[list[int], list[int]]:
    """The early and the late sizes; one in the middle belongs to both."""
    ordered = sorted(sizes)
    half = (len(ordered) + 1) // 2
    return ordered[:half], ordered[-half:]


def fit(errors: Errors, n_draws: int = DRAWS) -> PowerLaw | None:
    """The power law of least squares in logarithms, over all runs; None of fewer than two sizes.

    Args:
        errors: of each size and seed, in any unit; cells may be missing.
        n_draws: of the bootstrap; at least 99, or 0 to leave out the intervals.

    Raises:
        InputError: an error is not a positive number.
    """
    runs = _Runs.of(_logarithms(errors))
    if len(runs.sizes) < 2:
        return None
    slope, early, late = runs.slope(), *(runs.slope(half) for half in halves(runs.sizes))
    weights = [slope, runs.mean() - runs.x.mean() * slope]
    if early is not None and late is not None:
        weights += [early, late, late - early]
    exponent, prefactor, *rest = _estimates(runs, np.array(weights), n_draws)
    early, late, curvature = rest or (None, None, None)
    return PowerLaw(exponent, prefactor.mapped(np.exp), early, late, curvature, runs.sizes, runs.n_seeds, len(runs.y))


def compare(first: Errors, second: Errors, n_draws: int = DRAWS) -> Comparison | None:
    """Slope and shift between two curves, over the sizes and seeds of both; None of fewer than two such sizes.

    Args:
        first: errors of each size and seed.
        second: those of the other model, in the same unit.
        n_draws: of the bootstrap; at least 99, or 0 to leave out the intervals.

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
    return Comparison(exponent, rest[0] if rest else None, ratio.mapped(np.exp), size, runs.sizes, len(runs.y))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P values corrected for their number, so that the chance of any false one is bounded (Holm 1979); None stays."""
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[index] = largest
    return corrected


def _logarithms(errors: Errors) -> dict[tuple[int, int], float]:
    for (size, seed), error in errors.items():
        if not (np.isfinite(error) and error > 0):
            raise InputError(
                f"the error at size {size}, seed {seed} is {error:g}, which has no logarithm: look at that run in "
                "results.csv, and take its row out to have it done again"
            )
    return {cell: float(np.log(error)) for cell, error in sorted(errors.items())}


class _Runs(NamedTuple):
    """Runs of one curve, or of the ratio of two."""

    y: np.ndarray  # [run] logarithm
    x: np.ndarray  # [run] logarithm of the size
    at: np.ndarray  # [run] which size
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
        """What to weigh runs with, so that their sum is the slope of least squares; None of a single size."""
        chosen = np.isin(self.at, [self.sizes.index(s) for s in (self.sizes if sizes is None else sizes)])
        if len(np.unique(self.at[chosen])) < 2:
            return None
        centred = np.where(chosen, self.x - self.x[chosen].mean(), 0.0)
        return centred / (centred**2).sum()

    def nested(self) -> np.ndarray:
        """Correlation of the runs [run run] if all noise were that of the subsets, each within the next."""
        shared = np.exp(-abs(self.x[:, None] - self.x) / 2)
        return np.where(self.seed[:, None] == self.seed, shared, 0.0)


class _Noise:
    """The variance at each size, from the squared deviations of its runs and of those of the sizes beside it."""

    def __init__(self, runs: _Runs):
        n_sizes = len(runs.sizes)
        self.member = (runs.at[:, None] == np.arange(n_sizes)).astype(float)  # [run size]
        self.n_runs = self.member.sum(0)
        freedom, index = self.n_runs - 1, np.arange(n_sizes)
        near = (abs(index[:, None] - index) <= 1).astype(float)
        near[near @ freedom == 0] = 1.0  # lone runs all around: as noisy as the others are
        self.freedom = freedom.sum()
        self.pool = (near / np.maximum(near @ freedom, 1.0)[:, None]).T

    def variance(self, y: np.ndarray) -> np.ndarray:
        """Of values [... run], that at each size [... size]."""
        deviation = y - (y @ self.member / self.n_runs) @ self.member.T
        return deviation**2 @ self.member @ self.pool


def _estimates(runs: _Runs, weights: np.ndarray, n_draws: int) -> list[Estimate]:
    """The sums of runs with each row of weights [estimate run], and how sure they are."""
    values, noise = weights @ runs.y, _Noise(runs)
    deviations = noise.variance(runs.y)[runs.at] ** 0.5
    if n_draws == 0 or noise.freedom == 0 or deviations.max() < NO_NOISE:
        return [Estimate(float(value)) for value in values]
    terms = weights * deviations
    nested = np.einsum("er,rs,es->e", terms, runs.nested(), terms)
    errors = np.maximum(nested, (terms**2).sum(1)) ** 0.5

    draws = _draws(runs, noise, deviations, n_draws)
    their_errors = (noise.variance(draws)[:, runs.at] @ weights.T**2) ** 0.5
    enough = their_errors > 1e-6 * errors
    ratios = np.where(enough, abs(draws @ weights.T) / np.where(enough, their_errors, 1.0), np.inf)
    widths = np.sort(ratios, axis=0)[int(np.ceil(CONFIDENCE * (n_draws + 1))) - 1] * errors
    p_values = (1 + (ratios >= abs(values) / errors).sum(0)) / (n_draws + 1)
    return [
        Estimate(*map(float, (value, value - width, value + width, p)))
        if np.isfinite(width)
        else Estimate(float(value))
        for value, width, p in zip(values, widths, p_values, strict=True)
    ]


def _draws(runs: _Runs, noise: _Noise, deviations: np.ndarray, n_draws: int) -> np.ndarray:
    """Noise as it might have been [draw run], always the same draws."""
    n_here = noise.n_runs[runs.at]
    several = n_here > 1
    from_mean = runs.y - (runs.y @ noise.member / noise.n_runs)[runs.at]
    # the deviations of n runs from their mean are too small, by this factor
    scaled = from_mean[several] * np.sqrt(n_here[several] / (n_here[several] - 1))
    standard = scaled / np.maximum(deviations[several], NO_NOISE)
    return np.random.default_rng(0).choice(standard, size=(n_draws, len(runs.y))) * deviations
