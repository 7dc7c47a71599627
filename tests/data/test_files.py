import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import write

from equiforce.data.files import read_last
from equiforce.data.read import read, read_with_report
from equiforce.errors import InputError


def dimers(n=5):
    frames = []
    for i in range(n):
        atoms = Atoms("OH", [[0, 0, 0], [0.96 + 0.01 * i, 0, 0]])
        atoms.calc = SinglePointCalculator(atoms, energy=-float(i))
        frames.append(atoms)
    return frames


@pytest.fixture
def dimer_file(tmp_path):
    write(tmp_path / "dimers.xyz", dimers(), format="extxyz")
    return tmp_path / "dimers.xyz"


def test_parts_of_a_file(dimer_file):
    def energies(part):
        return [-s.energy for s in read(f"{dimer_file}@{part}")]

    assert energies("1:3") == [1, 2]
    assert energies("::2") == [0, 2, 4]
    assert energies("-2:") == [3, 4]
    assert energies("3") == [3]
    assert energies("-1") == [4]
    structures = read(f"{dimer_file}@1:3")
    assert structures[0].source.endswith("dimers.xyz@1:3, frame 0")
    with pytest.raises(InputError, match="contains no structures"):
        read(f"{dimer_file}@7:9")


def test_a_file_that_is_not_there_names_the_nearest(tmp_path, dimer_file):
    with pytest.raises(InputError, match=r"no file .*dimer\.xyz; did you mean .*dimers\.xyz"):
        read(tmp_path / "dimer.xyz")
    for odd in ("dimers.xyz@", "dimers.xyz@-", "dimers.xyz@a:b"):
        with pytest.raises(InputError, match="There is no file"):
            read(tmp_path / odd)
    with pytest.raises(InputError, match="There is no file"):
        read("nowhere/at/all.xyz")


def test_files_that_cannot_be_read(tmp_path):
    empty, words = tmp_path / "empty.xyz", tmp_path / "words.xyz"
    empty.write_text("")
    words.write_text("these are words\nand nothing else\n")
    for path in (empty, words):
        with pytest.raises(InputError, match=rf"{path.name}") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_a_file_cut_off_in_the_middle(dimer_file):
    dimer_file.write_text("\n".join(dimer_file.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(InputError, match=r"dimers\.xyz, line 17: frame 4 .* has 2 atoms, but .* after 1 of them"):
        read(dimer_file)


def test_an_unknown_element_is_named_with_its_line(dimer_file):
    dimer_file.write_text(dimer_file.read_text().replace("\nH ", "\nHh ", 2).replace("\nHh ", "\nH ", 1))
    with pytest.raises(InputError, match=r"frame 1 .*, line 8: there is no element 'Hh'"):
        read(dimer_file)


def test_a_folder_is_read_in_the_order_of_names(tmp_path, dimer_file):
    write(tmp_path / "another.xyz", dimers(1), format="extxyz")
    (tmp_path / ".hidden.xyz").write_text("no")
    (tmp_path / "README.md").write_text("# words")
    structures, report = read_with_report(tmp_path)
    assert [s.source.split("/")[-1] for s in structures[:2]] == ["another.xyz, frame 0", "dimers.xyz, frame 0"]
    (skipped,) = report.skipped
    assert skipped.endswith("README.md (without structures)")
    bare = tmp_path / "bare"
    bare.mkdir()
    with pytest.raises(InputError, match="has no file with structures that can be read: correct the path"):
        read(bare)
    (bare / "a.h5").write_bytes(b"\x89HDF\0")
    with pytest.raises(InputError, match=r"has no file .*, only .*/a\.h5 \(an HDF5 file, .*\): correct the path"):
        read(bare)


def test_the_group_of_a_frame(tmp_path):
    frames = dimers(3)
    frames[0].info["config_type"] = "bulk"
    frames[1].info["group"] = 7
    write(tmp_path / "g.xyz", frames, format="extxyz")
    assert [s.group for s in read(tmp_path / "g.xyz")] == ["bulk", "7", ""]


def test_subfolders_are_read_but_not_runs_of_equiforce(tmp_path, dimer_file):
    for name in ("b/deep", ".git", "run"):
        (tmp_path / name).mkdir(parents=True)
        write(tmp_path / name / "more.xyz", dimers(2), format="extxyz")
    (tmp_path / "run" / "model.eqf").write_text("")
    structures, report = read_with_report(tmp_path)
    assert len(structures) == 7
    assert [file.path for file in report.files] == [str(dimer_file), str(tmp_path / "b" / "deep" / "more.xyz")]
    assert report.lines()[-1] == f"skipped: {tmp_path / 'run'} (the folder of a run of equiforce)"


def test_files_that_were_left_out_for_the_same_reason_share_a_clause(tmp_path, dimer_file):
    for number in range(3):
        (tmp_path / f"empty{number}").write_text("")
    assert read_with_report(tmp_path)[1].skipped == (f"{tmp_path / 'empty0'} and 2 more (empty)",)


@pytest.mark.parametrize(("part", "asked"), [("0:7", 7), (":9", 9), ("3:9:2", 3), ("-8:", 8)])
def test_a_slice_beyond_the_end_is_said(dimer_file, part, asked):
    structures, report = read_with_report(f"{dimer_file}@{part}")
    assert f"note: the slice asks for {asked} frames, but the file has only {len(structures)} of them" in str(report)


def test_slices_within_the_file_need_no_note(dimer_file):
    for part in (":5", "1:3", "-2:", "::2", "4", "-1", ":-1", "1:-1"):
        assert not read_with_report(f"{dimer_file}@{part}")[1].files[0].notes
    with pytest.raises(InputError, match="the step of a slice cannot be 0"):
        read(f"{dimer_file}@::0")


def test_one_structure_as_ases_atoms(tmp_path, dimer_file):
    atoms = dimers(3)[-1]
    atoms.set_momenta([[1, 2, 3], [0, 0, 0]])
    atoms.set_constraint(FixAtoms([1]))
    write(tmp_path / "start", atoms, format="extxyz")
    read_back, _ = read_last(str(tmp_path / "start"))
    assert read_back.get_momenta().tolist() == [[1, 2, 3], [0, 0, 0]]
    assert read_back.constraints[0].index.tolist() == [1]
    assert read_last(str(dimer_file))[0].positions[1, 0] == pytest.approx(1.0)
    assert read_last(f"{dimer_file}@0")[0].positions[1, 0] == pytest.approx(0.96)
    np.savez(tmp_path / "a.npz", z=[8, 1], R=[atoms.positions], E=[0.0])
    np.testing.assert_array_equal(read_last(str(tmp_path / "a.npz"))[0].positions, atoms.positions)
    for wrong, message in ((f"{dimer_file}@7", "contains no structures"), ("nowhere.xyz", "There is no file nowhere")):
        with pytest.raises(InputError, match=message):
            read_last(wrong)
    with pytest.raises(InputError, match="is a folder"):
        read_last(str(tmp_path))
