"""Selection: farthest points are chosen, and no part knows another."""

from dataclasses import replace

import numpy as np
import pytest

from equiforce.distillation.descriptors import descriptors
from equiforce.distillation.options import DistillOptions
from equiforce.distillation.selection import (
    Candidates,
    divided,
    divided_of_round,
    evenly,
    farthest_points,
    select,
    select_more,
)
from equiforce.distillation.trajectories import Played, planned
from equiforce.errors import InputError
from tests.distillation.small import copper, frames


def test_each_chosen_point_is_the_farthest_from_those_before():
    points = np.random.default_rng(0).normal(size=(60, 5))
    chosen = farthest_points(points, 12)
    assert len(set(chosen)) == 12
    assert chosen[0] == np.linalg.norm(points - points.mean(axis=0), axis=1).argmin()
    for count in range(1, 12):
        apart = np.linalg.norm(points[:, None] - points[chosen[:count]], axis=2).min(axis=1)
        assert apart[chosen[count]] == apart.max()
    assert farthest_points(points, 12) == chosen


def test_the_corners_of_a_square_come_before_its_inside():
    corners = np.array([[0, 0], [0, 9], [9, 0], [9, 9]], dtype=float)
    inside = np.random.default_rng(0).uniform(3, 6, size=(50, 2))
    points = np.concatenate([inside, corners])
    assert set(farthest_points(points, 5)[1:]) == {50, 51, 52, 53}
    assert farthest_points(points, 5, first=[7])[0] == 7
    assert set(farthest_points(points, 5, first=[7])[1:]) == {50, 51, 52, 53}


def test_few_and_equal_points_are_all_chosen_once():
    assert farthest_points(np.zeros((3, 2)), 10) in ([0, 1, 2], [0, 2, 1])
    assert farthest_points(np.zeros((0, 2)), 3) == []
    assert farthest_points(np.arange(4.0)[:, None], 2, first=[3, 1, 0]) == [3, 1]


def played(*each, every=20, stopped=()):
    plan = planned(copper(1), 2.0, DistillOptions(every=every))
    return [
        Played(plan[number], list(found), "it is too hot" if number in stopped else "")
        for number, found in enumerate(each)
    ]


def test_trajectories_are_held_out_by_time_and_with_a_gap():
    runs = played(frames(20, group="a"), frames(20, group="b", seed=1))
    candidates = divided(frames(1, group="start", seed=2), runs, frames(10, group="copies", seed=3), DistillOptions())
    for name in "ab":
        numbers = {
            part: [int(s.source.split()[-1]) for s in getattr(candidates, part) if s.group == name]
            for part in ("train", "validation", "test")
        }
        assert numbers == {"train": list(range(14)), "validation": [15, 16], "test": [18, 19]}
    assert candidates.train[0].group == "start"
    assert [sum(s.group == "copies" for s in part) for part in (candidates.train, candidates.test)] == [8, 1]
    everything = [s.positions.tobytes() for s in (*candidates.train, *candidates.validation, *candidates.test)]
    assert len(everything) == len(set(everything))


def test_the_gap_is_a_time():
    runs = played(frames(40), every=3)
    candidates = divided([], runs, [], DistillOptions())
    parts = [[int(s.source) for s in part] for part in (candidates.train, candidates.validation, candidates.test)]
    assert parts == [list(range(22)), [27, 28, 29, 30], [36, 37, 38, 39]]  # 30 fs are five frames of 6 fs


def test_a_short_trajectory_is_not_divided():
    candidates = divided(frames(1), played(frames(20, seed=1), frames(6, group="short", seed=2)), [], DistillOptions())
    assert [s.group for s in candidates.train].count("short") == 6


def test_violent_frames_are_left_out_and_counted():
    violent = frames(3, force=100.0, seed=5)
    runs = played([*frames(20), *violent])
    candidates = divided(frames(1, seed=6), runs, [], DistillOptions())
    assert candidates.n_violent == 3
    assert not {s.positions.tobytes() for s in violent} & {s.positions.tobytes() for s in candidates.test}
    broken = replace(frames(1)[0], forces=np.full((4, 3), np.nan))
    assert divided([broken], runs, [], DistillOptions()).n_starts == 0


@pytest.mark.parametrize("found", [frames(3), frames(20, force=1e3)], ids=["few", "violent"])
def test_too_few_frames_are_one_sentence(found):
    with pytest.raises(InputError, match=r"the teacher gave only .* give more steps or copies"):
        divided(frames(1, seed=1), played(found), [], DistillOptions())


def test_the_numbers_of_frames_are_those_of_the_options():
    candidates = Candidates(
        train=frames(40), validation=frames(9, seed=1), test=frames(9, seed=2), n_starts=2, n_violent=0
    )
    chosen = select(candidates, DistillOptions(frames=20, held_out=0.2), 3.5)
    assert [len(part) for part in chosen] == [16, 2, 2]
    assert chosen.train[:2] == candidates.train[:2]
    again = select(candidates, DistillOptions(frames=20, held_out=0.2), 3.5)
    assert [id(s) for s in again.train] == [id(s) for s in chosen.train]
    assert [s.source for s in chosen.test] == [" 0", " 8"]


def test_a_trajectory_of_the_student_that_was_stopped_is_for_training_as_a_whole():
    runs = played(frames(20, group="a"), frames(20, group="b", seed=1), stopped=[1])
    candidates = divided_of_round(runs, DistillOptions())
    parts = {name: getattr(candidates, name) for name in ("train", "validation", "test")}
    assert [sum(s.group == "b" for s in part) for part in parts.values()] == [20, 0, 0]
    assert [sum(s.group == "a" for s in part) for part in parts.values()] == [14, 2, 2]
    nothing = divided_of_round(played(frames(9, force=1e3)), DistillOptions())
    assert (nothing.train, nothing.test, nothing.n_violent) == ([], [], 9)


def test_a_round_adds_the_frames_farthest_from_those_already_learned():
    learned, new = frames(10), frames(30, seed=1)
    options = DistillOptions(frames=20, round_frames=10, held_out=0.2)
    held_out = frames(5, seed=2)
    candidates = Candidates(train=[*new, *learned], validation=held_out, test=held_out, n_starts=0, n_violent=0)
    chosen = select_more(learned, candidates, options, 3.5)
    assert [len(part) for part in chosen] == [8, 1, 1]
    points = descriptors([*learned, *candidates.train], 3.5)
    apart = np.linalg.norm(points[10:, None] - points[:10], axis=2).min(axis=1)
    assert chosen.train[0] is candidates.train[int(apart.argmax())]
    assert not {s.positions.tobytes() for s in learned} & {s.positions.tobytes() for s in chosen.train}
    nothing = Candidates(train=[], validation=[], test=[], n_starts=0, n_violent=3)
    assert select_more(learned, nothing, options, 3.5) == ([], [], [])


def test_even_selections():
    numbers = frames(11)
    assert [numbers.index(s) for s in evenly(numbers, 3)] == [0, 5, 10]
    assert evenly(numbers, 50) == numbers
    assert evenly([], 3) == []
