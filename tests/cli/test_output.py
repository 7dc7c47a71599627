"""What commands print, in any locale, into files and pipes, and as JSON."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from equiforce.cli.output import print_error, print_object
from tests.cli.small import SETS
from tests.data_sets import crystals, write

PROGRAM = [sys.executable, "-c", "from equiforce.cli import main; main()"]


def run_in(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """The program in a process of its own, with other variables of the environment."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONIO"))}
    return subprocess.run(
        [*PROGRAM, *arguments], cwd=folder, env=variables | environment, capture_output=True, check=False
    )


def test_an_object_is_valid_json_whatever_the_values(capsys):
    print_object({"path": Path("a/b"), "rows": [(1, 2.5), {"x": float("nan")}], "big": float("inf"), 3: None})
    assert json.loads(capsys.readouterr().out) == {
        "path": "a/b",
        "rows": [[1, 2.5], {"x": None}],
        "big": None,
        "3": None,
    }


def test_with_json_the_standard_output_is_one_object(equiforce, model):
    status, out, err = equiforce("evaluate", model, "copper.xyz@:1", "-o", "as_json", "--json")
    assert status == 0
    assert json.loads(out)["folder"] == "as_json"
    assert "device: cpu" in err
    status, out, err = equiforce("info", "none.eqf", "--json")
    assert status == 1
    assert f"error: {json.loads(out)['error']}\n" == err
    status, out, _ = equiforce("config", "--json", "--set", "model.l_max=1")
    assert json.loads(out)["model"]["l_max"] == 1
    status, out, err = equiforce("lammps", "run", "copper.xyz", "-o", "json.lammps", "--json")
    assert json.loads(out) == {"input": "json.lammps", "data": "json.data", "n_atoms": 4}
    assert "mpirun" in err
    status, out, err = equiforce("train", "copper.xyz", "-o", "trained", "--steps", "1", "--json", *SETS)
    found = json.loads(out)
    assert (found["model"], found["interrupted"], found["n_train"]) == ("trained/model.eqf", False, 8)
    assert found["test"]["units"]["forces"] == "meV/Å"
    assert "structures: 8 for training" in err


def test_with_json_every_end_is_one_object(equiforce, monkeypatch):
    status, out, err = equiforce("md", "--nonsense", "--json")
    assert (status, json.loads(out)) == (2, {"error": "wrong command line; see the standard error"})
    assert "--nonsense" in err
    monkeypatch.setattr("equiforce.model_file.path_of", lambda _: signal.raise_signal(signal.SIGINT))
    status, out, _ = equiforce("info", "none.eqf", "--json")
    assert (status, json.loads(out)) == (130, {"error": "stopped by a signal, such as Ctrl-C"})
    assert equiforce("info", "none.eqf")[:2] == (130, "")


def test_an_error_of_the_system_is_a_sentence(capsys):
    print_error(PermissionError(13, "Permission denied", "a.xyz"))
    assert capsys.readouterr().err == "error: a.xyz cannot be read or written: Permission denied\n"


def test_a_table_in_a_file_is_as_wide_as_it_needs(equiforce, model):
    status, out, _ = equiforce("info", model)
    assert status == 0
    assert "…" not in out
    assert max(map(len, out.splitlines())) > 80


@pytest.mark.slow
def test_commands_work_in_a_locale_without_utf_8(tmp_path):
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    latin = {"LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "latin-1"}
    frames = crystals(8)
    for atoms in frames:
        atoms.info |= {"config_type": "flüssig", "grüße": "Å"}
    (tmp_path / "Größe").mkdir()
    write(tmp_path / "Größe" / "küpfer.xyz", frames)
    commands = (
        (ascii_only, "train", "Größe/küpfer.xyz", "-o", "läuft", "--steps", "2", *SETS),
        (latin, "train", "--resume", "läuft"),
        (latin, "evaluate", "läuft", "Größe/küpfer.xyz", "-o", "fehler"),
        (ascii_only, "info", "läuft"),
        (ascii_only, "config", "läuft/config.yaml"),
        (latin, "--help"),
        (ascii_only, "--help"),
    )
    printed = {}
    for locale, *command in commands:
        done = run_in(tmp_path, *command, **locale)
        assert (command, done.returncode, done.stderr.decode(errors="replace")) == (command, 0, "")
        printed[command[0]] = done.stdout
    assert b"forces on Cu" in printed["evaluate"]
    read = yaml.safe_load(printed["config"].decode())  # the text of a file, hence UTF-8
    assert read["split"]["train_file"] == [str(tmp_path / "Größe" / "küpfer.xyz")]
    predictions = (tmp_path / "fehler" / "küpfer_predictions.xyz").read_text(encoding="utf-8")
    assert predictions.count("grüße=Å") == 8
    for locale in (ascii_only, latin):
        done = run_in(tmp_path, "info", "fehlt-ü.eqf", **locale)
        assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
        assert done.stderr.startswith(b"error: there is no model file fehlt-")


@pytest.mark.slow
def test_a_reader_that_goes_away_stops_no_work(tmp_path):
    write(tmp_path / "copper.xyz", crystals(6))
    shell = f"{sys.executable} -c 'from equiforce.cli import main; main()'"
    for command, status in (
        (f"train copper.xyz -o run --steps 2 {' '.join(SETS)}", 0),
        ("evaluate run copper.xyz -o errors", 0),
        ("config", 1),
    ):
        done = subprocess.run(
            ["bash", "-c", f"{shell} {command} | true; exit ${{PIPESTATUS[0]}}"],
            cwd=tmp_path, capture_output=True, check=False,
        )  # fmt: skip
        assert (command, done.returncode, done.stderr) == (command, status, b"")
    assert (tmp_path / "run" / "model.eqf").exists()
    assert (tmp_path / "errors" / "copper_errors.json").exists()
    done = subprocess.run(["bash", "-c", f"{shell} info run >&-"], cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    done = subprocess.run(["bash", "-c", f"{shell} config > /dev/full"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: [Errno 28]")
