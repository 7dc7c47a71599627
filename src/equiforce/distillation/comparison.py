"""Measures a student beside its teacher: speed, and the student's own molecular dynamics at the highest temperature."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from equiforce.calculators.batched import BatchedPotential
from equiforce.calculators.md.options import MDOptions
from equiforce.calculators.md.output import LAST, TRAJECTORY
from equiforce.calculators.md.run import run_md
from equiforce.data.read import read
from equiforce.data.write import atoms_from_structure
from equiforce.distillation.radial import Difference, differences
from equiforce.distillation.trajectories import NPT, Interrupted, Played
from equiforce.elements import formula
from equiforce.errors import UnstableError
from equiforce.potential import Potential
from equiforce.structure import Structure
from equiforce.terminal import BarColumn, Console, MofNCompleteColumn, TextColumn, TimeRemainingColumn, bar
from equiforce.threads import fastest_threads

REPEATS = 9  # of each potential, in turn
MOVE = 0.005  # Å; as in a time step, so that the neighbour list stays
MOST_TIMED = MOST_SIMULATED = 3  # start structures
RADIUS = 6.0  # Å; of radial distribution functions
FEWEST_FRAMES = 4  # from which a function is made
FOLDER = "student-md"


@dataclass(frozen=True, kw_only=True)
class Speed:
    """The time of a step for a structure: energy and forces with a neighbour list that is still valid."""

    structure: str
    n_atoms: int
    teacher_ms: float
    student_ms: float

    @property
    def gain(self) -> float:
        """How many times as fast the student is."""
        return self.teacher_ms / self.student_ms


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """The student's own dynamics from one start structure."""

    structure: str
    temperature: float  # K
    steps: int  # at constant temperature that were made
    outside: float  # the part of the steps that were outside of the data on which it was trained
    departures: Mapping[str, str]  # a sentence for each kind
    drift: float | None  # of the total energy at constant energy, meV/atom/ps; None if it could not run
    stopped: str  # why a simulation went wrong; empty if it did not
    radial: Sequence[Difference]  # of the student and the teacher, the largest first; empty if there are too few frames
    noise: Mapping[str, float]  # the largest difference by pair between the two halves of the teacher's trajectory


def speeds(teacher: Potential, student: Potential, starts: Sequence[Structure]) -> list[Speed]:
    """Time energy and forces of the teacher and of the student in turn, with atoms that move a little.

    Args:
        teacher: the large potential.
        student: the small one.
        starts: the start structures; the smallest, the largest and one between them are timed.
    """
    by_size = sorted(starts, key=len)
    places = np.unique(np.linspace(0, len(by_size) - 1, min(MOST_TIMED, len(by_size))).round()).astype(int)
    before = torch.get_num_threads()
    try:
        return [_speed(teacher, student, by_size[place]) for place in places]
    finally:
        torch.set_num_threads(before)


def _speed(teacher: Potential, student: Potential, structure: Structure) -> Speed:
    """Time both with one structure; each computes with its own fastest number of threads."""
    rng = np.random.default_rng(0)
    times: tuple[list[float], list[float]] = ([], [])
    both = BatchedPotential(teacher), BatchedPotential(student)
    threads = [_fastest(potential, structure) for potential in both]
    for _ in range(REPEATS):
        steps = rng.normal(scale=MOVE, size=structure.positions.shape)
        moved = replace(structure, positions=structure.positions + steps)
        for potential, n_threads, seconds in zip(both, threads, times, strict=True):
            torch.set_num_threads(n_threads)
            began = time.perf_counter()
            prediction = potential([moved])
            assert prediction.forces is not None
            prediction.forces.cpu()  # waits for a GPU
            seconds.append(time.perf_counter() - began)
    teacher_ms, student_ms = (1000 * median(seconds) for seconds in times)
    return Speed(structure=structure.source, n_atoms=len(structure), teacher_ms=teacher_ms, student_ms=student_ms)


