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


def test_keys_may_differ_from_frame_to_frame(saved):
    plain = [water(i, energy=-1.0 - i, forces=forces(i)) for i in range(2)]
    names = [water(i, info={"REF_energy": -1.0 - i}, arrays={"REF_forces": forces(i)}) for i in range(2, 5)]
    structures, report = read_with_report(saved(plain + names))
    assert [s.energy for s in structures] == [-1.0, -2.0, -3.0, -4.0, -5.0]
    np.testing.assert_allclose(structures[3].forces, forces(3), atol=1e-8)
    assert "energy from 'energy' (2 of 5) and 'REF_energy' (3 of 5)" in str(report)
    assert "different keys in different frames (energy from 'energy' in 2 and 'REF_energy' in 3" in str(report)
    assert [s.energy is None for s in read(saved(plain + names), ReadOptions(energy_key="energy"))] == [False] * 2 + [
        True
    ] * 3


def test_stresses_in_some_frames_and_virials_in_others(saved):
    virial = -STRESS * np.linalg.det(BOX)
    frames = [water(i, True, energy=-1.0, info={"virial": virial} if i else {"stress": STRESS}) for i in range(3)]
    structures, report = read_with_report(saved(frames))
    for structure in structures:
        np.testing.assert_allclose(structure.stress, STRESS, atol=1e-7)
    assert "stress from 'stress' (1 of 3) and 'virial' (2 of 3)" in str(report)


def test_energies_of_two_levels_of_theory_in_different_frames(saved):
    frames = [water(i, info={"energy" if i % 2 else "dft_energy": -2080.0 - 6 * (i % 2) - 0.01 * i}) for i in range(8)]
    with pytest.raises(
        InputError, match=r"other levels of theory, .* -693\.3 and -695\.3 per atom: choose one with --energy"
    ):
        read(saved(frames))


def test_a_label_that_is_not_a_number_is_missing(saved):
    nan = float("nan")
    frames = [water(i, energy=nan if i == 1 else -1.0, forces=forces(i) * (nan if i == 2 else 1)) for i in range(4)]
    structures, report = read_with_report(saved(frames))
    assert [s.energy for s in structures] == [-1.0, None, -1.0, -1.0]
    assert [s.forces is None for s in structures] == [False, False, True, False]
    assert "energy from 'energy' (3 of 4), forces from 'forces' (3 of 4)" in str(report)
    assert "note: 'energy' is NaN or empty in 1 of 4 frames, and counts as missing there" in str(report)


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


def test_the_order_of_six_components_follows_from_a_virial_beside_them(saved):
    vasp = STRESS[[0, 1, 2, 0, 1, 0], [0, 1, 2, 1, 2, 2]]
    info = {"REF_stress": vasp, "virial": -STRESS * np.linalg.det(BOX)}
    path = saved([water(periodic=True, info=info, energy=-1.0)])
    with pytest.raises(InputError, match=r"six components are xx yy zz xy yz zx: add --set data\.stress_order=vasp"):
        read(path)
    np.testing.assert_allclose(only(path, ReadOptions(stress_order="vasp")).stress, STRESS, atol=1e-7)


def test_keys_that_are_asked_for(saved):
    path = saved([water(info={"E_ccsd": -7.0, "E_mp2": -6.0}, arrays={"grad": forces()})])
    structure = only(path, ReadOptions(energy_key="E_ccsd", forces_key="grad"))
    assert structure.energy == -7.0
    np.testing.assert_allclose(structure.forces, forces(), atol=1e-8)
    with pytest.raises(InputError, match=r"no frame has the key 'E_ccsdt' for the energy: the keys are E_ccsd, E_mp2"):
        read(path, ReadOptions(energy_key="E_ccsdt", forces_key="grad"))


def test_forces_belong_to_the_free_energy(saved):
    path = saved([water(i, energy=-1.0, free_energy=-1.0 - 0.03 * i, forces=forces(i)) for i in range(3)])
    structures, report = read_with_report(path)
    assert [s.energy for s in structures] == pytest.approx([-1.0, -1.03, -1.06])
    assert "energy from 'free_energy' (3 of 3)" in str(report)
    assert f"'energy' differs from it by up to 20 meV/atom ({path}, frame 2): take it with --energy-key energy" in str(
        report
    )
    assert [s.energy for s in read(path, ReadOptions(energy_key="energy"))] == [-1.0] * 3


def test_a_free_energy_that_is_the_energy_needs_no_word(saved):
    structures, report = read_with_report(saved([water(energy=-1.0, free_energy=-1.0, forces=forces())]))
    assert structures[0].energy == -1.0
    assert str(report).endswith("energy from 'energy' (1 of 1), forces from 'forces' (1 of 1)")


def test_free_energies_do_not_mix_with_energies_that_differ(saved):
    path = saved([water(i, energy=-1.0, forces=forces(i), **({"free_energy": -1.1} if i else {})) for i in range(3)])
    with pytest.raises(InputError, match=r"1 frames have 'energy' without 'free_energy', .* up to 33\.3 meV/atom"):
        read(path)
    with pytest.raises(InputError, match=r"frame 0: 'free_energy' and 'energy' differ by 3 per atom, too much"):
        read(saved([water(energy=-1.0, free_energy=-10.0)]))


