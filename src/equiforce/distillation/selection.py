"""Chooses the frames from which the student learns, and those that are held out, so that nothing leaks between them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from equiforce.distillation.descriptors import descriptors
from equiforce.distillation.options import DistillOptions
from equiforce.distillation.trajectories import Played
from equiforce.errors import InputError
from equiforce.structure import Structure

FEWEST = 5  # frames to train on
GAP = 30.0  # fs; longer than the period of most bonds


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The frames among which is chosen, with the teacher's forces."""

    train: Sequence[Structure]  # the first ``n_starts`` are the start structures
    validation: Sequence[Structure]
    test: Sequence[Structure]
    n_starts: int
    n_violent: int  # frames that were left out because of their forces


class Selection(NamedTuple):
    """The chosen frames of each part."""

    train: list[Structure]
    validation: list[Structure]
    test: list[Structure]


def farthest_points(points: Float[np.ndarray, "points numbers"], count: int, first: Sequence[int] = ()) -> list[int]:
    """Choose points one by one, each the farthest from all that were chosen before; the same points give the same.

    Args:
        points: the descriptors.
        count: how many to choose; all if there are fewer.
        first: those that are chosen in any case, before the others. Without any, the point next to the mean is first.

    Returns:
        The indices of the chosen points in the order in which they were chosen, at most ``count``.
    """
    count = min(count, len(points))
    if not count:
        return []
    start = list(first) or [int(np.linalg.norm(points - points.mean(axis=0), axis=1).argmin())]
    chosen = start[:count]
    nearest = np.full(len(points), np.inf)
    for index in chosen:
        nearest = np.minimum(nearest, np.linalg.norm(points - points[index], axis=1))
    nearest[chosen] = -1.0
    while len(chosen) < count:
        index = int(nearest.argmax())
        chosen.append(index)
        nearest = np.minimum(nearest, np.linalg.norm(points - points[index], axis=1))
        nearest[chosen] = -1.0
    return chosen


def divided(
    starts: Sequence[Structure], played: Sequence[Played], copies: Sequence[Structure], options: DistillOptions
) -> Candidates:
    """Divide frames into those for training, validation and test.

    The end of each trajectory is held out, first a part for validation and then one for the test. At each of the two
    cuts the frames of 30 fs are left out, because neighbours in time are alike. Copies are independent, and their last
    ones are held out. Start structures, and trajectories of so few frames that most would be held out, are for training
    only.

    Args:
        starts: the start structures with the teacher's forces.
        played: the trajectories.
        copies: disturbed copies with the teacher's forces.
        options: the part that is held out, and the largest force.

    Raises:
        InputError: a part has too few frames.
    """
    parts: tuple[list[Structure], list[Structure], list[Structure]] = ([], [], [])
    n_all = n_kept = 0
    series = [(p.frames, _gap(p)) for p in played] + [(list(copies), 0)]
    for frames, gap in series:
        gentle = [frame for frame in frames if _largest_force(frame) <= options.largest_force]
        n_all, n_kept = n_all + len(frames), n_kept + len(gentle)
        each = round(options.held_out / 2 * len(gentle))
        first = len(gentle) - 2 * (each + gap)
        if each == 0 or first < len(gentle) / 2:  # it is too short to be divided
            parts[0].extend(gentle)
            continue
        parts[0].extend(gentle[:first])
        parts[1].extend(gentle[first + gap : first + gap + each])
        parts[2].extend(gentle[-each:])
    gentle_starts = [start for start in starts if _largest_force(start) <= options.largest_force]
    candidates = Candidates(
        train=[*gentle_starts, *parts[0]],
        validation=parts[1],
        test=parts[2],
        n_starts=len(gentle_starts),
        n_violent=n_all - n_kept + len(starts) - len(gentle_starts),
    )
    if len(candidates.train) < FEWEST or not candidates.validation or not candidates.test:
        violent = f", and {candidates.n_violent} were left out because of large forces" if candidates.n_violent else ""
        raise InputError(
            f"the teacher gave only {len(candidates.train)} frames to train on, {len(candidates.validation)} for "
            f"validation and {len(candidates.test)} for the test{violent}: give more steps or copies, a smaller "
            "distance between frames (every), or lower temperatures"
        )
    return candidates


def _gap(played: Played) -> int:
    """How many frames are left out at a cut."""
    md = played.trajectory.options
    return math.ceil(GAP / (md.timestep * md.trajectory_every))


def _largest_force(structure: Structure) -> float:
    if structure.forces is None:
        raise ValueError(f"{structure.source} has no forces of the teacher")
    largest = float(np.linalg.norm(structure.forces, axis=1).max())
    return largest if np.isfinite(largest) else np.inf


def select(candidates: Candidates, options: DistillOptions, cutoff: float) -> Selection:
    """Choose the frames of each part.

    Those for training are the start structures and the farthest points of the others, so that the student sees the
    extremes. Those that are held out are an even selection instead, because errors on extremes alone would say nothing
    about a simulation.

    Args:
        candidates: the frames.
        options: the number of frames and the part that is held out.
        cutoff: of the student in Å, within which neighbours count.
    """
    held_out = max(1, round(options.frames * options.held_out / 2))
    n_train = max(1, options.frames - 2 * held_out)
    points = descriptors(candidates.train, cutoff)
    chosen = farthest_points(points, n_train, range(candidates.n_starts))
    return Selection(
        [candidates.train[index] for index in chosen],
        evenly(candidates.validation, held_out),
        evenly(candidates.test, held_out),
    )


def evenly(frames: Sequence[Structure], count: int) -> list[Structure]:
    """At most ``count`` frames, at even distances."""
    places = np.linspace(0, len(frames) - 1, min(count, len(frames)))
    return [frames[int(place)] for place in np.unique(places.round())]