def _fastest(potential: BatchedPotential, structure: Structure) -> int:
    """The fastest number of threads, after a first call that lists neighbours and compiles."""
    potential([structure])
    with fastest_threads(lambda: potential([structure])):
        return torch.get_num_threads()


def simulate(student: Path, played: Sequence[Played], n_steps: int, folder: Path, console: Console) -> list[Simulated]:
    """Run the student's own dynamics beside the hottest trajectories of the teacher, from the same starts.

    Args:
        student: its model file, which has the ranges of its training data.
        played: the trajectories of the teacher.
        n_steps: at constant temperature; half as many follow at constant energy.
        folder: gets the simulations; earlier ones are replaced.
        console: shows a bar with the time that is left.

    Raises:
        InputError: a file cannot be read or written.
        Interrupted: a signal asked to stop.
    """
    hottest = max(p.trajectory.options.temperature for p in played)
    chosen = [p for p in played if p.trajectory.options.temperature == hottest][:MOST_SIMULATED]
    columns = (TextColumn("the student moves"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with bar(console, *columns) as progress:
        task, each = progress.add_task("", total=len(chosen) * (n_steps + _at_constant_energy(n_steps))), []
        for p in chosen:
            place = folder / FOLDER / p.trajectory.name
            each.append(_simulated(student, p, n_steps, place, lambda step: progress.advance(task, min(step, 1))))
    return each


def _at_constant_energy(n_steps: int) -> int:
    return max(2, n_steps // 2)


def _simulated(
    student: Path, played: Played, n_steps: int, folder: Path, on_step: Callable[[int], object]
) -> Simulated:
    trajectory, stopped, drift = played.trajectory, "", None
    every = min(trajectory.options.trajectory_every, max(1, n_steps // FEWEST_FRAMES))
    options = replace(trajectory.options, steps=n_steps, trajectory_every=every, thermo_every=every)
    departures: dict[str, str] = {}
    outside, done = 0.0, 0
    thermal, free = folder / "thermal", folder / "free"
    try:
        start = atoms_from_structure(trajectory.start)
        summary = run_md(student, start, options, thermal, overwrite=True, on_step=on_step)
        if summary.interrupted:
            raise Interrupted
        departures = {what: sentence for what, (_, sentence) in summary.departures.items()}
        outside, done = summary.outside, summary.n_steps
        energy = MDOptions(
            ensemble="nve",
            temperature=options.temperature,
            timestep=options.timestep,
            steps=_at_constant_energy(n_steps),
            trajectory_every=every,
            thermo_every=every,
            seed=options.seed,
        )
        after = run_md(student, thermal / LAST, energy, free, overwrite=True, on_step=on_step)
        if after.interrupted:
            raise Interrupted
        drift = after.drift
    except UnstableError as error:
        stopped = str(error).partition(": ")[0]
    pressure = f", {options.pressure:g} GPa" if options.ensemble == NPT else ""
    return Simulated(
        structure=f"{formula(trajectory.start.atomic_numbers)}, {trajectory.start.source}{pressure}",
        temperature=options.temperature,
        steps=done,
        outside=outside,
        departures=departures,
        drift=drift,
        stopped=stopped,
        **_compared(played, None if stopped else thermal / TRAJECTORY),
    )


def _compared(played: Played, student: Path | None) -> dict[str, Any]:
    """The radial distributions of the student's trajectory beside those of the teacher, and of the teacher's halves."""
    frames = read(student, labels_required=False)[1:] if student is not None else []
    half = len(played.frames) // 2
    if min(half, len(frames)) < FEWEST_FRAMES // 2 or len(played.trajectory.start) < 2:
        return {"radial": [], "noise": {}}
    noise = differences(played.frames[:half], played.frames[half:], RADIUS)
    return {
        "radial": differences(played.frames, frames, RADIUS),
        "noise": {difference.pair: difference.largest for difference in noise},
    }
