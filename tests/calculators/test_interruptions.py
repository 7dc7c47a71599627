"""md, relax, evaluate and lammps are killed, asked to stop, or find the disk full, at chosen calls that change files.

Nothing is cut or half under its final name, and what goes on afterwards ends with the files of the run without a fault.
``python -m tests.calculators.test_interruptions`` tries every call, and with ``--tries 30`` some.
"""

import argparse
import io
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

import equiforce
from equiforce import model_file
from equiforce.calculators.md import MDOptions
from equiforce.storage.folders import LOCK
from equiforce.storage.whole import DRAFT
from tests.faults import FULL, HALF, KILL, KILLED, TERM, TWICE, Ended, Server, server

MODES = {"killed": KILL, "half": HALF, "full": FULL, "stopped": TERM, "stopped twice": TWICE}
STOPPED = 130
OUT = "work/out"
MD = ["--seed", "1", "--save-every", "0", "--trajectory-every", "1", "--thermo-every", "1", "--timestep", "1"]
GROWING = ("trajectory.xyz", "thermo.csv", "path.xyz")


@dataclass(frozen=True)
class Case:
    """A command whose files are in the folder ``OUT``, and what is there before it."""

    command: list[str]
    goes_on: Callable[["Case", "Bench"], list[str]]  # the command after the fault
    before: tuple[list[str], ...] = ()  # commands that ran there


class Bench:
    """A folder with a model, a start and data, where each try begins with the same files."""

    def __init__(self, place: Path, running: Server):
        self.place, self.running = place, running
        self.out = place / OUT
        for name, seed in (("model", 0), ("other", 1)):
            one = equiforce.untrained(
                ["H", "O"], l_max=0, channels=4, n_layers=1, cutoff=3.0, dtype="float64", seed=seed
            )
            frames = data(2)
            ase.io.write(place / "data.xyz", frames, format="extxyz")
            model_file.save(place / f"{name}.eqf", one.potential, [equiforce.Structure.from_ase(frames[0])])
        ase.io.write(place / "start.xyz", frames[0], format="extxyz")

    def begin(self, case: Case) -> None:
        """Bring back what is there before the command."""
        kept = self.place / "kept" / str(abs(hash(repr(case.before))))
        if not kept.exists():
            shutil.rmtree(self.out.parent, ignore_errors=True)
            self.out.parent.mkdir()
            for command in case.before:
                ended = self.run(command)
                assert not ended.errors.startswith("error"), ended.errors
            shutil.copytree(self.out.parent, kept)
        shutil.rmtree(self.out.parent, ignore_errors=True)
        shutil.copytree(kept, self.out.parent)

    def run(self, command: list[str], at: int = 0, mode: str = KILL) -> Ended:
        return self.running.run(*command, folder=self.out.parent, at=at, mode=mode, cwd=self.place)

    def files(self) -> dict[str, bytes]:
        """The files under their final names; a lock and drafts are none of them."""
        found = sorted(path for path in self.out.parent.rglob("*") if path.is_file())
        return {
            str(path.relative_to(self.out.parent)): path.read_bytes()
            for path in found
            if path.name != LOCK and not path.name.startswith(DRAFT)
        }


def data(n: int) -> list:
    frames = []
    for seed in range(n):
        water = molecule("H2O", cell=[4.0, 4.1, 4.2], pbc=True)
        water.rattle(0.05, seed=seed)
        rng = np.random.default_rng(seed)
        labels = {"energy": -1.0 - seed, "forces": rng.normal(size=(3, 3))}
        water.calc = SinglePointCalculator(water, **labels)
        frames.append(water)
    return frames


def resumed(case: Case, bench: Bench) -> list[str]:
    """How a run of md goes on: from its state, or anew if it has none."""
    return ["md", "--resume", OUT, *case.command[-2:]] if (bench.out / "state.npz").exists() else case.command


