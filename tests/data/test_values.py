"""The labels of a frame in eV and Å."""

import numpy as np
import pytest

from equiforce.data.frames import Frame
from equiforce.data.values import Scales, is_missing, key_in, label_of, values_of
from equiforce.errors import InputError
from equiforce.quantities import ENERGY, FORCES, STRESS

SCALES = Scales(0.5, {ENERGY: 2.0, FORCES: 4.0, STRESS: 16.0}, "")


def frame(**values):
    return Frame(np.array([1, 8]), np.zeros((2, 3)), 4 * np.eye(3), np.ones(3, dtype=bool), values, "")


def test_values_are_converted():
    one = frame(energy=3.0, forces=np.ones((2, 3)))
    keys = {"energy": ("energy",), "forces": ("forces",)}
    assert label_of(one, ENERGY, keys, "here", SCALES) == 6.0
    np.testing.assert_array_equal(label_of(one, FORCES, keys, "here", SCALES), 4 * np.ones((2, 3)))
    assert label_of(frame(), ENERGY, keys, "here", SCALES) is None
    assert label_of(one, ENERGY, {}, "here", SCALES) is None


def test_a_label_is_under_the_first_key_that_a_frame_has():
    keys = {"energy": ("energy", "REF_energy")}
    assert label_of(frame(energy=float("nan"), REF_energy=3.0), ENERGY, keys, "here", SCALES) == 6.0
    assert key_in(frame(energy=1.0, REF_energy=3.0), keys["energy"]) == "energy"
    assert key_in(frame(other=1.0), keys["energy"]) is None


@pytest.mark.parametrize(
    "value", [None, float("nan"), np.full((2, 3), np.nan), "None", "nan", "null", "", [None, None]]
)
def test_what_is_not_known_is_missing(value):
    assert is_missing(value)
    assert values_of(frame(energy=value), "energy", "here") is None


@pytest.mark.parametrize("value", [0.0, float("inf"), [np.nan, 1.0], "high", True, np.zeros((0, 3)), [None, 1.0]])
def test_other_values_are_not_missing(value):
    assert not is_missing(value)


@pytest.mark.parametrize("value", [True, "high", [1.0, "x"]])
def test_what_is_not_a_number_is_an_error(value):
    with pytest.raises(InputError, match=r"here: 'energy' is .*, not a number \(frames and atoms are counted from 0\)"):
        values_of(frame(energy=value), "energy", "here")
