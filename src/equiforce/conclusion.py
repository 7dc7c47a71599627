"""What a training run says last: the verdict, the files that it wrote, and the next commands."""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from equiforce.config import RunConfig
from equiforce.errors import InputError
from equiforce.run_folder import OPTIONS
from equiforce.signals import ToldInterrupt
from equiforce.storage.faults import AGAIN, going_on_with
from equiforce.terminal import Console, say
from equiforce.training.stopping import doubled
from equiforce.training.verdict import Verdict

FILES = {
    ("model.eqf",): "the potential, in one file",
    ("test_errors.json",): "the errors on the test structures",
    ("test_predictions.xyz",): "the test structures with predictions",
    ("test_parity.png",): "predictions against reference values",
    ("fine-tuning.json",): "the errors before and after, also on the old domain",
    ("start.eqf",): "the model from which training started",
    ("training.png", "log.csv"): "the errors during the run",
    ("config.yaml",): "all options of the run, with reasons",
    ("split.json",): "the structures of training, validation and test",
    ("last.pt",): "the checkpoint, with which --resume continues",
}


@contextmanager
def told_how_to_go_on(folder: Path, console: Console, *, names_resume: bool) -> Iterator[None]:
    """Say how a run goes on after a full disk, and after an interruption before its first or after its last step."""
    resume = command("train", "--resume", folder)
    try:
        yield
    except KeyboardInterrupt:
        began = (folder / OPTIONS).exists()
        again = f"continue with: {resume}" if began else f"nothing was written yet: {AGAIN}"
        say(console, f"interrupted; {again}")
        raise ToldInterrupt from None
    except InputError:
        if not (names_resume and (folder / OPTIONS).exists()):
            raise
        with going_on_with(resume):
            raise


def conclude(folder: Path, settings: RunConfig, verdict: Verdict, console: Console) -> None:
    """Print the verdict on a run, its files with a phrase for each, and the commands that a user needs next."""
    say(console, f"verdict: {verdict.text}", style="bold")
    lines = []
    if verdict.train_longer:
        lines.append(f"  {command('train', '--resume', folder, *doubled(settings.training))}")
    lines.append(f"written into {folder}:")
    for names, phrase in FILES.items():
        if written := ", ".join(name for name in names if (folder / name).exists()):
            lines.append(f"  {written:<22}{phrase}")
    lines += ["next, with these or other structures:", *(f"  {line}" for line in _next(folder, settings))]
    say(console, *lines)


def _next(folder: Path, settings: RunConfig) -> Iterator[str]:
    predictions = folder / "test_predictions.xyz"
    data = _nearby((settings.split.test_file or settings.split.train_file)[0])
    start = str(predictions) if predictions.exists() else data.partition("@")[0]
    yield command("evaluate", folder, data)
    yield command("md", folder, start, "--temperature", "300")
    yield command("lammps", folder, start, "-o", "in.lammps")


def command(*words: str | Path) -> str:
    """A command of the program, quoted for the shell."""
    return shlex.join(["equiforce", *map(str, words)])


def _nearby(file: str) -> str:
    """The path relative to the working directory if it is shorter."""
    return min(os.path.relpath(file), file, key=len)
