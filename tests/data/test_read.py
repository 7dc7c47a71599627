import math
from dataclasses import fields

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import write

from equiforce.data.read import ReadOptions, read, read_with_report
from equiforce.data.read_report import is_note
from equiforce.errors import InputError

BOX = np.array([[6.0, 0, 0], [1.0, 5.0, 0], [0.5, 0.3, 7.0]])
STRESS = np.array([[0.01, 0.004, 0.005], [0.004, 0.02, 0.006], [0.005, 0.006, 0.03]])


def water(seed=0, periodic=False, info=None, arrays=None, **results):
    rng = np.random.default_rng(seed)
    atoms = Atoms("OH2", np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]) + rng.normal(scale=0.02, size=(3, 3)))
    if periodic:
        atoms.set_cell(BOX)
        atoms.pbc = True
    atoms.info.update(info or {})
    for name, array in (arrays or {}).items():
        atoms.new_array(name, np.asarray(array))
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def forces(seed=0):
    return np.random.default_rng(seed).normal(size=(3, 3))


@pytest.fixture
def saved(tmp_path):
    def save(frames, name="train.xyz"):
        write(tmp_path / name, frames, format="extxyz" if name.endswith("xyz") else None)
        return tmp_path / name

    return save


def only(path, options=None):
    structures = read(path, options)
    assert len(structures) == 1
    return structures[0]


def test_what_ase_writes_is_read_back(saved):
    frames = [water(i, energy=-10.0 - i, forces=forces(i), info={"config_type": "liquid"}) for i in range(3)]
    path = saved(frames)
    structures, report = read_with_report(path)
    for i, (structure, atoms) in enumerate(zip(structures, frames, strict=True)):
        assert structure.atomic_numbers.tolist() == [8, 1, 1]
        np.testing.assert_allclose(structure.positions, atoms.positions, atol=1e-8)
        np.testing.assert_allclose(structure.forces, forces(i), atol=1e-8)
        assert structure.energy == -10.0 - i
        assert structure.stress is None
        assert structure.group == "liquid"
        assert structure.source == f"{path}, frame {i}"
        assert not structure.pbc.any()
        assert not structure.cell.any()
    assert str(report) == f"{path}: 3 structures; energy from 'energy' (3 of 3), forces from 'forces' (3 of 3)"


@pytest.mark.parametrize("prefix", ["REF_", "ref_", "dft_", "DFT_"])
def test_the_usual_prefixes(saved, prefix):
    info = {f"{prefix}energy": -3.0, f"{prefix}stress": STRESS}
    frame = water(periodic=True, info=info, arrays={f"{prefix}forces": forces()})
    structures, report = read_with_report(saved([frame]))
    assert structures[0].energy == -3.0
    np.testing.assert_allclose(structures[0].forces, forces(), atol=1e-8)
    np.testing.assert_allclose(structures[0].stress, STRESS, atol=1e-12)
    assert f"'{prefix}energy' (1 of 1)" in str(report)


@pytest.mark.parametrize("name", ["train.traj", "train.json", "train.db"])
def test_other_formats_of_ase(saved, name):
    structure = only(saved([water(energy=-3.0, forces=forces())], name))
    assert structure.energy == -3.0
    np.testing.assert_allclose(structure.forces, forces())


def test_constraints_do_not_blank_forces(saved):
    atoms = water(energy=-3.0, forces=forces())
    atoms.set_constraint(FixAtoms([0]))
    np.testing.assert_allclose(only(saved([atoms], "fixed.traj")).forces, forces())


@pytest.mark.parametrize("form", [STRESS, STRESS.ravel(), STRESS[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]])
def test_the_forms_of_a_stress(saved, form):
    """ASE's order of six components is xx, yy, zz, yz, xz, xy."""
    structure = only(saved([water(periodic=True, info={"dft_stress": form}, energy=-1.0)]))
    np.testing.assert_allclose(structure.stress, STRESS, atol=1e-12)


@pytest.mark.parametrize("key", ["virial", "virials", "REF_virial", "dft_virials"])
def test_a_virial_is_minus_stress_times_volume(saved, key):
    virial = -STRESS * np.linalg.det(BOX)
    structures, report = read_with_report(saved([water(periodic=True, info={key: virial}, energy=-1.0)]))
    np.testing.assert_allclose(structures[0].stress, STRESS, atol=1e-7)
    assert f"stress from {key!r} (1 of 1)" in str(report)


