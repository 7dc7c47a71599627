"""Molecular dynamics of a teacher or a student from each start structure, each in a folder from which it goes on."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from equiforce.calculators.md.options import MDOptions
from equiforce.calculators.md.output import LAST, THERMO, TRAJECTORY
from equiforce.calculators.md.run import resume_md, run_md
from equiforce.calculators.md.state import STATE, read_state
from equiforce.data.read import read
from equiforce.data.write import MOVE_MASK, atoms_from_structure
from equiforce.distillation.options import DistillOptions
from equiforce.distillation.starts import bare, strained
from equiforce.errors import InputError, UnstableError
from equiforce.potential import Potential
from equiforce.storage.whole import write_text
from equiforce.structure import Structure
from equiforce.terminal import BarColumn, Console, MofNCompleteColumn, TextColumn, TimeRemainingColumn, bar, note

STOPPED = "stopped.json"  # why a trajectory ended before its last step
NPT = "npt"
TEACHER, STUDENT = "teacher", "student"  # who moves the atoms
FOLDER = "teacher-md"
LARGEST_SEED = 2**31
SEEDS_APART = 7919  # between two trajectories


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One simulation: its start in its strained cell, its options, and its folder below that of the distillation."""

    name: str
    number: int  # of the start structure
    start: Structure
    strain: float
    options: MDOptions
    by: str = TEACHER

    @property
    def conditions(self) -> str:
        """Its temperature, and its pressure if that is constant."""
        pressure = f", {self.options.pressure:g} GPa" if self.options.ensemble == NPT else ""
        return f"{self.options.temperature:g} K{pressure}"

    @property
    def group(self) -> str:
        """The name of its frames in tables of errors."""
        return f"{'' if self.by == TEACHER else self.by + ' '}md {self.conditions}"


class Played(NamedTuple):
    """The frames of a trajectory after its start, with energies and forces of who moved it, in the order of time."""

    trajectory: Trajectory
    frames: list[Structure]
    stopped: str  # why it ended early; empty if it did not
    n_steps: int = 0  # that were made


class Interrupted(Exception):  # noqa: N818 (it is no error)
    """A signal asked to stop; all files are as they should be."""


def planned(
    starts: Sequence[Structure], timestep: float, options: DistillOptions, by: str = TEACHER
) -> list[Trajectory]:
    """The trajectories of all start structures: one for each temperature with the strains in turn, then the pressures.

    The coldest trajectory of the first structure has the first strain, and each further structure begins with the next
    one, so that with several structures each temperature meets each strain. Structures whose volume cannot change have
    no trajectories at constant pressure.

    Args:
        starts: the start structures.
        timestep: in fs.
        options: of the sampling.
        by: who moves the atoms.
    """
    strains, plan = options.linear_strains, list[Trajectory]()
    for number, start in enumerate(starts):
        pressures = options.gigapascals if has_pressure(start) else []
        for turn, temperature in enumerate(options.kelvin):
            for pressure in (None, *pressures):
                strain = strains[(number + turn) % len(strains)] if pressure is None and start.pbc.any() else 0.0
                own: dict[str, Any] = {"friction": options.friction}
                if pressure is not None:
                    own = {"ensemble": NPT, "pressure": pressure}
                md = MDOptions(
                    temperature=temperature,
                    timestep=timestep,
                    steps=options.steps,
                    trajectory_every=options.every,
                    thermo_every=options.every,
                    seed=(options.seed + SEEDS_APART * len(plan)) % LARGEST_SEED,
                    **own,
                )
                name = f"{number}-{temperature:g}K" + ("" if pressure is None else f"-{pressure:g}GPa")
                moved = strained(bare(start), strain)
                plan.append(Trajectory(name=name, number=number, start=moved, strain=strain, options=md, by=by))
    return plan


def has_pressure(start: Structure) -> bool:
    """Whether a structure can be simulated at constant pressure: it has a volume, and none of its atoms is fixed."""
    held = MOVE_MASK in start.of_atoms and not np.all(start.extra[MOVE_MASK])
    return bool(start.pbc.all() and np.linalg.det(start.cell) != 0 and not held)


def check_pressures(starts: Sequence[Structure], options: DistillOptions) -> list[str]:
    """A sentence if some structures get no trajectories at constant pressure; empty if all do, or if none are wanted.

    Raises:
        InputError: pressures are given, and no structure has one.
    """
    without = [start for start in starts if not has_pressure(start)]
    if not options.gigapascals or not without:
        return []
    why = "not periodic in all directions, or hold atoms fixed"
    if len(without) == len(starts):
        raise InputError(f"the start structures are {why}, so they have no pressure: leave --pressures out")
    return [
        f"{len(without)} of the {len(starts)} start structures are {why}, such as {without[0].source}: they get no "
        "trajectories at constant pressure"
    ]