def again(case: Case, bench: Bench) -> list[str]:
    return [*case.command, *([] if "--overwrite" in case.command or not bench.files() else ["--overwrite"])]


def md(*options: str) -> list[str]:
    return ["md", "model.eqf", "start.xyz", "-o", OUT, *options, *MD, "--steps", "3"]


OTHER = ["md", "other.eqf", "start.xyz", "-o", OUT, "--seed", "2", "--temperature", "100", "--steps", "4"]
NPT = ("--ensemble", "npt", "--tdamp", "20", "--pdamp", "100")
RELAX = ["relax", "model.eqf", "start.xyz", "-o", OUT, "--steps", "3", "--fmax", "1e-6"]
EVALUATE = ["evaluate", "model.eqf", "data.xyz", "-o", OUT]
LAMMPS = ["lammps", "model.eqf", "start.xyz", "-o", f"{OUT}/in.lammps", "--seed", "1"]
CASES = {
    "md nve": Case(md("--ensemble", "nve"), resumed),
    "md langevin": Case(md(), resumed),
    "md npt": Case(md(*NPT), resumed),
    "md --resume": Case(["md", "--resume", OUT, "--steps", "5"], resumed, (md(),)),
    "md --overwrite": Case(
        ["md", "model.eqf", f"{OUT}/last.xyz", "-o", OUT, "--overwrite", *MD, "--steps", "3"], resumed, (OTHER,)
    ),
    "relax": Case(RELAX, again),
    "relax --overwrite": Case([*RELAX, "--overwrite"], again, (["relax", "other.eqf", *RELAX[2:]],)),
    "evaluate": Case(EVALUATE, again),
    "evaluate --overwrite": Case([*EVALUATE, "--overwrite"], again, (["evaluate", "other.eqf", *EVALUATE[2:]],)),
    "lammps": Case(LAMMPS, again),
    "lammps --overwrite": Case([*LAMMPS, "--overwrite"], again, ([*LAMMPS[:-1], "2"],)),
}


def tries(bench: Bench, name: str, mode: str, most: int | None, seed: int = 0) -> Iterator[tuple[int, list[str]]]:
    """Try faults at calls of a case; yield the number of the call and what is wrong after it."""
    case = CASES[name]
    bench.begin(case)
    old = bench.files()
    whole = bench.run(case.command)
    assert whole.rc in (0, 1 if name.startswith("relax") else 0), whole.errors
    expected, calls = bench.files(), list(range(1, whole.calls + 1))
    if most is not None:
        calls = sorted(random.Random(seed).sample(calls, min(most, len(calls))))
    for at in calls:
        bench.begin(case)
        ended = bench.run(case.command, at, MODES[mode])
        yield at, [*flaws(bench, ended, mode, old, expected), *end(case, bench, ended, old, expected)]


def flaws(bench: Bench, ended: Ended, mode: str, old: dict, expected: dict) -> Iterator[str]:
    """What is wrong with the end of a command and with the files that it left."""
    if bench.files() != expected:
        yield from wrong_end(ended, mode)
    if "Traceback" in ended.errors:
        yield f"a traceback: {ended.errors[-300:]}"
    if mode in ("full", "stopped") and (left := [p.name for p in bench.out.glob(f"{DRAFT}*")]):
        yield f"drafts are left: {left}"
    found = bench.files()
    for name, content in found.items():
        if content != old.get(name) and (flaw := flaw_of(Path(name).name, content, cut=mode == "half")):
            yield f"{name}: {flaw}"
    if any(name.endswith("_errors.json") for name in expected):
        new, others = ([name for name in found if found[name] != files.get(name)] for files in (old, expected))
        if new and others:
            yield f"files of two evaluations: {new} and {others}"


