"""Hostile files of data: what is read has the numbers that the file says, and everything else is refused or said.

Each try damages a small file of three frames. The oracle reads the damaged file with a strict parser of its own, a few
lines for each format. If equiforce reads other numbers than the strict parser does, or numbers from a file that the
strict parser refuses, these must be the numbers of the undamaged file, or a note must say what was left out.
"""

import argparse
import re
import shutil
import tempfile
import warnings
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from equiforce.data.read import ReadOptions, read_with_report
from equiforce.data.read_report import is_note
from equiforce.errors import InputError
from tests.fuzz import harness
from tests.fuzz.data_damage import damage
from tests.fuzz.data_formats import FORMATS, Expected

LONGEST_MESSAGE = 1500
LABELS = ("energy", "forces", "stress")
WEIGHTS = (8, 3, 2, 2, 2, 3, 2)


def notes_of(lines: list[str]) -> set[str]:
    return {re.sub(r"[\d.,]+", "#", line) for line in lines if is_note(line)}


def differs(structure: Any, frame: dict[str, Any]) -> str:
    """What differs between a structure and what is expected, in words; a label that was left out is ``without``."""
    if list(structure.atomic_numbers) != list(frame["numbers"]):
        return "elements"
    apart = structure.positions - frame["positions"]
    if frame.get("wraps"):  # ASE puts atoms into the cell
        apart -= np.round(apart @ np.linalg.inv(frame["cell"])) @ frame["cell"]
    if np.abs(apart).max() > (1e-9 * (1 + np.abs(frame["positions"]).max()) if frame.get("wraps") else 0):
        return "positions"
    if not np.array_equal(structure.cell, frame["cell"]):
        return "cell"
    without = ""
    for label in LABELS:
        ours, theirs = getattr(structure, label), frame.get(label)
        if label == "energy" and "energies" in frame:
            theirs = min(frame["energies"], key=lambda e: abs(e - (ours or 0)))
        if ours is None:
            without = without or (f"without {label}" if theirs is not None else "")
        elif theirs is None or not np.allclose(ours, theirs, rtol=1e-12, atol=1e-12):
            return label
    return without


def verdict(structures: list[Any], expected: Expected, *, noted: bool) -> str:
    """``right``, ``noted``, or what differs from what is expected."""
    pairs = [[differs(s, frame) for frame in expected] for s in structures]
    if len(structures) == len(expected):
        found = [row[i] for i, row in enumerate(pairs)]
        wrong = next((w for w in found if w and not w.startswith("without")), "")
        if not wrong:
            return "noted" if any(found) else "right"
        return f"{wrong} of a frame"
    missing = [min(row, key=len) for row in pairs]
    if all(w == "" or w.startswith("without") for w in missing):
        return "noted" if noted else "right" if len(structures) > len(expected) else "fewer frames"
    return "another number of frames, and other ones"


def change_of(right: Path, damaged: Path) -> str:
    """The first line that differs, for the message of a failure."""
    if right.is_dir():
        return ""
    before, after = (file.read_bytes().split(b"\n") for file in (right, damaged))
    return next((f"{a!r} became {b!r}" for a, b in zip(before, after, strict=False) if a != b), "")[:900]


class Attack:
    """Makes and judges a try; the undamaged files are written once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.undamaged: dict[str, tuple[Expected, set[str]]] = {}
        for name, (write, strict, path) in FORMATS.items():
            (folder / "right" / name).mkdir(parents=True)
            write(folder / "right" / name)
            _, report = read_with_report(folder / "right" / name / path, ReadOptions())
            self.undamaged[name] = (strict(folder / "right" / name), notes_of(report.lines()))

    def __call__(self, rng: Random, folder: Path) -> str:
        [name] = rng.choices(list(FORMATS), WEIGHTS)
        here = folder / "damaged"
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(self.folder / "right" / name, here)
        damage(rng, name, here)
        return f"{name} {self.judge(name, here)}"

    def judge(self, name: str, here: Path) -> str:
        _, strict, path = FORMATS[name]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                structures, report = read_with_report(here / path, ReadOptions())
        except InputError as error:
            if "\n" in str(error) or len(str(error)) > LONGEST_MESSAGE:
                raise AssertionError("the message is no sentence") from error
            return "refused"
        right, usual_notes = self.undamaged[name]
        noted = bool(notes_of(report.lines()) - usual_notes)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = strict(here)
        # the strict parsers are short: any exception is a refusal
        except Exception:
            expected = None
        for label in LABELS:  # the line of a file tells how many frames have each label
            n = sum(getattr(s, label) is not None for s in structures)
            found = report.files[0].keys.get(label, ())
            assert sum(count for _, count in found) == n, (label, found, n)
        words = [verdict(structures, frames, noted=noted) for frames in (expected, right) if frames is not None]
        if "right" in words:
            return "right"
        assert "noted" in words, (
            f"{name}: silently {words}, {change_of(self.folder / 'right' / name / path, here / path)}"
        )
        return "noted"


@pytest.mark.slow
def test_damaged_files_of_data_are_refused_or_read_rightly(tmp_path, fuzz_seconds):
    tally = harness.run(Attack(tmp_path), tmp_path, seconds=fuzz_seconds("data"))
    print(tally)
    assert not tally.failures, tally
    for name in FORMATS:
        assert tally.counts[f"{name} refused"], tally
        assert tally.counts[f"{name} right"], tally
    assert tally.counts["xyz noted"], tally


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tries", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        print(harness.run(Attack(Path(place)), Path(place), tries=arguments.tries, seed=arguments.seed))
