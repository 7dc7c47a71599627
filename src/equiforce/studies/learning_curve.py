"""The learning curve study: errors of models against the number of training structures, on nested subsets of a pool."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from equiforce.config import configured
from equiforce.data.copies import without_copies
from equiforce.data.dataset import fingerprint
from equiforce.data.read import read
from equiforce.errors import InputError
from equiforce.option_values import check_names, read_options
from equiforce.options import option
from equiforce.studies.runs import DONE, Row, Run
from equiforce.terminal import one_line
from equiforce.yaml_files import load_yaml

ID_COLUMNS = ("model", "size", "seed", "learning_rate", "budget")
VALIDATIONS = 40  # per run, unless the file sets training.validate_every


@dataclass(frozen=True, kw_only=True)
class LearningCurveOptions:
    """The options of a learning curve, as in its YAML file."""

    title: str = option("", "title of plots and page; the name of the file if empty")
    pool: list[str] = option(reason="files in the data folder from which training structures are drawn", factory=list)
    test: list[str] = option(reason="files of the test set", factory=list)
    validation: int = option(
        50,
        "number of structures of the pool, the same for all runs, that choose weights and learning rates",
        ge=1,
        le=10**9,
    )
    sizes: list[int] = option(
        reason="numbers of training structures; a subset contains all smaller ones of its seed", factory=list
    )
    seeds: list[int] = option(
        reason="random seeds of weights, order and subset; an interval needs at least three", factory=lambda: [0, 1, 2]
    )
    models: dict[str, dict[str, Any]] = option(
        reason="name: {section.option: value, ...}, with a curve for each", factory=dict
    )
    common: dict[str, Any] = option(reason="section.option: value, for all models", factory=dict)
    steps: int | list[int] | None = option(None, "gradient steps of a run: one number, or one for each size")
    epochs: int | list[int] | None = option(
        None, "passes over the subset instead of steps: one number, or one for each size"
    )
    learning_rates: list[float] = option(
        reason="rates that are tried with the first seed; the lowest validation loss decides", factory=lambda: [0.02]
    )
    scan_sizes: list[int] = option(
        reason="sizes at which rates are tried, all if empty; other sizes take the rate of the nearest", factory=list
    )
    doubled: bool = option(
        True, "adds a run with twice the budget at the largest size, to see what more training gains"
    )
    compare: list[tuple[str, str]] = option(
        reason="pairs of models that are compared; if empty, each model with the next one in the list", factory=list
    )

    def __post_init__(self) -> None:
        for name in ("pool", "test", "sizes", "seeds", "models", "learning_rates"):
            if not getattr(self, name):
                raise ValueError(f"study.{name} is empty: give at least one")
        self._check_budget()
        check_names(self.models, "study.models")
        if sorted(set(self.sizes)) != self.sizes or min(self.sizes) < 1:
            raise ValueError(f"study.sizes={self.sizes}: list them from the smallest to the largest, each once")
        for name in ("seeds", "learning_rates"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"study.{name}={getattr(self, name)} lists a value twice: remove one")
        if wrong := [size for size in self.scan_sizes if size not in self.sizes]:
            raise ValueError(f"study.scan_sizes has {wrong[0]}, which is not in study.sizes={self.sizes}: remove it")
        if self.scan_sizes and len(self.learning_rates) == 1:
            raise ValueError("study.scan_sizes has no effect with one learning rate: leave it out, or list more rates")
        if unknown := [name for pair in self.compare for name in pair if name not in self.models]:
            raise ValueError(
                f"study.compare has {unknown[0]!r}, which is not in study.models: choose from {', '.join(self.models)}"
            )

    def _check_budget(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("the budget of a run needs either study.steps or study.epochs: give one of them")
        name, budget = self._limit()
        budgets = budget if isinstance(budget, list) else [budget] * len(self.sizes)
        if len(budgets) != len(self.sizes) or min(budgets) < 1:
            raise ValueError(
                f"study.{name}={budget} does not fit {len(self.sizes)} sizes: give one number of at least 1, or one "
                "for each size"
            )

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs of models to compare."""
        names = list(self.models)
        return self.compare or list(pairwise(names))

    def budget(self, size: int, times: int = 1) -> dict[str, int]:
        """The budget of a run at a size, times a factor, as a training option."""
        name, budget = self._limit()
        n = budget[self.sizes.index(size)] if isinstance(budget, list) else budget
        return {f"training.max_{name}": times * n}

    def _limit(self) -> tuple[str, int | list[int]]:
        if self.steps is not None:
            return "steps", self.steps
        assert self.epochs is not None
        return "epochs", self.epochs


