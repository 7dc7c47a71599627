"""The program: what it prints, how it ends, and one sentence for a mistake."""

import json
import os
import signal
import sys

import ase.io
import pytest
import yaml

from equiforce.cli import main
from equiforce.config import RunConfig, configured, to_dict
from equiforce.training.display import Display
from tests.data_sets import TINY, crystals, molecules, write

SETS = [part for name, value in TINY.items() for part in ("--set", f"model.{name}={value}")]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    write(folder / "copper.xyz", crystals(10))
    write(folder / "water.xyz", molecules(3))
    (folder / "folder").mkdir()
    (folder / "text.eqf").write_text("no model")
    return folder


@pytest.fixture
def equiforce(place, monkeypatch, capsys):
    """The program, run in this process: its exit status, standard output and standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(place)
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "argv", ["equiforce", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def model(place):
    """The path of a model that the program trained, relative to its folder."""
    before = os.getcwd()
    os.chdir(place)
    sys_argv, sys.argv = sys.argv, ["equiforce", "train", "copper.xyz", "-o", "run", "--steps", "2", *SETS]
    try:
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
    finally:
        sys.argv = sys_argv
        os.chdir(before)
    return "run/model.eqf"


def test_train_passes_its_options_on(equiforce, place):
    status, out, err = equiforce(
        "train", "copper.xyz@:6", "-o", "options", "--steps", "3", "--epochs", "2", "--seed", "5", "--deterministic",
        "--device", "cpu", "--energy-key", "energy", "--stress-key", "none", "--validation", "copper.xyz@6:8",
        "--test", "copper.xyz@8:", *SETS, "--set", "training.batch_size=3", "--set", "model.channels=[4, 2]",
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert "3 steps are done" in out
    assert "model: options/model.eqf" in out
    written = yaml.safe_load((place / "options" / "config.yaml").read_text())
    assert (
        written["training"] | {"max_steps": 3, "max_epochs": 2, "seed": 5, "deterministic": True} == written["training"]
    )
    assert written["model"]["channels"] == [4, 2]
    assert (written["data"]["energy_key"], written["data"]["stress_key"]) == ("energy", "none")
    assert written["split"]["validation_file"] == [f"{place / 'copper.xyz'}@6:8"]


def test_a_training_that_diverges_ends_in_one_sentence(equiforce):
    status, _, err = equiforce(
        "train", "copper.xyz", "-o", "diverged", "--steps", "5", *SETS, "--set", "optimizer.learning_rate=1e30"
    )
    assert status == 1
    assert err.startswith("error: the loss is not finite at step ")
    assert "lower optimizer.learning_rate" in err
    assert err.count("\n") == 1


def test_evaluate_measures(equiforce, model, place):
    status, out, _ = equiforce("evaluate", model, "copper.xyz", "-o", "measured")
    assert status == 0
    assert "forces on Cu" in out
    assert "table, predictions and parity plot: measured" in out
    assert sorted(p.name for p in (place / "measured").iterdir()) == [
        "copper_errors.json", "copper_parity.png", "copper_predictions.xyz",
    ]  # fmt: skip
    assert "memory: energy and forces of " in out
    status, _, err = equiforce("evaluate", model, "copper.xyz", "--max-memory", "1e-9")
    assert status == 1
    assert "even in chunks" in err
    status, out, _ = equiforce("evaluate", model, "copper.xyz@:2", "--json")
    assert json.loads(out)["n_structures"] == 2
    assert (place / "evaluate-copper").is_dir()


def test_md_starts_from_the_last_frame(equiforce, model, place):
    command = ["md", model, "copper.xyz", "--steps", "2", "--set", "thermo_every=1", "--set", "skin=0.0"]
    status, out, _ = equiforce(*command)
    assert status == 0
    assert "2 steps" in out
    first, last = ase.io.read(place / "md-copper" / "trajectory.xyz", 0), ase.io.read(place / "copper.xyz", -1)
    assert first.positions == pytest.approx(last.positions, abs=1e-6)
    status, _, err = equiforce(*command)
    assert (status, err.count("\n")) == (1, 1)
    assert "exists from an earlier run" in err
    assert equiforce(*command, "--overwrite")[0] == 0


def test_lammps_writes_an_input_or_says_what_is_missing(equiforce, model, place):
    status, out, _ = equiforce("lammps", model, "copper.xyz", "-o", "in.lammps", "--steps", "7")
    assert status == 0
    assert "mpirun -np 2 lmp -in in.lammps" in out
    assert "variable steps index 7 " in (place / "in.lammps").read_text()
    for arguments, sentence in (
        ((model, "copper.xyz"), "in.lammps exists already"),
        ((model,), "name a model file and a start structure"),
        ((model, "copper.xyz", "--doctor"), "leave out copper.xyz"),
        ((model, "water.xyz", "-o", "other.lammps"), "it was trained on Cu"),
    ):
        status, _, err = equiforce("lammps", *arguments)
        assert (status, err.count("\n")) == (1, 1)
        assert sentence in err
    assert not (place / "other.lammps").exists()


def test_info_tells(equiforce, model):
    status, out, _ = equiforce("info", model)
    assert status == 0
    for part in ("nequip", "Cu", "cutoff", "2 steps", "test, forces"):
        assert part in out
    status, out, _ = equiforce("info", model, "--json")
    assert json.loads(out)["potential"]["species"] == ["Cu"]


def test_config_prints_what_it_reads(equiforce, place):
    status, out, _ = equiforce("config")
    assert yaml.safe_load(out) == to_dict(RunConfig())
    (place / "c.yaml").write_text("model:\n  l_max: 1\n")
    status, out, _ = equiforce("config", "c.yaml", "--set", "model.channels=8")
    assert status == 0
    assert yaml.safe_load(out) == to_dict(configured({}, {"model.l_max": 1, "model.channels": 8}))


def test_config_prints_a_schema(equiforce):
    status, out, _ = equiforce("config", "--schema")
    assert status == 0
    assert "description" in json.loads(out)["properties"]["training"]["properties"]["time"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("--help", "from quantum-mechanical data to molecular dynamics"),
        ("train -h", "--energy-key"),
        ("evaluate -h", "Print the errors as JSON"),
        ("md --help", "--temperature"),
        ("info -h", "Print the contents of a model file"),
        ("config -h", "--schema"),
    ],
)
def test_help_helps(equiforce, command, words):
    status, out, err = equiforce(*command.split())
    assert (status, err) == (0, "")
    assert "Usage: " in out
    assert words in out


@pytest.mark.parametrize(
    "command", ["trian copper.xyz", "train copper.xyz --steps two", "evaluate", "train --nonsense"]
)
def test_a_wrong_command_line_shows_how_it_is_used(equiforce, command):
    status, _, err = equiforce(*command.split())
    assert status == 2
    assert "Usage: " in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("train", "there is no training data"),
        ("train none.xyz", "There is no file none.xyz"),
        ("train folder", "The folder folder has no file"),
        ("train text.eqf", "text.eqf, frame 0 (counted from 0) cannot be read by ASE"),
        ("train copper.xyz -o run", "run already exists"),
        ("train copper.xyz -o copper.xyz/run --steps 1", "Not a directory"),
        ("train copper.xyz --time 5x", "training.time='5x' is not a duration"),
        ("train copper.xyz --steps 0", "training.max_steps=0 is not allowed"),
        ("train copper.xyz --set nonsense", "--set nonsense has no equals sign: write option=value"),
        ("train copper.xyz --set nonsense=1", "there is no option nonsense: equiforce config lists all options"),
        ("train copper.xyz --set model.l_max=two", "model.l_max='two' is not allowed: it should be a whole number"),
        ("train copper.xyz --set model.channels=[4", "--set model.channels=[4: the value is not YAML"),
        ("train copper.xyz --set training.tim=5m", "did you mean training.time?"),
        ("train copper.xyz --resume run", "--resume takes data and configuration from the run folder"),
        ("train --resume folder", "folder is not the folder of a training run"),
        ("train -c none.yaml", "there is no configuration file none.yaml"),
        ("train -c text.eqf", "text.eqf must consist of sections"),
        ("evaluate text.eqf copper.xyz", "text.eqf is not an equiforce model file"),
        ("evaluate run/model.eqf none.xyz", "There is no file none.xyz"),
        ("evaluate run/model.eqf water.xyz", "element O that the model does not know: it was trained on Cu"),
        ("evaluate run/model.eqf copper.xyz --device gpu", "torch cannot compute on 'gpu' here"),
        ("evaluate run/model.eqf copper.xyz --energy-unit stone", "data.energy_unit: 'stone' is not a unit"),
        ("evaluate run/model.eqf copper.xyz@:1 -o copper.xyz", "File exists: 'copper.xyz'"),
        ("md run/model.eqf none.xyz", "no start structure can be read from none.xyz"),
        ("md run/model.eqf water.xyz", "element O that the model does not know"),
        ("md run/model.eqf copper.xyz --steps -1", "md.steps=-1 is not allowed"),
        ("evaluate run/model.eqf copper.xyz --max-memory 0", "max_memory=0.0 GB leaves no memory"),
        ("md run/model.eqf copper.xyz --set max_memory=-1", "md.max_memory=-1 is not allowed"),
        ("md run/model.eqf copper.xyz --set skn=1", "there is no option md.skn: did you mean md.skin?"),
        ("md run/model.eqf copper.xyz --ensemble nvt", "md.ensemble='nvt' is not allowed"),
        ("info none.eqf", "there is no model file none.eqf"),
        ("info run", "there is no model file run: give the .eqf file"),
        ("info copper.xyz", "copper.xyz is not an equiforce model file"),
        ("info run/best.pt", "run/best.pt is not an equiforce model file"),
        ("config --set model.parity=perhaps", "model.parity='perhaps' is not allowed"),
        ("config copper.xyz", "copper.xyz must consist of sections"),
    ],
)  # fmt: skip
def test_a_mistake_ends_in_one_sentence(equiforce, model, arguments, sentence):
    status, _, err = equiforce(*arguments.split())
    assert status == 1
    assert err.startswith("error: ")
    assert sentence in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_an_interrupted_training_is_saved_and_goes_on(equiforce, place, monkeypatch):
    class Interrupting(Display):
        def __call__(self, report):
            super().__call__(report)
            if report.state.step == 2:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("equiforce.workflow.Display", Interrupting)
    status, out, err = equiforce("train", "copper.xyz", "-o", "stopped", "--steps", "5", *SETS)
    assert (status, err) == (130, "")
    assert "interrupted and saved; continue with: equiforce train --resume stopped" in out
    assert (place / "stopped" / "last.pt").exists()
    monkeypatch.setattr("equiforce.workflow.Display", Display)
    status, out, err = equiforce("train", "--resume", "stopped")
    assert (status, err) == (0, "")
    assert "the run continues at step 3, epoch" in out
    assert "5 steps are done" in out
