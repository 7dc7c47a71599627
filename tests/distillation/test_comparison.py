"""The student beside its teacher: times in turn, and its own dynamics."""

import time
from dataclasses import replace

import numpy as np
import pytest

import equiforce
from equiforce import model_file
from equiforce.coverage import ranges_of
from equiforce.distillation import comparison
from equiforce.distillation.comparison import simulate, speeds
from equiforce.distillation.trajectories import Interrupted, Played, planned
from equiforce.errors import UnstableError
from equiforce.terminal import own_console
from tests.distillation.small import QUICK, copper
from tests.systems import ethanol

CONSOLE = own_console(quiet=True)


def untrained(**options):
    options = {"l_max": 0, "channels": 4, "n_layers": 1, "cutoff": 3.5, **options}
    return equiforce.untrained(["H", "C", "O", "Cu"], dtype="float64", **options).potential


@pytest.fixture(scope="module")
def played():
    """Trajectories of a teacher, whose frames are its start moved a little."""
    rng = np.random.default_rng(0)
    return [
        Played(t, [replace(t.start, positions=t.start.positions + rng.normal(0, 0.05, (4, 3))) for _ in range(8)], "")
        for t in planned(copper(2), 1.0, QUICK)
    ]


@pytest.fixture
def student(tmp_path, played):
    """A model file that knows the ranges of the teacher's frames."""
    ranges = ranges_of([frame for p in played for frame in p.frames], 3.5)
    model_file.save(tmp_path / "student.eqf", untrained(), [], {"ranges": ranges.to_dict()})
    return tmp_path / "student.eqf"


def test_the_slower_one_is_found_slower(monkeypatch):
    teacher, student = untrained(), untrained()
    real = comparison.BatchedPotential

    class Slow(real):
        def __call__(self, *arguments):
            if self.potential is teacher:
                time.sleep(0.2)
            return super().__call__(*arguments)

    monkeypatch.setattr(comparison, "BatchedPotential", Slow)
    found = speeds(teacher, student, [*copper(1), ethanol(), ethanol(1), ethanol(2), ethanol(3)])
    assert [speed.n_atoms for speed in found] == [4, 9, 9]
    for speed in found:
        assert speed.teacher_ms > 200
        assert speed.gain == speed.teacher_ms / speed.student_ms > 1


def test_dynamics_run_from_the_hottest_starts(student, played, tmp_path):
    found = simulate(student, played, 12, tmp_path, CONSOLE)
    assert [s.temperature for s in found] == [200, 200]
    for one in found:
        assert (one.steps, one.stopped) == (12, "")
        assert one.drift is not None
        assert np.isfinite(one.drift)
        assert [d.pair for d in one.radial] == ["Cu-Cu"]
        assert one.noise["Cu-Cu"] > 0
    assert found[0].structure.startswith("Cu4, ")
    assert (tmp_path / "student-md" / "0-200K" / "free" / "last.xyz").is_file()
    again = simulate(student, played, 12, tmp_path, CONSOLE)  # replaces them
    assert [s.drift for s in again] == [s.drift for s in found]


def test_leaving_the_data_is_told(played, tmp_path):
    narrow = replace(ranges_of(played[0].frames, 3.5), distances={"Cu-Cu": [(3.4, 3.5)]})
    model_file.save(tmp_path / "student.eqf", untrained(), [], {"ranges": narrow.to_dict()})
    (found, _) = simulate(tmp_path / "student.eqf", played, 12, tmp_path, CONSOLE)
    assert found.outside == 1
    assert "the data have no Cu-Cu below 3.40 Å" in found.departures["distance Cu-Cu"]


def test_dynamics_that_go_wrong_are_told(student, played, tmp_path, monkeypatch):
    def explode(*_, **__):
        raise UnstableError("the simulation stopped at step 3 because it is too hot: try less")

    monkeypatch.setattr(comparison, "run_md", explode)
    (found, _) = simulate(student, played, 12, tmp_path, CONSOLE)
    assert found.stopped == "the simulation stopped at step 3 because it is too hot"
    assert found.drift is None
    assert not found.radial


def test_a_signal_ends_it(student, played, tmp_path, monkeypatch):
    real = comparison.run_md
    monkeypatch.setattr(comparison, "run_md", lambda *a, **o: replace(real(*a, **o), interrupted=True))
    with pytest.raises(Interrupted):
        simulate(student, played, 12, tmp_path, CONSOLE)
