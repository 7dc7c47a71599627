"""The options of a distillation, and what is refused."""

import pytest

from equiforce.distillation.options import DistillOptions
from equiforce.errors import InputError
from equiforce.option_values import read_options


def test_lists_of_numbers_are_read_from_texts_and_lists():
    assert DistillOptions().kelvin == [300, 600, 1000]
    assert DistillOptions(temperatures="900, 300 300").kelvin == [300, 900]
    assert read_options(DistillOptions, {"temperatures": [500, 100.5]}, "distill").kelvin == [100.5, 500]
    assert read_options(DistillOptions, {"temperatures": 450}, "distill").kelvin == [450]
    assert DistillOptions(strains=[0.02, 0.0, 0.02]).linear_strains == [0.02, 0.0]
    assert DistillOptions().gigapascals == []
    assert read_options(DistillOptions, {"pressures": "5,0 -1"}, "distill").gigapascals == [-1, 0, 5]


def test_a_round_samples_longer_with_other_random_numbers_and_as_many_frames():
    options = DistillOptions(steps=1000, every=10, rounds=2, frames=300)
    first, second = options.of_round(1), options.of_round(2)
    assert (first.steps, first.every) == (second.steps, second.every) == (5000, 50)
    assert len({options.seed, first.seed, second.seed}) == 3
    assert options.frames_of_round == 150
    given = DistillOptions(steps=1000, every=10, round_steps=300, round_frames=40)
    assert (given.of_round(1).steps, given.of_round(1).every, given.frames_of_round) == (300, 10, 40)
    assert DistillOptions(round_steps=10, every=100).of_round(1).every == 10


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"temperatures": "hot"}, "distill.temperatures='hot' is not allowed: give numbers separated by commas"),
        ({"temperatures": ""}, "distill.temperatures='' is not allowed"),
        ({"temperatures": "300,nan"}, "distill.temperatures='300,nan' is not allowed"),
        ({"temperatures": []}, "is not allowed"),
        ({"temperatures": "-3"}, "distill.temperatures has -3 K: give temperatures above 0"),
        ({"temperatures": 1e6}, "distill.temperatures has 1e\\+06 K"),
        ({"strains": "0.5"}, "distill.strains has 0.5: give strains from -0.3 to 0.3"),
        ({"pressures": "high"}, "distill.pressures='high' is not allowed: give numbers separated by commas"),
        ({"pressures": 1e4}, "distill.pressures has 10000 GPa: give pressures from -1000 to 1000"),
        ({"rounds": -1}, "distill.rounds=-1 is not allowed"),
        ({"rounds": 0, "round_steps": 500}, "distill.round_steps changes nothing unless rounds is above 0"),
        ({"steps": 10, "every": 11}, "distill.steps=10 is below distill.every=11"),
        ({"frames": 3}, "distill.frames=3 is not allowed"),
        ({"held_out": 0.9}, "distill.held_out=0.9 is not allowed"),
        ({"copies": 0, "rattle": 0.2}, "distill.rattle changes nothing unless copies is above 0"),
        ({"tempratures": 300}, "did you mean distill.temperatures"),
    ],
)
def test_nonsense_is_one_sentence(values, words):
    with pytest.raises(InputError, match=words):
        read_options(DistillOptions, values, "distill")