def test_missing_labels_are_none(saved):
    frames = [water(energy=-1.0, forces=forces()), water(1, energy=-2.0), water(2, forces=forces()), water(3)]
    structures, report = read_with_report(saved(frames))
    assert [s.energy is None for s in structures] == [False, False, True, True]
    assert [s.forces is None for s in structures] == [False, True, False, True]
    assert "energy from 'energy' (2 of 4), forces from 'forces' (2 of 4)" in str(report)


def test_no_labels_at_all(saved):
    path = saved([water(info={"charge": 0})])
    with pytest.raises(InputError, match=r"neither energies nor forces .* among the keys charge.*--energy-key"):
        read(path)
    structures, report = read_with_report(path, labels_required=False)
    assert len(structures) == 1
    assert "no labels" in str(report)


def test_units_are_converted(saved):
    path = saved([water(periodic=True, info={"stress": STRESS}, energy=-1.0, forces=forces())])
    structures, report = read_with_report(path, ReadOptions(energy_unit="hartree", length_unit="bohr"))
    found, plain = structures[0], only(path)
    assert found.energy == pytest.approx(-units.Hartree)
    np.testing.assert_allclose(found.positions, plain.positions * units.Bohr)
    np.testing.assert_allclose(found.cell, BOX * units.Bohr)
    np.testing.assert_allclose(found.forces, plain.forces * units.Hartree / units.Bohr)
    np.testing.assert_allclose(found.stress, STRESS * units.Hartree / units.Bohr**3)
    assert str(report).endswith("; converted from Hartree, Bohr")


def test_units_of_their_own_for_forces_and_stress(saved):
    path = saved([water(periodic=True, info={"stress": STRESS}, energy=-1.0, forces=forces())])
    options = ReadOptions(forces_unit="Hartree/Bohr", stress_unit="kbar", stress_positive_under="compression")
    structures, report = read_with_report(path, options)
    assert structures[0].energy == -1.0
    np.testing.assert_allclose(structures[0].forces, forces() * units.Hartree / units.Bohr, atol=1e-6)
    np.testing.assert_allclose(structures[0].stress, -STRESS * 0.1 * units.GPa)
    assert "forces in Hartree/Bohr, stress in kbar, stress positive under compression" in str(report)


def test_a_virial_in_other_units(saved):
    path = saved([water(periodic=True, info={"virial": np.eye(3)}, energy=-1.0)])
    found = only(path, ReadOptions(energy_unit="kcal/mol", length_unit="nm")).stress
    np.testing.assert_allclose(found, -np.eye(3) * units.kcal / units.mol / (np.linalg.det(BOX) * 1e3))


@pytest.mark.parametrize(
    ("key", "unit", "option"),
    [
        ("energy-unit", "Hartree", "energy_unit"),
        ("Energy_Unit", "kcal/mol", "energy_unit"),
        ("stress-unit", "kbar", "stress_unit"),
        ("forces_unit", "Ha/Bohr", "forces_unit"),
        ("length_unit", "Bohr", "length_unit"),
    ],
)
def test_a_unit_that_a_header_states_is_not_ignored(saved, key, unit, option):
    path = saved([water(energy=-1.0, forces=forces(), info={key: unit})])
    with pytest.raises(InputError, match=rf"frame 0: '{key}' is '{unit}', but .* --set data\.{option}={unit}"):
        read(path)
    assert only(path, ReadOptions(**{option: unit})).energy is not None
    same = {"energy_unit": "eV", "length_unit": "Ang", "stress_unit": "eV/A^3", "forces_unit": "eV/Ang"}[option]
    assert only(saved([water(energy=-1.0, info={key: same})])).energy == -1.0
    with pytest.raises(InputError, match=rf"'{key}' is 'parsec', but 'parsec' is not a unit"):
        read(saved([water(energy=-1.0, info={key: "parsec"})]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"energy_unit": "kcal/mole"}, "did you mean 'kcal/mol'"),
        ({"length_unit": "Angstrm"}, "did you mean 'Å'"),
        ({"forces_unit": "eV"}, "not a unit of force"),
        ({"stress_unit": "GPaa"}, "did you mean 'GPa'"),
        ({"stress_positive_under": "pressure"}, "'tension' or 'compression'"),
        ({"stress_order": "voigt"}, r"data\.stress_order is 'voigt': give 'ase', 'vasp' or 'lammps'"),
        ({"stress_without_volume": "keep"}, "'error' or 'ignore'"),
    ],
)
def test_options_that_mean_nothing(wrong, message):
    with pytest.raises(InputError, match=message):
        ReadOptions(**wrong)


