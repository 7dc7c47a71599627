"""Judges from the log of a run whether it was long enough, and what would lower its errors."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

from equiforce.quantities import QUANTITIES
from equiforce.training.loss import LossConfig
from equiforce.training.trackers import rows_of

FEWEST = 8  # validations; fewer do not show a trend
WORSE = 1.2  # times the lowest error
JUMPS = 0.25  # the median relative change between neighbouring validations of the last quarter, if it is all noise
GAP = 2.0  # times the training error
FALLS = 0.05  # relative, in the last quarter of the run
FLAT = 0.4  # the fraction of the run


class LogRow(NamedTuple):
    """A validation of a run. The errors are roots of the losses, and so they have the scale of an RMSE."""

    step: int
    error: float
    training_error: float


class Verdict(NamedTuple):
    """What the log says about a run."""

    kind: str  # unknown, short, worse, noisy, falling, gap or converged
    text: str
    train_longer: bool  # whether a longer run is likely to lower the errors


def read_log(path: Path, loss: LossConfig) -> list[LogRow]:
    """Read the validations of a run from its ``log.csv``; there are none without validation structures."""
    if not path.exists():
        return []
    rows = [row for row in rows_of(path) if row.get("validation_loss")]
    power = 1.0 if loss.kind == "mae" else 0.5
    return [
        LogRow(int(row["step"]), float(row["validation_loss"]) ** power, float(row["loss"]) ** power) for row in rows
    ]


def verdict(rows: Sequence[LogRow], loss: LossConfig) -> Verdict:
    """Judge whether a run was long enough.

    The errors of nearly every run fall a little at its end, because the learning rate falls. A fall by more than
    ``FALLS`` in the last quarter is a sign that a longer run helps, which also lowers the learning rate more slowly
    (docs/training.md has the measurements).

    Args:
        rows: the validations of the run.
        loss: the options of the loss.

    Returns:
        The verdict in words.
    """
    if not rows:
        return Verdict("unknown", "without validation structures, nothing tells whether a longer run would help", False)
    if len(rows) < FEWEST:
        n = "1 validation is" if len(rows) == 1 else f"{len(rows)} validations are"
        return Verdict("short", f"{n} too few to judge the run: train longer", True)
    return _noisy(rows) or _worse(rows) or _falling(rows, loss) or _gap(rows, loss) or _converged(rows)


def _worse(rows: Sequence[LogRow]) -> Verdict | None:
    best, last = _best(rows), rows[-1]
    if last.error < WORSE * best.error or best.step > (1 - FLAT / 2) * last.step:
        return None
    risen = f"the validation error has risen by {_percent(last.error / best.error - 1)} since step {best.step:,}"
    if last.training_error < best.training_error:
        return Verdict("worse", f"{risen}, while the training error fell: add training data", False)
    return Verdict("worse", f"{risen}, and so has the training error: lower optimizer.learning_rate", False)


def _noisy(rows: Sequence[LogRow]) -> Verdict | None:
    late = [row.error for row in rows if row.step > 0.75 * rows[-1].step]
    jumps = [abs(after / before - 1) for before, after in pairwise(late)]
    rises = sum(after > before for before, after in pairwise(late))
    up_and_down = len(jumps) / 4 <= rises <= 3 * len(jumps) / 4
    if not jumps or median(jumps) < JUMPS or not up_and_down:
        return None
    return Verdict(
        "noisy",
        f"the validation error jumps by {_percent(median(jumps))} between validations: lower optimizer.learning_rate",
        False,
    )


def _falling(rows: Sequence[LogRow], loss: LossConfig) -> Verdict | None:
    before = [row.error for row in rows if row.step <= 0.75 * rows[-1].step]
    fall = 1 - _best(rows).error / min(before, default=rows[0].error)
    if fall < FALLS:
        return None
    gap = _gap(rows, loss)
    also = f"; {gap.text}" if gap else ""
    return Verdict(
        "falling", f"the validation error fell by {_percent(fall)} in the last quarter: train longer{also}", True
    )


def _gap(rows: Sequence[LogRow], loss: LossConfig) -> Verdict | None:
    constant = all(not isinstance(loss.weight(quantity), list) for quantity in QUANTITIES)
    last = rows[-1]
    if not constant or last.error < GAP * last.training_error:
        return None
    times = f"{last.error / last.training_error:.1f}" if last.training_error > 0 else "many"
    return Verdict(
        "gap",
        f"the validation error is {times} times the training error: more training data would help most",
        False,
    )


def _converged(rows: Sequence[LogRow]) -> Verdict:
    best, last = _best(rows), rows[-1]
    still = 1 - best.step / last.step
    if still >= FLAT:
        text = f"the validation error has not fallen for the last {_percent(still)} of the run: it has converged"
        return Verdict("converged", text, False)
    before = min(row.error for row in rows if row.step <= 0.75 * last.step)
    fall = max(0.0, 1 - best.error / before)
    return Verdict(
        "converged",
        f"the validation error fell by only {_percent(fall)} in the last quarter: a longer run would gain little",
        False,
    )


def _best(rows: Sequence[LogRow]) -> LogRow:
    return min(rows, key=lambda row: row.error)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f} %"
