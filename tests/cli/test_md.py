"""``equiforce md``."""

import json
import os
import select
import signal
import subprocess
import sys
import time

import ase.io
import pytest
import yaml

from equiforce.calculators.md.options import MDOptions
from equiforce.calculators.md.state import read_state


def test_md_starts_from_the_last_frame(equiforce, model, place):
    command = ["md", model, "copper.xyz", "--steps", "2", "--set", "thermo_every=1", "--set", "skin=0.0"]
    status, out, _ = equiforce(*command)
    assert status == 0
    assert "2 steps" in out
    assert "\nensemble: langevin" in out  # on a line of its own
    assert "\\n" not in out
    first, last = ase.io.read(place / "md-copper" / "trajectory.xyz", 0), ase.io.read(place / "copper.xyz", -1)
    assert first.positions == pytest.approx(last.positions, abs=1e-6)
    status, _, err = equiforce(*command)
    assert (status, err.count("\n")) == (1, 1)
    assert "exists from an earlier run" in err
    assert equiforce(*command, "--overwrite")[0] == 0


def test_md_resumes_and_repeats(equiforce, model, place):
    status, out, _ = equiforce("md", model, "copper.xyz", "--steps", "2", "-o", "run-a", "--json")
    assert status == 0
    summary = json.loads(out)
    assert (summary["n_steps"], summary["device"][:3]) == (2, "cpu")
    assert equiforce("md", "--resume", "run-a", "--steps", "5")[0] == 0
    assert equiforce("md", model, "copper.xyz", "-c", "run-a/md.yaml", "--steps", "5", "-o", "run-b")[0] == 0
    assert (place / "run-a" / "last.xyz").read_text() == (place / "run-b" / "last.xyz").read_text()


def test_every_option_is_a_flag_with_its_default(equiforce):
    status, out, _ = equiforce("md", "--help")
    assert status == 0
    for flag, piece in (("--pdamp", "(default: 1000.0)"), ("--friction", "1/ps"), ("--skin", "(default: 0.5)")):
        assert piece in out[out.index(flag) :]
    status, out, _ = equiforce("config", "md")
    assert yaml.safe_load(out) == vars(MDOptions())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temperature", "-5"], "md.temperature=-5.0 is not allowed"),
        (["--pressure", "1"], "md.pressure changes nothing unless ensemble is npt"),
        (["--ensemble", "nph"], "md.ensemble='nph' is not allowed"),
        (["--ensemble", "npt", "--fixed", "0"], "the npt ensemble cannot hold atoms fixed"),
        (["--fixed", "Zz"], "fixed=Zz is not understood"),
        (["--resume", "nowhere"], "leave out the start structure"),
        (["-c", "nowhere.yaml"], "there is no configuration file nowhere.yaml"),
        (["--device", "tpu"], "torch cannot compute on 'tpu'"),
        (["--set", "temprature=300"], "did you mean md.temperature"),
    ],
)
def test_wrong_options_are_one_sentence_and_leave_nothing(arguments, message, equiforce, model, place):
    status, _, err = equiforce("md", model, "copper.xyz", "--steps", "1", "-o", "wrong", *arguments)
    assert (status, err.count("\n")) == (1, 1)
    assert message in err
    assert not (place / "wrong").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["MODEL", "empty.xyz"], "empty.xyz is empty"),
        (["MODEL", "water.xyz"], "is an element O that the model does not know"),
        (["text.eqf", "copper.xyz", "-o", "new"], "text.eqf is not an equiforce model file"),
        (["MODEL"], "name a model file and a start structure"),
        (["--resume", "folder"], "there is no run to continue in folder"),
        (["MODEL", "copper.xyz", "-o", "text.eqf"], "text.eqf"),
    ],
)
def test_wrong_files_are_one_sentence(arguments, message, equiforce, model, place):
    (place / "empty.xyz").write_text("")
    status, _, err = equiforce("md", *(model if part == "MODEL" else part for part in arguments))
    assert (status, err.count("\n")) == (1, 1)
    assert message in err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_continues_from_its_last_state(number, equiforce, model, place):
    name = f"killed-{number}"
    options = ["--seed", "1", "--trajectory-every", "2", "--thermo-every", "3"]
    command = [sys.executable, "-c", "from equiforce.cli import main; main()", "md", model, "copper.xyz", "-o", name]
    process = subprocess.Popen([*command, *options, "--steps", "100000", "--save-every", "0"], cwd=place)
    trajectory, give_up = place / name / "trajectory.xyz", time.monotonic() + 60
    while time.monotonic() < give_up and not (trajectory.exists() and trajectory.read_text().count("energy") > 5):
        time.sleep(0.02)
    os.kill(process.pid, number)
    assert process.wait(60) == (130 if number == signal.SIGTERM else -signal.SIGKILL)
    n_frames = trajectory.read_text().count("energy")
    n_steps = str(2 * n_frames + 20)
    assert equiforce("md", "--resume", name, "--steps", n_steps)[0] == 0
    whole = ["md", model, "copper.xyz", "-o", f"{name}-whole", *options, "--steps", n_steps]
    assert equiforce(*whole)[0] == 0
    for file in ("trajectory.xyz", "thermo.csv"):
        assert (place / name / file).read_text() == (place / f"{name}-whole" / file).read_text()


@pytest.mark.slow
def test_a_run_whose_terminal_is_closed_saves_its_state(equiforce, model, place):
    here, terminal = os.openpty()
    command = [
        sys.executable,
        "-c",
        "from equiforce.cli import main; main()",
        "md",
        model,
        "copper.xyz",
        "-o",
        "closed",
    ]
    options = ["--steps", "100000", "--thermo-every", "1"]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), terminal)
    process = subprocess.Popen([*command, *options], cwd=place, **streams, start_new_session=True)
    os.close(terminal)
    table, give_up = place / "closed" / "thermo.csv", time.monotonic() + 60
    while time.monotonic() < give_up and not (table.exists() and table.read_text().count("\n") > 9):
        if select.select([here], [], [], 0.02)[0]:
            os.read(here, 65536)
    os.close(here)  # what is printed from now on fails
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 130
    state = read_state(place / "closed").header
    assert state["step"] >= 8
    assert state["sizes"]["thermo.csv"] == table.stat().st_size