def wrong_end(ended: Ended, mode: str) -> Iterator[str]:
    """What is wrong with the exit status and the message of a command that did not finish."""
    said = ended.errors.strip()
    wanted = {"killed": KILLED, "half": KILLED, "full": 1}.get(mode, STOPPED)
    if ended.rc != wanted:
        yield f"it ended with {ended.rc}: {said[-200:]}"
    if mode == "full":
        if said.count("\n") or not said.startswith("error: "):
            yield f"a full disk is not one sentence: {said[-200:]}"
        elif not all(word in said for word in ("disk is full", " are free: make room", OUT)):
            yield f"it does not say what to do: {said}"


def flaw_of(name: str, content: bytes, *, cut: bool) -> str:
    """What is cut or half in a file; empty if nothing is. A file that grows may end within a piece if ``cut``."""
    flaw = ""
    if not content:
        flaw = "it has 0 bytes"
    elif name.endswith(".xyz"):
        flaw = cut_frames(content.decode(), cut=cut and name in GROWING)
    elif name == "md.yaml":
        given = [line.partition(":")[0] for line in content.decode().splitlines()]
        flaw = ", ".join(one for one in MDOptions.__dataclass_fields__ if one not in given)
    elif name == "state.npz":
        with np.load(io.BytesIO(content)) as file:
            flaw = "" if "positions" in file.files else "it has no positions"
    elif name.endswith(".png"):
        flaw = "" if b"IEND" in content[-12:] else "it is cut"
    elif not content.endswith(b"\n") and not (cut and name in GROWING):
        flaw = "its last line is cut"
    return flaw


def cut_frames(text: str, *, cut: bool) -> str:
    lines, at = text.split("\n"), 0
    if not cut and not text.endswith("\n"):
        return "its last line is cut"
    while at < len(lines) - 1:
        end_of_frame = at + 2 + int(lines[at])
        if end_of_frame > len(lines) - 1 and not cut:
            return "its last frame is cut"
        at = end_of_frame
    return ""


def end(case: Case, bench: Bench, ended: Ended, old: dict, expected: dict) -> Iterator[str]:
    """What is wrong after the command goes on."""
    if bench.files() == expected and ended.rc not in (KILLED, STOPPED):
        return
    command = case.goes_on(case, bench)
    if "lammps" not in command and "--overwrite" in case.command and bench.files() == old:
        command = case.command  # nothing has begun
    more = bench.run(command)
    found = bench.files()
    if more.rc and found != expected and not (command[0] == "relax" and more.rc == 1 and not more.errors):
        yield f"it cannot go on by {command[0]} ... {command[-1]}: {more.errors.strip()[-300:]}"
    elif found != expected:
        yield f"then other files are there than without a fault: {differing(found, expected)}"


def differing(found: dict, expected: dict) -> list[str]:
    return sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Iterator[Bench]:
    with server() as running:
        yield Bench(tmp_path_factory.mktemp("bench"), running)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_nothing_is_lost(name, bench):
    most = {mode: 2 if (name.startswith("md"), mode) == (True, "killed") else 1 for mode in MODES}
    found = [(mode, *one) for seed, mode in enumerate(MODES) for one in tries(bench, name, mode, most[mode], seed)]
    assert found
    assert not [one for one in found if one[2]]


def _try_all(names: list[str], modes: list[str], most: int | None, place: Path) -> None:
    with server() as running:
        bench = Bench(place, running)
        for name in names:
            for mode in modes:
                counts: Counter = Counter()
                for at, wrong in tries(bench, name, mode, most):
                    counts["tries"] += 1
                    counts["failures"] += bool(wrong)
                    for sentence in wrong[:2]:
                        print(f"    {name}, {mode} at call {at}: {sentence}", flush=True)
                print(f"{name}, {mode}: {counts['failures']} of {counts['tries']} fail", flush=True)


if __name__ == "__main__":
    import tempfile

    parser = argparse.ArgumentParser()
    parser.add_argument("--tries", type=int, help="of each case and mode; all calls by default")
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--modes", nargs="*", default=list(MODES))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _try_all(given.cases, given.modes, given.tries, Path(folder))
