"""The report of reading."""

from equiforce.data.read_report import FileReport, ReadReport, is_note

FILE = FileReport(
    "a/1.xyz",
    3,
    {"energy": (("energy", 1), ("REF_energy", 2)), "forces": (("forces", 3),)},
    "Hartree",
    notes=("something was left out",),
    remarks=("stresses of up to 60 GPa",),
    unused=("charge", "tags"),
)


def test_a_file():
    assert FILE.lines() == [
        "a/1.xyz: 3 structures; energy from 'energy' (1 of 3) and 'REF_energy' (2 of 3), forces from 'forces' (3 "
        "of 3); stresses of up to 60 GPa; converted from Hartree; not used: charge, tags",
        "  note: something was left out",
    ]
    assert str(FILE).splitlines() == FILE.lines()
    assert "no labels" in str(FILE._replace(keys={}))
    assert str(FILE._replace(unused=tuple("abcdefghijklmnopqrstuvwxyz"), notes=())).endswith("s, t and 6 more")


def test_notes_about_all_files_come_first_and_similar_files_share_a_line():
    report = ReadReport(tuple(FILE._replace(path=f"a/{i}.xyz") for i in range(5)), ("a/x",), ("there are no stresses",))
    first, together, note, skipped = report.lines()
    assert first == "note: there are no stresses"
    assert together.startswith("5 files, a/0.xyz to a/4.xyz: 15 structures; energy from 'energy' (5 of 15) and 'REF")
    assert is_note(note)
    assert skipped.endswith("a/x")
    assert str(report).splitlines()[0] == "note: there are no stresses"
