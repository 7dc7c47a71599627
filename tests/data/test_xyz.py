"""What ASE's reader of xyz files would leave out or misread is taken, or named with its line."""

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write

from equiforce.data.files import read_last
from equiforce.data.read import ReadOptions, read, read_with_report
from equiforce.data.xyz import complete_xyz, is_xyz, parse_header
from equiforce.errors import InputError

N = 4


@pytest.fixture
def crystal(tmp_path):
    """A file of crystals with energies, and its text."""
    frames = []
    for number in range(N):
        atoms = bulk("Cu", cubic=True)
        atoms.info["energy"] = -float(number)
        frames.append(atoms)
    write(tmp_path / "a.xyz", frames, format="extxyz")
    return tmp_path / "a.xyz"


def changed(path, *replacements):
    text = path.read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return path


def energies(path):
    return [-s.energy for s in read(path)]


@pytest.mark.parametrize("blank", ["\n", "\n\n", "   \n"])
def test_blank_lines_between_frames_end_nothing(crystal, blank):
    lines = crystal.read_text().splitlines(keepends=True)
    frames = ["".join(lines[i : i + 6]) for i in range(0, len(lines), 6)]
    crystal.write_text(blank + blank.join(frames) + blank)
    assert energies(crystal) == [0, 1, 2, 3]
    assert energies(f"{crystal}@1:3") == [1, 2]


def test_a_blank_comment_belongs_to_its_frame(tmp_path):
    (tmp_path / "b.xyz").write_text("1\n\nH 0 0 0\n\n1\n\nHe 1 2 3\n")
    structures = read(tmp_path / "b.xyz", labels_required=False)
    assert [s.atomic_numbers.tolist() for s in structures] == [[1], [2]]


@pytest.mark.parametrize("key", ["lattice", "LATTICE"])
def test_a_lattice_in_another_case_is_a_lattice(crystal, key):
    expected = read(crystal)[0]
    structures, report = read_with_report(changed(crystal, ("Lattice=", f"{key}="), ("Properties=", "properties=")))
    assert len(structures) == N
    np.testing.assert_array_equal(structures[0].cell, expected.cell)
    assert structures[0].pbc.all()
    assert f"note: read {key!r} as 'Lattice' ({N} times)" in str(report)
    assert "read 'properties' as 'Properties'" in str(report)


def test_a_key_without_a_value_does_not_swallow_the_next(crystal):
    structures, report = read_with_report(changed(crystal, ("Lattice=", "config_type= Lattice=")))
    assert structures[0].pbc.all()
    assert structures[0].group == ""
    assert f"note: ignored the key 'config_type', which has no value ({N} times)" in str(report)


def test_texts_in_quotes_stay_as_they_are(crystal):
    changed(crystal, ("energy=", 'note="lattice= and pbc= Lattice=" energy='))
    xyz = complete_xyz("a.xyz", crystal.read_text())
    assert xyz.notes == ()
    assert read(crystal)[0].pbc.all()
    assert 'note="lattice= and pbc= Lattice="' in xyz.text


def test_an_xyz_file_is_known_by_its_first_lines():
    assert is_xyz("a", "1\n\nH 0 0 0\n")
    assert is_xyz("a", "\n\n1\nD-label\nD 0 0 0\n")
    assert is_xyz("a", "1\nProperties=Z:I:1:pos:R:3\n8 0 0 0\n")
    assert is_xyz("A.XYZ.gz", "1\nwords\n?\n")
    for text in ("4\n1.0\n3 0 0\n", "some words\n", "", "1 2\n\nH 0 0 0\n", "2\n\n"):
        assert not is_xyz("a.txt", text)


def test_columns_that_the_header_does_not_name_are_said(tmp_path):
    rows = "H 0 0 0 0.1 0.2 0.3\n"
    (tmp_path / "a.xyz").write_text(f"1\nenergy=-1.0\n{rows}1\nProperties=species:S:1:pos:R:3:forces:R:3\n{rows}")
    structures, report = read_with_report(tmp_path / "a.xyz")
    assert structures[0].forces is None
    np.testing.assert_array_equal(structures[1].forces, [[0.1, 0.2, 0.3]])
    assert "note: did not use the columns after the first 4 of each atom, which the header does not name" in str(report)
    assert "(1 times)" in str(report)