def play_all(
    model: Potential | Path, plan: Sequence[Trajectory], folder: Path, console: Console, device: str | None = None
) -> list[Played]:
    """Play all trajectories, or the rest of them, beside a bar with the time that is left.

    A trajectory that goes wrong is stopped and said; its frames up to there are kept. Those of a model file are also
    stopped where they leave the training data of which the file tells, and have their last structure as a frame.

    Args:
        model: the potential that moves the atoms, or its file.
        plan: the trajectories.
        folder: that of all trajectories.
        console: shows the bar, and which trajectories were stopped.
        device: computes a model file; a potential computes on its own.

    Raises:
        Interrupted: a signal asked to stop.
        InputError: a file cannot be read or written.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    total, played = sum(t.options.steps for t in plan), []
    with bar(console, *columns) as progress:
        task = progress.add_task("", total=total)
        done = 0
        for trajectory in plan:
            description = f"{trajectory.by}, structure {trajectory.number}, {trajectory.conditions}"
            progress.update(task, description=description)
            here = folder / trajectory.name
            before = done

            def on_step(step: int, before: int = before) -> None:
                progress.update(task, completed=before + step)

            why, n_steps = _stopped_before(here) or play(model, trajectory, here, on_step, device)
            done += trajectory.options.steps
            progress.update(task, completed=done)
            frames = list(_frames(trajectory, here))
            if why and isinstance(model, Path):
                frames += _last_frame(trajectory, here, n_steps)
            if why:
                text = f"{trajectory.name}: {len(frames)} frames are kept of a trajectory that went wrong: {why}"
                note(progress.console, text)
            played.append(Played(trajectory, frames, why, n_steps))
    return played


def play(
    model: Potential | Path, trajectory: Trajectory, folder: Path, on_step: Any = None, device: str | None = None
) -> tuple[str, int]:
    """Play a simulation in its folder, or the rest of it.

    Returns:
        Why it was stopped, which is empty if it was not, and how many steps it made.

    Raises:
        Interrupted: a signal asked to stop.
        InputError: a file cannot be read or written, or no simulation can start from the structure.
    """
    options, made = trajectory.options, [0]

    def count(step: int) -> None:
        made[0] = step
        if on_step is not None:
            on_step(step)

    chosen: dict[str, Any] = {"device": device, "on_step": count, "stop_outside": isinstance(model, Path)}
    try:
        if not (folder / STATE).exists():
            summary = run_md(model, atoms_from_structure(trajectory.start), options, folder, overwrite=True, **chosen)
        elif _is_complete(folder, options):
            return "", options.steps
        else:
            count(read_state(folder).header["step"])
            summary = resume_md(folder, model, options={"steps": options.steps}, **chosen)
    except UnstableError as error:
        why = str(error).partition(": ")[0]
        write_text(folder / STOPPED, json.dumps({"why": why, "steps": made[0]}) + "\n")
        return why, made[0]
    if summary.interrupted:
        raise Interrupted
    return "", summary.n_steps


def _is_complete(folder: Path, options: MDOptions) -> bool:
    header = read_state(folder).header
    return bool(header["step"] >= options.steps and header["sizes"][THERMO])


def _stopped_before(folder: Path) -> tuple[str, int] | None:
    """Why an earlier call stopped the simulation in a folder, and after how many steps; None if none did."""
    file = folder / STOPPED
    if not file.exists():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return str(found["why"]), int(found.get("steps", 0))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{file} is damaged: delete it, and the trajectory is played again from its state") from error


def _frames(trajectory: Trajectory, folder: Path) -> Iterator[Structure]:
    """The frames after the start, which all trajectories of a structure share."""
    file = folder / TRAJECTORY
    if not file.exists():  # the very first forces were not finite
        return
    for number, frame in enumerate(read(file, labels_required=False)):
        if number:
            yield _as_frame(frame, trajectory, folder, number * trajectory.options.trajectory_every)


def _last_frame(trajectory: Trajectory, folder: Path, n_steps: int) -> list[Structure]:
    """The last sound structure of a trajectory that was stopped, unless it is one of its frames."""
    file = folder / LAST
    if n_steps % trajectory.options.trajectory_every == 0 or not file.exists():
        return []
    return [_as_frame(read(file, labels_required=False)[0], trajectory, folder, n_steps)]


def _as_frame(frame: Structure, trajectory: Trajectory, folder: Path, step: int) -> Structure:
    source = f"step {step} of {folder.parent.name}/{folder.name}"
    return replace(frame, group=trajectory.group, source=source, extra={}, of_atoms=frozenset())
