"""A start model is opened, fitted to new data and put into the potential of a run."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import molecule

from equiforce import model_file
from equiforce.data.dataset import SplitOptions, split
from equiforce.errors import InputError
from equiforce.evaluate import predict
from equiforce.finetuning.start import prepare_start, read_start
from tests.finetuning.starts import potential_of
from tests.systems import rattled

pytestmark = pytest.mark.usefixtures("plain_torch")
SOURCE = {"name": "nequix-mp-1", "program": "nequix", "sha256": "00", "licence": "MIT", "data": "d", "citation": "c"}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("start") / "model.eqf"
    model_file.save(path, potential_of("nequip"), [rattled(molecule("CH3CH2OH"))], {"source": SOURCE})
    return path


def test_a_file_is_opened_with_its_origin(file):
    start = read_start(file)
    assert start.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert start.content == file.read_bytes()
    assert start.origin() == {"start": {"name": "nequix-mp-1", "sha256": start.sha256}, "source": SOURCE}


def test_a_trained_model_has_the_name_of_its_folder(tmp_path):
    folder = tmp_path / "water"
    folder.mkdir()
    model_file.save(folder / "model.eqf", potential_of("nequip"), [])
    assert read_start(folder).origin() == {"start": {"name": "water/model.eqf", "sha256": read_start(folder).sha256}}
    (folder / "model.eqf").rename(tmp_path / "other.eqf")
    assert read_start(tmp_path / "other.eqf").name == "other.eqf"


def test_what_is_no_model_file_is_refused(file, tmp_path):
    with pytest.raises(InputError, match="there is no model file"):
        read_start(tmp_path / "none.eqf")
    damaged = tmp_path / "damaged.eqf"
    damaged.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="is damaged"):
        read_start(damaged)
    (tmp_path / "m.nqx").touch()
    with pytest.raises(InputError, match="of another program: make a model file of it first with equiforce import"):
        read_start(tmp_path / "m.nqx")


def prepared(file, **options):
    frames = []
    for seed in range(6):
        frame = rattled(molecule("H2O"), seed)
        frames.append(replace(frame, energy=-2000.0 + 0.01 * seed, forces=np.zeros((3, 3))))
    parts = split(frames, SplitOptions())
    replayed = [rattled(molecule("CH4"), seed) for seed in range(4)]
    given = {"given": None, "dtype": "float64", "seed": 0, "device": torch.device("cpu")} | options
    return parts, prepare_start(read_start(file), parts, replayed, **given)


def test_the_elements_are_those_of_new_and_replayed_structures(file):
    parts, start = prepared(file)
    assert start.species == ("H", "C", "O")
    counts = np.array([2, 0, 1])
    moved = [predict(start.moved, s).energy.item() - s.energy for s in parts.train]
    assert np.mean(moved) == pytest.approx(0, abs=1e-9)
    assert start.refit.shift @ counts != 0
    assert start.refit.new[1] == start.refit.old[1]
    assert "training starts from nequix-mp-1" in start.lines(0.25)[0]
    assert start.notes() == []


def test_weights_are_those_of_the_start_model(file):
    _, start = prepared(file)
    potential = potential_of("nequip", seed=1)
    start.set_weights(potential)
    structure = rattled(molecule("CH3CH2OH"))
    old, new = predict(model_file.load(file), structure), predict(potential, structure)
    difference = (start.refit.new - start.refit.old) @ np.array([6, 2, 1])
    assert new.energy.item() - old.energy.item() == pytest.approx(difference, abs=1e-10)
    torch.testing.assert_close(new.forces, old.forces, rtol=0, atol=1e-12)