def load_learning_curve(file: Path, data: Path, **changes: Any) -> "LearningCurve":
    """Load a learning curve from a YAML file, read its data, and draw the validation set from the pool.

    Args:
        file: a YAML file with the options of :class:`LearningCurveOptions`.
        data: the folder to which file names in it are relative.
        changes: options that replace those of the file.

    Raises:
        InputError: an option, a file or a size is wrong.
    """
    options = read_options(LearningCurveOptions, load_yaml(file) | changes, "study", str(file))
    options = options if options.title else replace(options, title=file.stem)
    return LearningCurve(options, Subsets.of(options, data), file.name if file.is_absolute() else file.as_posix())


@dataclass(frozen=True, kw_only=True)
class Subsets:
    """The frames of the pool for validation and for training, and the test set."""

    pool: tuple[str, ...]
    test: tuple[str, ...]
    validation: tuple[int, ...]
    candidates: tuple[int, ...]  # frames for training
    fingerprint: str  # of the content of all files
    n_test: int
    n_copies: int  # number of frames of the pool that are left out because they are copies

    @classmethod
    def of(cls, options: LearningCurveOptions, folder: Path) -> "Subsets":
        """Read the pool and the test set, and leave out frames that are copies of others or of test structures."""
        reading = configured({}, {k: v for k, v in options.common.items() if k.startswith("data.")}).data
        pool, test = (tuple(str(folder / f) for f in files) for files in (options.pool, options.test))
        structures, test_structures = read(pool, reading), read(test, reading)
        usable, n_copies = without_copies(structures, test_structures)
        largest = options.sizes[-1]
        if len(usable) < options.validation + largest:
            raise InputError(
                f"the pool has {len(usable)} different structures, too few for {options.validation} to validate and "
                f"study.sizes up to {largest}: name more files, or smaller sizes"
            )
        shuffled = np.random.default_rng(0).permutation(usable).tolist()
        return cls(
            pool=pool,
            test=test,
            validation=tuple(sorted(shuffled[: options.validation])),
            candidates=tuple(sorted(shuffled[options.validation :])),
            fingerprint=fingerprint([*structures, *test_structures], labels=True),
            n_test=len(test_structures),
            n_copies=n_copies,
        )

    def training(self, size: int, seed: int) -> list[int]:
        """Return the first ``size`` frames in the order of a seed, so that the subsets of one seed are nested."""
        order = np.random.default_rng([1, seed]).permutation(self.candidates)
        return sorted(order[:size].tolist())