def test_every_option_has_its_reason():
    assert all(entry.metadata["reason"] for entry in fields(ReadOptions))


NAN = float("nan")


@pytest.mark.parametrize(
    ("faulty", "message"),
    [
        (water(energy=math.inf), "frame 1: 'energy' is inf"),
        (water(energy=-1.0, forces=[[0, 0, 0], [0, NAN, 0], [0, 0, 0]]), r"frame 1: 'forces' of atom 1 is \[0.0, nan"),
        (
            water(periodic=True, energy=-1.0, info={"dft_stress": STRESS * [NAN, 1, 1]}),
            "frame 1: 'dft_stress' is .*nan",
        ),
        (water(info={"energy": np.ones(3)}), r"frame 1: 'energy' has the shape \(3,\)"),
        (water(info={"energy": "high"}), "frame 1: 'energy' is 'high', not a number"),
        (water(energy=-1.0, arrays={"forces": np.ones((3, 2))}), r"frame 1: 'forces' has the shape \(3, 2\)"),
        (
            water(periodic=True, energy=-1.0, info={"dft_virial": np.ones(5)}),
            r"frame 1: 'dft_virial' has the shape \(5,\)",
        ),
        (
            water(periodic=True, energy=-1.0, info={"dft_stress": np.arange(9.0).reshape(3, 3)}),
            "frame 1: 'dft_stress' is not symmetric",
        ),
        (water(energy=-1.0, info={"virial": np.eye(3)}), "frame 1: 'virial' is given, .*no volume"),
        (Atoms("H2", [[0, 0, 0], [0, 0, 0.05]]), r"frame 1: atoms 0 and 1 \(counted from 0\) are 0.05 Å apart"),
        (
            Atoms("H2", [[0, 0, 0], [2.95, 0, 0]], cell=[3, 3, 3], pbc=True),
            r"frame 1: atoms . and . \(.*\) are 0.05 Å apart",
        ),
        (Atoms("H", [[0, 0, 0]], cell=[0.5, 3, 0.05], pbc=True), "frame 1.*flat"),
        (Atoms("XH", [[0, 0, 0], [1, 0, 0]]), "frame 1: atom 0 has the atomic number 0, which is not an element"),
        (Atoms("H", [[0, 0, 0]], pbc=True), "frame 1: the cell is flat.*pbc"),
        (Atoms("H2", [[0, 0, 0], [NAN, 0, 0]]), "frame 1: atom 1 .* is at"),
    ],
)
def test_a_faulty_frame_is_named_in_one_sentence(saved, faulty, message):
    path = saved([water(energy=-1.0), faulty])
    with pytest.raises(InputError, match=rf"train\.xyz, {message}") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_plain_comment_is_no_label(tmp_path):
    path = tmp_path / "plain.xyz"
    path.write_text("1\nenergy -10.0\nH 0 0 0\n")
    with pytest.raises(InputError, match=r"frame 0: 'energy' is .*True.*, not a number"):
        read(path)


def test_compressed_files(saved, tmp_path):
    write(tmp_path / "train.xyz.gz", [water(energy=-1.0)], format="extxyz")
    assert only(tmp_path / "train.xyz.gz").energy == -1.0


@pytest.mark.parametrize("key", ["REF_stress", "stress", "virial"])
@pytest.mark.parametrize("value", [0.0, NAN])
def test_a_stress_of_zero_without_a_volume_is_left_out(saved, key, value):
    crystal = water(periodic=True, energy=-1.0, forces=forces(), info={key: STRESS})
    molecule = water(1, energy=-2.0, forces=forces(1), info={key: np.full((3, 3), value)})
    structures, report = read_with_report(saved([crystal, molecule]))
    assert [s.stress is None for s in structures] == [False, True]
    assert [s.energy for s in structures] == [-1.0, -2.0]
    assert f"stress from {key!r} (1 of 2)" in str(report)
    (note,) = [line for line in report.lines() if is_note(line)]
    assert ("the stress of 1 of 2 frames, first frame 1, is 0" if value == 0 else "NaN or empty in 1 of 2") in note


