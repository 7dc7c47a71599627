import json
from pathlib import Path

import pytest

from equiforce.cli.imports import joined
from equiforce.model_file import load, read_header

FILE = Path(__file__).parents[1] / "foundation" / "nequix" / "published.nqx"
OF_NEQUIP = Path(__file__).parents[1] / "foundation" / "nequip"


def test_a_file_becomes_a_model_file(equiforce, tmp_path):
    model = tmp_path / "model.eqf"
    status, out, errors = equiforce("import", str(FILE), "--elements", "H", "O", "-o", str(model))
    assert status == 0, errors
    assert "licence: not known to equiforce: ask who trained it" in out
    assert load(model).species == ["H", "O"]
    assert read_header(model)["about"]["source"]["program"] == "nequix"
    shown = equiforce("info", str(model))[1]
    assert "published of nequix, whose file has sha256" in shown
    assert "licence" in shown
    assert "not known, so MD cannot say when it leaves them" in shown


def test_a_model_that_does_not_know_reflections_is_labelled(equiforce, tmp_path):
    model, file = tmp_path / "model.eqf", FILE.parents[1] / "sevennet" / "modals.pth"
    status, _, errors = equiforce("import", str(file), "-o", str(model))
    assert status == 1
    assert "choose one with --modal: R2SCAN, PBE" in " ".join(errors.split())
    status, out, errors = equiforce("import", str(file), "--modal", "PBE", "-o", str(model))
    assert status == 0, errors
    for text in (out, equiforce("info", str(model))[1]):
        assert "THE ENERGY OF A MIRROR IMAGE IS ANOTHER ONE" in " ".join(text.split())


@pytest.mark.parametrize("file", ["nequip-l1-pairs-zbl.ckpt", "allegro.nequip.zip"])
def test_models_of_nequip_become_model_files(file, equiforce, tmp_path):
    model = tmp_path / "model.eqf"
    status, out, errors = equiforce("import", str(OF_NEQUIP / file), "--elements", "H", "O", "-o", str(model))
    assert status == 0, errors
    assert f"{file.split('.')[0]} of nequip" in out
    opened = load(model)
    assert opened.species == ["H", "O"]
    shown = equiforce("info", str(model))[1]
    if "zbl" in file:
        assert opened.model.config.pair_cutoffs == {"H-H": 2.5, "H-O": 2.2, "O-H": 3.0, "O-O": 3.0}
        assert "ZBL, envelope p 4, ends at the pair cutoffs" in shown


def test_nothing_is_replaced_without_a_word(equiforce, tmp_path):
    model = tmp_path / "model.eqf"
    model.write_bytes(b"mine")
    status, _, errors = equiforce("import", str(FILE), "-o", str(model))
    assert status == 1
    assert "exists already: choose another name, or replace it with --overwrite" in " ".join(errors.split())
    assert model.read_bytes() == b"mine"
    more = ("--overwrite", "--dtype", "float64", "--knots", "0", "--json")
    status, out, errors = equiforce("import", str(FILE), "-o", str(model), *more)
    assert status == 0, errors
    assert json.loads(out)["elements"] == ["H", "O", "Cu"]
    assert str(load(model).dtype) == "torch.float64"
    assert load(model).model.knots is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nequix-mp", "-o", "x.eqf"], "did you mean nequix-mp-1"),
        ([FILE, "-o", "x.eqf", "--elements", "Li", "O"], "does not know Li: choose among its 3 elements"),
        ([FILE, "-o", "x.eqf", "--elements", "oxygen"], "there is no chemical element 'oxygen'"),
        ([FILE, "-o", "x.eqf", "--dtype", "float16"], "choose float32 or float64"),
        ([FILE, "-o", "x.eqf", "--knots", "-3"], "give 64 to 1024, or 0 for the exact radial functions"),
        ([FILE, "-o", "x.eqf", "--elements", "O", "Zz"], "Zz"),
        ([FILE.parent, "-o", "x.eqf"], "is a folder: give the file of a potential in it"),
        ([FILE, "-o", FILE, "--overwrite"], "is the file that is imported: name another output"),
    ],
)
def test_wrong_input_is_one_sentence(arguments, words, equiforce, place):
    status, _, errors = equiforce("import", *map(str, arguments))
    assert status == 1
    assert words in " ".join(errors.split())
    assert not (place / "x.eqf").exists()


def test_all_symbols_after_elements_belong_to_it():
    assert joined(["a", "--elements", "Li", "P", "S", "-o", "b"]) == ["a", "--elements", "Li P S", "-o", "b"]
    assert joined(["--elements", "Li", "P", "file"]) == ["--elements", "Li P", "file"]
    assert joined(["--elements", "Li,P", "-o", "b"]) == ["--elements", "Li,P", "-o", "b"]
    assert joined(["a", "-o", "b"]) == ["a", "-o", "b"]
