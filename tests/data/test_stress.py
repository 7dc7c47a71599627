"""The stress of a frame: its forms, its orders, and its virial."""

import numpy as np
import pytest

from equiforce.data.frames import Contents, Frame
from equiforce.data.stress import (
    COMPONENTS,
    ORDERS,
    asymmetries,
    check_virials,
    full_stress,
    has_six_components,
    has_volume,
    in_all_orders,
    stress_key_of,
    stress_of,
)
from equiforce.data.values import Scales
from equiforce.errors import InputError
from equiforce.quantities import ENERGY, FORCES, STRESS

SCALES = Scales(0.5, {ENERGY: 2.0, FORCES: 4.0, STRESS: 16.0}, "")
MATRIX = np.array([[1.0, 6, 5], [6, 2, 4], [5, 4, 3]])
KEYS = {"stress": ("stress",), "virial": ("virial",)}


def contents(pbc=True, **values):
    frame = Frame(np.array([1, 8]), np.zeros((2, 3)), 4 * np.eye(3) * pbc, np.full(3, pbc), values, "")
    return Contents("a.xyz", [frame], {}, "eV", "Å")


def six_in(order):
    return np.array([MATRIX["xyz".index(a), "xyz".index(b)] for a, b in COMPONENTS[order].split()])


def test_a_stress_follows_from_a_virial_and_the_volume_in_angstrom():
    both = contents(stress=np.eye(3), virial=np.eye(3))
    np.testing.assert_array_equal(stress_of(both, 0, KEYS, SCALES), 16 * np.eye(3))
    np.testing.assert_allclose(stress_of(both, 0, {"virial": ("virial",)}, SCALES), -2.0 / 2.0**3 * np.eye(3))
    assert stress_of(both, 0, {}, SCALES) is None
    assert stress_key_of(both.frames[0], KEYS) == ("stress", "stress")


@pytest.mark.parametrize("order", ORDERS)
def test_six_components_in_each_order(order):
    np.testing.assert_array_equal(full_stress(six_in(order), order), MATRIX)
    scales = SCALES._replace(stress_order=order)
    one = contents(stress=six_in(order))
    np.testing.assert_array_equal(stress_of(one, 0, KEYS, scales), 16 * MATRIX)
    assert has_six_components(one.frames[0], KEYS)
    read_as_ase = full_stress(six_in(order), "ase")
    np.testing.assert_array_equal(in_all_orders(read_as_ase, "ase")[order], MATRIX)
    np.testing.assert_array_equal(in_all_orders(MATRIX, order)["ase"], read_as_ase)


def test_a_frame_without_a_volume_has_no_stress():
    assert not has_volume(contents(pbc=False).frames[0])
    assert stress_of(contents(pbc=False, stress=np.zeros(6)), 0, KEYS, SCALES) is None
    with pytest.raises(InputError, match="no volume"):
        stress_of(contents(pbc=False, stress=np.eye(3)), 0, KEYS, SCALES)


def test_stress_and_virial_of_a_frame_agree():
    unit = SCALES._replace(length=1.0, of={ENERGY: 1.0, FORCES: 1.0, STRESS: 1.0})
    check_virials(contents(stress=MATRIX, virial=-64 * MATRIX), KEYS, unit)
    with pytest.raises(InputError, match="'stress' is not −virial/volume of 'virial'"):
        check_virials(contents(stress=MATRIX, virial=64 * MATRIX), KEYS, unit)
    with pytest.raises(InputError, match=r"only if the six components are xx yy zz xy xz yz: .*stress_order=lammps"):
        check_virials(contents(stress=MATRIX, virial=-64 * six_in("lammps")), KEYS, unit)


def test_the_noise_of_a_stress_of_zero_need_not_be_symmetric():
    noise = np.array([[0.0, 1.2e-19, 0], [-3e-20, 0, 0], [1e-6, 0, 1e-6]])
    found = stress_of(contents(stress=noise), 0, KEYS, SCALES)
    np.testing.assert_allclose(found, 8 * (noise + noise.T))
    assert asymmetries(contents(stress=noise), KEYS, SCALES) == []
    with pytest.raises(InputError, match="'stress' is not symmetric: its component xz is 0 and zx is 1"):
        stress_of(contents(stress=1e6 * noise), 0, KEYS, SCALES)
    (note,) = asymmetries(contents(virial=np.array([[1.0, 0.51, 0], [0.5, 1, 0], [0, 0, 1]])), KEYS, SCALES)
    assert "not symmetric, by up to 1.00% of" in note
