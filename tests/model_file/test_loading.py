"""A model file gives the same numbers back, or is refused in a sentence."""

import sys
import warnings
from pathlib import Path

import pytest
import torch

from equiforce.errors import InputError, MissingPackageError
from equiforce.geometry.wigner_3j import wigner_3j
from equiforce.model_file import FORMAT, describe, load, load_or_take, loading, read_header, read_stored_header, save
from tests.model_file.conftest import ABOUT
from tests.model_file.files import content, rewritten, with_value, without
from tests.systems import crystal, ethanol, graph_of, potential_of

POTENTIALS = {
    "float32": {"dtype": "float32", "l_max": 1, "n_layers": 2, "channels": 4},
    "float64": {"dtype": "float64", "l_max": 1, "n_layers": 2, "channels": 4},
    "allegro": {
        "kind": "allegro", "dtype": "float32", "l_max": 1, "tensor_channels": 4, "pair_cutoffs": {"H-H": 2.0},
    },
}  # fmt: skip
OLD_FILES = sorted((Path(__file__).parents[1] / "old_model_files").glob("*.eqf"))
CONFIG = ("potential", "config")
NO_FIT = "its weights do not fit the model"


@pytest.fixture(params=POTENTIALS)
def saved(request, tmp_path):
    potential = potential_of(**POTENTIALS[request.param], zbl=True)
    save(tmp_path / "model.eqf", potential, [ethanol(), crystal()], ABOUT)
    return potential.requires_grad_(
        False
    ), tmp_path / "model.eqf"  # torch's rounding differs where it records gradients


def test_a_model_comes_back_with_the_same_numbers(saved):
    potential, path = saved
    back, graph = load(path), graph_of(ethanol(), crystal())
    assert describe(back) == describe(potential)
    assert not back.training
    assert not any(p.requires_grad for p in back.parameters())
    mine, other = back(graph, stress=True), potential(graph, stress=True)
    for name in ("energy", "energies", "forces", "virial"):
        assert torch.equal(getattr(mine, name), getattr(other, name))
    assert [p.name for p in path.parent.iterdir()] == ["model.eqf"]  # nothing unfinished stays
    (path.parent / "other").touch()
    assert path.stat().st_mode == (path.parent / "other").stat().st_mode  # colleagues may read it


def test_a_model_can_be_loaded_in_another_precision(saved):
    potential, path = saved
    for dtype in ("float64", "float32"):
        back = load(path, dtype=dtype)
        assert back.dtype == getattr(torch, dtype)
        torch.testing.assert_close(
            back(graph_of(ethanol())).forces, potential(graph_of(ethanol())).forces, rtol=0, atol=2e-4
        )


def test_a_potential_is_taken_as_it_is(file):
    potential = load(file)
    assert load_or_take(potential) is potential
    assert load_or_take(file).species == potential.species


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (with_value("allegro9", "potential", "kind"), "there is no model of kind 'allegro9'"),
        (with_value(1, *CONFIG, "newest_option"), "newest_option.*upgrade equiforce"),
        (with_value(-3, *CONFIG, "l_max"), r"cannot build \(l_max=-3 is not allowed: its bound ge is 0\)"),
        (with_value(10**9, *CONFIG, "n_layers"), r"n_layers=1000000000 is not allowed: its bound le is 32"),
        (with_value("1", *CONFIG, "l_max"), r"cannot build \(l_max='1' is not of the kind"),
        (with_value([4, 4, 4], *CONFIG, "channels"), "lists 3 numbers"),
        (with_value("load", "potential", "dtype"), "weights cannot be of dtype 'load'"),
        (with_value("float64", "potential", "dtype"), NO_FIT),
        (with_value(True, "potential", "zbl"), NO_FIT),
        (with_value(5, *CONFIG, "channels"), NO_FIT),
        (with_value(1024, *CONFIG, "radial_width"), NO_FIT),
        (with_value([1.0, 2.0, 3.0], "potential", "scale"), NO_FIT),
        (with_value([0.0, 2.0, 3.0], "potential", "atomic_energies"), NO_FIT),
    ],
)  # fmt: skip
def test_a_description_that_does_not_fit_the_weights_is_refused(file, tmp_path, change, sentence):
    path = rewritten(file, tmp_path / "model.eqf", change)
    with pytest.raises(InputError, match=sentence) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("stage", ["build_potential", "verify"])
def test_a_file_of_high_degrees_says_which_package_it_needs(file, monkeypatch, stage):
    monkeypatch.setitem(sys.modules, "e3nn", None)  # makes its import fail
    monkeypatch.setattr(loading, stage, lambda *_: wigner_3j(7, 7, 7))
    wanted = rf"^{file}: degree 7 needs e3nn.*: run pip install .* l_max 6 or less$"
    with pytest.raises(MissingPackageError, match=wanted):
        load(file)


