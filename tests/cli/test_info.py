"""``equiforce info``."""

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path

from equiforce.model_file import read_header

OF_NEQUIP = Path(__file__).parents[1] / "foundation" / "nequip"


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


def test_each_checksum_says_of_which_file_it_is(equiforce, tmp_path):
    source, model = OF_NEQUIP / "allegro.nequip.zip", tmp_path / "model.eqf"
    assert equiforce("import", str(source), "-o", str(model))[0] == 0
    shown = " ".join(equiforce("info", str(model))[1].replace("│", " ").split())
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert f"imported allegro of nequip-allegro, whose file has sha256 {digest} " in shown
    assert f"checksum of this file sha256 of all else in it {read_header(model)['checksum']} " in shown
    assert shown.count("sha256") == 2


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
