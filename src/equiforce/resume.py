"""What a resumed run may change: its options and its data are compared with those of its checkpoint."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from equiforce.config import RunConfig, configured, read_yaml, to_dict, with_absolute_files, with_absolute_start
from equiforce.data.dataset import PARTS, Split, fingerprint
from equiforce.errors import InputError
from equiforce.finetuning.start import FILE, Start
from equiforce.model_file import path_of
from equiforce.models import REGISTRY
from equiforce.run_folder import OPTIONS, intact_checkpoint, read_own_options
from equiforce.structure import Structure
from equiforce.training.state import TrainingState
from equiforce.training.stopping import StoppingCriteria

# The options that a resumed run may change. The others decide what the weights mean, or how the run began.
LENGTH = {"training": {"time", "max_epochs", "max_steps", "early_stopping"}}
RATE = {
    "optimizer": {
        "learning_rate",
        "schedule",
        "warmup_steps",
        "final_fraction",
        "plateau_patience",
        "plateau_factor",
        "plateau_stop",
        "clip_gradient",
    }
}
LOSS = {"loss": {"energy", "forces", "stress", "kind", "huber_delta"}}  # the best loss so far is forgotten
OTHERWISE_FREE = {
    "training": {
        "batch_size",
        "max_edges",
        "validate_every",
        "deterministic",
        "tf32",
        "bf16",
        "device",
        "n_nodes",
        "tensorboard",
        "wandb",
    },
    # files may move, but their structures and labels must be the same
    "split": {"train_file", "validation_file", "test_file"},
    "data": {"check"},
    "start": {"replay"},
}
# The options that the data settle if the user leaves them open.
SETTLED = {"model": {"mean_neighbors"}, "loss": {"energy", "forces", "stress"}, "training": {"batch_size"}}
NEW_PLACE = {"train": "", "validation": "--validation ", "test": "--test "}
NAMES = {
    "train": "training structures",
    "validation": "validation structures",
    "test": "test structures",
    "isolated": "isolated atoms",
}
REPLAY, START = "replay", "start"  # of a run that starts from a model


class Change(NamedTuple):
    """An option of a resumed run with its old and its new value."""

    section: str
    option: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.section}.{self.option} was {_plain(self.before)} and is now {_plain(self.now)}"

    def is_in(self, *tables: Mapping[str, set[str]]) -> bool:
        return any(self.option in table.get(self.section, ()) for table in tables)


@dataclass(frozen=True, kw_only=True)
class Resumption:
    """A run that continues, and the options that it changes."""

    folder: Path
    settings: RunConfig
    checkpoint: Path | None  # None if the run was stopped before its first one, and therefore starts anew
    changes: tuple[Change, ...] = ()
    origin: Mapping[str, Any] | None = None  # of the checkpoint; None if an older version wrote it
    remarks: tuple[str, ...] = ()  # about the files from which it continues

    def notes(self) -> list[str]:
        """What the user should know about the changes and the checkpoint."""
        notes = [
            f"{change}: the best validation loss so far is forgotten, because it was computed with the old value"
            for change in self.changes
            if change.is_in(LOSS)
        ]
        notes += self.remarks
        if self.checkpoint is not None and self.origin is None:
            notes.append(
                f"{self.checkpoint} was written by an older version, which kept no fingerprint of the labels: whether "
                "they are still the same is not checked"
            )
        return notes

    def restore(self, state: TrainingState, parts: Split, start: Start | None = None) -> None:
        """Load the checkpoint into ``state``, and carry the changes of options through.

        Raises:
            InputError: the data differ from those of the checkpoint, or a changed loss would have no effect.
        """
        assert self.checkpoint is not None
        for name, digest in contents(parts, start).items():
            if self.origin is not None and self.origin["data"].get(name) != digest:
                if name == START:
                    raise _other_start(self.folder)
                what = NAMES.get(name, "replayed structures")
                raise InputError(
                    f"the {what} or their labels differ from those with which {self.folder} was trained, so its "
                    "weights and errors do not belong to them: give back the old data, or start a new run with -o"
                )
        state.restore(self.checkpoint)
        self._refuse_shorter(state)
        if any(change.is_in(LENGTH, RATE, LOSS) for change in self.changes):
            state.ended = StoppingCriteria(self.settings.training).used_up(state)
        for change in (change for change in self.changes if change.is_in(LOSS)):
            if state.ended:
                raise InputError(
                    f"{change}, but {state.ended} in {self.folder}, so the new loss would have no effect: give the run "
                    "more steps or time as well, or start a new run with -o"
                )
            state.forget_best()

    def _refuse_shorter(self, state: TrainingState) -> None:
        """Raise InputError if the user now gives less than what is already done."""
        limits = StoppingCriteria(self.settings.training)
        done: dict[str, tuple[float | None, float, str]] = {
            "max_steps": (limits.steps, state.step, "steps"),
            "max_epochs": (limits.epochs, state.epoch, "epochs"),
            "time": (limits.seconds, state.seconds, "seconds"),
        }
        for change in self.changes:
            limit, amount, unit = done.get(change.option, (None, 0, ""))
            if limit is not None and limit < amount:
                raise InputError(
                    f"{change}, but {amount:,.0f} {unit} are already done in {self.folder}: give more, or leave "
                    f"training.{change.option} out"
                )


def resumption(folder: Path, given: Mapping[str, Any]) -> Resumption:
    """Read the options of a run that continues, and check those that the user gave.

    Args:
        folder: the folder of the run.
        given: the options that the user gave, such as ``{"training.max_steps": 400}``.

    Returns:
        The run with its options.

    Raises:
        InputError: the folder is not that of a run, an option differs that cannot change, or a data file is missing.
    """
    checkpoint = intact_checkpoint(folder)
    values, notes = read_own_options(folder, checkpoint)
    written = configured(values, origin=str(folder / OPTIONS))
    if (kind := given.get("model.kind", written.kind)) != written.kind:
        raise _refusal(folder, [Change("model", "kind", written.kind, kind)])
    settings = configured(values, _without_preset(given, written.kind), str(folder / OPTIONS))
    settings = replace(settings, split=with_absolute_files(settings.split), start=with_absolute_start(settings.start))
    _require_same_start(folder, given.get("start.model"))
    if checkpoint is None:
        _check_files(settings, folder)
        return Resumption(folder=folder, settings=settings, checkpoint=None, remarks=tuple(notes))
    origin = checkpoint.origin
    before = configured(origin["options"], origin=str(checkpoint.path)) if origin else written
    settings = _settled_as(before, settings)
    changes = tuple(_changes(before, settings))
    if refused := [change for change in changes if not change.is_in(LENGTH, RATE, LOSS, OTHERWISE_FREE)]:
        raise _refusal(folder, refused)
    _check_files(settings, folder)
    by_hand = [c for c in changes if f"{c.section}.{c.option}" not in given and not c.is_in(LOSS)]
    notes += [f"{change}, as {folder / OPTIONS} says" for change in by_hand]
    return Resumption(
        folder=folder,
        settings=settings,
        checkpoint=checkpoint.path,
        changes=changes,
        origin=origin,
        remarks=(*checkpoint.notes, *notes),
    )


def _refusal(folder: Path, refused: Sequence[Change]) -> InputError:
    return InputError(
        f"the run in {folder} cannot continue with another value: {', '.join(map(str, refused))}; its weights belong "
        "to the old value, so undo the change, or start a new run with -o"
    )


def _require_same_start(folder: Path, given: Any) -> None:
    """Raise InputError if the user names a start model whose content is not that of the run."""
    own = folder / FILE
    if not (isinstance(given, str | Path) and own.is_file()):
        return
    try:
        content = path_of(given).read_bytes()
    except OSError:  # the run has a copy, and the options say whether it is another path
        return
    if content != own.read_bytes():
        raise _other_start(folder)


def _other_start(folder: Path) -> InputError:
    return InputError(
        f"the start model is another one than that of the run in {folder}, so its weights do not belong to it: give "
        f"back the old one as {folder / FILE}, or start a new run with -o"
    )


def origin_of(settings: RunConfig, parts: Split, start: Start | None = None) -> dict[str, Any]:
    """The options, the data and the start model to which weights belong, for the checkpoint."""
    return {"options": to_dict(settings), "data": contents(parts, start)}


def contents(parts: Split, start: Start | None = None) -> dict[str, str]:
    """A hash of each part of the data: atoms, cells, periodic directions and labels; and of the start model."""
    found = {name: _digest(getattr(parts, name)) for name in NAMES}
    if start is not None:
        found[START] = start.model.sha256
        if start.replayed:
            found[REPLAY] = _digest(start.replayed)
    return found


def _digest(structures: Sequence[Structure]) -> str:
    periodic = np.array([s.pbc for s in structures], dtype=bool).tobytes()
    return hashlib.sha256(fingerprint(structures, labels=True).encode() + periodic).hexdigest()[:16]


def given_options(
    config: str | Path | Mapping[str, Mapping[str, Any]] | RunConfig | None, options: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The options that a configuration gives, and those that override them, as ``section.option: value``."""
    sections: Mapping[str, Mapping[str, Any]]
    if isinstance(config, RunConfig):
        sections = to_dict(config)
    else:
        sections = read_yaml(Path(config)) if isinstance(config, str | Path) else config or {}
    flat = {
        f"{section}.{option}": value for section, values in sections.items() for option, value in (values or {}).items()
    }
    return flat | dict(options or {})