def test_an_option_that_an_older_version_did_not_know_has_its_default(file, tmp_path):
    path = rewritten(file, tmp_path / "model.eqf", without("envelope_p", *CONFIG))
    assert load(path).model.config.envelope_p == 6


@pytest.mark.parametrize("name", ["model.embed.weight", "model.readout.weights.0"])
def test_weights_that_were_tampered_with_do_not_reproduce_the_references(file, tmp_path, name):
    def change(weights, _):
        weights[name] = weights[name] * 1.01

    with pytest.raises(InputError, match=r"this machine gives another (energy|forces|stress) for reference structure"):
        load(rewritten(file, tmp_path / "model.eqf", change))


@pytest.mark.parametrize("name", ["atomic_energies", "scale"])
def test_constants_stand_twice_in_a_file_and_have_to_agree(file, tmp_path, name):
    def both(weights, header):
        weights[name] = weights[name] * 1.01
        header["potential"][name] = weights[name].tolist()

    with pytest.raises(InputError, match=r"this machine gives another (energy|forces|stress) for reference structure"):
        load(rewritten(file, tmp_path / "model.eqf", both))


def test_the_charges_of_nuclei_are_those_of_the_elements(tmp_path):
    potential = potential_of(dtype="float32", l_max=1, n_layers=2, channels=4, zbl=True)
    save(tmp_path / "good.eqf", potential, [])

    def change(weights, _):
        weights["zbl.charges"][0] = 1.0000001

    with pytest.raises(InputError, match=NO_FIT):
        load(rewritten(tmp_path / "good.eqf", tmp_path / "model.eqf", change))


@pytest.mark.parametrize("change", ["lacking", "excessive", "misshapen", "infinite"])
def test_weights_that_do_not_fit_are_refused(file, tmp_path, change):
    def tamper(weights, _):
        if change == "lacking":
            del weights["atomic_energies"]
        elif change == "infinite":
            weights["model.embed.weight"][0, 0] = torch.inf
        else:
            weights["another" if change == "excessive" else "atomic_energies"] = torch.ones(7)

    with pytest.raises(InputError, match=NO_FIT):
        load(rewritten(file, tmp_path / "model.eqf", tamper))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"dtype": "float16"}, "weights cannot be of dtype 'float16'"),
        ({"device": "gpu"}, "torch cannot compute on 'gpu'"),
    ],
)
def test_what_cannot_be_asked_for_is_said(file, options, sentence):
    with pytest.raises(InputError, match=sentence):
        load(file, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_said(file):
    with pytest.raises(InputError, match="torch cannot compute on 'cuda' here: give cpu"):
        load(file, device="cuda")


@pytest.mark.parametrize("error", [MemoryError(), RecursionError("too deep"), RuntimeError("out of memory\nat 1")])
def test_a_computation_that_fails_is_a_sentence(file, monkeypatch, error):
    def fails(*_):
        raise error

    for name, sentence in (("verify", "cannot be computed here"), ("build_potential", "cannot build")):
        with monkeypatch.context() as patch:
            patch.setattr(loading, name, fails)
            with pytest.raises(InputError, match=rf"model\.eqf.*{sentence} \(.+\): ") as caught:
                load(file)
        assert "\n" not in str(caught.value)


def test_coincident_atoms_in_a_reference_are_said_with_the_file(file, tmp_path):
    def change(_, header):
        header["references"][0]["positions"][1] = header["references"][0]["positions"][0]

    path = rewritten(file, tmp_path / "model.eqf", change)
    with pytest.raises(InputError, match=rf"^{path}, reference structure 0: atoms 0 and 1 .* are 0 Å apart"):
        load(path)


@pytest.mark.parametrize("path", OLD_FILES, ids=lambda path: path.stem)
def test_files_of_earlier_versions_open_and_say_that_they_have_no_checksum(path):
    """Loading computes the file's reference structures again, so a file that opens gives the numbers that it gave."""
    with pytest.warns(UserWarning, match=rf"{path.name} has no checksum because an older equiforce wrote it"):
        potential = load(path)
    assert potential.atomic_energies.tolist() == [-13.6, -1029.5, -2041.9][: len(potential.species)]
    assert len(read_header(path)["references"]) >= 2


def test_there_are_files_of_each_earlier_format():
    formats = {read_stored_header(path)["format"] for path in OLD_FILES}
    assert formats == set(range(1, FORMAT))


def test_a_file_of_today_is_opened_without_a_word(file):
    assert content(file)[1]["format"] == FORMAT
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(file)
