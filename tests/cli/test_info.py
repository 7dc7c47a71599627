"""``equiforce info``."""

import json
import platform
from importlib.metadata import version


def test_info_tells(equiforce, model):
    status, out, _ = equiforce("info", model)
    assert status == 0
    for part in (
        "nequip, float32",
        "Cu",
        "cutoff",
        "l_max",
        "2 steps",
        "test, forces",
        "MAE",
        "meV/Å",
        "Cu-Cu",
        "volume",
    ):
        assert part in out
    status, out, _ = equiforce("info", model, "--json")
    assert json.loads(out)["potential"]["species"] == ["Cu"]
    assert equiforce("info", "run", "--json")[1] == out


def test_the_versions_are_told(equiforce):
    status, out, err = equiforce("--version")
    assert (status, err) == (0, "")
    for part in (
        f"equiforce {version('equiforce')}",
        f"Python {platform.python_version()}",
        "torch ",
        "ASE ",
        "kernels: ",
    ):
        assert part in out