def test_a_last_line_that_is_cut_off_is_said(crystal):
    assert not read_with_report(crystal)[1].files[0].notes
    crystal.write_text(crystal.read_text().rstrip("\n"))
    assert not read_with_report(crystal)[1].files[0].notes
    crystal.write_text(crystal.read_text()[:-3])
    assert "note: the last line is shorter than those before and has no end" in str(read_with_report(crystal)[1])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("Xx 0 0 0", r"frame 1 .*, line 6: there is no element 'Xx'"),
        ("D 0 0 0", r"frame 1 .*, line 6: 'D' is an isotope, and equiforce knows elements only: write 'H'"),
        ("H 0 0 1.0D-3", r"frame 1 .*, line 6: '1.0D-3' is not a coordinate"),
        ("H 0 0 ***", r"frame 1 .*, line 6: '\*\*\*' is not a coordinate"),
    ],
)
def test_a_row_that_is_no_atom_is_named(tmp_path, row, message):
    (tmp_path / "a.xyz").write_text(f"1\n\nH 0 0 0\n1\n\n{row}\n")
    with pytest.raises(InputError, match=message):
        read(tmp_path / "a.xyz", labels_required=False)


def test_what_cannot_be_a_frame_is_named_with_its_line(crystal):
    text = crystal.read_text()
    for wrong, message in (
        (text.replace("4\n", "3\n", 1), "a.xyz, line 6: frame 1 .* should begin here .* the line is 'Cu"),
        (text + "end of file\n", "a.xyz, line 25: frame 4 .* should begin here .* 'end of file'"),
        (text.rsplit("\n", 2)[0] + "\n", "a.xyz, line 19: frame 3 .* has 4 atoms, but the file ends after 3 of them"),
        (text.replace("4\n", "5\n", 1), "a.xyz, line 7: frame 0 .* needs an atom here, .* the line is '4'"),
    ):
        crystal.write_text(wrong)
        with pytest.raises(InputError, match=message) as caught:
            read(crystal)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["stress", "virial"])
@pytest.mark.parametrize("quotes", ['""', "''", "{}", "[]"])
def test_six_components_under_a_key_of_ase(crystal, key, quotes):
    first, last = quotes
    value = f"{first}0.01 0.02 0.03 0.004 0.005 0.006{last}".replace(" ", ", " if first == "[" else " ")
    structures, report = read_with_report(changed(crystal, ("energy=", f"{key}={value} energy=")))
    stress = structures[0].stress * (1 if key == "stress" else -np.linalg.det(structures[0].cell))
    np.testing.assert_allclose(stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], [0.01, 0.02, 0.03, 0.004, 0.005, 0.006])
    assert f"note: read {key!r} as {key.capitalize()!r}, because it is not nine numbers ({N} times)" in str(report)


@pytest.mark.parametrize("value", ["nan", '"nan nan nan nan nan nan nan nan nan"'])
def test_a_stress_that_is_not_known(crystal, value):
    structures, report = read_with_report(changed(crystal, ("energy=", f"stress={value} energy=")))
    assert all(s.stress is None for s in structures)
    assert f"NaN or empty in {N} of {N} frames" in str(report)


def test_names_that_look_like_numbers_keep_their_zeros():
    header = parse_header('id=007 other="0012" n=12 zero=0 x=0.5 remark="with code=007 inside"')
    assert header["id"] == "007"
    assert header["other"] == "0012"
    assert (header["n"], header["zero"], header["x"]) == (12, 0, 0.5)
    assert header.keys() == {"id", "other", "n", "zero", "x", "remark"}


def test_a_quote_inside_a_quoted_text_ends_nothing():
    header = 'remark="say \\"hi\\" pbc=x" lattice="3 0 0 0 3 0 0 0 3" properties=species:S:1:pos:R:3'
    text = complete_xyz("a.xyz", f"1\n{header}\nCu 0 0 0\n").text
    assert 'Lattice="3 0 0 0 3 0 0 0 3"' in text
    assert 'remark="say \\"hi\\" pbc=x"' in text


@pytest.mark.parametrize("empty", ['name=""', "name=''", "name={}", "name=[]", "a.b=", "name ="])
def test_no_empty_value_swallows_the_cell(empty):
    text = complete_xyz("a.xyz", f'1\n{empty} Lattice="5 0 0 0 5 0 0 0 5" energy=-1\nH 0 0 0\n')
    assert parse_header(text.text.split("\n")[1])["Lattice"].tolist() == (5 * np.eye(3)).tolist()
    assert "which has no value" in text.notes[0]


def test_a_cell_that_another_key_swallows_is_an_error():
    with pytest.raises(InputError, match=r"a\.xyz, line 2: frame 0 .* has a cell in its header that cannot be read"):
        complete_xyz("a.xyz", "1\nnote=it's Lattice=\"5 0 0 0 5 0 0 0 5\" tag=don't\nH 0 0 0\n")