def _without_preset(given: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Replace a preset by the options that it sets, because a run folder has all options of its model."""
    if "model.preset" not in given:
        return dict(given)
    chosen = configured({}, {"model.kind": kind} | {k: v for k, v in given.items() if k.startswith("model.")})
    touched = {option for preset in REGISTRY[chosen.kind].presets.values() for option in preset}
    expanded = {f"model.{option}": getattr(chosen.model, option) for option in touched}
    return {**expanded, **{name: value for name, value in given.items() if name != "model.preset"}}


def _settled_as(before: RunConfig, settings: RunConfig) -> RunConfig:
    """Give the options that the data settle their old values where the user leaves them open."""
    old, new = to_dict(before), to_dict(settings)
    left_open = {
        f"{section}.{option}": old[section][option]
        for section, options in SETTLED.items()
        for option in options
        if option in new[section] and new[section][option] is None and old[section].get(option) is not None
    }
    if new["training"]["max_edges"] is not None:  # replaces the size of a batch
        left_open.pop("training.batch_size", None)
    return configured(settings, left_open) if left_open else settings


def _changes(before: RunConfig, settings: RunConfig) -> list[Change]:
    old, new = to_dict(before), to_dict(settings)
    if before.kind != settings.kind:
        return [Change("model", "kind", before.kind, settings.kind)]
    return [
        Change(section, option, old[section][option], value)
        for section, values in new.items()
        for option, value in values.items()
        if value != old[section][option]
    ]


def _check_files(settings: RunConfig, folder: Path) -> None:
    """Raise InputError if data of the run are no longer where they were."""
    for part in PARTS:
        for file in getattr(settings.split, f"{part}_file"):
            path = Path(file.partition("@")[0])
            if not path.exists() and not Path(file).exists():
                raise InputError(
                    f"{path}, which has {NAMES[part]} of the run {folder}, is not there: give its new place with "
                    f"equiforce train --resume {folder} {NEW_PLACE[part]}NEW/{path.name}"
                )

    for file in settings.start.replay:
        path = Path(file.partition("@")[0])
        if not path.exists() and not Path(file).exists():
            raise InputError(
                f"{path}, which has replayed structures of the run {folder}, is not there: give its new place with "
                f"equiforce train --resume {folder} --replay NEW/{path.name}"
            )


def _plain(value: Any) -> str:
    return "unset" if value is None else str(value)
