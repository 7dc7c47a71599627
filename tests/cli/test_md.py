"""``equiforce md``."""

import ase.io
import pytest


def test_md_starts_from_the_last_frame(equiforce, model, place):
    command = ["md", model, "copper.xyz", "--steps", "2", "--set", "thermo_every=1", "--set", "skin=0.0"]
    status, out, _ = equiforce(*command)
    assert status == 0
    assert "2 steps" in out
    first, last = ase.io.read(place / "md-copper" / "trajectory.xyz", 0), ase.io.read(place / "copper.xyz", -1)
    assert first.positions == pytest.approx(last.positions, abs=1e-6)
    status, _, err = equiforce(*command)
    assert (status, err.count("\n")) == (1, 1)
    assert "exists from an earlier run" in err
    assert equiforce(*command, "--overwrite")[0] == 0
