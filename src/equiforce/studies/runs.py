"""One run of a study: a training with its options and data, its hash, and the row of results that it gives."""

import csv
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from equiforce import model_file
from equiforce.config import SECTIONS, configured, to_dict
from equiforce.data.read import read
from equiforce.errors import DivergedError, InputError
from equiforce.evaluate import Errors, errors, predict
from equiforce.machine import cpu_model
from equiforce.options import switched_off
from equiforce.quantities import QUANTITIES, Measure, Quantity
from equiforce.workflow import Trained, train

# options that do not change the result: files (which the fingerprint of the data covers), machines and logs
NOT_HASHED = {
    "data": ("check",),
    "split": ("train_file", "validation_file", "test_file", "split_file"),
    "training": ("device", "n_nodes", "tensorboard", "wandb"),
}
ABOUT_TRAINING = ("state", "n_weights", "n_train", "steps", "best_step", "validation_loss")
# options that were renamed: tables have the first name, because hashes of runs were computed from it
NAME_IN_TABLES = {"atomic_energies_trainable": "shift_trainable"}
# options of newer versions, whose defaults change nothing: a run with the defaults has the hash that it had before
ADDED = {
    "data": ("format", "unconverged", "stress_order", "stress_without_volume", "keep_zeros", "ignore"),
}
ABOUT_MACHINE = ("seconds", "threads", "machine", "date", "equiforce", "torch", "hash", "config")
DONE, DIVERGED = "done", "diverged"
CHECKPOINTS = ("last.pt", "best.pt")
Row = dict[str, Any]


def measured_columns() -> tuple[str, ...]:
    """The columns of the table after those that identify a run."""
    return (*ABOUT_TRAINING, *error_columns(), *ABOUT_MACHINE)


def error_columns(quantities: Sequence[Quantity] = QUANTITIES) -> tuple[str, ...]:
    """The columns of the table that hold an MAE or RMSE of one of the quantities."""
    validated = [validation_column(quantity) for quantity in quantities if quantity.headline]
    tested = [
        column_of_test(quantity, metric, measure)
        for quantity, measure in _tabulated(quantities)
        for metric in ("mae", "rmse")
    ]
    return (*validated, *tested)


def validation_column(quantity: Quantity) -> str:
    """The column of the MAE over the validation set."""
    return f"validation_{quantity.column('mae')}"


def column_of_test(quantity: Quantity, metric: str, measure: Measure | None = None) -> str:
    """The column of an error over the test set.

    Args:
        quantity: such as the forces.
        metric: ``mae`` or ``rmse``.
        measure: gives the unit; None takes the unit of the training log.
    """
    return f"test_{quantity.column(metric, measure)}"


def _tabulated(quantities: Sequence[Quantity] = QUANTITIES) -> list[tuple[Quantity, Measure]]:
    return [(quantity, measure) for quantity in quantities for measure in quantity.measures if measure.column]


class Interrupted(Exception):  # noqa: N818 (it is not an error)
    """A signal stopped a run; the run is saved and can be continued."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training and its test."""

    id_values: Mapping[str, str | int | float]  # the first columns of the table, which identify the run for a reader
    options: Mapping[str, Any]  # those that differ from the defaults, as in {"model.l_max": 1}
    train: tuple[str, ...]  # files
    test: tuple[str, ...]  # files
    fingerprint: str  # of the content of all files
    indices: Mapping[str, Sequence[int]] | None = None  # of training and validation structures in the files `train`
    further_tests: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # files by name of the test set

    @cached_property
    def settings(self) -> dict[str, dict[str, Any]]:
        """All options that can change the result, with their defaults.

        Raises:
            InputError: as in :func:`equiforce.config.configured`.
        """
        config, found = configured({}, self.options), {}
        defaults = {name: cls() for name, cls in SECTIONS.items()}
        for name, section in to_dict(config).items():
            left_out = {*NOT_HASHED.get(name, ()), *switched_off(getattr(config, name))}
            left_out |= {option for option in ADDED.get(name, ()) if section[option] == getattr(defaults[name], option)}
            kept = {option: value for option, value in section.items() if option not in left_out}
            found[name] = {NAME_IN_TABLES.get(option, option): value for option, value in kept.items()}
        return found

    @cached_property
    def config(self) -> str:
        """The settings as JSON, as in the table."""
        return json.dumps(self.settings, sort_keys=True)

    @cached_property
    def hash(self) -> str:
        """A hash of settings, data and split, which is the same for two runs with the same result."""
        content = [self.settings, self.fingerprint, self.indices and {k: list(v) for k, v in self.indices.items()}]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in self.id_values.items()
        )


