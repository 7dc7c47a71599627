"""Rounds: what each one gets and gives, apart from the trainings; a whole distillation with a round is in test_work."""

from dataclasses import replace
from pathlib import Path

import pytest

import equiforce
from equiforce import model_file
from equiforce.config import configured
from equiforce.distillation import rounds
from equiforce.distillation.rounds import HEADINGS, Round, teach
from equiforce.distillation.selection import Selection
from equiforce.distillation.task import LabelledFrames, Task
from equiforce.distillation.trajectories import Interrupted, Played
from equiforce.terminal import own_console
from equiforce.training.loop import Outcome
from equiforce.workflow import Trained
from tests.distillation.small import QUICK, copper, frames

CONSOLE = own_console(quiet=True)


def potential():
    return equiforce.untrained(["Cu"], l_max=0, channels=4, n_layers=1, cutoff=3.5, dtype="float64").potential


@pytest.fixture
def task(tmp_path):
    return Task(
        teacher=Path("t.eqf"),
        structures=[],
        output=Path("s.eqf"),
        folder=tmp_path,
        options=replace(QUICK, temperatures="100,200", rounds=2, round_frames=10),
        settings=configured({}, {"model.cutoff": 3.5}),
        device="cpu",
    )


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What the trainings and the dynamics were asked; each student is twice as strong as the one before."""
    found = []

    def train_student(task, teacher, learned, folder, start, console):
        place = folder / "student"
        place.mkdir(exist_ok=True)
        student = potential()
        student.scale.fill_(2.0 ** (1 + sum(what == "train" for what, *_ in found)))
        model_file.save(place / "model.eqf", student, [])
        found.append(("train", folder, start, learned.files, learned.n_of()))
        return Trained(place, place / "model.eqf", None, Outcome(why="done", interrupted=False), 0, 0)

    def play_all(model, plan, folder, console, device):
        found.append(("play", model, folder, [t.group for t in plan]))
        if folder.parent.name == "round-2":  # nothing but violent frames
            return [Played(one, frames(4, force=99.0), "it is too hot", 5) for one in plan]
        return [Played(one, frames(20, seed=7 * n, group=one.group), "", 60) for n, one in enumerate(plan)]

    monkeypatch.setattr(rounds, "train_student", train_student)
    monkeypatch.setattr(rounds, "play_all", play_all)
    return found


@pytest.fixture
def learned(tmp_path):
    found = frames(10, seed=90)
    return LabelledFrames.none().with_file(
        tmp_path / "a.xyz", found, Selection(found[:8], found[8:9], found[9:]), QUICK
    )


def test_each_round_begins_with_the_student_of_the_training_before(task, asked, learned, tmp_path):
    teacher, options = potential(), replace(task.options, every=6)
    taught = teach(replace(task, options=options), teacher, copper(1), 5.0, learned, CONSOLE)
    places = [tmp_path, tmp_path / "round-1", tmp_path / "round-2"]
    first, play_first, second, play_second, third = asked
    assert [call[1] for call in (first, second, third)] == places
    assert [call[2] for call in (first, second, third)] == [None, places[1] / "before.eqf", places[2] / "before.eqf"]
    assert play_first[1:] == (places[1] / "before.eqf", places[1] / "md", ["student md 100 K", "student md 200 K"])
    assert play_second[2] == places[2] / "md"
    assert second[3] == (tmp_path / "a.xyz", places[1] / "frames.xyz") == third[3]  # round 2 found nothing
    assert second[4] == {"train": 16, "validation": 2, "test": 2}
    assert taught.frames.n_of() == third[4] == second[4]
    assert [model_file.load(place / "before.eqf").scale.item() for place in places[1:]] == [2.0, 4.0]
    assert model_file.load(taught.model).scale.item() == 8.0

    one, other = taught.rounds
    assert (one.n_frames, other.n_frames) == ({"train": 8, "validation": 1, "test": 1}, dict.fromkeys(one.n_frames, 0))
    assert (one.n_violent, other.n_violent) == (0, 8)
    assert one.reached == [("0-100K", 0.3, ""), ("0-200K", 0.3, "")]
    # the teacher has the scale 1, so errors grow with that of the student
    assert one.after.total.forces.rmse == pytest.approx(3 * one.before.total.forces.rmse)
    assert one.chosen_before.n_structures == 8
    assert one.before.n_structures == 2
    assert other.before is other.after is other.chosen_before is None
    for frame in taught.frames.parts.train[8:]:
        assert abs(equiforce.predict(teacher, frame).forces.numpy() - frame.forces).max() < 1e-6

    teach(replace(task, options=options), teacher, copper(1), 5.0, learned, CONSOLE)
    assert [call[0] for call in asked[5:]] == ["play", "play", "train"]  # the trainings before the last are over


def test_a_training_that_a_signal_stopped_is_not_the_end_of_it(task, learned, monkeypatch, tmp_path):
    def stopped(*_):
        return Trained(tmp_path, tmp_path / "model.eqf", None, Outcome(why="stopped", interrupted=True), 0, 0)

    monkeypatch.setattr(rounds, "train_student", stopped)
    with pytest.raises(Interrupted):
        teach(task, potential(), copper(1), 1.0, learned, CONSOLE)
    assert not (tmp_path / "round-1").exists()


def test_a_round_without_frames_has_dashes_in_its_row():
    one = Round(
        number=2,
        n_frames={"train": 0, "validation": 0, "test": 0},
        n_violent=4,
        reached=[("0-300K", 1.5, ""), ("0-600K", 0.004, "it is too hot")],
        chosen_before=None,
        before=None,
        after=None,
    )
    cells = dict(zip(HEADINGS, one.cells(), strict=True))
    assert cells["trajectories of the student"] == "1 of 2 to the end"
    assert cells["shortest, ps"] == "0.004"
    assert [cells[name] for name in HEADINGS[-3:]] == ["–"] * 3
    values = one.as_dict()
    assert values["trajectories"][1] == {"name": "0-600K", "time_ps": 0.004, "stopped": "it is too hot"}
    assert values["held_out_after"] is None
