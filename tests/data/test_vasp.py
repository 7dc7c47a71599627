"""Outputs of VASP: which energy, which steps, and which files repeat one another."""

import gzip

import numpy as np
import pytest
from ase import units

from equiforce.data.files import read_files
from equiforce.data.read import ReadOptions, read, read_with_report
from equiforce.data.vasp import read_steps
from equiforce.errors import InputError
from tests.data import vasp_files

BOTH = pytest.mark.parametrize("text", [vasp_files.outcar, vasp_files.vasprun])


def numbers(contents):
    return [contents.frame_name(i).rsplit(" ", 1)[1] for i in range(len(contents.frames))]


@BOTH
@pytest.mark.parametrize("name", ["run1.outcar", "water.xml", "OUTCAR.relax1", "anything", "scf.out"])
def test_outputs_are_known_under_any_name(tmp_path, text, name):
    (tmp_path / name).write_text(text([0, 1]))
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text([0, 1]).encode()))
    for file in (tmp_path / name, tmp_path / f"{name}.gz"):
        structures = read(file)
        np.testing.assert_allclose(structures[1].forces, vasp_files.forces(1), atol=1e-5)
        np.testing.assert_allclose(structures[1].positions, vasp_files.positions(1) % 1 @ vasp_files.CELL, atol=1e-5)
        kbar = -np.array([[10, 1, 3], [1, 20, 2], [3, 2, 30]]) * 0.1 * units.GPa
        np.testing.assert_allclose(structures[1].stress, kbar, rtol=1e-3)


@BOTH
def test_both_energies_are_handed_over(tmp_path, text):
    (tmp_path / "out").write_text(text([0, 3]))
    ((contents,), _) = read_files([tmp_path / "out"])
    values = contents.frames[1].values
    assert values["free_energy"] == pytest.approx(vasp_files.free_energy(3))
    assert values["energy"] == pytest.approx(vasp_files.free_energy(3) - vasp_files.FREE_MINUS_ZERO)


@BOTH
def test_steps_whose_electrons_did_not_converge_are_left_out_by_name(tmp_path, text):
    (tmp_path / "out").write_text(text(range(4), unconverged=(1, 3), nelm=5))
    ((contents,), _) = read_files([tmp_path / "out"])
    assert numbers(contents) == ["0", "2"]
    assert contents.notes == (
        "left out frames 1, 3, whose electrons did not converge in NELM steps; --set data.unconverged=keep keeps them",
    )
    assert [s.source.rsplit(" ", 1)[1] for s in read(tmp_path / "out")] == ["0", "2"]
    kept, report = read_with_report(tmp_path / "out", ReadOptions(unconverged="keep"))
    assert len(kept) == 4
    assert "note: kept frames 1, 3, whose electrons did not converge" in str(report)
    ((part,), _) = read_files([f"{tmp_path / 'out'}@1:3"])
    assert numbers(part) == ["1"]  # counted in the slice, as everywhere
    (tmp_path / "out").write_text(text([0], unconverged=[0], nelm=5))
    with pytest.raises(InputError, match="in none of the frames did the electrons converge"):
        read(tmp_path / "out")


def test_newer_outcars_say_that_electrons_did_not_converge():
    text = vasp_files.outcar([0, 1]).replace("because EDIFF is reached", "EDIFF was not reached (unconverged)", 1)
    assert read_steps("OUTCAR", "vasp-out", text.splitlines()).converged == [True, True]  # before NELM steps: no
    text = text.replace("NELM   = 60", "NELM   = 3")
    assert read_steps("OUTCAR", "vasp-out", text.splitlines()).converged == [False, True]


@BOTH
def test_a_step_that_is_cut_off_is_said(tmp_path, text):
    whole = text(range(3))
    (tmp_path / "out").write_text(whole[: whole.rindex("0.5")])
    ((contents,), _) = read_files([tmp_path / "out"])
    assert len(contents.frames) == 2
    assert contents.notes == ("ionic step 2 (counted from 0) is cut off and left out",)


def test_a_relaxation_that_stopped_early_is_kept_and_said(tmp_path):
    (tmp_path / "OUTCAR").write_text(vasp_files.outcar(range(3), settings="NSW = 3; IBRION = 2"))
    structures, report = read_with_report(tmp_path / "OUTCAR")
    assert len(structures) == 3
    assert "note: the relaxation stopped at NSW before its end" in str(report)
    (tmp_path / "OUTCAR").write_text(vasp_files.outcar(range(3), settings="NSW = 3; IBRION = 0"))
    assert "NSW" not in str(read_with_report(tmp_path / "OUTCAR")[1])


def test_labels_of_vasps_own_force_field_are_refused(tmp_path):
    (tmp_path / "OUTCAR").write_text(vasp_files.outcar([0, 1]).replace("energy   TOTEN", "energy ML TOTEN"))
    with pytest.raises(InputError, match="machine-learned force field: give the ML_AB file"):
        read(tmp_path / "OUTCAR")


