"""``equiforce info``."""

import json


def test_info_tells(equiforce, model):
    status, out, _ = equiforce("info", model)
    assert status == 0
    for part in ("nequip", "Cu", "cutoff", "2 steps", "test, forces"):
        assert part in out
    status, out, _ = equiforce("info", model, "--json")
    assert json.loads(out)["potential"]["species"] == ["Cu"]
