"""``equiforce evaluate``."""

import json


def test_evaluate_measures(equiforce, model, place):
    status, out, _ = equiforce("evaluate", model, "copper.xyz", "-o", "measured")
    assert status == 0
    assert "forces on Cu" in out
    assert "table, predictions and parity plot: measured" in out
    assert sorted(p.name for p in (place / "measured").iterdir()) == [
        "copper_errors.json", "copper_parity.png", "copper_predictions.xyz",
    ]  # fmt: skip
    assert "memory: energy and forces of " in out
    status, _, err = equiforce("evaluate", model, "copper.xyz", "--max-memory", "1e-9")
    assert status == 1
    assert "even in chunks" in err
    status, out, _ = equiforce("evaluate", model, "copper.xyz@:2", "--json")
    assert json.loads(out)["n_structures"] == 2
    assert (place / "evaluate-copper").is_dir()
