"""A file is written whole, and only if it can be opened again."""

import json

import pytest
import torch

from equiforce.errors import InputError
from equiforce.model_file import load, read_header, save
from tests.model_file.files import parts
from tests.systems import ethanol, graph_of, potential_of


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


def test_the_same_potential_makes_the_same_file(file, tmp_path):
    for name in "ab":
        save(tmp_path / name, load(file), [ethanol()], {})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_without_structures_a_file_has_references_of_every_element(tmp_path):
    save(tmp_path / "model.eqf", potential_of(dtype="float32", l_max=1, n_layers=2, channels=4), [])
    (reference,) = read_header(tmp_path / "model.eqf")["references"]
    assert set(reference["atomic_numbers"]) == {1, 6, 8}
    load(tmp_path / "model.eqf")


def test_a_potential_that_predicts_nothing_finite_is_not_saved(file, tmp_path):
    potential = load(file)
    with torch.no_grad():
        potential.model.readout.weights[0].fill_(torch.nan)
    with pytest.raises(InputError, match=r"model\.eqf: the potential gives energies that are not finite.* train it"):
        save(tmp_path / "model.eqf", potential, [ethanol()])
    assert not list(tmp_path.iterdir())


def test_weights_of_half_precision_are_not_saved(file, tmp_path):
    with pytest.raises(InputError, match=r"weights of torch.bfloat16 cannot be stored: .*potential\.float\(\)"):
        save(tmp_path / "model.eqf", load(file).bfloat16(), [])


def test_numbers_that_are_not_finite_become_null(file, tmp_path):
    about = {"loss": [float("nan"), 1.0], "worst": {"forces": float("inf")}, "pair": (1, 2)}
    save(tmp_path / "model.eqf", load(file), [ethanol()], about)
    assert read_header(tmp_path / "model.eqf")["about"] == {
        "loss": [None, 1.0],
        "worst": {"forces": None},
        "pair": [1, 2],
    }


@pytest.mark.parametrize("about", [{"n": 10**30}, {"deep": json.loads("[" * 40 + "]" * 40)}])
def test_what_could_not_be_read_again_is_not_written(file, tmp_path, about):
    with pytest.raises(InputError, match="the model is not saved, because its file could not be opened again"):
        save(tmp_path / "model.eqf", load(file), [ethanol()], about)
    assert not list(tmp_path.iterdir())


def test_the_checksum_is_the_first_entry(file):
    assert next(iter(parts(file.read_bytes())[1])) == "checksum"
