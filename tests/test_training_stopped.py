"""A terminal that is closed and a disk that is really full end a training, and it goes on as if nothing had been."""

import os
import pty
import sys
import time

import pytest

from equiforce.storage.folders import LOCK
from equiforce.training.checkpoint import read_checkpoint
from tests import faults
from tests.data_sets import crystals, write
from tests.storage.test_faults import small_disk
from tests.test_training_faults import SETS, STEPS, is_said, result_of

ROOMS = (0, 24, 70, 150)  # kB


@pytest.fixture
def data(tmp_path):
    return write(tmp_path / "copper.xyz", crystals(8))


@pytest.mark.slow
def test_a_closed_terminal_ends_the_training_with_its_state_saved(data, tmp_path):
    folder = tmp_path / "run"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child, terminal = pty.fork()
    if child == 0:
        script = "from equiforce.cli import main; main()"
        arguments = ["train", str(data), "-o", str(folder), *SETS, "--steps", "1000000"]
        os.execve(sys.executable, [sys.executable, "-c", script, *arguments], environment)
    end = time.monotonic() + 100
    while not (folder / "last.pt").exists() and time.monotonic() < end:
        os.read(terminal, 65536)
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    state = read_checkpoint(folder / "last.pt")
    assert (state["ended"], state["step"] > 0) == ("", True)


@pytest.mark.slow
def test_a_disk_that_is_full_again_and_again_is_told_and_the_training_goes_on(data, tmp_path):
    with faults.server() as server, small_disk(tmp_path / "disk", "size=2m") as disk:
        assert server.run("train", data, "-o", tmp_path / "whole", *SETS, "--steps", STEPS, folder=disk).rc == 0
        folder, filler, told = disk / "run", disk / "filler", 0
        for room in (*ROOMS, None):
            began = (folder / "config.yaml").exists()
            command = ["--resume", folder] if began else [data, "-o", folder, *SETS, "--steps", STEPS]
            if room is not None:
                status = os.statvfs(disk)
                filler.write_bytes(bytes(max(0, status.f_bavail * status.f_bsize - 1000 * room)))
            ended = server.run("train", *command, folder=disk)
            filler.unlink(missing_ok=True)
            assert not [path for path in disk.rglob("*") if path.stat().st_size == 0 and path.name != LOCK]
            if ended.rc == 0:
                break
            told += 1
            assert is_said(ended.errors)
            began = (folder / "config.yaml").exists()
            assert (f"train --resume {folder}" if began else "give the same command again") in ended.errors
        assert (told >= 3, ended.rc) == (True, 0)
        assert result_of(folder) == result_of(tmp_path / "whole")
