import dataclasses

import pytest

from equiforce.training.loop import new_state
from equiforce.training.optimizer import OptimizerConfig
from equiforce.training.stopping import (
    DEFAULT_STEPS,
    StoppingCriteria,
    TrainingConfig,
    doubled,
    duration,
    planned,
    seconds_of,
)
from tests.systems import potential_of


def state(**values):
    at_start = new_state(potential_of(l_max=0, n_layers=1, channels=2), OptimizerConfig())
    return dataclasses.replace(at_start, **values)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("2d", 172800), ("1.5h", 5400)]
)
def test_durations(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["10", "ten minutes", "5x", "", "m10"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="is not a duration"):
        seconds_of(text)


@pytest.mark.parametrize("text", ["90s", "1m30s", "10m", "1h30m", "2d", "1.5s", "0.1s"])
def test_a_duration_can_be_read_again(text):
    assert seconds_of(duration(seconds_of(text))) == pytest.approx(seconds_of(text))
    assert duration(120.0) == "2m"


@pytest.mark.parametrize(
    ("options", "words", "arguments"),
    [
        ({"max_steps": 10_000}, "10,000 steps = 156 passes over 320 structures", ["--steps", "20000"]),
        ({}, "20,000 steps = 312 passes over 320 structures", ["--steps", "40000"]),
        ({"max_epochs": 1}, "1 pass over 320 structures = 64 steps", ["--epochs", "2"]),
        ({"time": "45m"}, "45m in all; a pass over 320 structures takes 64 steps", ["--time", "1h30m"]),
        (
            {"max_steps": 1, "max_epochs": 2},
            "1 step = 0.0156 passes over 320 structures; or 2 passes over 320 structures = 128 steps",
            ["--epochs", "4", "--steps", "2"],
        ),
    ],
)
def test_the_length_in_words_and_twice_as_long(options, words, arguments):
    assert planned(TrainingConfig(**options), 64, 320) == words
    assert doubled(TrainingConfig(**options)) == arguments


def test_progress_is_along_the_nearest_limit():
    limits = StoppingCriteria(TrainingConfig(max_steps=100, max_epochs=2, time="100s"))
    assert limits.progress(state(step=10, epoch=1, batch=5, seconds=20.0), 10) == pytest.approx(0.75)
    limits.reserve = 70.0  # what the last validation will take
    assert limits.progress(state(step=10, epoch=1, batch=5, seconds=20.0), 10) == pytest.approx(0.9)
    assert limits.time_is_up(state(seconds=30.0))
    assert limits.reached(state(step=100)) == "100 steps are done"
    assert limits.reached(state(epoch=2)) == "2 epochs are done"


def test_without_any_limit_there_is_one_on_steps():
    assert TrainingConfig().step_limit == DEFAULT_STEPS
    assert TrainingConfig(time="1h").step_limit is None


@pytest.mark.parametrize(
    "options", [{"batch_size": 5, "max_edges": 100}, {"deterministic": True, "time": "5m"}, {"time": "soon"}]
)
def test_options_that_contradict_one_another(options):
    with pytest.raises(ValueError, match=r"training\.|duration"):
        TrainingConfig(**options)


def test_durations_that_nobody_means_are_refused():
    for text in ("9" * 400 + "d", "99999d"):
        with pytest.raises(ValueError, match=r"is not a duration|is longer than ten years"):
            seconds_of(text)
    assert seconds_of("3650d") == 3650 * 86400
