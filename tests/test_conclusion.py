"""The last lines of a training run."""

import shlex
from io import StringIO

from rich.console import Console

from equiforce.conclusion import command, conclude
from equiforce.config import configured
from equiforce.training.verdict import Verdict


def said(folder, settings, verdict):
    text = StringIO()
    conclude(folder, settings, verdict, Console(file=text, width=60))
    return text.getvalue().splitlines()


def test_verdict_files_and_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my run"
    folder.mkdir()
    for name in ("model.eqf", "log.csv"):
        (folder / name).touch()
    settings = configured(
        {"split": {"train_file": [str(tmp_path / "data" / "a b.xyz@:9")]}, "training": {"time": "45m"}}
    )
    lines = said(folder, settings, Verdict("falling", "train [longer]", True))
    assert lines == [
        "verdict: train [longer]",
        f"  equiforce train --resume '{folder}' --time 1h30m",
        f"written into {folder}:",
        "  model.eqf             the potential, in one file",
        "  log.csv               the errors during the run",
        "next, with these or other structures:",
        f"  equiforce evaluate '{folder}' 'data/a b.xyz@:9'",
        f"  equiforce md '{folder}' 'data/a b.xyz' --temperature 300",
        f"  equiforce lammps '{folder}' 'data/a b.xyz' -o in.lammps",
    ]


def test_the_test_structures_are_the_start_if_there_are_some(tmp_path):
    (tmp_path / "test_predictions.xyz").touch()
    settings = configured({"split": {"train_file": ["/data/train.xyz"], "test_file": ["/data/test.xyz"]}})
    lines = said(tmp_path, settings, Verdict("converged", "it has converged", False))
    assert not any("--resume " in line for line in lines if "equiforce" in line)
    assert lines[-3:-1] == [
        f"  equiforce evaluate {tmp_path} /data/test.xyz",
        f"  equiforce md {tmp_path} {tmp_path}/test_predictions.xyz --temperature 300",
    ]


def test_data_beside_the_working_directory_have_a_short_path(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    settings = configured({"split": {"train_file": [str(tmp_path / "data.xyz")], "test": 0}})
    lines = said(tmp_path, settings, Verdict("converged", "it has converged", False))
    assert lines[-2].split()[3] == "../data.xyz"


def test_a_command_is_quoted_for_the_shell():
    assert shlex.split(command("train", "a b", "$HOME")) == ["equiforce", "train", "a b", "$HOME"]
