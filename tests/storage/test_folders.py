"""One process uses a folder at a time, and folders that are drawn at the same time are different ones."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from equiforce.errors import InputError
from equiforce.storage.folders import LOCK, drawn, is_empty, used
from equiforce.storage.whole import DRAFT

HOLDER = """
import sys, time
from pathlib import Path
from equiforce.storage.folders import used
with used(Path(sys.argv[1])):
    print("ready", flush=True)
    time.sleep(60)
"""
DRAWER = """
import sys, time
from itertools import count
from pathlib import Path
from equiforce.storage.folders import drawn, is_empty
candidates = (Path(sys.argv[1]) / f"run-{n}" for n in count(1))
with drawn(candidates, is_empty) as folder:
    time.sleep(0.05)
    (folder / "result").write_text("x")
print(folder.name, flush=True)
"""


def start(script, folder):
    return subprocess.Popen([sys.executable, "-c", script, folder], stdout=subprocess.PIPE, encoding="utf-8")


@pytest.fixture
def holder(tmp_path):
    """A process that uses the folder ``a``."""
    process = start(HOLDER, tmp_path / "a")
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_second_process_is_told_about_the_first(tmp_path, holder):
    with pytest.raises(InputError) as caught, used(tmp_path / "a"):
        pass
    assert str(caught.value).startswith(
        f"{tmp_path / 'a'} is in use by process {holder.pid} (-c {tmp_path / 'a'}) on {socket.gethostname()} since 20"
    )


def test_the_lock_of_a_dead_process_is_taken_over_and_its_drafts_removed(tmp_path, holder):
    (tmp_path / "a" / f"{DRAFT}01234567-x").write_text("half")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert json.loads((tmp_path / "a" / LOCK).read_text())["pid"] == holder.pid
    with used(tmp_path / "a"):
        assert json.loads((tmp_path / "a" / LOCK).read_text())["pid"] == os.getpid()
        assert os.listdir(tmp_path / "a") == [LOCK]


def test_a_folder_in_which_nothing_was_written_goes_with_those_above_it(tmp_path):
    with used(tmp_path / "runs" / "a"):
        assert (tmp_path / "runs" / "a").is_dir()
    assert not os.listdir(tmp_path)


def test_a_folder_that_was_there_stays(tmp_path):
    with used(tmp_path):
        pass
    assert is_empty(tmp_path)


def test_what_was_written_stays_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), used(tmp_path / "a") as folder:
        (folder / "log").write_text("x")
        _ = 1 / 0
    assert sorted(os.listdir(tmp_path / "a")) == [LOCK, "log"]
    with used(tmp_path / "a"):
        pass


def test_two_threads_of_one_process_do_not_share_a_folder(tmp_path):
    with used(tmp_path / "a"), pytest.raises(InputError, match=f"process {os.getpid()} "), used(tmp_path / "a"):
        pass


def test_programs_that_start_together_draw_different_folders(tmp_path):
    drawers = [start(DRAWER, tmp_path) for _ in range(6)]
    assert sorted(d.communicate()[0].strip() for d in drawers) == [f"run-{n}" for n in range(1, 7)]


def test_a_folder_is_drawn_that_is_accepted(tmp_path):
    (tmp_path / "1").write_text("a file")
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "result").write_text("x")
    (tmp_path / "3").mkdir()
    with drawn((tmp_path / name for name in "1234"), is_empty) as folder:
        assert folder.name == "3"
    with pytest.raises(InputError, match="name one with -o"), drawn([tmp_path / "2"], is_empty):
        pass


def test_the_marker_of_a_file_system_without_locks_is_understood(tmp_path, monkeypatch):
    (tmp_path / LOCK).write_text("4711\nnode7\n")
    monkeypatch.setattr("equiforce.storage.folders.FileLock.acquire", _held)
    with (
        pytest.raises(InputError, match=r"process 4711 on node7 \(.* delete it if that process has ended\)"),
        used(tmp_path),
    ):
        pass


def _held(lock):
    from filelock import Timeout

    raise Timeout(str(Path(lock.lock_file)))


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_the_existence_of_the_file_is_the_lock(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with used(tmp_path / "a"):
        with pytest.raises(InputError, match=f"in use by process {os.getpid()} on"), used(tmp_path / "a"):
            pass
        (tmp_path / "a" / "x").touch()
    assert os.listdir(tmp_path / "a") == ["x"]
    with used(tmp_path / "a"):
        pass
