"""A training that is disturbed at any call that changes files goes on as if nothing had been.

It is killed before the call or in the middle of a write, is asked to stop, or finds the disk full from then on.

``python -m tests.test_training_faults`` tries every call; the tests try a few of them.
"""

import csv
import io
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import ase.io
import pytest
import torch
import yaml
from PIL import Image

from equiforce import model_file
from equiforce.storage.folders import LOCK
from equiforce.storage.whole import DRAFT
from equiforce.training.state import read_checkpoint
from tests import faults
from tests.data_sets import TINY, crystals, write

OPTIONS = {
    **{f"model.{name}": value for name, value in TINY.items()},
    "training.validate_every": 2,
    "training.deterministic": True,
    "split.test": 2,
}
SETS = [text for name, value in OPTIONS.items() for text in ("--set", f"{name}={value}")]
STEPS, MORE_STEPS = 4, 6


class Attack:
    """A command that is disturbed, and the run that it leaves without a disturbance.

    Args:
        place: an empty folder.
        server: runs the commands.
        resumed: whether the command continues a run with more steps; otherwise it starts one.
    """

    def __init__(self, place: Path, server: faults.Server, *, resumed: bool):
        self.server, self.resumed = server, resumed
        self.runs, self.before = place / "runs", place / "before"
        self.folder = self.runs / "a"
        write(place / "copper.xyz", crystals(8))
        self.runs.mkdir()
        self.start = ["train", place / "copper.xyz", "-o", self.folder, *SETS, "--steps", STEPS]
        self.again = ["train", "--resume", self.folder, "--steps", MORE_STEPS if resumed else STEPS]
        if resumed:
            self._succeed(self.start)
            self.folder.rename(self.before)
        self._prepare()
        self.calls = self._succeed(self.command).calls
        self.expected = result_of(self.folder)

    @property
    def command(self) -> list:
        return self.again if self.resumed else self.start

    def _prepare(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.resumed:
            shutil.copytree(self.before, self.folder)

    def _succeed(self, command: list) -> faults.Ended:
        ended = self.server.run(*command, folder=self.runs)
        assert ended.rc == 0, ended.errors
        return ended

    def __call__(self, at: int, mode: str) -> str:
        """What is wrong after the command was disturbed at a call and given again; empty if nothing is."""
        self._prepare()
        ended = self.server.run(*self.command, folder=self.runs, at=at, mode=mode)
        found = []
        if mode == faults.FULL and ended.rc and not (ended.rc == 1 and is_said(ended.errors)):
            found.append(f"ended with {ended.rc} and {ended.errors[-300:]!r}")
        elif mode in (faults.KILL, faults.HALF) and ended.rc != faults.KILLED:
            found.append(f"ended with {ended.rc} instead of a kill")
        elif mode == faults.TERM and not (ended.rc == 0 or (ended.rc == 130 and "interrupted" in ended.output)):
            found.append(f"ended with {ended.rc} and {ended.output[-300:]!r}{ended.errors[-300:]!r}")
        # a real kill does not cut the one write of a line; if it were cut, the next start would compute it again
        cut = ("log.csv",) if mode == faults.HALF else ()
        found += [f"damaged: {what}" for what in damaged(self.folder) if not what.startswith(cut)]
        began = self.resumed or (self.folder / "config.yaml").exists()
        ended = self.server.run(*(self.again if began else self.start), folder=self.runs)
        if ended.rc:
            found.append(f"did not go on: {ended.errors[-300:]}")
        else:
            found += [
                f"differs: {name}" for name, value in result_of(self.folder).items() if value != self.expected[name]
            ]
            found += [f"left over: {path.name}" for path in self.folder.glob(f"{DRAFT}*")]
        return "; ".join(found)


def is_said(errors: str) -> bool:
    """Whether a full disk is told in one sentence with file, sizes and remedy."""
    said = "cannot be written because the disk is full" in errors and "are free: make room, then" in errors
    return said and errors.startswith("error: ") and "Traceback" not in errors


def result_of(folder: Path) -> dict:
    """The weights and the log of a run, without times, and the names of its files."""
    state = read_checkpoint(folder / "last.pt")
    with (folder / "log.csv").open(encoding="utf-8", newline="") as file:
        rows = [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]
    found = {
        f"weights {kind} {name}": value.tolist()
        for kind in ("potential", "best_weights")
        for name, value in state[kind].items()
    }
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith((DRAFT, LOCK)))
    return {**found, "log": rows, "files": names, "steps": state["step"], "ended": state["ended"]}


def damaged(folder: Path) -> list[str]:
    """The files of a run that are empty or cut."""
    found = []
    for path in sorted(folder.glob("*")) if folder.exists() else []:
        if path.name.startswith((DRAFT, LOCK)):
            continue
        try:
            _read_whole(path)
        except Exception as error:
            found.append(f"{path.name} ({path.stat().st_size} bytes): {error!r}"[:200])
    return found


def _read_whole(path: Path) -> None:
    assert path.stat().st_size > 0
    match path.suffix:
        case ".yaml":
            assert "training" in yaml.safe_load(path.read_text())
            assert path.read_text().endswith("\n")
        case ".json":
            json.loads(path.read_text())
        case ".csv":
            text = path.read_text()
            assert text.endswith("\n")
            assert len({line.count(",") for line in text.splitlines()}) == 1
        case ".pt":
            read_checkpoint(path)
        case ".eqf":
            model_file.load(path)
        case ".png":
            Image.open(io.BytesIO(path.read_bytes())).load()
        case ".xyz":
            assert len(ase.io.read(path, ":")) == 2
        case _:
            raise AssertionError("an unknown file")


@pytest.fixture(scope="module")
def server():
    with faults.server() as running:
        yield running


@pytest.fixture(scope="module", params=[False, True], ids=["start", "resume"])
def attack(request, server, tmp_path_factory):
    return Attack(tmp_path_factory.mktemp("attack"), server, resumed=request.param)


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode", [faults.KILL, faults.HALF, faults.FULL, faults.TERM], ids=["kill", "half", "full", "term"]
)
def test_a_disturbed_training_goes_on_to_the_same_weights_and_log(attack, mode):
    at = random.Random(f"{mode}{attack.resumed}").randint(1, attack.calls)
    assert (at, attack(at, mode)) == (at, "")


def main() -> None:
    """Disturb every call of both commands in the four ways, and print the counts."""
    torch.set_num_threads(1)
    for resumed in (False, True):
        with tempfile.TemporaryDirectory() as place, faults.server() as running:
            attack, counts = Attack(Path(place), running, resumed=resumed), Counter()
            for mode in sys.argv[1] if len(sys.argv) > 1 else "khft":
                for at in range(1, attack.calls + 1, int(os.environ.get("EVERY", "1"))):
                    wrong = attack(at, mode)
                    counts[mode, "wrong" if wrong else "right"] += 1
                    if wrong:
                        print(mode, at, wrong, flush=True)
            print("resume" if resumed else "start", attack.calls, "calls", dict(counts), flush=True)


if __name__ == "__main__":
    main()
