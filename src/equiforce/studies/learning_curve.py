"""Errors against the number of training structures: models, sizes and seeds, on nested subsets of one pool."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from equiforce.config import configured, load_yaml, read_options
from equiforce.data.dataset import drawable, fingerprint
from equiforce.data.read import read
from equiforce.errors import InputError
from equiforce.options import option
from equiforce.studies.runs import DONE, Row, Run

LABELS = ("model", "size", "seed", "learning_rate", "budget")
VALIDATIONS = 40  # in a run, unless training.validate_every says otherwise


@dataclass(frozen=True, kw_only=True)
class LearningCurveOptions:
    """What a learning curve is drawn of; a YAML file holds these."""

    title: str = option("", "of plots and page; the file's name where it is empty")
    pool: list[str] = option(reason="files that training structures are drawn from, in the data folder", factory=list)
    test: list[str] = option(reason="files of the one test set", factory=list)
    validation: int = option(
        50, "structures of the pool that choose weights and learning rates; the same for all", ge=1
    )
    sizes: list[int] = option(reason="numbers of training structures, each subset within the next", factory=list)
    seeds: list[int] = option(
        reason="of weights, order and subset; three at least for an interval", factory=lambda: [0, 1, 2]
    )
    models: dict[str, dict[str, Any]] = option(
        reason="name: {section.option: value, ...}, one curve each", factory=dict
    )
    common: dict[str, Any] = option(reason="section.option: value of all models", factory=dict)
    steps: int | list[int] | None = option(None, "gradient steps of a run: one number, or one for each size")
    epochs: int | list[int] | None = option(None, "passes over the subset instead of steps; one number or several")
    learning_rates: list[float] = option(
        reason="tried with the first seed; the one of the lowest validation loss is taken", factory=lambda: [0.02]
    )
    scan_sizes: list[int] = option(
        reason="sizes at which they are tried; others take the nearest; all if empty", factory=list
    )
    doubled: bool = option(True, "a run of twice the budget at the largest size, to see what more training would bring")
    compare: list[tuple[str, str]] = option(
        reason="pairs of models whose exponents are compared; neighbours in the list of models if empty", factory=list
    )

    def __post_init__(self) -> None:
        for name in ("pool", "test", "sizes", "seeds", "models", "learning_rates"):
            if not getattr(self, name):
                raise ValueError(f"study.{name} is empty: give at least one")
        self._check_budget()
        if sorted(set(self.sizes)) != self.sizes or min(self.sizes) < 1:
            raise ValueError(f"study.sizes={self.sizes}: list them from the smallest to the largest, each once")
        for name in ("seeds", "learning_rates"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"study.{name}={getattr(self, name)} lists one of them twice")
        if wrong := [size for size in self.scan_sizes if size not in self.sizes]:
            raise ValueError(f"study.scan_sizes has {wrong[0]}, which is not in study.sizes={self.sizes}")
        if self.scan_sizes and len(self.learning_rates) == 1:
            raise ValueError(
                "study.scan_sizes changes nothing with one learning rate: leave it out, or list more rates"
            )
        if wrong := [name for pair in self.compare for name in pair if name not in self.models]:
            raise ValueError(f"study.compare has {wrong[0]!r}, which is none of study.models: {', '.join(self.models)}")

    def _check_budget(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("study.steps and study.epochs: give the budget of a run by one of them")
        name, budget = ("steps", self.steps) if self.epochs is None else ("epochs", self.epochs)
        budgets = budget if isinstance(budget, list) else [budget] * len(self.sizes)
        if len(budgets) != len(self.sizes) or min(budgets) < 1:
            raise ValueError(
                f"study.{name}={budget} will not do for {len(self.sizes)} sizes: give a number of at least 1 for each, "
                "or a single one"
            )

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs of models to compare."""
        names = list(self.models)
        return self.compare or list(pairwise(names))

    def budget(self, size: int, times: int = 1) -> dict[str, int]:
        """The limit of a run as an option of training."""
        name, budget = ("max_steps", self.steps) if self.epochs is None else ("max_epochs", self.epochs)
        return {f"training.{name}": times * (budget[self.sizes.index(size)] if isinstance(budget, list) else budget)}


def load_learning_curve(file: Path, data: Path, **changes: Any) -> "LearningCurve":
    """The learning curve of a YAML file, its data read and shared out.

    Args:
        file: with the options of :class:`LearningCurveOptions`.
        data: the folder that file names in it start from.
        changes: options in place of the file's.

    Raises:
        InputError: a wrong option, file or size, in a sentence.
    """
    options = read_options(LearningCurveOptions, load_yaml(file) | changes, "study", str(file))
    options = options if options.title else replace(options, title=file.stem)
    return LearningCurve(options, Subsets.of(options, data), file.name if file.is_absolute() else file.as_posix())


