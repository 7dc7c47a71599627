import os
from pathlib import Path

import pytest

from equiforce.calculators.lammps.names import as_lammps_reads, file_of
from equiforce.errors import InputError
from tests.calculators.lammps.runs import needs_lammps
from tests.calculators.lammps.simulations import ran

NAMES = ["m\u00f6del \u00fc.eqf", "\u6c34.eqf", "caf\u00e9\u2013\u2212\u00a0x.eqf", "\U0001f600.eqf"]


@pytest.mark.slow
@needs_lammps
def test_lammps_reads_names_like_this(tmp_path):
    text = "".join(f'print "NAME {name}" file {number}\n' for number, name in enumerate(NAMES))
    (tmp_path / "in.test").write_bytes(text.encode())
    ran(tmp_path, text)
    for number, name in enumerate(NAMES):
        assert (tmp_path / str(number)).read_bytes().strip() == b"NAME " + as_lammps_reads(name.encode())


@pytest.mark.parametrize("name", [*NAMES, "plain.eqf", "with space.eqf"])
@pytest.mark.parametrize("absolute", [True, False])
def test_a_file_is_found_by_what_is_left_of_its_path(name, absolute, tmp_path, monkeypatch):
    path = tmp_path / "W\u00e4rme" / name
    path.parent.mkdir()
    path.touch()
    monkeypatch.chdir(tmp_path)
    given = path if absolute else Path(os.path.relpath(path))
    assert file_of(as_lammps_reads(os.fsencode(given))).samefile(path)
    assert file_of(os.fsencode(given)) == given


def test_names_that_look_alike_are_named(tmp_path):
    for name in ("\u00f6", "\u0176"):
        assert as_lammps_reads(name.encode()) == b"\xb6"
        (tmp_path / name).touch()
    with pytest.raises(InputError, match="LAMMPS cannot tell \u00f6 and \u0176 apart"):
        file_of(os.fsencode(tmp_path) + b"/\xb6")


def test_a_path_without_a_file_stays(tmp_path):
    assert file_of(b"nowhere/none.eqf") == Path("nowhere/none.eqf")