def test_a_free_energy_alone_is_taken_and_said(saved):
    structures, report = read_with_report(saved([water(info={"free_energy": -1.0}, arrays={"forces": forces()})]))
    assert structures[0].energy == -1.0
    assert "note: the energy is 'free_energy', because there is no other" in str(report)


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
    "name",
    [
        *(
            "TotEnergy",
            "total_energy",
            "potential_energy",
            "E",
            "e_tot",
            "Potential-Energy",
            "U0",
            "toten",
            "e_0_energy",
        ),
        *("xtb_energy", "mp_energy", "corrected_energy", "energy_ha", "Etot", "E_dft", "REF_Energies"),
    ],
)
def test_what_looks_like_an_energy_is_not_left_out_without_a_word(saved, name):
    path = saved([water(info={name: -1.0}, arrays={"forces": forces()})])
    with pytest.raises(InputError, match=rf"'{name}' \(1 frames\) looks like the energy.*--energy-key {name}, or"):
        read(path)
    assert only(path, ReadOptions(energy_key=name)).energy == -1.0
    assert only(path, ReadOptions(energy_key="none")).energy is None
    assert only(path, ReadOptions(ignore=name)).energy is None


@pytest.mark.parametrize("name", ["F", "frc", "dft_total_forces", "Force_on_atoms", "forces_ev_ang"])
def test_what_looks_like_forces_is_not_left_out_without_a_word(saved, name):
    path = saved([water(energy=-1.0, arrays={name: forces()})])
    with pytest.raises(InputError, match=rf"'{name}' .* looks like the forces.*--forces-key {name}"):
        read(path)
    np.testing.assert_allclose(only(path, ReadOptions(forces_key=name)).forces, forces(), atol=1e-8)


def test_all_lookalikes_are_named_together(saved):
    with pytest.raises(InputError, match=r"use them with --energy-key E --forces-key F, or .* --set data\.ignore=E,F$"):
        read(saved([water(info={"E": -1.0}, arrays={"F": forces()})]))


def test_what_looks_like_a_stress_is_not_left_out_without_a_word(saved):
    path = saved([water(periodic=True, energy=-1.0, info={"stresses": STRESS})])
    with pytest.raises(InputError, match=r"'stresses' .* looks like the stress.*--stress-key stresses"):
        read(path)
    path = saved([water(periodic=True, energy=-1.0, info={"my_virial": STRESS})])
    with pytest.raises(InputError, match=r"'my_virial' .* looks like the virial.*--virial-key my_virial"):
        read(path)


@pytest.mark.parametrize("name", ["gradient", "grad", "dEdR", "dft_total_gradient"])
def test_a_gradient_is_not_taken_for_forces(saved, name):
    path = saved([water(energy=-1.0, arrays={name: -forces()})])
    with pytest.raises(
        InputError, match=rf"'{name}' .* looks like the gradient of the energy, which is minus the forces"
    ):
        read(path)
    assert only(path, ReadOptions(forces_key="none")).forces is None
    assert only(path, ReadOptions(ignore=name)).forces is None


def test_a_lookalike_in_the_frames_without_the_label(saved):
    frames = [water(i, energy=-1.0) if i else water(info={"TotEnergy": -1.0}) for i in range(3)]
    with pytest.raises(InputError, match=r"'TotEnergy' \(1 frames\) looks like the energy"):
        read(saved(frames))
    beside = [water(i, info={"TotEnergy": -9.0}, **({"energy": -1.0} if i else {})) for i in range(3)]
    assert [s.energy for s in read(saved(beside))] == [None, -1.0, -1.0]


def test_a_label_that_is_found_hides_other_names(saved):
    path = saved([water(energy=-1.0, info={"E": -7.0, "total_energy": -8.0}, arrays={"forces": forces()})])
    structures, report = read_with_report(path)
    assert structures[0].energy == -1.0
    assert "not used: E, total_energy" in str(report)


def test_forces_in_three_columns_are_named(saved):
    """They are no vector of each atom under one name, so no option takes them."""
    path = saved([water(energy=-1.0, arrays={f"f{axis}": forces()[:, i] for i, axis in enumerate("xyz")})])
    with pytest.raises(InputError, match=r"'fx', 'fy' and 'fz' look like components of the forces: write them under"):
        read(path)
    assert read(path, ReadOptions(ignore="fx,fy,fz"))[0].forces is None
    assert read(path, ReadOptions(forces_key="none"))[0].forces is None


def test_frames_that_are_marked_as_unconverged_are_left_out(saved):
    path = saved([water(i, energy=-1.0 - i, info={"scf_converged": i != 1}) for i in range(3)])
    structures, report = read_with_report(path)
    assert [s.energy for s in structures] == [-1.0, -3.0]
    assert structures[1].source.endswith("frame 2")
    assert "note: left out frame 1, whose 'scf_converged' says that the electrons did not converge" in str(report)
    assert len(read(path, ReadOptions(unconverged="keep"))) == 3