def perform(run: Run, folder: Path) -> Row:
    """Train and test a run, or continue one that was stopped.

    Args:
        run: the run.
        folder: the folder of the run; checkpoints are deleted at the end, unless there are further tests.

    Returns:
        The row of the table of results.

    Raises:
        Interrupted: a signal stopped the run; the folder holds the checkpoint from which it continues.
        InputError: the data or the options are wrong.
    """
    if folder.exists() and not any((folder / name).exists() for name in CHECKPOINTS):
        shutil.rmtree(folder)  # the run was stopped before its first checkpoint, or before its row was written
    try:
        if folder.exists():
            trained = train(resume=folder, plots=False, quiet=True)
        else:
            trained = train(run.train, folder, options=_options(run, folder), plots=False, quiet=True)
    except DivergedError:
        shutil.rmtree(folder, ignore_errors=True)
        return _row(run, {"state": DIVERGED})
    if trained.outcome.interrupted:
        raise Interrupted
    row = _row(run, {"state": DONE} | _measured(trained))
    if not run.further_tests:
        _clean(folder)
    return row


def progress(run: Run, folder: Path) -> float:
    """Return the fraction of a run's steps or epochs that its log has reached; 0 if there is no log yet."""
    try:
        with (folder / "log.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (FileNotFoundError, NotADirectoryError):
        return 0.0
    if not rows:
        return 0.0
    training = run.settings["training"]
    unit, limit = ("step", training["max_steps"]) if training["max_steps"] else ("epoch", training["max_epochs"])
    return min(1.0, int(rows[-1][unit] or 0) / limit) if limit else 0.0


def perform_further(run: Run, folder: Path, row: Row) -> list[Row]:
    """Test a trained run on its further test sets.

    Args:
        run: a run that :func:`perform` has trained.
        folder: the folder of the run; its checkpoints are deleted at the end.
        row: the row of the first test set.

    Returns:
        A row for each further test set, with its own ``test`` and ``n_test``.
    """
    if not run.further_tests or row["state"] != DONE:
        return []
    potential = model_file.load(folder / "model.eqf", "cuda" if torch.cuda.is_available() else "cpu")
    reading, rows = configured({}, run.options).data, []
    for name, files in run.further_tests.items():
        structures = read(files, reading)
        result = errors(structures, predict(potential, structures))
        empty = {column: "" for column in row if column.startswith("test_")}
        rows.append(row | empty | _tested(result) | {"test": name, "n_test": result.n_structures})
    _clean(folder)
    return rows


def _clean(folder: Path) -> None:
    for leftover in (*CHECKPOINTS, "split.json"):
        (folder / leftover).unlink(missing_ok=True)


def _options(run: Run, folder: Path) -> dict[str, Any]:
    options = dict(run.options) | {"split.test_file": list(run.test)}
    if run.indices is not None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        indices = folder.with_suffix(".split.json")
        indices.write_text(json.dumps({name: list(part) for name, part in run.indices.items()}), encoding="utf-8")
        options["split.split_file"] = str(indices)
    return options


def _row(run: Run, measured: Row) -> Row:
    about = {
        "threads": torch.get_num_threads(),
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else cpu_model(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "equiforce": version("equiforce"),
        "torch": torch.__version__,
        "hash": run.hash,
        "config": run.config,
    }
    return dict(run.id_values) | {name: (measured | about).get(name, "") for name in measured_columns()}


def _measured(trained: Trained) -> Row:
    with (trained.folder / "log.csv").open(encoding="utf-8", newline="") as file:
        log = [row for row in csv.DictReader(file) if row["validation_loss"]]
    if not log or trained.test is None:
        raise InputError("the run has no validation or no test structures: give the study both")
    best = min(log, key=lambda row: float(row["validation_loss"]))
    return {
        "n_weights": trained.n_weights,
        "n_train": trained.n_train,
        "steps": int(log[-1]["step"]),
        "best_step": int(best["step"]),
        "validation_loss": float(best["validation_loss"]),
        **{validation_column(quantity): best[quantity.column("mae")] for quantity in QUANTITIES if quantity.headline},
        "seconds": float(log[-1]["seconds"]),
    } | _tested(trained.test)


def _tested(result: Errors) -> Row:
    found = [(quantity, measure, result.total.get(measure.key)) for quantity, measure in _tabulated()]
    return {
        column_of_test(quantity, name, measure): round(value, 5)
        for quantity, measure, metric in found
        if metric is not None
        for name, value in (("mae", metric.mae), ("rmse", metric.rmse))
    }
