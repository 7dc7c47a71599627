"""Signals end a study with its runs saved, and no worker stays behind, even if the study itself is killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from equiforce.cli import main
from equiforce.signals import SIGNALS
from tests.small_study import TINIEST, VALUES, write_study

LONG = TINIEST | {"steps": 100_000, "common": VALUES["common"] | {"training.validate_every": 5}}
PROGRAM = "from equiforce.cli import main; main()"


def checkpoints(folder):
    return list(folder.glob("runs/*/last.pt"))


def wait_for(condition, seconds=300):
    limit = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < limit:
        time.sleep(0.05)
    return found


def workers(folder):
    """The processes whose command line names a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(str(folder).encode() in word for word in words) and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


@pytest.mark.parametrize(
    "number", [n if n == signal.SIGTERM else pytest.param(n, marks=pytest.mark.slow) for n in SIGNALS]
)
def test_a_signal_saves_the_run_and_says_how_to_go_on(number, tmp_path, monkeypatch, capsys):
    file = write_study(tmp_path, **LONG)

    def stop():
        wait_for(lambda: checkpoints(tmp_path / "out"))
        os.kill(os.getpid(), number)

    stopping = threading.Thread(target=stop)
    stopping.start()
    monkeypatch.setattr("sys.argv", ["equiforce", "study", "learning-curve", str(file), "-o", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        main()
    stopping.join()
    assert ended.value.code == 130
    assert "stopped; the same command continues the study" in capsys.readouterr().out
    assert len(checkpoints(tmp_path / "out")) == 1
    assert "unfinished: 0 of 2 runs" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_two_workers_save_their_runs_and_end(number, tmp_path):
    file, folder = write_study(tmp_path, **LONG), tmp_path / "out"
    arguments = ["study", "learning-curve", file, "-o", folder, "--workers", "2"]
    study = subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert wait_for(lambda: len(checkpoints(folder)) == 2)
        pids = {json.loads(lock.read_text())["pid"] for lock in folder.glob("runs/*.lock")}
        assert len(pids & set(workers(folder))) == 2
        began = time.time()
        study.send_signal(number)
        told = study.communicate(timeout=60)[0]
    finally:
        study.kill()  # its workers end then
        study.communicate()
    if number == signal.SIGTERM:
        assert study.returncode == 130
        assert "stopped; the same command continues the study" in told
        assert not workers(folder)
    assert wait_for(lambda: not workers(folder))
    assert all(path.stat().st_mtime > began for path in checkpoints(folder))
    assert all(not lock.read_text() for lock in folder.glob("runs/*.lock"))
