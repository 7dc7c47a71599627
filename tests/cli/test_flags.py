"""A wrong flag is answered with the option that was meant."""

import os
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from equiforce.cli import app
from equiforce.errors import InputError


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            "train a.xyz --lr 0.01",
            "there is no flag --lr: nequip's, MACE's and SevenNet's lr is optimizer.learning_rate",
        ),
        (
            "train a.xyz --batch-size 3",
            "there is no flag --batch-size: write training.batch_size, and options are given as --set",
        ),
        ("train a.xyz --r_max=5", "there is no flag --r_max: nequip's and MACE's r_max is model.cutoff here"),
        ("train a.xyz --E0s average", "there is no flag --E0s: MACE's E0s is potential.reference_energies here"),
        ("md m.eqf a.xyz --dt 1", "there is no flag --dt: dt is md.timestep here (in fs)"),
        (
            "lammps m.eqf a.xyz --skin 1",
            "there is no flag --skin: skin is an option, and options are given as --set OPTION=VALUE",
        ),
        (
            "evaluate m.eqf a.xyz --stress-order voigt",
            "there is no flag --stress-order: write data.stress_order, and options are given as --set OPTION=VALUE",
        ),
    ],
)
def test_a_wrong_flag_is_answered(arguments, sentence):
    result = CliRunner().invoke(app, arguments.split())
    assert isinstance(result.exception, InputError)
    assert str(result.exception).startswith(sentence)


@pytest.mark.parametrize(
    "arguments",
    [
        "info m.eqf --lr 1",
        "evaluate m.eqf a.xyz --r-max 5",
        "relax m.eqf a.xyz --cutoff 5",
        "train -q",
        "train --nonsense",
        "md --ensembel nve",
    ],
)
def test_other_wrong_flags_are_usage_errors(arguments):
    assert CliRunner().invoke(app, arguments.split()).exit_code == 2


def test_only_a_similar_flag_is_suggested():
    far, near = (CliRunner().invoke(app, ["relax", "m.eqf", "a.xyz", flag]) for flag in ("--temperature", "--presure"))
    assert "--pressure" not in far.stderr
    assert "--pressure" in near.stderr


@pytest.mark.parametrize("command", ["info run", "md run start.xyz", "study benchmark none.yaml"])
def test_a_signal_does_not_cut_the_import_of_torch_which_would_abort_the_process(tmp_path, command):
    package = tmp_path / "torch"
    package.mkdir()
    text = "import signal\nsignal.raise_signal(signal.SIGTERM)\nopen('loaded', 'w').close()\n"
    (package / "__init__.py").write_text(text)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    program = [sys.executable, "-c", "from equiforce.cli import main; main()", *command.split()]
    ended = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (130, "")
    assert ended.stderr.startswith("stopped by a signal")
    assert ended.stderr.count("\n") == 1
    assert (tmp_path / "loaded").exists()


def test_a_signal_while_the_command_line_is_read_is_told_in_one_sentence(equiforce, monkeypatch):
    monkeypatch.setattr("equiforce.cli.info.versions", lambda: signal.raise_signal(signal.SIGTERM))
    status, out, err = equiforce("--version")
    assert (status, out) == (130, "")
    assert err == "stopped by a signal: what was not written yet is lost; give the same command again\n"
