"""Rounds: the student moves the atoms, the teacher labels what it visits, and the student learns from that too."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from equiforce import model_file
from equiforce.distillation.labelling import labelled
from equiforce.distillation.selection import Selection, divided_of_round, select_more
from equiforce.distillation.task import LabelledFrames, Task
from equiforce.distillation.training import train_student
from equiforce.distillation.trajectories import STUDENT, Interrupted, Played, planned, play_all
from equiforce.evaluate import Errors, errors, predict
from equiforce.potential import Potential
from equiforce.storage.whole import write_bytes
from equiforce.structure import Structure
from equiforce.terminal import Console, say
from equiforce.threads import fastest_threads
from equiforce.workflow import Trained

FOLDER, BEFORE, MD, FRAMES = "round-{}", "before.eqf", "md", "frames.xyz"
HEADINGS = (
    "round",
    "trajectories of the student",
    "shortest, ps",
    "new frames",
    "chosen to learn from, before",
    "held out, before",
    "held out, after",
)


@dataclass(frozen=True, kw_only=True)
class Round:
    """What a round found; errors are those of the student against the teacher on the new frames."""

    number: int
    n_frames: dict[str, int]  # new ones of each part
    n_violent: int
    reached: Sequence[tuple[str, float, str]]  # of each trajectory: name, length in ps, why it was stopped
    chosen_before: Errors | None  # on those from which it then learned; None without any
    before: Errors | None  # on those that were held out, before it was trained on frames of this round
    after: Errors | None  # and after

    def cells(self) -> list[str]:
        """The row of a table with the headings ``HEADINGS``; forces are root mean squares in meV/Å."""
        n_whole = sum(not why for *_, why in self.reached)
        return [
            str(self.number),
            f"{n_whole} of {len(self.reached)} to the end",
            f"{min(length for _, length, _ in self.reached):.3g}",
            ", ".join(f"{n} for {part}" for part, n in self.n_frames.items()),
            *(_rmse(found) for found in (self.chosen_before, self.before, self.after)),
        ]

    def as_dict(self) -> dict[str, Any]:
        """The results as plain types for JSON."""
        return {
            "round": self.number,
            "n_frames": self.n_frames,
            "n_violent": self.n_violent,
            "trajectories": [
                {"name": name, "time_ps": length, "stopped": stopped} for name, length, stopped in self.reached
            ],
            **{
                name: None if found is None else found.as_dict()
                for name, found in (
                    ("chosen_before", self.chosen_before),
                    ("held_out_before", self.before),
                    ("held_out_after", self.after),
                )
            },
        }


class Taught(NamedTuple):
    """The student after all rounds."""

    trained: Trained
    model: Path
    frames: LabelledFrames
    rounds: list[Round]


class _Visited(NamedTuple):
    """What a round added."""

    before: Path
    played: list[Played]
    n_violent: int
    new: Selection


def teach(
    task: Task,
    teacher: Potential,
    starts: Sequence[Structure],
    timestep: float,
    frames: LabelledFrames,
    console: Console,
) -> Taught:
    """Train the student, and in each round let it move the atoms and train it further.

    Each round has a folder with the student before it, which is no longer trained then, with its trajectories, the new
    frames and the next training. Whatever is there is not computed again.

    Args:
        task: the distillation.
        teacher: the large potential.
        starts: the start structures.
        timestep: in fs.
        frames: the labelled frames of the teacher's trajectories.
        console: prints the progress.

    Raises:
        Interrupted: a signal asked to stop.
        InputError: a file cannot be read or written.
        DivergedError: a training diverged.
    """
    folder, start, visited = task.folder, None, list[_Visited]()
    for number in range(1, task.options.rounds + 1):
        place = task.folder / FOLDER.format(number)
        if not (place / BEFORE).exists():
            model = _trained(train_student(task, teacher, frames, folder, start, console))
            place.mkdir(exist_ok=True)
            write_bytes(place / BEFORE, model.read_bytes())
        folder, start = place, place / BEFORE
        one, frames = _visit(task, teacher, starts, timestep, frames, number, console)
        visited.append(one)
    trained = train_student(task, teacher, frames, folder, start, console)
    models = [*(one.before for one in visited), _trained(trained)]
    rounds = [_judged(one, number, models[number], task) for number, one in enumerate(visited, 1)]
    return Taught(trained, models[-1], frames, rounds)


def _trained(trained: Trained) -> Path:
    if trained.model is None or trained.outcome.interrupted:
        raise Interrupted
    return trained.model


def _visit(
    task: Task,
    teacher: Potential,
    starts: Sequence[Structure],
    timestep: float,
    frames: LabelledFrames,
    number: int,
    console: Console,
) -> tuple[_Visited, LabelledFrames]:
    """The student moves the atoms, and the teacher labels frames that it visited."""
    options, folder = task.options.of_round(number), task.folder / FOLDER.format(number)
    plan = planned(starts, timestep, options, by=STUDENT)
    say(
        console,
        f"round {number} of {options.rounds}: the student makes {len(plan)} trajectories of {options.steps} steps",
    )
    played = play_all(folder / BEFORE, plan, folder / MD, console, task.device)
    candidates = divided_of_round(played, options)
    chosen = select_more(frames.parts.train, candidates, options, task.settings.model.cutoff)
    every = [frame for part in chosen for frame in part]
    answers: list[Structure] = []
    if every:
        with fastest_threads(lambda: predict(teacher, starts[0])):
            answers = labelled(teacher, every, folder / FRAMES, "the teacher labels frames", console)
    more = frames.with_file(folder / FRAMES, answers, chosen, options)
    old = frames.n_of()
    new = Selection(*(part[old[name] :] for name, part in zip(old, more.parts, strict=True)))
    n_found = len(candidates.train) + len(candidates.validation) + len(candidates.test)
    n_violent = candidates.n_violent + len(every) - sum(map(len, new))
    say(
        console,
        f"new frames: {len(new.train)} for training, {len(new.validation)} for validation, {len(new.test)} for the "
        f"test, chosen among {n_found}; {n_violent} with forces above {options.largest_force:g} eV/Å were left out",
    )
    return _Visited(folder / BEFORE, played, n_violent, new), more


def _judged(visited: _Visited, number: int, after: Path, task: Task) -> Round:
    """Errors of the student before and after a round on its new frames."""
    before, later = (model_file.load(path, task.device) for path in (visited.before, after))
    new = visited.new
    held_out = [*new.validation, *new.test]
    return Round(
        number=number,
        n_frames={name: len(part) for name, part in new._asdict().items()},
        n_violent=visited.n_violent,
        reached=[
            (p.trajectory.name, p.n_steps * p.trajectory.options.timestep / 1000, p.stopped) for p in visited.played
        ],
        chosen_before=_errors(before, new.train),
        before=_errors(before, held_out),
        after=_errors(later, held_out),
    )


def _errors(student: Potential, frames: Sequence[Structure]) -> Errors | None:
    return errors(frames, predict(student, frames)) if frames else None


def _rmse(found: Errors | None) -> str:
    forces = None if found is None else found.total.forces
    return "–" if forces is None else f"{forces.rmse:.4g}"
