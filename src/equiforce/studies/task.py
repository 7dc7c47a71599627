"""A task of a benchmark: a published data set, the frames drawn from it, and the errors that the literature prints."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from equiforce.data.copies import without_copies
from equiforce.data.dataset import fingerprint
from equiforce.data.read import ReadOptions, read
from equiforce.errors import InputError
from equiforce.option_values import check_names
from equiforce.options import option
from equiforce.quantities import QUANTITIES, Measure
from equiforce.studies.runs import column_of_test

METRICS = ("MAE", "RMSE")
PER_MOLECULE = "/molecule"


def _units() -> dict[str, dict[str, tuple[Measure, float]]]:
    """For each quantity, the units in which its errors may be printed.

    Each unit comes with the measure of its column in the table of results, and the factor from there.
    """
    found: dict[str, dict[str, tuple[Measure, float]]] = {}
    for quantity in QUANTITIES:
        units = found[quantity.name] = {}
        for measure in quantity.measures:
            stored = measure if measure.column else quantity.logged
            units[measure.unit] = (stored, measure.factor / stored.factor)
            if measure.per_atom:
                units[measure.unit.removesuffix("/atom") + PER_MOLECULE] = (stored, 1.0)
    return found


class PrintedError(NamedTuple):
    """An error as the literature prints it."""

    metric: str  # MAE or RMSE
    unit: str
    column: str  # of the table of results
    factor: float  # from the unit of that column

    def __str__(self) -> str:
        return f"{self.metric}, {self.unit}"


@dataclass(frozen=True, kw_only=True)
class Task:
    """The options of a task: its frames, its training steps, and the errors that are printed."""

    title: str = option("", "title of the table; the name of the task if empty")
    note: str = option("", "what a reader has to know before comparing with published numbers")
    pool: list[str] = option(reason="files in the data folder from which training structures are drawn", factory=list)
    train: int | None = option(
        None, "number of training structures; all that are not used for validation if not given", ge=1, le=10**9
    )
    validation: int = option(
        50, "number of structures of the pool on which the best weights are chosen", ge=1, le=10**9
    )
    tests: dict[str, list[str]] = option(reason="name: files of each test set", factory=dict)
    errors: dict[str, str] = option(
        reason="quantity: metric and printed unit, as in {energy: MAE meV, forces: MAE meV/Å}", factory=dict
    )
    molecule: int | None = option(
        None,
        "number of atoms in a molecule",
        ge=1,
        le=10**6,
        only_if=("an error is in meV/molecule", lambda task: any(PER_MOLECULE in e for e in task.errors.values())),
    )
    steps: int = option(
        20_000, "gradient steps; unlike time they do not depend on the speed of the machine", ge=1, le=10**12
    )
    options: dict[str, Any] = option(reason="section.option: value, for all models in this task", factory=dict)
    models: dict[str, dict[str, Any]] = option(
        reason="name: {section.option: value}, models of this task only, or changes to models of all tasks",
        factory=dict,
    )

    def __post_init__(self) -> None:
        for name in ("pool", "tests", "errors"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty: give at least one")
        check_names(self.tests, "tests")
        check_names(self.models, "models")
        known = _units()
        for quantity, text in self.errors.items():
            metric, _, unit = text.partition(" ")
            if quantity not in known or metric not in METRICS or unit not in known[quantity]:
                choices = "; ".join(f"{q}: {' or '.join(METRICS)} {' or '.join(units)}" for q, units in known.items())
                raise ValueError(f"errors has {quantity}: {text}, which is not known: write {choices}")
            if unit.endswith(PER_MOLECULE) and self.molecule is None:
                raise ValueError(
                    f"errors has {quantity}: {text}, but the size of a molecule is unknown: set molecule to its number "
                    "of atoms"
                )

    @property
    def printed_errors(self) -> dict[str, PrintedError]:
        """The printed error of each quantity."""
        found, known, quantities = {}, _units(), {quantity.name: quantity for quantity in QUANTITIES}
        for name, text in self.errors.items():
            metric, _, unit = text.partition(" ")
            measure, factor = known[name][unit]
            times = (self.molecule or 1) if unit.endswith(PER_MOLECULE) else 1
            column = column_of_test(quantities[name], metric.lower(), measure)
            found[name] = PrintedError(metric, unit, column, factor * times)
        return found


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The frames of a task."""

    pool: tuple[str, ...]  # files
    train: tuple[int, ...]  # indices in the pool, counted from 0
    validation: tuple[int, ...]  # indices in the pool
    tests: Mapping[str, tuple[str, ...]]  # files by name
    n_tests: Mapping[str, int]
    fingerprint: str  # of the content of all these files
    n_copies: int  # number of frames of the pool that are left out because they are copies of others or of test frames

    @classmethod
    def of(cls, task: Task, folder: Path, reading: ReadOptions) -> "Drawn":
        """Read the files of a task, and draw its training and validation structures from the pool with a fixed seed.

        Args:
            task: the task.
            folder: the folder to which file names are relative.
            reading: keys and units of the labels.

        Raises:
            InputError: a file cannot be read, or the pool is too small.
        """
        pool = tuple(str(folder / file) for file in task.pool)
        tests = {name: tuple(str(folder / file) for file in files) for name, files in task.tests.items()}
        structures, tested = read(pool, reading), {name: read(files, reading) for name, files in tests.items()}
        held_out = [s for frames in tested.values() for s in frames]
        usable, n_copies = without_copies(structures, held_out)
        wanted = task.validation + (task.train or 1)
        if len(usable) < wanted:
            raise InputError(
                f"the pool has {len(usable)} different structures that are not test structures, too few for {wanted} "
                "to train and validate: name more files, or smaller numbers"
            )
        shuffled = np.random.default_rng(0).permutation(usable).tolist()
        last = None if task.train is None else wanted
        return cls(
            pool=pool,
            train=tuple(sorted(shuffled[task.validation : last])),
            validation=tuple(sorted(shuffled[: task.validation])),
            tests=tests,
            n_tests={name: len(frames) for name, frames in tested.items()},
            fingerprint=fingerprint([*structures, *held_out], labels=True),
            n_copies=n_copies,
        )
