"""What a suite returns: scores with their units, and the values of single systems from which they follow."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np


class Task(NamedTuple):
    """What a suite is to do."""

    quick: bool  # a part of the suite that slow programs can finish
    elements: frozenset[str]  # that the model knows
    folder: str  # for files of the suite, removed afterwards
    picoseconds: float | None = None  # of the combustion; None is its default


class Outcome(NamedTuple):
    """The result of a suite."""

    scores: dict[str, dict[str, Any]]  # value and unit by name
    values: dict[str, dict[str, float | str | None]]  # numbers by system and name, or why there are none


class NotApplicableError(Exception):
    """The model does not know what the suite is about; the message says so."""


def score(value: float, unit: str) -> dict[str, Any]:
    """Return a score; one that is not a number is null in JSON."""
    return {"value": plain(value), "unit": unit}


def plain(value: float) -> float | None:
    """Return a number that JSON has, or None."""
    return float(value) if math.isfinite(value) else None


def mean(values: Iterable[float]) -> float:
    """Return the mean of numbers, which is NaN if there are none."""
    found = list(values)
    return float(np.mean(found)) if found else math.nan


def require(task: Task, *elements: str) -> None:
    """Raise NotApplicableError if the model does not know an element."""
    if missing := [symbol for symbol in elements if symbol not in task.elements]:
        raise NotApplicableError(f"the model does not know {', '.join(missing)}")
