"""Averages over a simulation."""

import json

import numpy as np
import pytest

from equiforce.calculators.md.averages import MOST_BLOCKS, Averages


def filled(temperatures, energies) -> Averages:
    averages = Averages()
    for temperature, energy in zip(temperatures, energies, strict=True):
        averages.add(temperature, energy)
    return averages


def test_a_short_run_counts_every_step():
    temperatures, energies = np.arange(100.0), np.random.default_rng(0).normal(size=100)
    averages = filled(temperatures, energies)
    assert averages.mean_temperature() == pytest.approx(temperatures[20:].mean())
    assert averages.slope_of_energy() == pytest.approx(np.polyfit(np.arange(100), energies, 1)[0])


def test_a_long_run_takes_no_more_memory():
    n = 3 * MOST_BLOCKS + 7
    averages = filled(1.0 * np.arange(n), 5.0 - 0.25 * np.arange(n))
    assert len(averages.blocks) <= MOST_BLOCKS
    assert averages.mean_temperature() == pytest.approx(np.arange(n)[n // 5 :].mean(), rel=1e-3)
    assert averages.slope_of_energy() == pytest.approx(-0.25)


def test_averages_continue():
    values = np.random.default_rng(1).normal(size=(2, 50))
    whole, part = filled(*values), filled(*values[:, :20])
    part = Averages.from_dict(json.loads(json.dumps(part.to_dict())))
    for temperature, energy in values[:, 20:].T:
        part.add(temperature, energy)
    assert part.to_dict() == whole.to_dict()


@pytest.mark.parametrize(
    "plain",
    [
        {"length": 0, "blocks": []},
        {"length": 1.5, "blocks": []},
        {"length": 1, "blocks": [[1]]},
        {"length": 1, "blocks": [[1, 2, float("nan")]]},
        {"length": 1, "blocks": [["x", 2, 3]]},
    ],
)
def test_what_are_no_averages_is_refused(plain):
    with pytest.raises(ValueError):  # noqa: PT011 (numpy's)
        Averages.from_dict(plain)