def test_a_stress_without_a_volume_may_be_a_lost_cell(saved):
    path = saved([water(energy=-1.0, info={"REF_stress": STRESS})])
    with pytest.raises(InputError, match=r"no volume.*--set data\.stress_without_volume=ignore"):
        read(path)
    assert only(path, ReadOptions(stress_without_volume="ignore")).stress is None
    assert only(path, ReadOptions(stress_key="none")).stress is None


@pytest.mark.parametrize("order", ["ase", "vasp", "lammps"])
def test_the_order_of_six_components(saved, order):
    voigt = {"ase": "xx yy zz yz xz xy", "vasp": "xx yy zz xy yz zx", "lammps": "xx yy zz xy xz yz"}[order]
    six = [STRESS["xyz".index(name[0]), "xyz".index(name[1])] for name in voigt.split()]
    path = saved([water(periodic=True, energy=-1.0, info={"dft_stress": six})])
    structure = only(path, ReadOptions(stress_order=order))
    np.testing.assert_allclose(structure.stress, STRESS, atol=1e-12)
    virial = saved([water(periodic=True, energy=-1.0, info={"dft_virial": np.array(six)})])
    from_virial = only(virial, ReadOptions(stress_order=order)).stress
    np.testing.assert_allclose(from_virial, -STRESS / np.linalg.det(BOX), atol=1e-12)


