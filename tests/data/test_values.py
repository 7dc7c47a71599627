"""The labels of a frame in eV and Å."""

import numpy as np
import pytest

from equiforce.data.frames import Contents, Frame
from equiforce.data.values import Scales, label_of, stress_of, values_of
from equiforce.errors import InputError
from equiforce.quantities import ENERGY, FORCES, STRESS

SCALES = Scales(0.5, {ENERGY: 2.0, FORCES: 4.0, STRESS: 16.0}, "")


def frame(**values):
    return Frame(np.array([1, 8]), np.zeros((2, 3)), 4 * np.eye(3), np.ones(3, dtype=bool), values, "")


def test_values_are_converted():
    one = frame(energy=3.0, forces=np.ones((2, 3)))
    keys = {"energy": "energy", "forces": "forces"}
    assert label_of(one, ENERGY, keys, "here", SCALES) == 6.0
    np.testing.assert_array_equal(label_of(one, FORCES, keys, "here", SCALES), 4 * np.ones((2, 3)))
    assert label_of(frame(), ENERGY, keys, "here", SCALES) is None
    assert label_of(one, ENERGY, {}, "here", SCALES) is None


def test_a_stress_follows_from_a_virial_and_the_volume_in_angstrom():
    contents = Contents("a.xyz", [frame(stress=np.eye(3), virial=np.eye(3))], {}, "eV", "Å")
    np.testing.assert_array_equal(stress_of(contents, 0, {"stress": "stress"}, SCALES), 16 * np.eye(3))
    np.testing.assert_allclose(stress_of(contents, 0, {"virial": "virial"}, SCALES), -2.0 / 2.0**3 * np.eye(3))


@pytest.mark.parametrize("value", [True, "high", [1.0, "x"]])
def test_what_is_not_a_number_is_an_error(value):
    with pytest.raises(InputError, match=r"here: 'energy' is .*, not a number \(frames and atoms are counted from 0\)"):
        values_of(frame(energy=value), "energy", "here")
