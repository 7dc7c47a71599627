import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

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
    with pytest.raises(InputError, match="has no file with structures"):
        read(bare)


def test_the_group_of_a_frame(tmp_path):
    frames = dimers(3)
    frames[0].info["config_type"] = "bulk"
    frames[1].info["group"] = 7
    write(tmp_path / "g.xyz", frames, format="extxyz")
    assert [s.group for s in read(tmp_path / "g.xyz")] == ["bulk", "7", ""]
