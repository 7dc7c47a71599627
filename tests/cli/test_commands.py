"""The program: what it prints, how it ends, and one sentence for a mistake."""

from signal import SIGTERM, raise_signal

import pytest

from equiforce.signals import SIGNALS


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("--help", "from quantum-mechanical data to molecular dynamics"),
        ("train -h", "--energy-key"),
        ("evaluate -h", "Print the results as one JSON object"),
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
    "command",
    [
        "trian copper.xyz",
        "train copper.xyz --steps two",
        "evaluate",
        "train --nonsense",
        "evaluate run",
        "info",
        "info run copper.xyz extra",
        "train --json=yes",
        "study none",
        "--versoin",
        "evaluate run a -o",
    ],
)
def test_a_wrong_command_line_shows_how_it_is_used(equiforce, command):
    status, _, err = equiforce(*command.split())
    assert status == 2
    assert "Usage: " in err or "─ Error ─" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("train", "there is no training data"),
        (
            "train copper.xyz --set split.train_file=water.xyz",
            "both copper.xyz and split.train_file name the training data",
        ),
        ("train copper.xyz --steps 2 --set training.max_steps=3", "training.max_steps is given twice"),
        ("train none.xyz", "There is no file none.xyz"),
        ("train copper.xyz --device gpu", "training.device='gpu' is not allowed: it should be 'auto', 'cpu' or 'cuda'"),
        ("train copper.xyz --split none.json", "none.json"),
        ("train copper.xyz --set training.batch_size=0", "training.batch_size=0 is not allowed"),
        ("evaluate folder copper.xyz", "the folder folder has no model.eqf: give a model file"),
        ("evaluate run copper.xyz -o folder/../copper.xyz", "copper.xyz is a file, not a folder: name another"),
        ("evaluate none copper.xyz", "there is no model file none"),
        ("evaluate run folder", "The folder folder has no file"),
        ("evaluate run copper.xyz@20:", "copper.xyz@20: contains no structures"),
        ("evaluate run copper.xyz --energy-key E", "no frame has the key 'E' for the energy"),
        ("evaluate run copper.xyz --length-unit foot", "data.length_unit: 'foot' is not a unit"),
        ("evaluate copper.xyz run", "copper.xyz is not an equiforce model file"),
        ("lammps folder copper.xyz", "the folder folder has no model.eqf"),
        ("lammps run", "name a model file and a start structure"),
        ("lammps run none.xyz", "none.xyz"),
        ("lammps run copper.xyz -o new.lammps --temperature -5", "lammps.temperature=-5.0 is not allowed"),
        ("md folder copper.xyz", "the folder folder has no model.eqf"),
        ("info folder", "the folder folder has no model.eqf"),
        ("config --set model.kind=mace", "model.kind='mace' does not exist: choose one of"),
        ("config --set model=3", "model is a section: write "),
        ("config none.yaml", "there is no configuration file none.yaml"),
        ("study learning-curve none.yaml", "there is no configuration file none.yaml"),
        ("study benchmark copper.xyz", "copper.xyz"),
        ("train folder", "The folder folder has no file"),
        ("train text.eqf", "text.eqf is a text in which no reader finds structures, with the first line 'no model'"),
        ("train copper.xyz -o run", "run already exists"),
        ("train copper.xyz -o copper.xyz/run --steps 1", "copper.xyz is a file, not a folder"),
        ("train copper.xyz --time 5x", "training.time='5x' is not a duration"),
        ("train copper.xyz --steps 0", "training.max_steps=0 is not allowed"),
        ("train copper.xyz --set nonsense", "--set nonsense has no equals sign: write option=value"),
        ("train copper.xyz --set nonsense=1", "there is no option nonsense: equiforce config lists all options"),
        ("train copper.xyz --set model.l_max=two", "model.l_max='two' is not allowed: it should be a whole number"),
        ("train copper.xyz --set model.channels=[4", "--set model.channels=[4: the value is not YAML"),
        ("train copper.xyz --set training.tim=5m", "did you mean training.time?"),
        ("train --resume run -o other", "--resume takes the configuration from the run folder: leave out -o"),
        ("train --resume folder", "folder is not the folder of a training run"),
        ("train -c none.yaml", "there is no configuration file none.yaml"),
        ("train copper.xyz -o text.eqf/run", "text.eqf is a file, not a folder: name another folder with -o"),
        ("md run copper.xyz -o text.eqf", "text.eqf is a file, not a folder"),
        ("relax run copper.xyz -o text.eqf/a", "text.eqf is a file, not a folder"),
        ("lammps run copper.xyz -o text.eqf/in.lammps", "text.eqf is a file, not a folder"),
        ("train -c text.eqf", "text.eqf must consist of sections"),
        ("evaluate text.eqf copper.xyz", "text.eqf is not an equiforce model file"),
        ("evaluate run/model.eqf none.xyz", "There is no file none.xyz"),
        ("evaluate run/model.eqf water.xyz", "element O that the model does not know: it was trained on Cu"),
        ("evaluate run/model.eqf copper.xyz --device gpu", "torch cannot compute on 'gpu' here"),
        ("evaluate run/model.eqf copper.xyz --energy-unit stone", "data.energy_unit: 'stone' is not a unit"),
        ("evaluate run/model.eqf copper.xyz@:1 -o copper.xyz", "copper.xyz is a file, not a folder"),
        ("md run", "name a model file and a start structure: equiforce md MODEL STRUCTURE"),
        ("md run/model.eqf none.xyz", "There is no file none.xyz"),
        ("md run/model.eqf water.xyz", "element O that the model does not know"),
        ("md run/model.eqf copper.xyz --steps -1", "md.steps=-1 is not allowed"),
        ("evaluate run/model.eqf copper.xyz --max-memory 0", "--max-memory 0 is not a memory"),
        ("md run/model.eqf copper.xyz --set max_memory=-1", "md.max_memory=-1 is not allowed"),
        ("md run/model.eqf copper.xyz --set skn=1", "there is no option md.skn: did you mean md.skin?"),
        ("md run/model.eqf copper.xyz --ensemble nph", "md.ensemble='nph' is not allowed"),
        ("info none.eqf", "there is no model file none.eqf"),
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


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    ("part", "command"),
    [
        ("workflow.train", "train copper.xyz -o new"),
        ("distillation.work.distill", "distill none.eqf --structures copper.xyz -o small.eqf"),
        ("model_file.load", "evaluate none.eqf copper.xyz -o new"),
        ("yaml_files.load_yaml", "md none.eqf copper.xyz -o new -c md.yaml"),
        ("calculators.md.run.run_md", "md none.eqf copper.xyz -o new"),
        ("calculators.md.run.resume_md", "md --resume new"),
        ("calculators.relax.relax", "relax none.eqf copper.xyz -o new"),
        ("calculators.lammps.prepare.prepare", "lammps none.eqf copper.xyz -o new/in.lammps"),
        ("foundation.import_potential", "import nequix-mp-1 -o new.eqf"),
        ("model_file.read_header", "info run"),
        ("config.load_config", "config none.yaml"),
    ],
)
def test_a_signal_while_a_command_loads_is_told_in_one_sentence(equiforce, place, monkeypatch, part, command, number):
    def stopped(*_, **__):
        raise_signal(number)

    if "--resume" in command:
        monkeypatch.setattr("equiforce.calculators.md.state.read_state", stopped)
    monkeypatch.setattr(f"equiforce.{part}", stopped)
    before = sorted(place.iterdir())
    status, out, err = equiforce(*command.split())
    assert (status, out) == (130, "")
    assert err == "stopped by a signal: what was not written yet is lost; give the same command again\n"
    assert sorted(place.iterdir()) == before


def test_a_training_that_has_said_how_it_goes_on_says_nothing_more(equiforce, place, monkeypatch):
    monkeypatch.setattr("equiforce.workflow.prepare", lambda *_, **__: raise_signal(SIGTERM))
    status, out, err = equiforce("train", "copper.xyz", "-o", "new", "--steps", "1")
    assert (status, err) == (130, "")
    assert out == "interrupted; nothing was written yet: give the same command again\n"
    assert not (place / "new").exists()
