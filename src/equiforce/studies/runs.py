"""One run of a study: a training with its options and data, its hash, and the row of results that it gives."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
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
from equiforce.evaluate import Errors, errors, predict
from equiforce.machine import cpu_model
from equiforce.options import switched_off
from equiforce.preparation import SPLIT
from equiforce.quantities import QUANTITIES, Measure, Quantity
from equiforce.resume import SETTLED
from equiforce.run_folder import CHECKPOINTS, MODEL, OPTIONS, options_text
from equiforce.storage.whole import write_text
from equiforce.training.checkpoint import DamagedError, read_checkpoint
from equiforce.training.trackers import LOG, rows_of
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
    "model": (
        "shared_self_connection",
        "layer_norm",
        "reflections",
        "xplor_on",
        "scalar_constants",
        "species_linear_in",
        "envelope_multiplies",
    ),
    "potential": ("zbl_envelope_p", "zbl_pair_cutoffs"),
    "start": ("model", "replay", "replay_share", "freeze", "from_scratch"),
}
ADDED_TO_KIND = {"nequip": ("pair_cutoffs",)}
ADDED_SECTIONS = {"start"}  # left out as a whole if all of their options have their defaults
ABOUT_MACHINE = ("seconds", "threads", "machine", "date", "equiforce", "torch", "hash", "config")
DONE, DIVERGED = "done", "diverged"
DELETE = "delete its folder, and the same command trains the run again"
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
        for name, section in to_dict(config).items():
            options = getattr(config, name)
            left_out = {*NOT_HASHED.get(name, ()), *switched_off(options)}
            defaults = type(options)() if name in ADDED else None
            later = (*ADDED.get(name, ()), *ADDED_TO_KIND.get(section.get("kind", ""), ()))
            added = {option for option in later if option in section}  # each kind of model has its own
            left_out |= {option for option in added if section[option] == getattr(defaults, option)}
            kept = {option: value for option, value in section.items() if option not in left_out}
            if kept or name not in ADDED_SECTIONS:
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

    @property
    def tests(self) -> tuple[str, ...]:
        """The names of the test sets, if they have names."""
        return (str(self.id_values.get("test", "")), *self.further_tests)

    def differences(self, trained: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Say which options of a training differ from those of the run.

        Args:
            trained: the options as a checkpoint or a model file has them, where the data have settled open ones.
        """
        flat = {
            f"{section}.{name}": value
            for section, options in trained.items()
            for name, value in options.items()
            if name not in NOT_HASHED.get(section, ())
        }
        other, found = Run(id_values={}, options=flat, train=(), test=(), fingerprint="").settings, []
        own = self.settings
        for section in dict.fromkeys([*own, *other]):
            here, there = own.get(section, {}), other.get(section, {})
            for name in dict.fromkeys([*here, *there]):
                wanted, value = here.get(name), there.get(name)
                if wanted != value and not (wanted is None and name in SETTLED.get(section, ())):
                    found.append(f"{section}.{name} is {value} instead of {wanted}")
        return found

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in self.id_values.items()
        )


def perform(run: Run, folder: Path, say: Callable[[str], object] = print) -> Row:
    """Train and test a run, or continue one that was stopped.

    Args:
        run: the run.
        folder: the folder of the run; :func:`tidy` deletes what nobody needs when the row is in the table.
        say: is told if the run cannot continue and is trained anew.

    Returns:
        The row of the table of results.

    Raises:
        Interrupted: a signal stopped the run; the folder holds the checkpoint from which it continues.
        InputError: the data or the options are wrong, or a file cannot be written.
    """
    try:
        if _can_continue(run, folder, say):
            trained = train(resume=folder, plots=False, quiet=True, names_resume=False)
        else:
            options = _options(run, folder)
            trained = train(run.train, folder, options=options, plots=False, quiet=True, names_resume=False)
    except DivergedError:
        return _row(run, {"state": DIVERGED})
    if trained.outcome.interrupted or trained.outcome.asked:
        raise Interrupted
    return _row(run, {"state": DONE} | _measured(run, trained))


def tidy(folder: Path, row: Row) -> None:
    """Delete what nobody needs of a run whose row is in the table: its checkpoints, or all if it diverged."""
    if row["state"] == DIVERGED:
        shutil.rmtree(folder, ignore_errors=True)
    for name in (*CHECKPOINTS, SPLIT):
        (folder / name).unlink(missing_ok=True)


