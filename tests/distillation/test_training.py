"""The training of a student: how trainings share their length, and that later ones start from its weights."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import equiforce
from equiforce import model_file
from equiforce.config import configured
from equiforce.distillation import training
from equiforce.distillation.options import DistillOptions
from equiforce.distillation.selection import Selection
from equiforce.distillation.task import LabelledFrames, Task
from equiforce.distillation.training import shared, train_student
from equiforce.errors import InputError
from equiforce.terminal import own_console
from equiforce.training.loop import Outcome
from equiforce.training.stopping import TrainingConfig
from equiforce.workflow import Trained
from tests.distillation.small import QUICK, copper

CONSOLE = own_console(quiet=True)


@pytest.mark.parametrize(
    ("given", "each"),
    [
        ({"time": "30m"}, {"time": "10m"}),
        ({"time": "100s", "max_steps": 3000}, {"time": "33.33s", "max_steps": 1000}),
        ({"max_epochs": 7}, {"max_epochs": 2}),
        ({"max_steps": 2}, {"max_steps": 1}),
        ({}, {"max_steps": 6666}),
        ({"early_stopping": 9, "time": "3s"}, {"early_stopping": 9, "time": "1s"}),
    ],
)
def test_trainings_share_their_length(given, each):
    assert shared(TrainingConfig(**given), 3) == TrainingConfig(**each)
    assert shared(TrainingConfig(**given), 1) == TrainingConfig(**given)


def test_a_later_training_starts_from_the_student_and_its_energies(tmp_path, monkeypatch):
    teacher = equiforce.untrained(["Ag", "Cu"], l_max=0, channels=4, n_layers=1, cutoff=3.5).potential
    teacher.atomic_energies.copy_(torch.tensor([-9.0, -3.25]))
    student = equiforce.untrained(["Cu"], l_max=0, channels=4, n_layers=1, cutoff=3.5).potential
    model_file.save(tmp_path / "before.eqf", student, [])
    found, asked = copper(12), []
    parts = Selection(found[:8], found[8:10], found[10:])
    frames = LabelledFrames.none().with_file(tmp_path / "frames.xyz", found, parts, QUICK)
    options = {"l_max": 0, "channels": 4, "n_layers": 1, "cutoff": 3.5}
    given = {f"model.{name}": value for name, value in options.items()}
    task = Task(
        teacher=Path("t.eqf"),
        structures=[],
        output=Path("s.eqf"),
        folder=tmp_path,
        options=DistillOptions(rounds=1),
        settings=configured({}, given | {"training.max_steps": 4, "potential.scale": 0.5}),
        device="cpu",
    )

    def record(*_, config, **__):
        asked.append(config)
        return Trained(tmp_path, None, None, Outcome(why="", interrupted=False), 0, 0)

    monkeypatch.setattr(training, "train", record)
    for start in (None, tmp_path / "before.eqf"):
        train_student(task, teacher, frames, tmp_path, start, CONSOLE)
    first, second = asked
    assert (first.start.model, second.start.model) == (None, str(tmp_path / "before.eqf"))
    assert (first.potential.scale, second.potential.scale) == (0.5, None)  # the start has its own
    assert (first.optimizer.learning_rate, second.optimizer.learning_rate) == (None, 0.005)
    assert second.model == student.model.config
    for config in asked:
        assert config.training.max_steps == 2
        assert config.potential.reference_energies == {"Cu": -3.25}
        assert config.split.train_file == [str(tmp_path / "frames.xyz")]
        assert not config.data.check
    other = replace(task, settings=configured(task.settings, {"model.channels": 8}))
    with pytest.raises(InputError, match=r"model\.channels=8 is given, but the start model"):
        train_student(other, teacher, frames, tmp_path, tmp_path / "before.eqf", CONSOLE)