def test_the_assumed_order_of_six_components_is_said(saved):
    six = STRESS[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    path = saved([water(periodic=True, energy=-1.0, info={"dft_stress": six})])
    assert "six stress components read as xx yy zz yz xz xy (another order: --set data.stress_order" in str(
        read_with_report(path)[1]
    )
    assert "six stress" not in str(read_with_report(path, ReadOptions(stress_order="ase"))[1])
    matrix = saved([water(periodic=True, energy=-1.0, info={"dft_stress": STRESS})])
    assert "six stress" not in str(read_with_report(matrix)[1])


@pytest.mark.parametrize("name", ["train.xyz", "train.traj", "train.json"])
def test_stresses_of_ase_have_their_order_whatever_the_option_says(saved, name):
    six = STRESS[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    path = saved([water(periodic=True, energy=-1.0, forces=forces(), stress=six)], name)
    np.testing.assert_allclose(only(path, ReadOptions(stress_order="vasp")).stress, STRESS, atol=1e-12)


def test_a_quantity_that_no_structure_has_is_said_first(saved):
    path = saved([water(i, forces=forces(i), info={"formation_energy": -1.0}) for i in range(3)])
    _, report = read_with_report(path)
    first, second = report.lines()
    assert is_note(first)
    assert first.startswith(f"note: there are no energies in {path}, so that training and tests go without")
    assert second.endswith("forces from 'forces' (3 of 3); not used: formation_energy")
    assert not any(is_note(line) for line in read_with_report(path, ReadOptions(energy_key="none"))[1].lines())
    with pytest.raises(InputError, match=r"neither energies nor forces .* \('energy' is NaN or empty in 1 of 1 frames"):
        read(saved([water(energy=NAN)]))


def test_what_is_not_used_is_named_once(saved):
    info = {"charge": 0, "material_id": "mp-1", "config_type": "a", "energy_unit": "eV"}
    frames = [water(i, energy=-1.0, forces=forces(i), info=info, arrays={"tags": [0, 1, 2]}) for i in range(2)]
    structures, report = read_with_report(saved(frames))
    assert str(report).endswith("forces from 'forces' (2 of 2); not used: charge, material_id, tags")
    assert len(report.lines()) == 1
    assert structures[0].extra["material_id"] == "mp-1"


def test_absurd_stresses_are_refused_unless_their_unit_is_given(saved):
    path = saved(
        [water(i, periodic=True, energy=-1.0, forces=forces(i), info={"stress": 1e3 * STRESS}) for i in range(3)]
    )
    with pytest.raises(
        InputError, match=r"'stress' amounts to 4,807 GPa .*data\.stress_unit=kbar \(then up to 3 GPa\)"
    ):
        read(path)
    assert only(f"{path}@0", ReadOptions(stress_unit="kbar")).stress.max() == pytest.approx(30 * 0.1 * units.GPa)
    assert only(f"{path}@0", ReadOptions(stress_unit="eV/Å^3")).stress.max() == pytest.approx(30)


def test_the_unit_of_an_npz_follows_from_its_numbers(tmp_path):
    rng = np.random.default_rng(0)
    energies, labels = -2080 + rng.normal(size=4), rng.normal(size=(4, 3, 3))
    arrays = {"z": [8, 1, 1], "R": np.stack([water(i).positions for i in range(4)])}
    for unit, name in ((1.0, "eV"), (units.kcal / units.mol, "kcal/mol")):
        np.savez(tmp_path / "a.npz", E=energies / unit, F=labels / unit, **arrays)
        structures, report = read_with_report(tmp_path / "a.npz")
        assert structures[1].energy == pytest.approx(energies[1])
        np.testing.assert_allclose(structures[1].forces, labels[1])
        assert f"in {name}, which the file does not state, but the size of its energies implies" in str(report)
    np.savez(tmp_path / "a.npz", E=energies * 0 - 3.0, F=0.15 * labels, **arrays)
    with pytest.raises(
        InputError, match=r"a\.npz states no unit of energy, and its numbers do not tell it.*--energy-unit eV"
    ):
        read(tmp_path / "a.npz")
    assert read(tmp_path / "a.npz", ReadOptions(energy_unit="eV"))[0].energy == -3.0


def test_energies_in_hartree_in_a_file_that_is_usually_in_ev(saved):
    frames = [water(i, energy=-76.4, forces=0.03 * forces(i)) for i in range(3)]
    path = saved(frames)
    with pytest.raises(InputError, match=r"in Hartree, not in eV: add --energy-unit Hartree --set data\.forces_unit"):
        read(path)
    assert read(path, ReadOptions(energy_unit="eV"))[0].energy == -76.4
    for atoms in frames:
        atoms.info["energy_unit"] = "eV"
    assert read(saved(frames))[0].energy == -76.4


def test_keys_to_ignore(saved):
    path = saved([water(energy=-1.0, forces=forces(), info={"box": 20.0, "units": "furlong"})])
    with pytest.raises(InputError, match=r"frame 0: 'box' may be the cell, .*--set data\.ignore=box"):
        read(path)
    with pytest.raises(InputError, match=r"'units' is 'furlong', but .*--set data\.ignore=units"):
        read(path, ReadOptions(ignore="box"))
    structures, report = read_with_report(path, ReadOptions(ignore="box, units"))
    assert structures[0].energy == -1.0
    assert not is_note(report.lines()[0])
    with pytest.raises(InputError, match=r"no frame has the key 'bax' for data\.ignore: the keys are box"):
        read(path, ReadOptions(ignore="bax,box,units"))


def test_zeros_can_be_kept(saved):
    path = saved([water(i, energy=-2080.0 * (i > 0), forces=forces(i) * (i > 0)) for i in range(6)])
    structures, report = read_with_report(path)
    assert (structures[0].energy, structures[0].forces) == (None, None)
    assert sum(is_note(line) for line in report.lines()) == 2
    structures, report = read_with_report(path, ReadOptions(keep_zeros=True))
    assert structures[0].energy == 0.0
    assert not structures[0].forces.any()
    assert len(report.lines()) == 1


def test_a_box_without_periodicity_is_kept_and_has_no_part(saved):
    atoms = water(energy=-1.0)
    atoms.set_cell(BOX)
    assert not only(saved([atoms])).pbc.any()


def test_several_files_each_have_their_own_keys(saved, tmp_path):
    first = saved([water(energy=-1.0)], "a.xyz")
    second = saved([water(1, info={"REF_energy": -2.0})], "b.xyz")
    structures, report = read_with_report([first, second])
    assert [s.energy for s in structures] == [-1.0, -2.0]
    assert [is_note(line) for line in report.lines()] == [True, False, False]  # there are no forces
    assert [s.energy for s in read(tmp_path)] == [-1.0, -2.0]


def test_the_report_of_a_folder_is_short(saved, tmp_path):
    for i in range(9):
        saved([water(i, energy=-1.0)], f"run{i}.xyz")
    (tmp_path / "notes.txt").write_text("nothing")
    _, report = read_with_report(tmp_path)
    lines = [line for line in report.lines() if not is_note(line)]
    assert len(lines) == 2
    assert lines[0].startswith("9 files")
    assert "energy from 'energy' (9 of 9)" in lines[0]
    assert "notes.txt" in lines[1]


def test_the_published_sets(shared_data):
    structures, report = read_with_report(shared_data / "mlearn_Cu_test.xyz")
    assert len(structures) == 31
    assert "stress from 'stress' (29 of 31)" in str(report)
    assert {s.group for s in structures} != {""}
    isolated = read(shared_data / "rmd17_isolated_atoms.xyz")
    assert all(len(s) == 1 for s in isolated)