def _can_continue(run: Run, folder: Path, say: Callable[[str], object]) -> bool:
    """Whether a folder holds a checkpoint of this run. If not, the folder is removed.

    The options and the split are written again, so that files beside the checkpoint cannot change them.
    """
    for checkpoint in (folder / name for name in CHECKPOINTS if (folder / name).exists()):
        try:
            state = read_checkpoint(checkpoint)  # an error if it cannot be read now, which must not delete it
        except DamagedError:
            state, reason = {}, "it is damaged"
        else:
            reason = _why_not(run, folder, state)
        if not reason:
            files = _options(run, folder) | {"split.train_file": list(run.train)}
            origin = configured(state["origin"]["options"], files)
            write_text(folder / OPTIONS, options_text(origin))
            (folder / SPLIT).unlink(missing_ok=True)
            return True
        say(f"{run}: does not continue from {checkpoint} because {reason}")
        checkpoint.unlink()
    if folder.exists():  # the run was stopped before its first checkpoint, or none of them can be used
        shutil.rmtree(folder)
    return False


def _why_not(run: Run, folder: Path, state: Mapping[str, Any]) -> str:
    """Why a run cannot continue from a checkpoint; empty if it can."""
    if not state.get("origin"):
        return "an older version wrote it, which did not keep the options"
    try:
        differences = run.differences(state["origin"]["options"])
    except InputError as error:
        return f"its options are not those of a run ({error})"
    if differences:
        return f"it is of another run: {'; '.join(differences)}"
    if (n_rows := len(_log(folder))) < state["n_rows"]:
        return f"{folder / LOG} has {n_rows} of its {state['n_rows']} validations"
    return ""


def _log(folder: Path) -> list[dict[str, str]]:
    """The validations of a run up to the first that is damaged."""
    found = []
    with suppress(OSError, InputError):
        for row in rows_of(folder / LOG):
            found.append(row)  # noqa: PERF402 (those before the damaged one count)
    return found


def progress(run: Run, folder: Path) -> float:
    """Return the fraction of a run's steps or epochs that its log has reached; 0 if there is no log yet."""
    rows, training = _log(folder), run.settings["training"]
    unit, limit = ("step", training["max_steps"]) if training["max_steps"] else ("epoch", training["max_epochs"])
    return min(1.0, float(rows[-1].get(unit) or 0) / limit) if rows and limit else 0.0


def perform_further(run: Run, folder: Path, row: Row) -> list[Row]:
    """Test a trained run on its further test sets.

    Args:
        run: a run that :func:`perform` has trained.
        folder: the folder of the run.
        row: the row of the first test set.

    Returns:
        A row for each further test set, with its own ``test`` and ``n_test``.
    """
    if not run.further_tests or row["state"] != DONE:
        return []
    potential = model_file.load(folder / MODEL, "cuda" if torch.cuda.is_available() else "cpu")
    reading, rows = configured({}, run.options).data, []
    for name, files in run.further_tests.items():
        structures = read(files, reading)
        result = errors(structures, predict(potential, structures))
        empty = {column: "" for column in row if column.startswith("test_")}
        rows.append(row | empty | _tested(result) | {"test": name, "n_test": result.n_structures})
    return rows


def _options(run: Run, folder: Path) -> dict[str, Any]:
    options = dict(run.options) | {"split.test_file": list(run.test)}
    if run.indices is not None:
        indices = folder.with_suffix(".split.json")
        write_text(indices, json.dumps({name: list(part) for name, part in run.indices.items()}))
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


def _measured(run: Run, trained: Trained) -> Row:
    """What was measured, from the model file and the line of the log to which its weights belong."""
    assert trained.model is not None
    about, log = model_file.read_header(trained.model)["about"], _log(trained.folder)
    if trained.test is None or not any(row["validation_loss"] for row in log):
        raise InputError("the run has no validation or no test structures: give the study both")
    ended, best_step = about["training"]["steps"], about["training"]["best_step"]
    by_step = {round(float(row["step"])): row for row in log}
    if differences := run.differences(about["config"]):
        raise InputError(f"{trained.model} is of another run ({'; '.join(differences)}): {DELETE}")
    if not {ended, best_step} <= {*by_step}:
        raise InputError(f"{trained.folder / LOG} lacks validations of this run: {DELETE}")
    best = by_step[best_step]
    return {
        "n_weights": trained.n_weights,
        "n_train": trained.n_train,
        "steps": ended,
        "best_step": best_step,
        "validation_loss": float(best["validation_loss"]),
        **{validation_column(quantity): best[quantity.column("mae")] for quantity in QUANTITIES if quantity.headline},
        "seconds": float(by_step[ended]["seconds"]),
    } | _tested(trained.test)


def _tested(result: Errors) -> Row:
    found = [(quantity, measure, result.total.get(measure.key)) for quantity, measure in _tabulated()]
    return {
        column_of_test(quantity, name, measure): round(value, 5)
        for quantity, measure, metric in found
        if metric is not None
        for name, value in (("mae", metric.mae), ("rmse", metric.rmse))
    }