def test_a_quotation_mark_that_is_not_closed_is_an_error():
    """It would take in the energy."""
    text = '1\nnote="open energy=-1.0 pbc="F F F"\nH 0 0 0\n'
    with pytest.raises(InputError, match=r"a.xyz, line 2: frame 0 .* has a quotation mark .* that is not closed"):
        complete_xyz("a.xyz", text)
    complete_xyz("a.xyz", text.replace("open", 'open"'))
    complete_xyz("a.xyz", text.replace("open", r'5\" thick"'))


HEADER = 'Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.5 pbc="T T T"'
ROWS = "Cu 0 0 0 0.1 0.2 0.3\nCu 2.5 0 0 -0.1 -0.2 -0.3\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("energy=-1.5", "energy=-1_0.5", "frame 0: 'energy' is '-1_0.5', not a number"),
        ("energy=-1.5", "energy=١٢", "frame 0: 'energy' is '١٢', not a number"),
        ("energy=-1.5", "energy=-1\\5", "frame 0: 'energy' is .*, not a number"),
        ("energy=-1.5", "energy=-1d5", "frame 0: 'energy' is '-1d5', not a number"),
        ("energy=-1.5", "energy=0x10", "frame 0: 'energy' is '0x10', not a number"),
        ("energy=-1.5", "energy=infinity", "frame 0: 'energy' is inf"),
        ("energy=-1.5", "energy=T", "frame 0: 'energy' is True, not a number"),
        ("energy=-1.5", "energy=-1.5 energy=-2.5", "line 2: .* has 'energy' twice in its header, as -1.5 and -2.5"),
        ("energy=-1.5", "energy=-1.5 lattice='9 0 0 0 9 0 0 0 8'", "has 'Lattice' twice in its header"),
        ("energy=-1.5", "energy=-1.\xa05", r"has 'energy=-1.\\xa05' in its header"),
        ("Lattice=", "=", "line 2: .* cannot be read because of one of its values"),
        ("energy=-1.5", "energy=-1. 5", "line 2: .* has 'energy=-1. 5' in its header, of which only the first number"),
        ("energy=-1.5", "dipole=0.1 0.2 0.3 energy=-1.5", "line 2: .* has 'dipole=0.1 0.2' in its header, of which"),
        ("energy=-1.5", "note=it's energy=-1.5", "line 2: .* has a quotation mark ' in its header that is not closed"),
        ("energy=-1.5", "{ energy=-1.5", "line 2: .* has a bracket { in its header that is not closed"),
        ("9 0 0 0 9 0 0 0 9", "9 0 0 0 9 0 0 9", "line 2: .* the value of 'Lattice' is not nine numbers"),
        ("9 0 0 0 9 0 0 0 9", "9 0 0 0 9 0 0 0 9 0", "line 2: .* the value of 'Lattice' is not nine numbers"),
        ("9 0 0 0 9 0 0 0 9", "9 0 0 0 9 0 0 0 9_0", "has Lattice='9 0 0 0 9 0 0 0 9_0', which is not nine numbers"),
        ("9 0 0 0 9 0 0 0 9", "9 0 0 0 9 0 0 0 nan", "the cell holds a value that is not finite"),
        ('"T T T"', '"X Y Z"', 'line 2: .* has pbc="X Y Z": write pbc="T T T", with T or F for each direction'),
        ('"T T T"', 'T T F', 'has a F without a key in its header: write pbc="T T F" in quotation marks'),
        ('"T T T"', '"T T"', 'has pbc="T T": write'),
        ('"T T T"', '"T T T T"', 'has pbc="T T T T": write'),
        ('"T T T"', '"1 2 3"', 'has pbc="1 2 3": write'),
        ("pos:R:3", "pos:R:3:pos:R:3", "line 2: .* has the column 'pos' twice"),
        ("forces:R:3", "forces:R:3:forces:R:3", "line 2: .* has the column 'forces' twice"),
        ("forces:R:3", "energy:R:3", "line 2: .* has 'energy' in its header and as a column: rename one"),
        ("forces:R:3", "forces:R", "line 2: .* has Properties=.*, which is not a list of name:type:number of columns"),
        ("forces:R:3", "forces:I:3", "line 3: '0.1' is not a whole number of 'forces'"),
        ("forces:R:3", "fixed:L:3", "line 3: '0.1' is not T or F of 'fixed'"),
        ("pos:R:3", "pos:S:3", "line 2: .* has pos:S:3 in its header: write pos:R:3"),
        ("species:S:1", "Z:R:1", "line 2: .* has Z:R:1 in its header: write Z:I:1"),
        ("2.5 0 0", "2_5.0 0 0", "line 4: '2_5.0' is not a coordinate: correct it"),
        ("2.5 0 0", "２.5 0 0", "line 4: '２.5' is not a coordinate"),
        ("2.5 0 0", "2.5d0 0 0", "line 4: '2.5d0' is not a coordinate: write 2.5e0, because D is"),
        ("2.5 0 0", "0x2 0 0", "line 4: '0x2' is not a coordinate"),
        ("2.5 0 0", "2.5 0\xa00", r"line 4: there is the character '\\xa0' between numbers"),
        ("2.5 0 0", "2.\x0b 0 0", r"line 4: there is the character '\\x0b' between numbers"),
        ("2.5 0 0", "2.5 0 0 0", "line 4: the atom has 8 words, and others have 7: remove what does not belong to it"),
        ("2.5 0 0", "2.5 0", "line 4: the header names 7 columns, but the atom has 6"),
        ("2\nLattice", "1000000000000\nLattice", "frame 0 .* has 1000000000000 atoms, but the file ends after 2"),
        ("2\nLattice", f"{'9' * 5000}\nLattice", "line 1: frame 0 .* should begin here"),
        ("2\nLattice", "2.0\nLattice", "line 1: frame 0 .* should begin here"),
        ("2\nLattice", "٢\nLattice", "line 1: frame 0 .* should begin here"),
    ],
)  # fmt: skip
def test_numbers_that_are_not_what_they_say(tmp_path, old, new, message):
    text = f"2\n{HEADER}\n{ROWS}"
    (tmp_path / "a.xyz").write_text(text)
    assert read(tmp_path / "a.xyz")[0].energy == -1.5
    (tmp_path / "a.xyz").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path / "a.xyz", ReadOptions(format="extxyz"))
    assert "\n" not in str(caught.value)


