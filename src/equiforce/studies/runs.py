"""One training of a study: what it is made of, what tells it from every other, and what is measured of it."""

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
from equiforce.config import configured, to_dict
from equiforce.data.read import read
from equiforce.errors import DivergedError, InputError
from equiforce.evaluate import Errors, Metric, errors, predict
from equiforce.machine import cpu_model
from equiforce.options import switched_off
from equiforce.workflow import Trained, train

# what changes nothing but where and how a run is computed and watched
BESIDE = {
    "split": ("train_file", "validation_file", "test_file", "split_file"),
    "training": ("device", "n_nodes", "tensorboard", "wandb"),
}
# columns of the table after those that a study calls its runs by; errors are MAE or RMSE
MEASURED = (
    "state",
    "n_weights",
    "n_train",
    "steps",
    "best_step",
    "validation_loss",
    "validation_energy_mae_meV_per_atom",
    "validation_forces_mae_meV_per_A",
    "test_energy_mae_meV",
    "test_energy_rmse_meV",
    "test_energy_mae_meV_per_atom",
    "test_energy_rmse_meV_per_atom",
    "test_forces_mae_meV_per_A",
    "test_forces_rmse_meV_per_A",
    "test_stress_mae_meV_per_A3",
    "test_stress_rmse_meV_per_A3",
    "seconds",
    "threads",
    "machine",
    "date",
    "equiforce",
    "torch",
    "hash",
    "config",
)
DONE, DIVERGED = "done", "diverged"
Row = dict[str, Any]


class Interrupted(Exception):  # noqa: N818 (it is no error)
    """A signal stopped a run, which is saved and can go on."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training and its test."""

    labels: Mapping[str, str | int | float]  # what the study calls it; columns of its table
    options: Mapping[str, Any]  # over the defaults, as in {"model.l_max": 1}
    train: tuple[str, ...]  # files
    test: tuple[str, ...]
    data: str  # the fingerprint of the content of these files
    indices: Mapping[str, Sequence[int]] | None = None  # of train and validation, in the files that are trained on
    further_tests: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # files by name; counted in `data` too

    @cached_property
    def settings(self) -> dict[str, dict[str, Any]]:
        """Every option that bears on the result, defaults included.

        Raises:
            InputError: as :func:`equiforce.config.configured`.
        """
        config, found = configured({}, self.options), {}
        for section, part in to_dict(config).items():
            left_out = {*BESIDE.get(section, ()), *switched_off(getattr(config, section))}
            found[section] = {name: value for name, value in part.items() if name not in left_out}
        return found

    @cached_property
    def config(self) -> str:
        """The settings as the table has them."""
        return json.dumps(self.settings, sort_keys=True)

    @cached_property
    def hash(self) -> str:
        """The same for two runs that compute the same: options, data and split."""
        content = [self.settings, self.data, self.indices and {k: list(v) for k, v in self.indices.items()}]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in self.labels.items()
        )


def perform(run: Run, folder: Path) -> Row:
    """Trains and tests, or goes on where it was stopped; returns the row of the table.

    Args:
        run: what to train.
        folder: of the run; emptied of all but the model and its log at the end, unless there are further tests.

    Raises:
        Interrupted: a signal stopped it; the folder has what is needed to go on.
        InputError: data or options will not do.
    """
    if folder.exists() and not (folder / "config.yaml").exists():
        shutil.rmtree(folder)  # it was stopped before anything was done
    try:
        if folder.exists():
            trained = train(resume=folder, plots=False)
        else:
            trained = train(run.train, folder, options=_options(run, folder), plots=False)
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
    """The fraction of a run's steps or epochs that its log has by now; 0 where there is none yet."""
    try:
        with (folder / "log.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (FileNotFoundError, NotADirectoryError):
        return 0.0
    if not rows:
        return 0.0
    limits = run.settings["training"]
    unit, most = ("step", limits["max_steps"]) if limits["max_steps"] else ("epoch", limits["max_epochs"])
    return min(1.0, int(rows[-1][unit] or 0) / most) if most else 0.0


def perform_further(run: Run, folder: Path, row: Row) -> list[Row]:
    """Tests a trained run on its further sets; the rows have ``test`` and ``n_test`` of their own.

    Args:
        run: what :func:`perform` has trained.
        folder: of the run; what is needed to go on stays until the end.
        row: that of the first test set.
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
    for leftover in ("last.pt", "best.pt", "split.json"):
        (folder / leftover).unlink(missing_ok=True)


def _options(run: Run, folder: Path) -> dict[str, Any]:
    options = dict(run.options) | {"split.test_file": list(run.test)}
    if run.indices is not None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        indices = folder.with_suffix(".split.json")
        indices.write_text(json.dumps({name: list(part) for name, part in run.indices.items()}))
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
    return dict(run.labels) | {name: (measured | about).get(name, "") for name in MEASURED}


def _measured(trained: Trained) -> Row:
    with (trained.folder / "log.csv").open(encoding="utf-8", newline="") as file:
        log = [row for row in csv.DictReader(file) if row["validation_loss"]]
    if not log or trained.test is None:
        raise InputError("a study needs structures to validate and to test with: give some")
    best = min(log, key=lambda row: float(row["validation_loss"]))
    return {
        "n_weights": trained.n_weights,
        "n_train": trained.n_train,
        "steps": int(log[-1]["step"]),
        "best_step": int(best["step"]),
        "validation_loss": float(best["validation_loss"]),
        "validation_energy_mae_meV_per_atom": best["energy_mae_meV_per_atom"],
        "validation_forces_mae_meV_per_A": best["forces_mae_meV_per_A"],
        "seconds": float(log[-1]["seconds"]),
    } | _tested(trained.test)


def _tested(result: Errors) -> Row:
    row, total = {}, result.total
    for name, unit, metric in (
        ("energy", "meV", total.energy),
        ("energy", "meV_per_atom", total.energy_per_atom),
        ("forces", "meV_per_A", total.forces),
        ("stress", "meV_per_A3", total.stress),
    ):
        row |= _errors(name, unit, metric)
    return row


def _errors(name: str, unit: str, metric: Metric | None) -> Row:
    if metric is None:
        return {}
    return {f"test_{name}_mae_{unit}": round(metric.mae, 5), f"test_{name}_rmse_{unit}": round(metric.rmse, 5)}