def test_a_folder_counts_each_ionic_step_once(tmp_path):
    vasp_files.write_run(tmp_path / "a", range(3))
    vasp_files.write_run(tmp_path / "b", range(3, 5))
    structures, report = read_with_report(tmp_path)
    assert [s.energy for s in structures] == [structures[0].energy - 0.125 * step for step in range(5)]
    assert all("vasprun.xml" in s.source for s in structures)
    assert f"a/OUTCAR (its 3 ionic steps are those of {tmp_path}/a/vasprun.xml)" in report.lines()[-1]
    assert "a/POSCAR and 1 more (structures of the run of VASP whose output is read)" in report.lines()[-1]
    assert "a/INCAR and 1 more (an input of VASP" in report.lines()[-1]


def test_twins_are_known_by_their_content(tmp_path):
    one, other = tmp_path / "run1.outcar", tmp_path / "water.xml"
    one.write_text(vasp_files.outcar(range(3)))
    other.write_text(vasp_files.vasprun(range(2)))
    contents, left_out = read_files([one, other])
    assert [numbers(each) for each in contents] == [["2"], ["0", "1"]]
    assert contents[0].notes == (f"left out 2 ionic steps that {other} has too",)
    assert left_out == []


def test_a_continued_run_repeats_the_last_step_of_the_one_before(tmp_path):
    (tmp_path / "OUTCAR.1").write_text(vasp_files.outcar([0, 1, 2]))
    (tmp_path / "OUTCAR.2").write_text(vasp_files.outcar([2, 3]))
    contents, _ = read_files([tmp_path])
    assert [numbers(each) for each in contents] == [["0", "1", "2"], ["1"]]


def test_structures_without_labels_stay_where_there_is_no_output(tmp_path):
    (tmp_path / "POSCAR").write_text(vasp_files.poscar())
    assert len(read(tmp_path, labels_required=False)) == 1
    (tmp_path / "OUTCAR").write_text(vasp_files.outcar([0]))
    assert len(read([tmp_path / "OUTCAR", tmp_path / "POSCAR"])) == 2  # named by the user
    assert len(read(tmp_path)) == 1


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("vasprun.xml", "<v>  0.50000000 -0.25000000  0.00000000 </v>\n", "", "the forces have 1 rows instead of 2"),
        ("vasprun.xml", "<v>  0.10000000  0.10000000  0.98000000 </v>\n", "", "the positions have 1 rows instead of 2"),
        ("vasprun.xml", "<v>  0.50000000 -0.25000000", "<v> -0.25000000", "in the forces are not three numbers"),
        ("vasprun.xml", "<v> 3 2 30 </v>", "<v> 3 2 30 </v>\n<v> 3 2 30 </v>", "the stress have 4 rows instead of 3"),
        ("vasprun.xml", "<v> 10 1 3 </v>", "<v> 10 5 3 </v>", "the stress is not symmetric, by up to 4 of 30 kbar"),
        ("vasprun.xml", "0.50000000 -0.25", "0_0.5 -0.25", "a number that only Python reads"),
        ("OUTCAR", " 0.50000 -0.25000", " 0.50000", "in the positions are not 6 numbers"),
        ("OUTCAR", " 0.50000 -0.25000", " 0_0.5 -0.25000", "in the positions are not 6 numbers"),
        ("OUTCAR", " 4.000000000  0.0", " 4.0", "in the lattice vectors are not 6 numbers"),
        ("OUTCAR", "0.25000 -0.00000\n", "0.25000 -0.00\r000\n", "'000' after the positions is one row too many"),
        (
            "OUTCAR",
            " 0.50000 -0.25000  0.00000\n",
            " 0.50000 -0.25000  0.00000\n" * 2,
            "in the positions are not 6 numbers",
        ),
        ("OUTCAR", "TOTEN  = -10.0", "TOTEN  = -1_0.0", "a number that only Python reads"),
        ("OUTCAR", " POTCAR:    PAW_PBE O", " {:    PAW_PBE O", "does not name its potentials .* twice in one order"),
        ("OUTCAR", "=               1   1", "= 1 1000000000", "are not 6 numbers"),
    ],
)
def test_rows_and_numbers_that_are_lost(tmp_path, name, old, new, message):
    """ASE would read zeros, repeated numbers, or other elements."""
    text = {"OUTCAR": vasp_files.outcar, "vasprun.xml": vasp_files.vasprun}[name](range(2))
    (tmp_path / name).write_text(text)
    assert len(read(tmp_path / name)) == 2
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        read(tmp_path / name)


def test_the_primitive_cell_of_a_vasprun_has_fewer_atoms(tmp_path):
    text = vasp_files.vasprun(range(2))
    cell = '<structure name="primitive_cell" >\n<varray name="positions" >\n<v> 0 0 0 </v>\n</varray>\n</structure>\n'
    (tmp_path / "vasprun.xml").write_text(text.replace("<calculation>", f"{cell}<calculation>", 1))
    assert len(read(tmp_path / "vasprun.xml")) == 2
