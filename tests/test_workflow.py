"""From a data file to a model, with nothing lost, nothing overwritten, and nothing left behind by a mistake."""

import csv
import json
import os
import signal
import sys
from io import StringIO

import ase.io
import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console

import equiforce
from equiforce import model_file
from equiforce.config import configured, load_config
from equiforce.errors import DivergedError, InputError, MissingPackageError
from equiforce.evaluate import errors
from equiforce.preparation import prepare
from equiforce.storage.folders import LOCK
from equiforce.training.display import Display
from tests.data_sets import TINY, crystals, labelled, molecules, write
from tests.systems import atom

pytestmark = pytest.mark.usefixtures("without_plots")

OPTIONS = {
    **{f"model.{name}": value for name, value in TINY.items()},
    "training.max_steps": 4,
    "training.validate_every": 2,
    "training.deterministic": True,
}
FILES = [
    "best.pt", "config.yaml", "last.pt", "log.csv", "model.eqf", "split.json", "statistics.json", "test_errors.json",
    "test_parity.png", "test_predictions.xyz", "training.png",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of data files: copper, water, and a few that are wrong."""
    folder = tmp_path_factory.mktemp("data")
    copper, water = crystals(10), molecules(8)
    write(folder / "copper.xyz", copper)
    write(folder / "water.xyz", water)
    write(folder / "more.xyz", crystals(3, seed=1))
    write(folder / "even_more.xyz", crystals(2, seed=2))
    write(folder / "one.xyz", copper[:1])
    (folder / "empty.xyz").touch()
    broken = (folder / "copper.xyz").read_text().replace("energy=", "energy=inf old=", 1)
    (folder / "inf.xyz").write_text(broken)
    return folder


@pytest.fixture(scope="module")
def run(place, tmp_path_factory):
    """A finished run, started with relative paths."""
    before = os.getcwd()
    os.chdir(place)
    try:
        output = StringIO()
        trained = equiforce.train("copper.xyz", "run", options=OPTIONS, console=Console(file=output, width=200))
        return place / trained.folder, trained, output.getvalue()
    finally:
        os.chdir(before)


def test_the_other_model_is_trained_the_same_way(place, tmp_path):
    tiny = {"scalar_channels": 8, "tensor_channels": 4, "latent_width": 8, "l_max": 1, "cutoff": 3.0}
    options = {"model.kind": "allegro", **{f"model.{name}": value for name, value in tiny.items()}}
    options |= {name: value for name, value in OPTIONS.items() if name.startswith("training")}
    output = StringIO()
    cutoffs = {"model.pair_cutoffs": {"H-H": 2.0}}
    trained = equiforce.train(
        place / "water.xyz", tmp_path / "run", options=options | cutoffs, console=Console(file=output, width=200)
    )
    assert "allegro: 2 layers, l_max 1, 8 scalar and 4 tensor channels, parity false" in output.getvalue()
    assert trained.outcome[:2] == ("4 steps are done", False)
    assert equiforce.load(trained.model).model.config.pair_cutoffs == {"H-H": 2.0}
    with pytest.raises(InputError, match="pair_cutoffs has H-Cu, but the elements of the training structures are H, O"):
        equiforce.train(place / "water.xyz", options=options | {"model.pair_cutoffs": {"H-Cu": 2.0}})
    assert not (tmp_path / "runs").exists()


def test_options_of_nequip_are_trained(place, tmp_path):
    """Pair cutoffs, linear maps by species, and a repulsion that ends with the pairs."""
    options = {name: value for name, value in OPTIONS.items() if name.startswith("training")}
    options |= {
        "model.l_max": 1, "model.n_layers": 2, "model.channels": 4, "model.cutoff": 3.0,
        "model.species_linear_in": True, "model.pair_cutoffs": {"H-H": 2.0}, "potential.zbl": True,
        "potential.zbl_envelope_p": 4, "potential.zbl_pair_cutoffs": True,
    }  # fmt: skip
    trained = equiforce.train(place / "water.xyz", tmp_path / "run", options=options)
    potential = equiforce.load(trained.model)
    assert potential.model.config.pair_cutoffs == {"H-H": 2.0}
    assert potential.zbl.p == 4
    assert potential.zbl.stretch is not None
    with pytest.raises(InputError, match=r"zbl_pair_cutoffs is true, but there are no model\.pair_cutoffs"):
        equiforce.train(place / "water.xyz", tmp_path / "other", options=options | {"model.pair_cutoffs": None})


def weights(folder):
    return model_file.load(folder / "model.eqf").state_dict()


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_leaves_everything(run):
    folder, trained, _ = run
    assert sorted(p.name for p in folder.iterdir()) == [LOCK, *FILES]
    assert all((folder / name).stat().st_size > 0 for name in FILES)
    assert trained.outcome[:2] == ("4 steps are done", False)
    written = json.loads((folder / "test_errors.json").read_text())
    assert written["total"]["forces"]["mae"] == pytest.approx(trained.test.total.forces.mae)
    assert set(written["total"]) == {"energy", "energy_per_atom", "forces", "stress"}
    assert [row["step"] for row in csv.DictReader((folder / "log.csv").read_text().splitlines())] == ["2", "4"]
    predictions = ase.io.read(folder / "test_predictions.xyz", ":")
    assert len(predictions) == 1
    split = json.loads((folder / "split.json").read_text())
    assert sorted(split["train"] + split["validation"] + split["test"]) == list(range(10))


def test_the_results_are_plain_values_for_json(run):
    _, trained, _ = run
    plain = json.loads(json.dumps(trained.as_dict()))
    assert plain["folder"] == "run"
    assert plain["model"] == "run/model.eqf"
    assert (plain["ended"], plain["interrupted"], plain["n_train"]) == ("4 steps are done", False, 8)
    assert plain["verdict"] == {
        "kind": "short",
        "text": "2 validations are too few to judge the run: train longer",
        "train_longer": True,
    }
    assert plain["test"]["total"]["forces"]["mae"] == trained.test.total.forces.mae


def test_progress_is_shown_in_a_terminal_unless_it_is_unwanted(place, tmp_path, monkeypatch, capsys):
    options = {**OPTIONS, "training.max_steps": 1, "split.test": 0}
    equiforce.train(place / "copper.xyz", tmp_path / "piped", options=options)
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes any output for a terminal
    equiforce.train(place / "copper.xyz", tmp_path / "quiet", options=options, quiet=True)
    assert capsys.readouterr().out == ""
    equiforce.train(place / "copper.xyz", tmp_path / "shown", options=options)
    assert "length: 1 step = " in capsys.readouterr().out


def test_what_was_decided_is_said(run):
    _, _, said = run
    for part in (
        "copper.xyz: 10 structures; energy from 'energy' (10 of 10), forces",
        "structures: 8 for training, 1 for validation, 1 for testing; elements Cu",
        "reference energies (least squares): Cu ",
        "nequip: 2 layers, l_max 1, 4 channels, parity false",
        "loss weights: energy 1.0 per (eV/atom)², forces 1.0 per (eV/Å)², stress 100.0 per (eV/Å³)²",
        "length: 4 steps = 2 passes over 8 structures",
        "device: cpu, ",
        "memory: a training step on the largest batch needs about ",
        "4 steps are done",
        "  model.eqf             the potential, in one file",
        "  equiforce md run run/test_predictions.xyz --temperature 300",
    ):
        assert part in said


@pytest.mark.parametrize(("kind", "power"), [("mse", "²"), ("huber", "²"), ("mae", "")])
def test_loss_weights_have_the_unit_of_the_penalty(place, tmp_path, kind, power):
    """Huber equals the square of small residuals."""
    output = StringIO()
    files = {"split.train_file": [str(place / "water.xyz")], "loss.kind": kind}
    console = Console(file=output, width=200)
    prepare(configured({}, OPTIONS | files), tmp_path, resumed=False, console=console)
    units = f"loss weights: energy 1.0 per (eV/atom){power}, forces 1.0 per (eV/Å){power}"
    assert units in output.getvalue().splitlines()


def test_the_model_is_the_best_one_and_not_the_last(place, tmp_path):
    options = {
        **OPTIONS,
        "training.max_steps": 100,
        "training.validate_every": 1,
        "training.early_stopping": 1,  # at the first validation that is worse than the best
        "optimizer.schedule": "constant",
        "optimizer.learning_rate": 0.3,
        "optimizer.warmup_steps": 0,
        "optimizer.ema_decay": 0.0,
        "split.validation_file": str(place / "more.xyz"),
    }
    trained = equiforce.train(place / "copper.xyz", tmp_path / "run", options=options)
    assert trained.outcome.why == "the validation loss has not fallen for 1 validation"
    best = list(csv.DictReader((trained.folder / "log.csv").read_text().splitlines()))[-2]
    potential = model_file.load(trained.model)
    structures = equiforce.read(place / "more.xyz")
    found = errors(structures, equiforce.predict(potential, structures)).total
    assert found.forces.rmse == pytest.approx(float(best["forces_rmse_meV_per_A"]), rel=1e-4)


def test_the_model_is_the_best_one_and_tells_of_its_origin(run):
    folder, _, _ = run
    potential, header = model_file.load(folder / "model.eqf"), model_file.read_header(folder / "model.eqf")
    best = torch.load(folder / "best.pt", weights_only=True)
    assert same(dict(potential.state_dict()), best["best_weights"])
    assert header["about"]["training"]["steps"] == 4
    assert header["about"]["training"]["best_step"] == best["best_step"]
    assert header["about"]["statistics"] == json.loads((folder / "statistics.json").read_text())
    assert header["about"]["test_errors"]["n_structures"] == 1
    structure = labelled(crystals(1)[0])
    assert equiforce.predict(potential, [structure])[0].forces.shape == (4, 3)


def test_the_written_configuration_repeats_the_run_from_elsewhere(run, tmp_path, monkeypatch):
    folder, _, _ = run
    monkeypatch.chdir(tmp_path)
    equiforce.train(output="again", config=folder / "config.yaml")
    assert same(weights(tmp_path / "again"), weights(folder))
    assert (tmp_path / "again" / "config.yaml").read_text() == (folder / "config.yaml").read_text()
    assert (tmp_path / "again" / "split.json").read_text() == (folder / "split.json").read_text()


def test_every_open_option_is_settled(run, place):
    config = load_config(run[0] / "config.yaml")
    assert (config.loss.energy, config.loss.forces, config.loss.stress) == (1.0, 1.0, 100.0)
    assert config.model.mean_neighbors == json.loads((run[0] / "statistics.json").read_text())["mean_neighbors"]
    assert config.training.batch_size == 5
    assert config.split.train_file == [str(place / "copper.xyz")]


def test_a_run_is_never_overwritten(run, place):
    folder, _, _ = run
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    for taken, mend in ((folder, f", or continue its run with --resume {folder}"), (place / "copper.xyz", "")):
        with pytest.raises(InputError, match=f"already exists: choose another folder with -o{mend}$"):
            equiforce.train(place / "copper.xyz", taken, options=OPTIONS)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_runs_without_a_name_are_counted(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {**OPTIONS, "training.max_steps": 1, "split.test": 0}
    folders = [equiforce.train(place / "copper.xyz", options=options).folder for _ in range(2)]
    assert [str(folder) for folder in folders] == ["runs/copper", "runs/copper-2"]


@pytest.mark.parametrize(
    ("data", "options", "sentence"),
    [
        ("none.xyz", {}, "There is no file"),
        ("empty.xyz", {}, "is empty"),
        ("inf.xyz", {}, r"inf\.xyz, frame 0: 'energy' is inf"),
        ("one.xyz", {}, "1 structure is not enough"),
        ("copper.xyz", {"data.energy_key": "E"}, "no frame has the key 'E'"),
        ("copper.xyz", {"data.energy_key": "none", "data.forces_key": "none"}, "neither energies nor forces"),
        ("water.xyz", {"loss.stress": 1.0}, r"loss\.stress is above 0, but no training structure has a stress"),
        ("copper.xyz", {"loss.energy": 0, "loss.forces": 0, "loss.stress": 0}, "nothing to learn from"),
        ("copper.xyz", {"split.test_file": "water.xyz"}, r"water\.xyz, frame 0 \(test\) contains H, O"),
        ("copper.xyz", {"split.validation_file": "copper.xyz"}, "are the same structure"),
        ("copper.xyz", {"split.split_file": "none.json"}, r"none\.json cannot be read"),
        ("copper.xyz", {"potential.scale": {"H": 1.0}}, r"scale has H, but the elements of .* are Cu"),
        ("copper.xyz", {"potential.reference_energies": {"Xx": 1.0}}, "no chemical element 'Xx'"),
        ("copper.xyz", {"split.validation": 0, "training.early_stopping": 3}, "need validation structures"),
        ("copper.xyz", {"split.validation": 0, "optimizer.schedule": "plateau"}, "need validation structures"),
        ("copper.xyz", {"model.residual": True}, r"model\.residual changes nothing"),
        ("copper.xyz", {"training.tf32": True}, r"training\.tf32"),
        ("copper.xyz", {"model.l_max": "two"}, r"model\.l_max='two'"),
    ],
)  # fmt: skip
def test_a_mistake_is_said_and_leaves_nothing_behind(place, tmp_path, monkeypatch, data, options, sentence):
    if "training.tf32" in options and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.chdir(place)
    before = sorted(place.iterdir())
    with pytest.raises(InputError, match=sentence) as caught:
        equiforce.train(data, tmp_path / "run", options={**OPTIONS, **options})
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert sorted(place.iterdir()) == before


def test_a_package_that_is_missing_is_said_before_anything_is_written(place, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingPackageError, match=r"training\.wandb needs a package that is not installed"):
        equiforce.train(place / "copper.xyz", tmp_path / "run", options={**OPTIONS, "training.wandb": "x"})
    assert list(tmp_path.iterdir()) == []


def test_without_data_there_is_a_hint():
    with pytest.raises(InputError, match=r"there is no training data: give a file, as in equiforce train DATA\.xyz"):
        equiforce.train()


def test_files_of_their_own_for_validation_and_test(place, tmp_path, monkeypatch):
    monkeypatch.chdir(place)
    options = {**OPTIONS, "split.validation_file": "more.xyz@:2", "split.test_file": ["even_more.xyz", "more.xyz@2:"]}
    trained = equiforce.train(["copper.xyz@:5", "copper.xyz@5:"], tmp_path / "run", options=options)
    assert trained.test.n_structures == 3
    config = load_config(tmp_path / "run" / "config.yaml")
    assert config.split.validation_file == [f"{place / 'more.xyz'}@:2"]
    assert config.split.test_file == [str(place / "even_more.xyz"), f"{place / 'more.xyz'}@2:"]
    statistics = json.loads((tmp_path / "run" / "statistics.json").read_text())
    assert statistics["n_structures"] == 10
    again = equiforce.train(resume=tmp_path / "run", options={"training.max_steps": 5})
    assert (again.test.n_structures, again.outcome.why) == (3, "5 steps are done")


def test_a_split_can_be_used_again(run, place, tmp_path, monkeypatch):
    monkeypatch.chdir(run[0])
    options = {**OPTIONS, "split.split_file": "split.json", "training.seed": 3, "training.max_steps": 1}
    equiforce.train(place / "copper.xyz", tmp_path / "again", options=options)
    first, second = (json.loads((f / "split.json").read_text()) for f in (run[0], tmp_path / "again"))
    assert first == second
    assert load_config(tmp_path / "again" / "config.yaml").split.split_file == str(run[0] / "split.json")


def test_without_validation_and_test_the_last_weights_are_the_model(place, tmp_path):
    said = StringIO()
    options = {**OPTIONS, "split.validation": 0, "split.test": 0}
    trained = equiforce.train(
        place / "one.xyz", tmp_path / "run", options=options, console=Console(file=said, width=200)
    )
    assert trained.test is None
    assert "the model file gets the last weights, not the best ones" in said.getvalue()
    assert not (tmp_path / "run" / "test_errors.json").exists()
    last = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert last["best_step"] == 4
    assert same(weights(tmp_path / "run"), last["average"]["weights"])


def test_isolated_atoms_give_the_reference_energies(tmp_path):
    lone = [Atoms(symbol) for symbol in "HO"]
    for atoms, energy in zip(lone, (3.21, 4.60), strict=True):
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((1, 3)))
    data = write(tmp_path / "water.xyz", [*molecules(8), *lone])
    trained = equiforce.train(data, tmp_path / "run", options={**OPTIONS, "split.test": 1})
    potential = model_file.load(trained.model)
    for symbol, energy in (("H", 3.21), ("O", 4.60)):
        assert equiforce.predict(potential, [atom(symbol)])[0].energy.item() == pytest.approx(energy)
    assert "stress" not in trained.test.as_dict()["total"]


def test_shift_and_scale_are_trained_where_asked(place, tmp_path):
    options = {
        **OPTIONS,
        "potential.reference_energies": {"H": 3.0, "O": 4.0},
        "potential.scale": {"H": 1.5, "O": 2.0},
        "potential.atomic_energies_trainable": True,
        "potential.scale_trainable": True,
    }
    equiforce.train(place / "water.xyz", tmp_path / "free", options=options)
    equiforce.train(
        place / "water.xyz", tmp_path / "fixed", options={**options, "potential.atomic_energies_trainable": False}
    )
    free, fixed = (model_file.load(tmp_path / name / "model.eqf") for name in ("free", "fixed"))
    assert free.atomic_energies.tolist() != [3.0, 4.0]
    assert fixed.atomic_energies.tolist() == [3.0, 4.0]
    assert fixed.scale.tolist() != [1.5, 2.0]


def test_a_model_is_there_from_the_first_validation_on(place, tmp_path, monkeypatch):
    seen = []

    class Looking(Display):
        def __call__(self, report):
            super().__call__(report)
            seen.append((report.state.step, (tmp_path / "run" / "model.eqf").exists()))

    monkeypatch.setattr("equiforce.workflow.Display", Looking)
    equiforce.train(place / "copper.xyz", tmp_path / "run", options={**OPTIONS, "split.test": 0})
    assert seen == [(1, False), (2, True), (3, True), (4, True)]


def test_a_loss_that_is_not_finite_is_said_and_leaves_what_there_was(place, tmp_path):
    options = {**OPTIONS, "optimizer.learning_rate": 1e30}
    with pytest.raises(DivergedError, match="is not finite at step"):
        equiforce.train(place / "copper.xyz", tmp_path / "run", options=options)


def test_a_finished_run_can_be_trained_longer(run, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for file in run[0].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    assert equiforce.train(resume=folder).outcome[:2] == ("4 steps are done", False)
    assert same(weights(folder), weights(run[0]))
    trained = equiforce.train(resume=folder, options={"training.max_steps": 6, "training.batch_size": 8})
    assert trained.outcome[:2] == ("6 steps are done", False)
    assert torch.load(folder / "last.pt", weights_only=True)["step"] == 6
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    assert settings["training"]["max_steps"] == 6  # the folder says what was done


def test_other_data_are_refused_on_resuming(place, tmp_path, monkeypatch):
    data = write(tmp_path / "data.xyz", crystals(6))
    equiforce.train(data, tmp_path / "run", options={**OPTIONS, "split.test": 0, "training.max_steps": 1})
    write(data, crystals(6, seed=5))
    with pytest.raises(InputError, match="was made of other training data"):
        equiforce.train(resume=tmp_path / "run", options={"training.max_steps": 2})


def test_resuming_needs_a_run_and_nothing_else(run, place, tmp_path):
    for folder in (tmp_path, tmp_path / "none", place / "copper.xyz"):
        with pytest.raises(InputError, match=r"is not the folder of a training run because it has no config\.yaml"):
            equiforce.train(resume=folder)
    for more in ({"output": tmp_path / "x"}, {"config": run[0] / "config.yaml"}, {"resume_if_there": True}):
        with pytest.raises(InputError, match="--resume takes the configuration from the run folder: leave out -o"):
            equiforce.train(resume=run[0], **more)


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_anew(run, tmp_path):
    for name in ("config.yaml", "split.json", "statistics.json"):
        (tmp_path / name).write_bytes((run[0] / name).read_bytes())
    equiforce.train(resume=tmp_path)
    assert same(weights(tmp_path), weights(run[0]))


def test_a_batch_that_does_not_fit_into_memory_is_refused_before_anything_is_written(place, tmp_path, monkeypatch):
    monkeypatch.setattr("equiforce.memory.available", lambda device: 1e4)
    with pytest.raises(InputError, match=r"for a batch of about 20 atoms .*: lower training\.batch_size"):
        equiforce.train(place / "copper.xyz", tmp_path / "run", options=OPTIONS)
    assert not (tmp_path / "run").exists()


def test_a_configuration_may_come_from_python(place, tmp_path):
    nested = {
        "model": TINY,
        "training": {"max_steps": 1},
        "split": {"train_file": str(place / "copper.xyz"), "test": 0},
    }
    equiforce.train(output=tmp_path / "nested", config=nested)
    equiforce.train(output=tmp_path / "finished", config=configured(nested))
    assert same(weights(tmp_path / "nested"), weights(tmp_path / "finished"))


def test_an_interrupted_run_says_how_to_go_on(place, tmp_path, monkeypatch):
    class Interrupting(Display):
        def __call__(self, report):
            super().__call__(report)
            os.kill(os.getpid(), signal.SIGINT if report.state.step == 1 else 0)

    monkeypatch.setattr("equiforce.workflow.Display", Interrupting)
    said = StringIO()
    trained = equiforce.train(
        place / "copper.xyz",
        tmp_path / "run",
        options={**OPTIONS, "training.validate_every": 4},
        console=Console(file=said, width=200),
    )
    assert (trained.outcome[:2], trained.model, trained.test) == (("interrupted", True), None, None)
    assert f"interrupted and saved; continue with: equiforce train --resume {tmp_path / 'run'}" in said.getvalue()
    assert (tmp_path / "run" / "last.pt").exists()
