"""Labels are found by the names that programs give them; what looks like a label and is not taken is an error."""

import numpy as np
import pytest

from equiforce.data.read import ReadOptions, read, read_with_report
from equiforce.errors import InputError
from tests.data.test_read import BOX, STRESS, forces, only, saved, water

__all__ = ["saved"]  # a fixture


def test_two_different_energies_are_an_error_that_names_them(saved):
    frames = [water(i, energy=-1.0, info={"REF_energy": -1.0 - (i == 2)}, forces=forces()) for i in range(3)]
    path = saved(frames)
    with pytest.raises(
        InputError, match=r"frame 2: both 'energy' and 'REF_energy' .*--energy-key energy or --energy-key REF"
    ):
        read(path)
    assert read(path, ReadOptions(energy_key="REF_energy"))[2].energy == -2.0
    assert read(path, ReadOptions(energy_key="energy"))[2].energy == -1.0


def test_the_same_energy_twice_will_do(saved):
    structures, report = read_with_report(saved([water(energy=-1.0, info={"REF_energy": -1.0})]))
    assert structures[0].energy == -1.0
    assert "from 'energy'" in str(report)


def test_energies_of_two_names_in_different_frames_are_ambiguous(saved):
    with pytest.raises(InputError, match="frame 0: both 'energy' and 'dft_energy'"):
        read(saved([water(energy=-1.0), water(info={"dft_energy": -2.0})]))


def test_a_stress_and_a_virial_must_agree(saved):
    right, wrong = -STRESS * np.linalg.det(BOX), STRESS * np.linalg.det(BOX)
    both = [water(periodic=True, info={"stress": STRESS, "virial": v}, energy=-1.0) for v in (right, wrong)]
    np.testing.assert_allclose(only(saved(both[:1])).stress, STRESS, atol=1e-12)
    path = saved(both)
    with pytest.raises(InputError, match="frame 1: 'stress' is not −virial/volume of 'virial'"):
        read(path)
    np.testing.assert_allclose(read(path, ReadOptions(stress_key="stress"))[1].stress, STRESS, atol=1e-12)
    np.testing.assert_allclose(read(path, ReadOptions(virial_key="virial"))[1].stress, -STRESS, atol=1e-7)
    np.testing.assert_allclose(read(path, ReadOptions(virial_key="none"))[1].stress, STRESS, atol=1e-12)
    with pytest.raises(InputError, match=r"data\.stress_key and data\.virial_key"):
        ReadOptions(stress_key="a", virial_key="b")


def test_keys_that_are_asked_for(saved):
    path = saved([water(info={"E_ccsd": -7.0, "E_mp2": -6.0}, arrays={"grad": forces()})])
    structure = only(path, ReadOptions(energy_key="E_ccsd", forces_key="grad"))
    assert structure.energy == -7.0
    np.testing.assert_allclose(structure.forces, forces(), atol=1e-8)
    with pytest.raises(InputError, match=r"no frame has the key 'E_ccsdt' for the energy: the keys are E_ccsd, E_mp2"):
        read(path, ReadOptions(energy_key="E_ccsdt", forces_key="grad"))


def test_free_energy_is_taken_only_when_asked_for(saved):
    path = saved([water(energy=-1.0, free_energy=-1.5)])
    assert only(path).energy == -1.0
    assert only(path, ReadOptions(energy_key="free_energy")).energy == -1.5


def test_a_label_can_be_left_out(saved):
    path = saved([water(energy=-1.0, forces=forces())])
    assert only(path, ReadOptions(forces_key="none")).forces is None


@pytest.mark.parametrize(("energy", "force"), [("Energy", "Forces"), ("ENERGY", "FORCE"), ("Ref_Energy", "REF_Forces")])
def test_names_in_another_case_are_taken_and_named(saved, energy, force):
    frames = [water(i, info={energy: -1.0 - i}, arrays={force: forces(i)}) for i in range(2)]
    structures, report = read_with_report(saved(frames))
    assert [s.energy for s in structures] == [-1.0, -2.0]
    np.testing.assert_allclose(structures[1].forces, forces(1), atol=1e-8)
    assert f"energy from {energy!r} (2 of 2), forces from {force!r} (2 of 2)" in str(report)


def test_a_virial_of_gpumd_is_taken(saved):
    virial = -STRESS * np.linalg.det(BOX)
    structures, report = read_with_report(saved([water(periodic=True, info={"Virial": virial}, energy=-1.0)]))
    np.testing.assert_allclose(structures[0].stress, STRESS, atol=1e-7)
    assert "stress from 'Virial' (1 of 1)" in str(report)


@pytest.mark.parametrize(
    "name", ["TotEnergy", "total_energy", "potential_energy", "free_energy", "E", "e_tot", "Potential-Energy"]
)
def test_what_looks_like_an_energy_is_not_left_out_without_a_word(saved, name):
    path = saved([water(info={name: -1.0}, arrays={"forces": forces()})])
    with pytest.raises(InputError, match=rf"'{name}' \(1 frames\) looks like the energy.*--energy-key {name}, or"):
        read(path)
    assert only(path, ReadOptions(energy_key=name)).energy == -1.0
    assert only(path, ReadOptions(energy_key="none")).energy is None


def test_what_looks_like_forces_or_a_stress_is_not_left_out_without_a_word(saved):
    path = saved([water(energy=-1.0, arrays={"F": forces()})])
    with pytest.raises(InputError, match=r"'F' .* looks like the forces.*--forces-key F"):
        read(path)
    path = saved([water(periodic=True, energy=-1.0, info={"stresses": STRESS})])
    with pytest.raises(InputError, match=r"'stresses' .* looks like the stress.*--stress-key stresses"):
        read(path)


def test_a_gradient_is_not_taken_for_forces(saved):
    path = saved([water(energy=-1.0, arrays={"gradient": -forces()})])
    with pytest.raises(
        InputError, match=r"'gradient' .* looks like the gradient of the energy, which is minus the forces"
    ):
        read(path)
    assert only(path, ReadOptions(forces_key="none")).forces is None


def test_a_label_that_is_found_hides_other_names(saved):
    path = saved([water(energy=-1.0, info={"E": -7.0, "total_energy": -8.0}, arrays={"forces": forces()})])
    assert only(path).energy == -1.0
