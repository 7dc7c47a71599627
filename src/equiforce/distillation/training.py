"""Trains a student on labelled frames, first from random weights and then further, each time in a folder of its own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from equiforce.config import RunConfig, configured
from equiforce.data.read import ReadOptions
from equiforce.distillation.task import LabelledFrames, Task
from equiforce.elements import symbols_by_number
from equiforce.potential import Potential
from equiforce.starting import with_start
from equiforce.terminal import Console
from equiforce.training.stopping import TrainingConfig, duration, seconds_of
from equiforce.workflow import Trained, train

STUDENT, SPLIT = "student", "split.json"
SHORTEST = 0.01  # s


def train_student(
    task: Task, teacher: Potential, frames: LabelledFrames, folder: Path, start: Path | None, console: Console
) -> Trained:
    """Train the student in a folder, or go on with its training there.

    Args:
        task: the distillation, whose length of the training is shared by the first training and the rounds.
        teacher: the large potential, which knows the energies of isolated atoms.
        frames: from which the student learns.
        folder: gets the run and the division of the frames.
        start: the model file of the student from which training starts; None draws its weights.
        console: prints the progress.

    Raises:
        InputError: the options contradict the student, or a file cannot be read or written.
        DivergedError: the training diverged.
    """
    frames.write_split(folder / SPLIT)
    options: dict[str, Any] = {"split.train_file": [str(file) for file in frames.files], "training.device": task.device}
    options["split.split_file"] = str(folder / SPLIT)
    if task.settings.potential.reference_energies is None:
        # a fit to frames of one composition would have many solutions, and the teacher knows its own
        present = {symbol for frame in frames.parts.train for symbol in symbols_by_number(frame.atomic_numbers)}
        energies = zip(teacher.species, teacher.atomic_energies.tolist(), strict=True)
        options["potential.reference_energies"] = {one: energy for one, energy in energies if one in present}
    # the labels are right by construction, and a check of few frames that took them for wrong would cost all of them
    settings = configured(replace(_shared(task), data=ReadOptions(check=False)), options)
    if start is not None:
        # the start has its scale; a resumed run needs the same options, so those that follow are not left to the run
        given = {"start.model": str(start.resolve()), "potential.scale": None}
        settings = configured(settings, with_start(configured(settings, given), given))
    return train(None, folder / STUDENT, config=settings, resume_if_there=True, console=console, names_resume=False)


def _shared(task: Task) -> RunConfig:
    return replace(task.settings, training=shared(task.settings.training, task.options.rounds + 1))


def shared(training: TrainingConfig, n_trainings: int) -> TrainingConfig:
    """The length of one of several trainings that together are as long as the given one: in time, steps and passes.

    Args:
        training: the options of the whole.
        n_trainings: how many there are.
    """
    if n_trainings == 1:
        return training
    time, epochs, steps = training.time, training.max_epochs, training.step_limit
    return replace(
        training,
        time=None if time is None else duration(max(SHORTEST, round(seconds_of(time) / n_trainings, 2))),
        max_epochs=None if epochs is None else max(1, epochs // n_trainings),
        max_steps=None if steps is None else max(1, steps // n_trainings),
    )
