"""A model file gives the same numbers back, or is refused in a sentence; and it never executes code."""

import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from equiforce.errors import InputError, MissingPackageError
from equiforce.model_file import (
    FORMAT,
    build_potential,
    describe,
    load,
    path_of,
    read_header,
    read_stored_header,
    reference_structures,
    save,
    small_pieces,
    verify,
)
from tests.systems import atom, crystal, ethanol, graph_of, potential_of

ABOUT = {
    "training": {"steps": 10, "best_step": 5, "seconds": 1.5},
    "test_errors": {"units": {"forces": "meV/Å"}, "total": {"forces": {"mae": 12.5, "rmse": 20.0}}},
    "made": {"date": "2026-01-01"},
}


POTENTIALS = {
    "float32": {"dtype": "float32", "l_max": 1, "n_layers": 2, "channels": 4},
    "float64": {"dtype": "float64", "l_max": 1, "n_layers": 2, "channels": 4},
    "allegro": {
        "kind": "allegro", "dtype": "float32", "l_max": 1, "tensor_channels": 4, "pair_cutoffs": {"H-H": 2.0},
    },
}  # fmt: skip


@pytest.fixture(params=POTENTIALS)
def saved(request, tmp_path):
    potential = potential_of(**POTENTIALS[request.param], zbl=True)
    save(tmp_path / "model.eqf", potential, [ethanol(), crystal()], ABOUT)
    return potential.requires_grad_(
        False
    ), tmp_path / "model.eqf"  # torch's rounding differs where it records gradients


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.eqf"
    save(path, potential_of(dtype="float32", l_max=1, n_layers=2, channels=4), [ethanol()], ABOUT)
    return path


def content(path):
    with safe_open(path, framework="pt") as opened:
        weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
        return weights, json.loads(opened.metadata()["equiforce"])


def rewritten(file, path, change):
    """A copy of a model file whose weights or header were tampered with."""
    weights, header = content(file)
    header = change(weights, header) or header
    save_file(weights, path, metadata={"equiforce": json.dumps(header)})
    return path


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


def test_saving_replaces_an_older_file_in_one_piece(file, tmp_path):
    path = tmp_path / "model.eqf"
    path.write_text("older")
    potential = load(file)
    save(path, potential, [ethanol()], {})
    assert [p.name for p in tmp_path.iterdir()] == ["model.eqf"]
    assert torch.equal(load(path)(graph_of(ethanol())).energy, potential(graph_of(ethanol())).energy)


def test_a_failure_while_saving_leaves_the_older_file(file, tmp_path):
    path = tmp_path / "model.eqf"
    path.write_bytes(file.read_bytes())
    with pytest.raises(TypeError):
        save(path, load(file), [ethanol()], {"not JSON": object()})
    load(path)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("truncated", lambda whole: whole[: len(whole) // 2]),
        ("stub", lambda whole: whole[:20]),
        ("empty", lambda whole: b""),
        ("text", lambda whole: b"3\n\nH 0 0 0\n"),
        ("longer", lambda whole: whole + b"x"),
        ("pickle", lambda whole: pickle.dumps({"potential": 1})),
    ],
)
def test_other_files_are_no_model_files(file, tmp_path, name, make):
    path = tmp_path / "model.eqf"
    path.write_bytes(make(file.read_bytes()))
    for read in (load, read_header):
        with pytest.raises(InputError, match=r"model\.eqf is not an equiforce model file, or is damaged"):
            read(path)


def test_a_pickle_is_not_executed(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    (tmp_path / "model.eqf").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(InputError, match="is not an equiforce model file"):
        load(tmp_path / "model.eqf")
    torch.save({"model": Payload()}, tmp_path / "model.pt")
    with pytest.raises(InputError, match="is not an equiforce model file"):
        load(tmp_path / "model.pt")
    assert not (tmp_path / "harm").exists()


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(InputError, match=r"there is no model file .*: give the \.eqf file"):
        load(tmp_path / "none.eqf")


def test_the_folder_of_a_run_stands_for_its_model(file, tmp_path):
    assert path_of(file) == path_of(str(file.parent)) == file
    assert read_header(file.parent) == read_header(file)
    assert load(file.parent).species == load(file).species
    with pytest.raises(InputError, match=r"has no model\.eqf: give a model file, or the folder of a training run"):
        load(tmp_path)
    (tmp_path / "split.json").touch()
    with pytest.raises(InputError, match=r"has not validated yet .* equiforce train --resume"):
        read_header(tmp_path)


def test_a_file_of_safetensors_from_elsewhere_is_no_model(tmp_path):
    save_file({"w": torch.ones(1)}, tmp_path / "other.safetensors")
    save_file({"w": torch.ones(1)}, tmp_path / "list.safetensors", metadata={"equiforce": "[1]"})
    for name in ("other", "list"):
        with pytest.raises(InputError, match="is not an equiforce model file"):
            load(tmp_path / f"{name}.safetensors")


def without(key, *path):
    def change(_, header):
        part = header
        for name in path:
            part = part[name]
        del part[key]

    return change


def with_value(value, *path):
    def change(_, header):
        part = header
        for name in path[:-1]:
            part = part[name]
        part[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (with_value(3, "format"), r"was written by a newer equiforce \(file format 3\): upgrade equiforce"),
        (without("format"), "is not an equiforce model file, or is damaged"),
        (with_value("x", "format"), "is not an equiforce model file, or is damaged"),
        (lambda *_: [1], "is not an equiforce model file, or is damaged"),
        (without("references"), "damaged because 'references' in its header is missing or wrong"),
        (without("about"), "damaged because 'about' in its header is missing or wrong"),
        (without("forces", "units"), "is damaged because it lacks the unit of forces"),
        (with_value([], "potential"), "damaged because 'potential' in its header is missing or wrong"),
        (without("species", "potential"), "damaged because 'species' in its header is missing or wrong"),
        (with_value(None, "potential", "config"), "damaged because 'config' in its header is missing or wrong"),
        (with_value("allegro9", "potential", "kind"), "there is no model of kind 'allegro9'"),
        (with_value(1, "potential", "config", "newest_option"), "newest_option.*upgrade equiforce"),
        (with_value(-3, "potential", "config", "l_max"), "cannot build"),
        (with_value([4, 4, 4], "potential", "config", "channels"), "lists 3 numbers"),
        (with_value("load", "potential", "dtype"), "weights cannot be of dtype 'load'"),
        (with_value(["H", "C", "O", "N"], "potential", "species"), "4 species have 3 atomic energies"),
        (with_value(5, "potential", "config", "channels"), "its weights do not fit the model"),
        (with_value([{}], "references"), "its reference structures are wrong"),
        (with_value([1], "references"), "its reference structures are wrong"),
    ],
)  # fmt: skip
def test_a_header_that_cannot_be_right_is_refused(file, tmp_path, change, sentence):
    path = rewritten(file, tmp_path / "model.eqf", change)
    with pytest.raises(InputError, match=sentence) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_high_degrees_says_which_package_it_needs(file, tmp_path, monkeypatch):
    path = rewritten(file, tmp_path / "model.eqf", with_value(7, "potential", "config", "l_max"))
    monkeypatch.setitem(sys.modules, "e3nn", None)  # makes its import fail
    wanted = rf"^{path}: degree 7 needs e3nn.*: run pip install .* l_max 6 or less$"
    with pytest.raises(MissingPackageError, match=wanted):
        load(path)


