"""``equiforce relax``."""

import json


def test_relax_says_whether_it_converged(equiforce, model, place):
    command = ["relax", model, "copper.xyz", "--steps", "1", "--fmax", "1e-9"]
    status, out, err = equiforce(*command)
    assert status == 1
    assert "not converged to 1e-09 eV/Å after 1 steps: continue from relax-copper/relaxed.xyz" in out
    assert err == ""
    assert (place / "relax-copper" / "path.xyz").exists()
    status, out, _ = equiforce("relax", model, "copper.xyz", "--fmax", "1e6", "-o", "easy", "--json", "--cell", "full")
    assert status == 0
    assert json.loads(out)["converged"]
    status, _, err = equiforce(*command)
    assert (status, err.count("\n")) == (1, 1)
    assert "exists from an earlier relaxation" in err