@dataclass(frozen=True, kw_only=True)
class Subsets:
    """Which frames of the pool validate, and which may train."""

    pool: tuple[str, ...]
    test: tuple[str, ...]
    validation: tuple[int, ...]
    candidates: tuple[int, ...]
    data: str  # fingerprint
    n_test: int
    n_copies: int  # frames of the pool that are left out as copies

    @classmethod
    def of(cls, options: LearningCurveOptions, folder: Path) -> "Subsets":
        """Reads pool and test set; copies of one another and of test structures are not trained on."""
        reading = configured({}, {k: v for k, v in options.common.items() if k.startswith("data.")}).data
        pool, test = (tuple(str(folder / f) for f in files) for files in (options.pool, options.test))
        structures, test_structures = read(pool, reading), read(test, reading)
        usable, n_copies = drawable(structures, test_structures)
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
            data=fingerprint([*structures, *test_structures], labels=True),
            n_test=len(test_structures),
            n_copies=n_copies,
        )

    def training(self, size: int, seed: int) -> list[int]:
        """The subset of a seed: its first ``size`` frames, so that subsets of one seed are nested."""
        order = np.random.default_rng([1, seed]).permutation(self.candidates)
        return sorted(order[:size].tolist())


class LearningCurve:
    """The runs of a learning curve. Learning rates are tried first, and taken by the validation loss."""

    labels = LABELS

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
                raise InputError(f"study.models has one model under two names, {twin} and {model}: leave one out")

    def only(self, models: Sequence[str]) -> "LearningCurve":
        """The same study with some of its models.

        Raises:
            InputError: there is no such model.
        """
        if unknown := [name for name in models if name not in self.options.models]:
            raise InputError(f"the study has no model {unknown[0]!r}: choose from {', '.join(self.options.models)}")
        chosen = {name: options for name, options in self.options.models.items() if name in models}
        return LearningCurve(replace(self.options, models=chosen, compare=[]), self.subsets, self.name)

    def words(self) -> str:
        """What the study is made of."""
        o, s = self.options, self.subsets
        copies = f", without {s.n_copies} copies of others" if s.n_copies else ""
        return (
            f"{o.title}: a pool of {len(s.candidates)} structures{copies}, {len(s.validation)} to validate, {s.n_test} "
            f"to test\n{len(o.models)} models x sizes {', '.join(map(str, o.sizes))} x seeds "
            f"{', '.join(map(str, o.seeds))}, learning rates {', '.join(map(str, o.learning_rates))}: "
            f"{self.count()} runs"
        )

    def run(self, model: str, size: int, seed: int, rate: float, budget: int = 1) -> Run:
        """One run; ``budget`` is a multiple of the usual one."""
        key = (model, size, seed, rate, budget)
        if key not in self._made:
            self._made[key] = self._make(*key)
        return self._made[key]

    def _make(self, model: str, size: int, seed: int, rate: float, budget: int) -> Run:
        limit, subsets = self.options.budget(size, budget), self.subsets
        given = self.options.common | self.options.models[model]
        own = {"optimizer.learning_rate": rate, "training.seed": seed} | limit
        if taken := [name for name in given if name in own or name.startswith("split.")]:
            raise InputError(f"study.models, {model}: {taken[0]} is what the study itself sets: leave it out")
        if "training.max_steps" in limit:
            own["training.validate_every"] = max(1, limit["training.max_steps"] // VALIDATIONS)
        options = own | given
        return Run(
            labels=dict(zip(LABELS, (model, size, seed, rate, budget), strict=True)),
            options=options,
            train=subsets.pool,
            test=subsets.test,
            data=subsets.data,
            indices={"train": subsets.training(size, seed), "validation": subsets.validation},
        )

    def runs(self, rows: Sequence[Row]) -> list[Run]:
        """See :class:`equiforce.studies.work.Study`; a curve's runs wait for their model's learning rate."""
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
        """The learning rate of a cell: that of the lowest validation loss at the nearest size where rates were tried.

        None while some are not tried yet.
        """
        o = self.options
        if len(o.learning_rates) == 1:
            return o.learning_rates[0]
        nearest = min(self._scanned(), key=lambda other: (abs(np.log(other / size)), other))
        tried = {rate: known.get(self.run(model, nearest, o.seeds[0], rate).hash) for rate in o.learning_rates}
        if any(row is None for row in tried.values()):
            return None
        sound = {rate: row["validation_loss"] for rate, row in tried.items() if row["state"] == DONE}
        if not sound:
            raise InputError(
                f"{model} diverged with every one of study.learning_rates={o.learning_rates}: try lower ones"
            )
        return min(sound, key=sound.__getitem__)

    def curve(self, rows: Sequence[Row]) -> list[Row]:
        """The rows that curves are made of: one for each model, size and seed, of the usual budget."""
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
