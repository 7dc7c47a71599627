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
    parts, n_violent = _divided([*((p.frames, _gap(p)) for p in played), (list(copies), 0)], options)
    gentle_starts = [start for start in starts if is_gentle(start, options)]
    candidates = Candidates(
        train=[*gentle_starts, *parts.train],
        validation=parts.validation,
        test=parts.test,
        n_starts=len(gentle_starts),
        n_violent=n_violent + len(starts) - len(gentle_starts),
    )
    if len(candidates.train) < FEWEST or not candidates.validation or not candidates.test:
        violent = f", and {candidates.n_violent} were left out because of large forces" if candidates.n_violent else ""
        raise InputError(
            f"the teacher gave only {len(candidates.train)} frames to train on, {len(candidates.validation)} for "
            f"validation and {len(candidates.test)} for the test{violent}: give more steps or copies, a smaller "
            "distance between frames (every), or lower temperatures"
        )
    return candidates


def divided_of_round(played: Sequence[Played], options: DistillOptions) -> Candidates:
    """Divide the frames that the student visits, as in :func:`divided`.

    Trajectories that were stopped are for training as a whole: where the student went wrong, it has to learn.

    Args:
        played: the trajectories of the student; their forces are the student's.
        options: the part that is held out, and the largest force.
    """
    series = [(p.frames, len(p.frames) if p.stopped else _gap(p)) for p in played]
    parts, n_violent = _divided(series, options)
    return Candidates(train=parts.train, validation=parts.validation, test=parts.test, n_starts=0, n_violent=n_violent)


def _divided(series: Sequence[tuple[list[Structure], int]], options: DistillOptions) -> tuple[Selection, int]:
    """Divide each series of frames, with a gap at its cuts; and the number of frames whose forces are too large."""
    parts, n_violent = Selection([], [], []), 0
    for frames, gap in series:
        gentle = [frame for frame in frames if is_gentle(frame, options)]
        n_violent += len(frames) - len(gentle)
        each = round(options.held_out / 2 * len(gentle))
        first = len(gentle) - 2 * (each + gap)
        if each == 0 or first < len(gentle) / 2:  # it is too short to be divided
            parts.train.extend(gentle)
            continue
        parts.train.extend(gentle[:first])
        parts.validation.extend(gentle[first + gap : first + gap + each])
        parts.test.extend(gentle[-each:])
    return parts, n_violent


def _gap(played: Played) -> int:
    """How many frames are left out at a cut."""
    md = played.trajectory.options
    return math.ceil(GAP / (md.timestep * md.trajectory_every))


def is_gentle(structure: Structure, options: DistillOptions) -> bool:
    """Whether no force is larger than that of the options."""
    if structure.forces is None:
        raise ValueError(f"{structure.source} has no forces")
    return bool(np.linalg.norm(structure.forces, axis=1).max() <= options.largest_force)  # false where it is no number


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
    n_train, held_out = _sizes(options.frames, options)
    points = descriptors(candidates.train, cutoff)
    chosen = farthest_points(points, n_train, range(candidates.n_starts))
    return Selection(
        [candidates.train[index] for index in chosen],
        evenly(candidates.validation, held_out),
        evenly(candidates.test, held_out),
    )


def select_more(
    learned: Sequence[Structure], candidates: Candidates, options: DistillOptions, cutoff: float
) -> Selection:
    """Choose the frames of a round: those for training are the farthest from all that the student has learned from.

    Args:
        learned: the training frames of the student, with the teacher's forces.
        candidates: the frames that the student visited, with its own forces, which are close to the teacher's.
        options: the number of frames of a round and the part that is held out.
        cutoff: of the student in Å, within which neighbours count.
    """
    n_train, held_out = _sizes(options.frames_of_round, options)
    chosen: list[int] = []
    if candidates.train:
        points = descriptors([*learned, *candidates.train], cutoff)
        chosen = farthest_points(points, len(learned) + n_train, range(len(learned)))[len(learned) :]
    return Selection(
        [candidates.train[index - len(learned)] for index in chosen],
        evenly(candidates.validation, held_out),
        evenly(candidates.test, held_out),
    )


def _sizes(n_frames: int, options: DistillOptions) -> tuple[int, int]:
    """How many of some frames are for training, and for each of the two other parts."""
    held_out = max(1, round(n_frames * options.held_out / 2))
    return max(1, n_frames - 2 * held_out), held_out


def evenly(frames: Sequence[Structure], count: int) -> list[Structure]:
    """At most ``count`` frames, at even distances."""
    places = np.linspace(0, len(frames) - 1, min(count, len(frames)))
    return [frames[int(place)] for place in np.unique(places.round())]
