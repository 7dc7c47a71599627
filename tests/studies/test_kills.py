"""A study that is killed, or finds the disk full, at any of its calls that change files: the same command finishes it.

The tests try a sample of the calls; ``python -m tests.studies.test_kills --mode k --every 1`` tries all.
"""

import argparse
import csv
import random
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests import faults
from tests.data_sets import TINY
from tests.small_study import TINIEST, write_study
from tests.storage.test_faults import small_disk

NOISY = ("seconds", "date")


@dataclass(frozen=True)
class Attacked:
    """A command with the results of its undisturbed run."""

    arguments: tuple[object, ...]
    folder: Path
    calls: int
    files: dict[str, object]

    @classmethod
    def of(cls, server: faults.Server, place: Path, command: str) -> "Attacked":
        file = write_study(place, **TINIEST) if command == "learning-curve" else write_benchmark(place)
        arguments, folder = ("study", command, file, "--data", place, "-o"), place / "undisturbed"
        folder.mkdir()
        ended = server.run(*arguments, folder, folder=folder)
        assert ended.rc == 0, ended.errors
        return cls(arguments, place / "attacked", ended.calls, found(folder))

    def attack(self, server: faults.Server, at: int, mode: str) -> str:
        """Disturb the command at a call, then give it again; return what is wrong, or "" if nothing is."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        ended = server.run(*self.arguments, self.folder, folder=self.folder, at=at, mode=mode)
        if mode == faults.FULL and (wrong := not_one_sentence(ended)):
            return wrong
        if mode != faults.FULL and ended.rc != faults.KILLED:
            return f"not killed: {ended.rc} {ended.errors}"
        if empty := [p.name for p in files_of(self.folder) if not p.stat().st_size and is_kept(p)]:
            return f"empty: {empty}"
        known = found(self.folder).get("results.csv", {})
        if lost := [name for name, row in known.items() if row != self.files["results.csv"][name]]:
            return f"wrong rows: {lost}"
        again = server.run(*self.arguments, self.folder, folder=self.folder)
        if again.rc:
            return f"the same command ends with {again.rc}: {again.errors.strip()[-300:]}"
        present = found(self.folder)
        differing = {name for name in {*present, *self.files} if present.get(name) != self.files.get(name)}
        return f"different: {sorted(differing)}" if differing else ""


def write_benchmark(place: Path) -> Path:
    """A benchmark of one run with two test sets."""
    write_study(place)
    task = {
        "pool": ["pool.xyz"], "train": 4, "validation": 2, "steps": 4, "errors": {"forces": "MAE meV/Å"},
        "tests": {"cold": ["test.xyz"], "colder": ["test.xyz@:2"]},
    }  # fmt: skip
    models = {"tiny": {f"model.{name}": value for name, value in TINY.items()} | {"model.l_max": 0}}
    file = place / "bench.yaml"
    file.write_text(yaml.safe_dump({"models": models, "tasks": {"water": task}}), encoding="utf-8")
    return file


def not_one_sentence(ended: faults.Ended) -> str:
    """What is wrong with the end on a full disk: exit status, sentence or remedy."""
    said = ended.errors.strip()
    full, again = "cannot be written because the disk is full", "are free: make room, then give the same command again"
    whole = re.fullmatch(rf"error: [^\n]* {full}; [^\n]* {again}[^\n]*", said)
    return "" if ended.rc == 1 and whole else f"rc {ended.rc}, {len(said.splitlines())} lines: {said[-300:]}"


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def is_kept(path: Path) -> bool:
    """Whether a file is neither a lock nor a draft."""
    return path.suffix not in (".lock", ".part") and not path.name.startswith(".unfinished-")


def found(folder: Path) -> dict[str, object]:
    """The files that are the same after every undisturbed study, without times."""
    contents: dict[str, object] = {}
    for path in files_of(folder):
        name = str(path.relative_to(folder))
        if path.name == "results.csv":
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            keys = [row["hash"] + row.get("test", "") for row in rows]
            assert len(set(keys)) == len(keys), "doubled rows"
            contents[name] = {
                k: {c: v for c, v in row.items() if c not in NOISY} for k, row in zip(keys, rows, strict=True)
            }
        elif path.name == "README.md":
            contents[name] = re.sub(r"[\d.e-]+ ((core )?hours|s\b)", "TIME", path.read_text(encoding="utf-8"))
        elif path.parent == folder and path.suffix != ".lock":
            contents[name] = path.read_bytes()
        elif is_kept(path):
            contents[name] = None  # of a run: it has times
    return contents


def try_calls(place: Path, command: str, mode: str, calls) -> Counter:
    """Attack a command at calls, which a function draws from their number; return how often what was wrong."""
    tally = Counter()
    with faults.server() as server:
        attacked = Attacked.of(server, place, command)
        for at in calls(attacked.calls):
            wrong = attacked.attack(server, at, mode)
            tally[wrong or "sound"] += 1
            if wrong:
                print(command, mode, at, "of", attacked.calls, wrong, flush=True)
    return tally


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "mode", "tries"),
    [
        ("learning-curve", faults.KILL, 2),
        ("learning-curve", faults.HALF, 2),
        ("benchmark", faults.KILL, 1),
        ("learning-curve", faults.FULL, 1),
        ("benchmark", faults.FULL, 1),
    ],
)
def test_the_same_command_finishes_the_study(command, mode, tries, tmp_path):
    tally = try_calls(tmp_path, command, mode, lambda n: random.Random(7).sample(range(1, n + 1), tries))
    assert tally == {"sound": tries}


@pytest.mark.slow
def test_a_study_on_a_small_disk_goes_on_after_room_is_made(tmp_path):
    with faults.server() as server, small_disk(tmp_path / "disk") as disk:
        attacked = Attacked.of(server, tmp_path, "learning-curve")
        command = (*attacked.arguments, disk / "study")
        ended = server.run(*command, folder=disk)
        assert not not_one_sentence(ended), ended.errors
        assert all(path.stat().st_size for path in files_of(disk) if is_kept(path))
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        assert server.run(*command, folder=disk).rc == 0
        assert found(disk / "study") == attacked.files


@pytest.mark.slow
def test_two_commands_at_once_share_the_work_and_the_page(tmp_path):
    with faults.server() as one, faults.server() as other, ThreadPoolExecutor(2) as threads:
        attacked = Attacked.of(one, tmp_path, "learning-curve")
        attacked.folder.mkdir()
        command = (*attacked.arguments, attacked.folder)
        both = list(threads.map(lambda server: server.run(*command, folder=attacked.folder), (one, other)))
    assert [ended.rc for ended in both] == [0, 0], both
    assert found(attacked.folder) == attacked.files


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--command", default="learning-curve", choices=["learning-curve", "benchmark"])
    parser.add_argument("--mode", default=faults.KILL, choices=[faults.KILL, faults.HALF, faults.FULL])
    parser.add_argument("--every", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(try_calls(Path(folder), given.command, given.mode, lambda n: range(1, n + 1, given.every)))
