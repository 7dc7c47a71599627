"""The teacher's own molecular dynamics from each start structure, each trajectory in a folder from which it goes on."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from equiforce.calculators.md.options import MDOptions
from equiforce.calculators.md.output import THERMO, TRAJECTORY
from equiforce.calculators.md.run import resume_md, run_md
from equiforce.calculators.md.state import STATE, read_state
from equiforce.data.read import read
from equiforce.data.write import atoms_from_structure
from equiforce.distillation.options import DistillOptions
from equiforce.distillation.starts import bare, strained
from equiforce.errors import InputError, UnstableError
from equiforce.potential import Potential
from equiforce.storage.whole import write_text
from equiforce.structure import Structure
from equiforce.terminal import BarColumn, Console, MofNCompleteColumn, TextColumn, TimeRemainingColumn, bar, note

STOPPED = "stopped.json"  # why a trajectory ended before its last step
FOLDER = "teacher-md"
LARGEST_SEED = 2**31


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One simulation: its start in its strained cell, its options, and its folder below that of the distillation."""

    name: str
    number: int  # of the start structure
    start: Structure
    strain: float
    options: MDOptions

    @property
    def group(self) -> str:
        """The name of its frames in tables of errors."""
        return f"md {self.options.temperature:g} K"


class Played(NamedTuple):
    """The frames of a trajectory after its start, with the teacher's energies and forces, in the order of time."""

    trajectory: Trajectory
    frames: list[Structure]
    stopped: str  # why it ended early; empty if it did not


class Interrupted(Exception):  # noqa: N818 (it is no error)
    """A signal asked to stop; all files are as they should be."""


def planned(starts: Sequence[Structure], timestep: float, options: DistillOptions) -> list[Trajectory]:
    """The trajectories of all start structures: one for each temperature, with the strains in turn.

    The coldest trajectory of the first structure has the first strain, and each further structure begins with the next
    one, so that with several structures each temperature meets each strain.
    """
    strains, plan = options.linear_strains, list[Trajectory]()
    for number, start in enumerate(starts):
        for turn, temperature in enumerate(options.kelvin):
            strain = strains[(number + turn) % len(strains)] if start.pbc.any() else 0.0
            md = MDOptions(
                temperature=temperature,
                timestep=timestep,
                steps=options.steps,
                friction=options.friction,
                trajectory_every=options.every,
                thermo_every=options.every,
                seed=(options.seed + 7919 * len(plan)) % LARGEST_SEED,
            )
            name = f"{number}-{temperature:g}K"
            plan.append(
                Trajectory(name=name, number=number, start=strained(bare(start), strain), strain=strain, options=md)
            )
    return plan


def play_all(teacher: Potential, plan: Sequence[Trajectory], folder: Path, console: Console) -> list[Played]:
    """Play all trajectories, or the rest of them, beside a bar with the time that is left.

    A trajectory that goes wrong is stopped and said; its frames up to there are kept.

    Args:
        teacher: the potential that moves the atoms.
        plan: the trajectories.
        folder: that of the distillation.
        console: shows the bar, and which trajectories were stopped.

    Raises:
        Interrupted: a signal asked to stop.
        InputError: a file cannot be read or written.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    total, played = sum(t.options.steps for t in plan), []
    with bar(console, *columns) as progress:
        task = progress.add_task("the teacher moves", total=total)
        done = 0
        for trajectory in plan:
            description = f"teacher, structure {trajectory.number}, {trajectory.options.temperature:g} K"
            progress.update(task, description=description)
            here = folder / FOLDER / trajectory.name
            before = done

            def on_step(step: int, before: int = before) -> None:
                progress.update(task, completed=before + step)

            why = _stopped_before(here) or play(teacher, trajectory.start, trajectory.options, here, on_step)
            done += trajectory.options.steps
            progress.update(task, completed=done)
            frames = list(_frames(trajectory, here))
            if why:
                text = f"{trajectory.name}: {len(frames)} frames are kept of a trajectory that went wrong: {why}"
                note(progress.console, text)
            played.append(Played(trajectory, frames, why))
    return played


def play(model: Potential | Path, start: Structure, options: MDOptions, folder: Path, on_step: Any = None) -> str:
    """Play a simulation in its folder, or the rest of it; return why it was stopped, which is empty if it was not.

    Raises:
        Interrupted: a signal asked to stop.
        InputError: a file cannot be read or written, or no simulation can start from the structure.
    """
    try:
        if not (folder / STATE).exists():
            summary = run_md(model, atoms_from_structure(start), options, folder, overwrite=True, on_step=on_step)
        elif _is_complete(folder, options):
            return ""
        else:
            summary = resume_md(folder, model, options={"steps": options.steps}, on_step=on_step)
    except UnstableError as error:
        why = str(error).partition(": ")[0]
        write_text(folder / STOPPED, json.dumps({"why": why}) + "\n")
        return why
    if summary.interrupted:
        raise Interrupted
    return ""


def _is_complete(folder: Path, options: MDOptions) -> bool:
    header = read_state(folder).header
    return bool(header["step"] >= options.steps and header["sizes"][THERMO])


def _stopped_before(folder: Path) -> str:
    """Why an earlier call stopped the simulation in a folder; empty if none did."""
    file = folder / STOPPED
    if not file.exists():
        return ""
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["why"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{file} is damaged: delete it, and the trajectory is played again from its state") from error


def _frames(trajectory: Trajectory, folder: Path) -> Iterator[Structure]:
    """The frames after the start, which all trajectories of a structure share."""
    file = folder / TRAJECTORY
    if not file.exists():  # the very first forces were not finite
        return
    for number, frame in enumerate(read(file, labels_required=False)):
        if number:
            step = number * trajectory.options.trajectory_every
            source = f"step {step} of {FOLDER}/{trajectory.name}"
            yield replace(frame, group=trajectory.group, source=source, extra={}, of_atoms=frozenset())
