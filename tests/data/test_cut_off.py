"""Of files that end too early, what is whole is read, and the rest is said."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read as ase_read
from ase.io import write

from equiforce.data.cut_off import signs_of_a_cut, whole_frames, whole_items
from equiforce.data.files import read_last
from equiforce.data.source import Source
from equiforce.errors import InputError


def frames(n: int) -> list[Atoms]:
    """Frames that differ."""
    atoms = [molecule("CH3CH2OH") for _ in range(n)]
    for number, each in enumerate(atoms):
        each.rattle(0.05, seed=number)
    return atoms


@pytest.mark.parametrize("n", [2, 60])
@pytest.mark.parametrize("name", ["a.xyz", "a.traj"])
def test_every_cut_is_a_whole_frame_and_a_remark_or_a_refusal(name, n, tmp_path):
    file, wanted = tmp_path / name, frames(n)
    write(file, wanted)
    data = file.read_bytes()
    kept = set()
    for length in np.random.default_rng(0).integers(len(data) // 3, len(data), 120 if n == 2 else 25):
        file.write_bytes(data[:length])
        try:
            atoms, remarks = read_last(str(file))
        except InputError as error:
            assert str(file) in str(error)  # noqa: PT017
            continue
        last = [i for i, frame in enumerate(wanted) if np.abs(atoms.positions - frame.positions).max() < 1e-7]
        if "cut off" not in str(remarks):
            assert last == [n - 1] or between_frames(data[:length])  # only the room at the end of a table is lost
        kept |= set(last)
    assert kept


def between_frames(data: bytes) -> bool:
    return b"Ulm" not in data and len(data.splitlines()) % 11 == 0 and data.endswith(b"\n")


def test_a_frame_that_is_cut_is_not_the_last_of_a_slice(tmp_path):
    write(tmp_path / "a.traj", frames(3))
    (tmp_path / "a.traj").write_bytes((tmp_path / "a.traj").read_bytes()[:-100])
    atoms, remarks = read_last(f"{tmp_path / 'a.traj'}@-1")
    np.testing.assert_array_equal(atoms.positions, frames(3)[1].positions)
    assert "frame 2 (counted from 0, at byte" in remarks[0]


ONE = "1\nfirst\nH 0.0 0.0 0.0\n"
FREE = "3\nwithout a last line end\nO 0 0 0.119\nH 0 0.763 -0.477\nH 0 -0.76 -0.4"  # in rows of any length


@pytest.mark.parametrize(
    ("text", "kept", "left_out"),
    [
        (ONE, ONE, ""),
        (ONE[:-5], ONE[:-5], ""),  # nothing is before it
        (ONE + "\n\n" + ONE, ONE + "\n\n" + ONE, ""),
        (ONE + "9", ONE, "frame 1 (counted from 0, line 4) is cut off and left out"),
        (ONE + "1\nsec", ONE, "frame 1 (counted from 0, line 4) is cut off and left out"),
        (ONE + ONE[:-2], ONE, "frame 1 (counted from 0, line 4) is cut off and left out"),
        (ONE + ONE[:-1], ONE + ONE[:-1], ""),  # a text editor's
        (ONE + FREE, ONE + FREE, ""),
        (ONE + "9" * 400 + "\n", ONE + "9" * 400 + "\n", ""),
        (ONE + "something else\n" + ONE, ONE + "something else\n" + ONE, ""),
        ("", "", ""),
    ],
)
def test_the_last_frame_of_a_text(text, kept, left_out):
    assert whole_frames(text) == (kept, left_out)


@pytest.mark.parametrize("at", [32, 40, 48, "description", "shape"])
@pytest.mark.parametrize("value", [-1, 2**40, 2**62])
def test_numbers_that_are_larger_than_the_file_allocate_nothing(at, value, tmp_path):
    file = tmp_path / "a.traj"
    write(file, frames(1)[0])
    data = bytearray(file.read_bytes())
    if at == "shape":
        data = bytearray(bytes(data).replace(b"[[9, 3]", b"[[9, %d]" % value))
    else:
        place = int.from_bytes(data[48:56], "little") if at == "description" else at
        data[place : place + 8] = value.to_bytes(8, "little", signed=True)
    file.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.traj,? (frame 0|contains no structures)") as error:
        read_last(str(file))
    assert not isinstance(error.value.__cause__, MemoryError)


def test_the_frames_of_a_trajectory_are_counted(tmp_path):
    file = tmp_path / "a.traj"
    for n in (1, 2, 43):
        write(file, frames(n))
        assert whole_items(Source(str(file), str(file))) == (n, n, "")
    file.write_bytes(b"- of Ulm")
    with pytest.raises(ValueError, match="table of frames"):
        whole_items(Source(str(file), str(file)))


@pytest.mark.parametrize("form", ["proteindatabank", "cif", "vasp"])
def test_signs_of_a_cut(form, tmp_path):
    file, atoms = tmp_path / "a", bulk("Si", cubic=True)
    write(file, atoms, format=form)
    text = file.read_text()
    assert signs_of_a_cut(form, text, atoms) == []
    assert "last line has no end" in signs_of_a_cut(form, text[:-3], atoms)[0]
    if form == "proteindatabank":
        assert "no line END" in signs_of_a_cut(form, text.replace("END", "TER"), atoms)[0]
    if form == "cif":
        assert signs_of_a_cut(form, text, atoms * (2, 1, 1)) == []  # some programs write the formula unit
        for other in (atoms[:5], atoms + Atoms("C")):
            assert "its formula is Si8, but its atoms are" in signs_of_a_cut(form, text, other)[0]


def test_the_case_of_the_attack(tmp_path):
    write(tmp_path / "cut.xyz", frames(1)[0])
    Path(tmp_path / "cut.xyz").write_text(Path(tmp_path / "cut.xyz").read_text() + "9\n")
    atoms, remarks = read_last(str(tmp_path / "cut.xyz"))
    assert len(atoms) == 9
    assert remarks == ["frame 1 (counted from 0, line 12) is cut off and left out"]
    assert len(ase_read(tmp_path / "cut.xyz", 0)) == 9


@pytest.mark.parametrize("formula", ["?", "'Na Cl.H2 O'", "''", "'Si0'", "Si.", "'Si 2/3'"])
def test_a_formula_that_says_nothing_is_no_sign_of_a_cut(formula):
    text = f"data_a\n_chemical_formula_sum {formula}\n"
    signs = signs_of_a_cut("cif", text, bulk("Si", cubic=True))
    assert len(signs) == (formula == "'Si0'")
