"""A task of a benchmark: published data, what is drawn from them, and in which errors the literature prints."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from equiforce.data.dataset import drawable, fingerprint
from equiforce.data.read import ReadOptions, read
from equiforce.errors import InputError
from equiforce.evaluate import GPA, MEV
from equiforce.options import option

METRICS = ("MAE", "RMSE")
PER_MOLECULE = "meV/molecule"
# quantity: {unit of print: (unit in the table of results, factor from there)}
UNITS: dict[str, dict[str, tuple[str, float]]] = {
    "energy": {"meV": ("meV", 1.0), "meV/atom": ("meV_per_atom", 1.0), PER_MOLECULE: ("meV_per_atom", 1.0)},
    "forces": {"meV/Å": ("meV_per_A", 1.0)},
    "stress": {"GPa": ("meV_per_A3", GPA / MEV)},
}


class Measure(NamedTuple):
    """An error as it is printed."""

    metric: str  # MAE or RMSE
    unit: str
    column: str  # of the table of results
    factor: float  # from that column's unit

    def __str__(self) -> str:
        return f"{self.metric}, {self.unit}"


@dataclass(frozen=True, kw_only=True)
class Task:
    """Which frames are trained on and tested with, for how long, and what is printed of it."""

    title: str = option("", "of its table; the task's name where it is empty")
    note: str = option("", "what a reader has to know before comparing with published numbers")
    pool: list[str] = option(reason="files that training structures are drawn from, in the data folder", factory=list)
    train: int | None = option(None, "training structures; all that validation leaves, if none is given", ge=1)
    validation: int = option(50, "structures of the pool that choose the weights", ge=1)
    tests: dict[str, list[str]] = option(reason="name: files of each test set", factory=dict)
    errors: dict[str, str] = option(
        reason="quantity: metric and unit of print, as in {energy: MAE meV, forces: MAE meV/Å}", factory=dict
    )
    molecule: int | None = option(
        None,
        "atoms of a molecule",
        ge=1,
        only_if=(f"an error is in {PER_MOLECULE}", lambda task: any(PER_MOLECULE in e for e in task.errors.values())),
    )
    steps: int = option(20_000, "gradient steps, so that results do not depend on the machine's speed", ge=1)
    options: dict[str, Any] = option(reason="section.option: value of all models in this task", factory=dict)
    models: dict[str, dict[str, Any]] = option(
        reason="name: {section.option: value}, of models of this task, or over those of all tasks", factory=dict
    )

    def __post_init__(self) -> None:
        for name in ("pool", "tests", "errors"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty: give at least one")
        for quantity, text in self.errors.items():
            metric, _, unit = text.partition(" ")
            if quantity not in UNITS or metric not in METRICS or unit not in UNITS[quantity]:
                choices = "; ".join(f"{q}: {' or '.join(METRICS)} {' or '.join(units)}" for q, units in UNITS.items())
                raise ValueError(f"errors has {quantity}: {text}, which is not known: write {choices}")
            if unit == PER_MOLECULE and self.molecule is None:
                raise ValueError(f"errors has {quantity}: {text}: say by molecule how many atoms one has")

    @property
    def measures(self) -> dict[str, Measure]:
        """What is printed, by quantity."""
        found = {}
        for quantity, text in self.errors.items():
            metric, _, unit = text.partition(" ")
            column, factor = UNITS[quantity][unit]
            times = (self.molecule or 1) if unit == PER_MOLECULE else 1
            found[quantity] = Measure(metric, unit, f"test_{quantity}_{metric.lower()}_{column}", factor * times)
        return found


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The frames of a task."""

    pool: tuple[str, ...]  # files
    train: tuple[int, ...]  # in the pool, counted from 0
    validation: tuple[int, ...]
    tests: Mapping[str, tuple[str, ...]]  # files by name
    n_tests: Mapping[str, int]
    data: str  # fingerprint of all these files
    n_copies: int  # frames of the pool that are left out, as copies of others or of test frames

    @classmethod
    def of(cls, task: Task, folder: Path, reading: ReadOptions) -> "Drawn":
        """Reads the files of a task, and shares out its pool by a fixed seed.

        Args:
            task: what to draw.
            folder: that file names start from.
            reading: keys and units of the labels.

        Raises:
            InputError: a file cannot be read, or the pool is too small.
        """
        pool = tuple(str(folder / file) for file in task.pool)
        tests = {name: tuple(str(folder / file) for file in files) for name, files in task.tests.items()}
        structures, tested = read(pool, reading), {name: read(files, reading) for name, files in tests.items()}
        held_out = [s for part in tested.values() for s in part]
        usable, n_copies = drawable(structures, held_out)
        wanted = task.validation + (task.train or 1)
        if len(usable) < wanted:
            raise InputError(
                f"the pool has {len(usable)} different structures that are not tested with, too few for {wanted} to "
                "train and validate: name more files, or smaller numbers"
            )
        shuffled = np.random.default_rng(0).permutation(usable).tolist()
        last = None if task.train is None else wanted
        return cls(
            pool=pool,
            train=tuple(sorted(shuffled[task.validation : last])),
            validation=tuple(sorted(shuffled[: task.validation])),
            tests=tests,
            n_tests={name: len(part) for name, part in tested.items()},
            data=fingerprint([*structures, *held_out], labels=True),
            n_copies=n_copies,
        )
