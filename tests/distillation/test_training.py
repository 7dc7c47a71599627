"""The training of a student: how trainings share their length, and that later ones start from its weights."""

from pathlib import Path

import pytest
import torch

import equiforce
from equiforce import model_file
from equiforce.config import configured
from equiforce.data.write import atoms_from_structure
from equiforce.distillation.options import DistillOptions
from equiforce.distillation.selection import Selection
from equiforce.distillation.task import LabelledFrames, Task
from equiforce.distillation.training import shared, train_student
from equiforce.terminal import own_console
from equiforce.training.stopping import TrainingConfig
from tests.data_sets import write
from tests.distillation.small import QUICK, STUDENT, copper

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


def test_a_later_training_starts_from_the_student_and_its_energies(tmp_path, without_plots, plain_torch):
    teacher = equiforce.untrained(["Ag", "Cu"], l_max=0, channels=4, n_layers=1, cutoff=3.5).potential
    teacher.atomic_energies.copy_(torch.tensor([-9.0, -3.25]))
    found = copper(12)
    write(tmp_path / "frames.xyz", [atoms_from_structure(one) for one in found])
    parts = Selection(found[:8], found[8:10], found[10:])
    frames = LabelledFrames.none().with_file(tmp_path / "frames.xyz", found, parts, QUICK)
    options = STUDENT | {"training.max_steps": 4, "model.l_max": 0, "model.n_layers": 1, "potential.scale": 0.5}
    task = Task(
        teacher=Path("t.eqf"),
        structures=[],
        output=Path("s.eqf"),
        folder=tmp_path,
        options=DistillOptions(rounds=1),
        settings=configured({}, options),
        device="cpu",
    )
    first = train_student(task, teacher, frames, tmp_path, None, CONSOLE)
    (tmp_path / "round-1").mkdir()
    second = train_student(task, teacher, frames, tmp_path / "round-1", first.model, CONSOLE)
    assert second.folder == tmp_path / "round-1" / "student"
    for trained in (first, second):
        assert model_file.read_header(trained.model)["about"]["training"]["steps"] == 2
        assert model_file.load(trained.model).species == ["Cu"]
        assert model_file.load(trained.model).atomic_energies.tolist() == [-3.25]
    start = model_file.load(tmp_path / "round-1" / "student" / "start.eqf").state_dict()
    for name, values in model_file.load(first.model).state_dict().items():
        torch.testing.assert_close(start[name], values)
    assert float(start["scale"]) == 0.5
    again = train_student(task, teacher, frames, tmp_path / "round-1", first.model, CONSOLE)  # it is finished
    for name, values in model_file.load(second.model).state_dict().items():
        torch.testing.assert_close(model_file.load(again.model).state_dict()[name], values)