def test_elements_and_atomic_numbers_must_agree(tmp_path):
    text = f"2\n{HEADER.replace('pos', 'Z:I:1:pos')}\n{ROWS.replace('Cu', 'Cu 29')}"
    (tmp_path / "a.xyz").write_text(text)
    assert read(tmp_path / "a.xyz")[0].atomic_numbers.tolist() == [29, 29]
    for wrong in ("28", "148", "-90", "29.5", "4294967325"):
        (tmp_path / "a.xyz").write_text(text.replace("Cu 29", f"Cu {wrong}", 1))
        with pytest.raises(InputError, match=r"frame 0 .*, line 3: "):
            read(tmp_path / "a.xyz")


def test_the_same_value_twice_is_no_error(tmp_path):
    (tmp_path / "a.xyz").write_text(f"2\n{HEADER} energy=-1.5\n{ROWS}")
    assert read(tmp_path / "a.xyz")[0].energy == -1.5


def test_names_with_underscores_between_digits_stay_names():
    assert parse_header("run=2024_05 energy=-1.5") == {"run": "2024_05", "energy": -1.5}


def test_a_stress_that_is_not_symmetric_is_refused_or_said(tmp_path):
    """ASE takes the upper half of a matrix under the key stress."""
    stress = np.array([[0.01, 0.002, 0.0], [0.002, 0.02, 0.0], [0.0, 0.0, 0.03]])
    for key in ("stress", "virial", "Stress"):
        for change, message in ((1e-6, ""), (2e-4, "are not symmetric, by up to 0.67% of"), (0.01, "is not symmetric")):
            factor = -(9**3) if key == "virial" else 1
            wrong = factor * (stress + change * np.eye(3, k=-1))
            text = " ".join(map(str, wrong.ravel().tolist()))
            (tmp_path / "a.xyz").write_text(f'2\n{HEADER} {key}="{text}"\n{ROWS}')
            if change == 0.01:
                with pytest.raises(InputError, match=rf"'{key}' is not symmetric: its component .*data.ignore={key}"):
                    read(tmp_path / "a.xyz")
                continue
            structures, report = read_with_report(tmp_path / "a.xyz")
            np.testing.assert_allclose(factor * structures[0].stress, 0.5 * (wrong + wrong.T), rtol=1e-12)
            assert ("symmetric" in str(report)) == bool(message)
            assert message in str(report)


def test_an_apostrophe_in_a_comment_is_no_quotation_mark(tmp_path):
    (tmp_path / "a.xyz").write_text("1\nBob's water, E = -76.3\nHe 0 0 0\n")
    assert len(read_last(str(tmp_path / "a.xyz"))[0]) == 1


def test_a_property_may_have_many_columns(tmp_path):
    numbers = " ".join(["0.5"] * 252)
    (tmp_path / "a.xyz").write_text(f"1\nProperties=species:S:1:pos:R:3:soap:R:252\nHe 0 0 0 {numbers}\n")
    assert read_last(str(tmp_path / "a.xyz"))[0].get_array("soap").shape == (1, 252)