def test_an_option_that_an_older_version_did_not_know_has_its_default(file, tmp_path):
    path = rewritten(file, tmp_path / "model.eqf", without("envelope_p", "potential", "config"))
    assert load(path).model.config.envelope_p == 6


@pytest.mark.parametrize("name", ["model.embed.weight", "model.readout.weights.0", "atomic_energies", "scale"])
def test_weights_that_were_tampered_with_do_not_reproduce_the_references(file, tmp_path, name):
    def change(weights, _):
        weights[name] = weights[name] * 1.01

    with pytest.raises(InputError, match=r"this machine gives another (energy|forces|stress) for reference structure"):
        load(rewritten(file, tmp_path / "model.eqf", change))


@pytest.mark.parametrize("change", ["lacking", "excessive", "misshapen"])
def test_weights_that_do_not_fit_are_refused(file, tmp_path, change):
    def tamper(weights, _):
        if change == "lacking":
            del weights["atomic_energies"]
        else:
            weights["another" if change == "excessive" else "atomic_energies"] = torch.ones(7)

    with pytest.raises(InputError, match="its weights do not fit the model"):
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


def test_references_that_are_not_numbers_are_refused(file):
    potential, (_, header) = load(file), content(file)
    broken = {**header["references"][0], "energy": float("nan")}
    header["references"] = [broken]
    with pytest.raises(InputError, match="another energy for reference structure 0"):
        verify(potential, header, 1e-4, "model.eqf")


def test_references_hold_every_element():
    chosen = reference_structures([atom("C"), ethanol(), crystal(), ethanol(1)])
    assert [len(s) for s in chosen] == [1, 9]


def test_pieces_hold_the_surroundings_of_every_element():
    """Alone and in a cell; an element far from the others has a piece of its own."""
    positions = np.random.default_rng(0).normal(scale=4, size=(36, 3))
    numbers = np.full(36, 6)
    numbers[np.linalg.norm(positions - positions[0], axis=1).argmax()] = 8
    large = replace(ethanol(), atomic_numbers=numbers, positions=positions)
    pieces = small_pieces([large, crystal(), atom("H")])
    assert [len(p) for p in pieces] == [12, 12, 12, 12, 1, 1]
    assert [bool(p.pbc.any()) for p in pieces] == [False, True] * 3
    assert [set(p.atomic_numbers) for p in pieces[::2]] == [{6}, {6, 8}, {1}]
    away = np.linalg.norm(positions - positions[0], axis=1)
    assert np.linalg.norm(pieces[0].positions - positions[0], axis=1).max() == pytest.approx(np.sort(away)[11])


def test_a_description_makes_the_same_shape_again():
    potential = potential_of(l_max=1, n_layers=2, channels=[4, 2], zbl=True)
    again = build_potential(describe(potential))
    assert describe(again) == describe(potential)
    assert {n: v.shape for n, v in again.state_dict().items()} == {
        n: v.shape for n, v in potential.state_dict().items()
    }


OLD_FILES = sorted((Path(__file__).parent / "old_model_files").glob("*.eqf"))


@pytest.mark.parametrize("path", OLD_FILES, ids=lambda path: path.stem)
def test_files_of_earlier_versions_open(path):
    """Loading computes the file's reference structures again, so a file that opens gives the numbers that it gave."""
    potential = load(path)
    assert potential.atomic_energies.tolist() == [-13.6, -1029.5, -2041.9][: len(potential.species)]
    assert len(read_header(path)["references"]) >= 2


def test_there_are_files_of_each_earlier_format():
    formats = {read_stored_header(path)["format"] for path in OLD_FILES}
    assert formats >= set(range(1, FORMAT))
