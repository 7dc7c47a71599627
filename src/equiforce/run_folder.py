"""The folder of a run: one program uses it at a time, its options are complete or refused, its checkpoint intact."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from equiforce.config import RENAMED, RunConfig, configured, read_yaml, to_dict, to_yaml
from equiforce.errors import InputError
from equiforce.storage.faults import AGAIN
from equiforce.storage.folders import drawn, is_empty, refuse_unbegun, used
from equiforce.storage.whole import write_bytes
from equiforce.training.checkpoint import DamagedError, read_checkpoint
from equiforce.training.processes import Processes, on_first_process

OPTIONS, MODEL = "config.yaml", "model.eqf"
CHECKPOINTS = ("last.pt", "best.pt")
FIRST_LINE = (
    "# equiforce: all options of this run. --resume needs each line; with -c, deleted options have their defaults."
)
LAST_LINE = re.compile(r"# end of the (\d+) options of this run")
LAST_OPTION = "training.wandb"  # of the files that older versions wrote without a last line
SHOWN = 3  # names of missing options


class Checkpoint(NamedTuple):
    """The checkpoint from which a run continues."""

    path: Path
    origin: Mapping[str, Any] | None  # options and data of its weights; None if an older version wrote it
    notes: tuple[str, ...]  # what the user should know


@dataclass(frozen=True, kw_only=True)
class Place:
    """The folder of a run, which one program at a time uses.

    Attributes:
        folder: the folder; the first one to try if ``drawn``.
        resumes: whether the run in it continues.
        drawn: whether the next free folder of a similar name is taken instead.
        known: whether a run may be in it that has not trained yet, and starts anew.
    """

    folder: Path
    resumes: bool = False
    drawn: bool = False
    known: bool = False

    @contextmanager
    def used(self, fabric: Processes) -> Iterator[tuple[Path, bool]]:
        """Use the folder alone, and yield it and whether a run in it continues; the first process decides for all."""
        with ExitStack() as stack:
            found = on_first_process(lambda: self._chosen(stack), fabric)
            yield Path(found[0]), found[1]

    def _chosen(self, stack: ExitStack) -> tuple[str, bool]:
        folder = stack.enter_context(self._locked())
        return str(folder), self.resumes or (self.known and has_state(folder))

    @contextmanager
    def _locked(self) -> Iterator[Path]:
        if self.drawn:
            name, numbers = self.folder.name, range(1, 10_000)
            names = (self.folder if n == 1 else self.folder.with_name(f"{name}-{n}") for n in numbers)
            with drawn(names, is_empty) as folder:
                yield folder
            return
        if self.resumes and not self.folder.is_dir():
            raise InputError(f"{self.folder} is not the folder of a training run: correct the path")
        self.require_free()  # before a lock is written into a folder of other files
        with used(self.folder) as folder:
            self.require_free()
            yield folder

    def require_free(self) -> None:
        """Raise InputError if a new run cannot be in the folder."""
        if self.resumes or (is_empty(self.folder) and not self.folder.is_file()):
            return
        is_run = (self.folder / OPTIONS).exists()
        if not (is_run and self.known):
            mend = f", or continue its run with --resume {self.folder}" if is_run else ""
            raise InputError(f"{self.folder} already exists: choose another folder with -o{mend}")


def has_state(folder: Path) -> bool:
    """Whether there is a run in a folder that has trained, and was not stopped before its first checkpoint."""
    return any(os.path.lexists(folder / name) for name in (*CHECKPOINTS, MODEL))


def intact_checkpoint(folder: Path) -> Checkpoint | None:
    """The last checkpoint of a run, or that of its best weights if the last one is missing or damaged.

    Raises:
        InputError: a checkpoint cannot be read now, or the run has a model or a damaged one, and none that is intact.
    """
    notes: list[str] = []
    for name in CHECKPOINTS:
        path = folder / name
        if not os.path.lexists(path):
            continue
        if not (path.is_file() or path.is_symlink()):
            raise InputError(f"{path} is a folder or a pipe, and no checkpoint: move it away, then {AGAIN}")
        try:
            state = read_checkpoint(path)
        except DamagedError as error:
            notes.append(str(error.__cause__))
            continue
        last = folder / CHECKPOINTS[0]
        if path != last:
            why = f"{last} is damaged ({notes[0]})" if notes else f"{folder} has no {last.name}"
            notes = [f"{why}: it continues from its best weights, {name}, of which {last.name} becomes a copy"]
        if not state["sealed"]:
            notes.append(f"{path} was written by an older version, without a checksum")
        return Checkpoint(path, state.get("origin") or None, tuple(notes))
    if not notes and not (folder / MODEL).exists():
        return None
    if not notes:
        raise InputError(
            f"{folder} has a model, but no checkpoint ({' or '.join(CHECKPOINTS)}) from which its training could "
            "continue: start a new run with -o"
        )
    present = [name for name in CHECKPOINTS if os.path.lexists(folder / name)]
    damaged = f"{' and '.join(present)} of {folder} cannot be used ({'; '.join(notes)})"
    if present == [CHECKPOINTS[0]] and not (folder / MODEL).exists():
        raise InputError(f"{damaged}, and it has no best weights yet: delete {present[0]}, and --resume starts it anew")
    raise InputError(f"{damaged}: start a new run with -o, or put back a copy of {CHECKPOINTS[0]}")


def keep_as_last(checkpoint: Path) -> None:
    """Let the checkpoint from which a run continues be its last one too, in the place of one that is damaged.

    Raises:
        InputError: the last checkpoint cannot be written.
    """
    last = checkpoint.with_name(CHECKPOINTS[0])
    if checkpoint != last:  # which may be a link to a file that is no checkpoint
        write_bytes(last, checkpoint.read_bytes(), replaces_link=True)


def options_text(config: RunConfig) -> str:
    """The text of the file of all options of a run, whose first and last line show that it is complete."""
    body = to_yaml(config).partition("\n")[2]
    return f"{FIRST_LINE}\n{body}\n# end of the {len(_names(to_dict(config)))} options of this run\n"


def read_own_options(folder: Path, checkpoint: Checkpoint | None) -> tuple[dict[str, Any], list[str]]:
    """Read the options of a run from its folder, of which none may be missing.

    Returns:
        The sections of options, and what the user should know about them.

    Raises:
        InputError: the file is missing, cut or incomplete.
    """
    file = folder / OPTIONS
    known = checkpoint.origin["options"] if checkpoint and checkpoint.origin else None
    if not os.path.lexists(file) and known is not None and checkpoint is not None:
        return dict(known), [f"{file} was not there: all options are those of {checkpoint.path.name}"]
    refuse_unbegun(folder)
    if not file.is_file():
        raise InputError(f"{folder} is not the folder of a training run because it has no {OPTIONS}: correct the path")
    mend = "write it again, or start a new run with -o"
    if known is not None and checkpoint is not None:
        mend = f"write it again, or delete the file, and --resume takes all options of {checkpoint.path.name}"
    try:
        values = read_yaml(file)
        written = configured(values, origin=str(file))
    except InputError as error:
        raise InputError(f"{error} (these are the options of a run: {mend})") from error
    present = {RENAMED.get(name, name) for name in _names(values)}
    missing = [name for name in _names(to_dict(written)) if name not in present]
    lines = [line for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    last = LAST_LINE.fullmatch(lines[-1].strip()) if lines else None
    if last is None and (lines[:1] == [FIRST_LINE] or LAST_OPTION not in present):
        raise InputError(f"{file} is cut off: its last line is missing, and {len(missing)} options: {mend}")
    if missing and known is not None:
        missing = [name for name in missing if name in _names(known)]
    elif last is not None and len(present) >= int(last[1]):
        missing = []  # all that there were when the file was written
    if missing and known is None and last is None:  # of an older version, which allowed to delete lines
        return values, [f"{file} lacks {_listed(missing)}: the defaults are taken"]
    if missing:
        raise InputError(f"{file} lacks {_listed(missing)}, and no default is taken for the options of a run: {mend}")
    return values, []


def _names(values: Mapping[str, Any]) -> list[str]:
    return [f"{section}.{option}" for section, options in values.items() for option in (options or {})]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
