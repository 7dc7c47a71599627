"""The script for SLURM, run by bash with the real program; a stub stands for ``scontrol``."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.cli.small import SETS
from tests.data_sets import crystals, write

SCRIPT = Path(__file__).parents[1] / "examples" / "slurm" / "train.sbatch"


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Starts the script as SLURM does."""
    write(tmp_path / "copper.xyz", crystals(10))
    programs = {
        "equiforce": f'exec {sys.executable} -c "from equiforce.cli import main; main()" "$@"',
        "scontrol": f'echo "$@" >> {tmp_path}/scontrol.log',
    }
    (tmp_path / "bin").mkdir()
    for name, body in programs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "7")

    def start(*options):
        command = ["bash", str(SCRIPT), "copper.xyz", "my run", *SETS, *options]
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    return start


@pytest.mark.slow
def test_a_job_whose_time_is_over_goes_back_into_the_queue_and_continues(job, tmp_path):
    steps = ("--steps", "1000000", "--set", "training.validate_every=5")
    first, last = job(*steps), tmp_path / "my run" / "last.pt"
    end = time.monotonic() + 120
    while not last.exists() and time.monotonic() < end:
        time.sleep(0.1)
    first.send_signal(signal.SIGUSR1)
    said, _ = first.communicate(timeout=60)
    assert "interrupted and saved" in said
    assert (first.returncode, (tmp_path / "scontrol.log").read_text()) == (130, "requeue 7\n")
    done = torch.load(last, weights_only=True)["step"]
    second = job("--steps", str(done + 5), "--set", "training.validate_every=5")
    said, _ = second.communicate(timeout=120)
    assert f"the run continues at step {done:,} (" in said
    assert (second.returncode, (tmp_path / "scontrol.log").read_text()) == (0, "requeue 7\n")


@pytest.mark.slow
def test_an_error_is_not_tried_again(job, tmp_path):
    failed = job("--set", "model.l_max=-1")
    said, _ = failed.communicate(timeout=60)
    assert "error: " in said
    assert failed.returncode == 1
    assert not (tmp_path / "scontrol.log").exists()
