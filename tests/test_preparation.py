"""What is decided before the first training step."""

from io import StringIO

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console

from equiforce.config import configured
from equiforce.errors import InputError
from equiforce.preparation import description_of, n_weights_of, prepare, read_and_report, size_of_batch
from equiforce.training.stopping import TrainingConfig
from tests.data_sets import TINY, crystals, molecules, write


@pytest.fixture
def settings(tmp_path):
    write(tmp_path / "copper.xyz", crystals(6))
    return configured({"model": TINY, "split": {"train_file": [str(tmp_path / "copper.xyz")]}})


def test_preparing_reads_splits_and_builds(settings, tmp_path):
    text = StringIO()
    prepared = prepare(settings, tmp_path / "run", resumed=False, console=Console(file=text, width=200))
    assert [len(part) for part in (prepared.parts.train, prepared.parts.validation, prepared.parts.test)] == [5, 1, 0]
    assert list(prepared.potential.species) == ["Cu"]
    assert prepared.config.model.mean_neighbors == prepared.statistics.mean_neighbors
    assert f"{n_weights_of(prepared.potential):,} weights" in text.getvalue()
    assert not (tmp_path / "run").exists()  # nothing is written before everything has passed


def test_reading_counts_the_frames_in_a_terminal(settings, tmp_path, monkeypatch):
    monkeypatch.setattr("equiforce.preparation.SHOWN_EVERY", 3)
    shown = []
    monkeypatch.setattr("rich.progress.Progress.update", lambda self, task, description: shown.append(description))
    prepare(settings, tmp_path / "run", resumed=False, console=Console(file=StringIO(), force_terminal=True))
    assert shown[:3] == ["reading the data", "reading the data: 3 frames", "reading the data: 6 frames"]


def test_labels_that_contradict_one_another_are_an_error_unless_the_user_knows(settings, tmp_path):
    frames = crystals(6)
    frames[5] = frames[0].copy()
    frames[5].calc = SinglePointCalculator(frames[5], energy=9.0, forces=frames[0].get_forces())
    write(tmp_path / "copper.xyz", frames)
    with pytest.raises(InputError, match=r"copper\.xyz, frame 0 and .*copper\.xyz, frame 5.*--set data\.check=false"):
        prepare(settings, tmp_path / "run", resumed=False, console=Console(quiet=True))
    text = StringIO()
    known = configured(settings, {"data.check": False})
    prepare(known, tmp_path / "run", resumed=False, console=Console(file=text, width=400))
    assert "note: 1 frame has the same positions as an earlier frame but energies that differ" in text.getvalue()


def test_a_single_atom_in_a_box_gives_its_reference_energy(settings, tmp_path):
    alone = Atoms("Cu", cell=[20.0] * 3, pbc=True)
    alone.calc = SinglePointCalculator(alone, energy=3.51, forces=np.zeros((1, 3)))
    write(tmp_path / "copper.xyz", [*crystals(6), alone])
    prepared = prepare(settings, tmp_path / "run", resumed=False, console=Console(quiet=True))
    assert prepared.statistics.reference_energies == (3.51,)
    assert prepared.statistics.reference_energies_from == "isolated atoms"
    assert sum(len(part) for part in (prepared.parts.train, prepared.parts.validation, prepared.parts.test)) == 6


def test_an_element_that_is_not_trained_on_is_named(settings, tmp_path):
    write(tmp_path / "water.xyz", molecules(2))
    files = {"split.test_file": [str(tmp_path / "water.xyz")]}
    with pytest.raises(InputError, match=r"water\.xyz, frame 0 \(test\) contains H, O, but no training structure does"):
        prepare(configured(settings, files), tmp_path / "run", resumed=False, console=Console(quiet=True))


def test_a_scale_has_to_be_given_for_each_element(settings, tmp_path):
    prepared = prepare(settings, tmp_path / "run", resumed=False, console=Console(quiet=True))
    incomplete = configured(prepared.config, {"potential.scale": {"H": 1.0}})
    with pytest.raises(InputError, match=r"potential\.scale has no value for Cu"):
        description_of(incomplete, prepared.statistics)


def test_what_was_read_is_said(settings):
    text = StringIO()
    structures = read_and_report(settings.split.train_file, settings.data, Console(file=text, width=200))
    assert len(structures) == 6
    assert "copper.xyz: 6 structures; energy from 'energy' (6 of 6)" in text.getvalue()


def test_notes_of_reading_are_yellow_and_missing_forces_come_first(tmp_path):
    frames = crystals(6)
    for atoms in frames:
        atoms.calc.results = {"energy": atoms.get_potential_energy()}
    write(tmp_path / "a.xyz", frames)
    text = StringIO()
    console = Console(file=text, width=200, force_terminal=True, color_system="standard")
    read_and_report([str(tmp_path / "a.xyz")], configured({}).data, console)
    first, second, *_ = text.getvalue().splitlines()
    assert first.startswith("\x1b[33mnote: there are no forces in ")
    assert second.startswith(f"{tmp_path}/a.xyz: 6 structures; energy from 'energy' (6 of 6)")


def test_the_size_of_a_batch_is_estimated_before_neighbours_are_found(settings, tmp_path):
    parts = prepare(settings, tmp_path / "run", resumed=False, console=Console(quiet=True)).parts
    assert size_of_batch(TrainingConfig(batch_size=2), parts.train, 12.0, 1) == (8.0, 96.0)
    assert size_of_batch(TrainingConfig(batch_size=2), parts.train, 12.0, 2) == (4.0, 48.0)
    assert size_of_batch(TrainingConfig(batch_size=1000), parts.train, 12.0, 1) == (20.0, 240.0)
    assert size_of_batch(TrainingConfig(max_edges=120), parts.train, 12.0, 1) == (10.0, 120.0)
    assert size_of_batch(TrainingConfig(max_edges=10**9), parts.train, 12.0, 1) == (20.0, 240.0)


def test_a_model_without_room_is_refused_before_it_is_built(settings, tmp_path, monkeypatch):
    monkeypatch.setattr("equiforce.memory.of_machine", lambda: 1e4)
    monkeypatch.setattr("torch.manual_seed", lambda seed: pytest.fail("the model was built"))
    with pytest.raises(InputError, match="training this model needs about"):
        prepare(settings, tmp_path / "run", resumed=False, console=Console(quiet=True))