class LearningCurve:
    """The runs of a learning curve; the best learning rates are found first, by the validation loss."""

    id_columns = ID_COLUMNS

    def __init__(self, options: LearningCurveOptions, subsets: Subsets, name: str = "STUDY.yaml"):
        self.options, self.subsets, self.name = options, subsets, name
        self._made: dict[tuple, Run] = {}
        hashes: dict[str, str] = {}
        for model in options.models:
            run = self.run(model, options.sizes[0], options.seeds[0], options.learning_rates[0])
            try:
                twin = hashes.setdefault(run.hash, model)
            except InputError as error:
                raise InputError(f"study.models, {model}: {error}") from None
            if twin != model:
                raise InputError(f"study.models has the same model under two names, {twin} and {model}: remove one")

    def only(self, models: Sequence[str]) -> "LearningCurve":
        """Return the same study with only some of its models.

        Raises:
            InputError: there is no such model.
        """
        if unknown := [name for name in models if name not in self.options.models]:
            raise InputError(f"the study has no model {unknown[0]!r}: choose from {', '.join(self.options.models)}")
        chosen = {name: options for name, options in self.options.models.items() if name in models}
        return LearningCurve(replace(self.options, models=chosen, compare=[]), self.subsets, self.name)

    def summary(self) -> str:
        """Describe the data and the runs, for the terminal."""
        o, s = self.options, self.subsets
        copies = f", without {s.n_copies} copies of others" if s.n_copies else ""
        return (
            f"{one_line(o.title)}: a pool of {len(s.candidates)} structures{copies}, {len(s.validation)} to validate, "
            f"{s.n_test} to test\n{len(o.models)} models x sizes {', '.join(map(str, o.sizes))} x seeds "
            f"{', '.join(map(str, o.seeds))}, learning rates {', '.join(map(str, o.learning_rates))}: "
            f"{self.count()} runs"
        )

    def run(self, model: str, size: int, seed: int, rate: float, budget: int = 1) -> Run:
        """Return one run; ``budget`` is a multiple of the usual budget."""
        key = (model, size, seed, rate, budget)
        if key not in self._made:
            self._made[key] = self._make(*key)
        return self._made[key]

    def _make(self, model: str, size: int, seed: int, rate: float, budget: int) -> Run:
        limit, subsets = self.options.budget(size, budget), self.subsets
        given = self.options.common | self.options.models[model]
        own = {"optimizer.learning_rate": rate, "training.seed": seed} | limit
        if taken := [name for name in given if name in own or name.startswith("split.")]:
            raise InputError(f"study.models, {model}: the study itself sets {taken[0]}: leave it out")
        if "training.max_steps" in limit:
            own["training.validate_every"] = max(1, limit["training.max_steps"] // VALIDATIONS)
        options = own | given
        return Run(
            id_values=dict(zip(ID_COLUMNS, (model, size, seed, rate, budget), strict=True)),
            options=options,
            train=subsets.pool,
            test=subsets.test,
            fingerprint=subsets.fingerprint,
            indices={"train": subsets.training(size, seed), "validation": subsets.validation},
        )

    def runs(self, rows: Sequence[Row]) -> list[Run]:
        """See :class:`equiforce.studies.work.Study`; most runs need the learning rate of their model first."""
        o, known = self.options, {row["hash"]: row for row in rows}
        scan = [
            self.run(model, size, o.seeds[0], rate)
            for size in self._scanned() if len(o.learning_rates) > 1
            for model in o.models
            for rate in o.learning_rates
        ]  # fmt: skip
        grid = [(model, size, seed, 1) for seed in o.seeds for size in o.sizes for model in o.models]
        grid += [(model, o.sizes[-1], o.seeds[0], 2) for model in o.models if o.doubled]
        found = [
            self.run(model, size, seed, rate, budget)
            for model, size, seed, budget in grid
            if (rate := self.rate(model, size, known)) is not None
        ]
        return list({run.hash: run for run in [*scan, *found]}.values())

    def count(self) -> int:
        o = self.options
        scanned = len(self._scanned()) if len(o.learning_rates) > 1 else 0
        of_model = scanned * (len(o.learning_rates) - 1) + len(o.sizes) * len(o.seeds) + int(o.doubled)
        return of_model * len(o.models)

    def _scanned(self) -> list[int]:
        return self.options.scan_sizes or self.options.sizes

    def rate(self, model: str, size: int, known: Mapping[str, Row]) -> float | None:
        """Return the learning rate with the lowest validation loss at the nearest size where rates are tried.

        Returns:
            The rate, or None if some runs of this comparison are missing.

        Raises:
            InputError: the model diverged with all rates.
        """
        o = self.options
        if len(o.learning_rates) == 1:
            return o.learning_rates[0]
        nearest = min(self._scanned(), key=lambda other: (abs(np.log(other / size)), other))
        tried = {rate: known.get(self.run(model, nearest, o.seeds[0], rate).hash) for rate in o.learning_rates}
        if any(row is None for row in tried.values()):
            return None
        losses = {rate: row["validation_loss"] for rate, row in tried.items() if row and row["state"] == DONE}
        if not losses:
            raise InputError(f"{model} diverged with all study.learning_rates={o.learning_rates}: try lower ones")
        return min(losses, key=losses.__getitem__)

    def curve(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows of finished runs with the usual budget: at most one for each model, size and seed."""
        known = {row["hash"]: row for row in rows}
        cells = (
            (m, size, seed) for m in self.options.models for size in self.options.sizes for seed in self.options.seeds
        )
        hashes = [
            self.run(model, size, seed, rate).hash
            for model, size, seed in cells
            if (rate := self.rate(model, size, known)) is not None
        ]
        return [known[h] for h in hashes if h in known and known[h]["state"] == DONE]
