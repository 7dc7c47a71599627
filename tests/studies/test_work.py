"""A study runs to its end: in one process and in several, after a kill, and with what others have done."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
from filelock import FileLock
from rich.console import Console

from equiforce.studies import work
from equiforce.studies.jobs import Place, run_jobs
from equiforce.studies.runs import DONE, Interrupted, progress
from equiforce.studies.table import ResultTable
from equiforce.studies.work import execute, results
from tests.small_study import N_RUNS, study, write_study

NOISY = ("seconds", "date", "threads")


def comparable(rows):
    kept = [{k: v for k, v in row.items() if k not in NOISY} for row in rows]
    return sorted(kept, key=lambda row: row["hash"])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def curve(place):
    return study(place)


@pytest.fixture(scope="module")
def told():
    return StringIO()


@pytest.fixture(scope="module")
def rows(curve, place, told):
    return execute(curve, place / "one", Place(), Console(file=told, width=200))


def test_every_run_is_done_once(rows, curve, told):
    assert len(rows) == N_RUNS == curve.count()
    assert {row["state"] for row in rows} == {DONE}
    assert len(curve.curve(rows)) == 8
    assert told.getvalue().count("meV/Å, ") == N_RUNS
    assert "model l=0, size 2, seed 0, learning_rate 0.01, budget 1: " in told.getvalue()


def test_nothing_is_done_twice(rows, curve, place, monkeypatch):
    monkeypatch.setattr(work, "perform", lambda *_: pytest.fail("it was done already"))
    screen = StringIO()
    again = execute(curve, place / "one", Place(), Console(file=screen, width=200))
    assert comparable(again) == comparable(rows)
    assert f"{N_RUNS} of {N_RUNS} runs were done already" in screen.getvalue()


@pytest.mark.slow
def test_two_processes_find_the_same(rows, curve, place):
    both = execute(curve, place / "two", Place(n_workers=2), Console(file=StringIO()))
    assert comparable(both) == comparable(rows)


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("sinfo") is None or subprocess.run(["sinfo"], capture_output=True, check=False).returncode != 0,
    reason="SLURM does not run on this machine",
)
def test_jobs_of_slurm_find_the_same(rows, curve, place):
    on_slurm = Place(n_workers=2, cluster="slurm", parameters={"timeout_min": 10})
    assert comparable(execute(curve, place / "slurm", on_slurm, Console(file=StringIO()))) == comparable(rows)


def test_the_progress_of_runs_elsewhere_is_shown(curve, tmp_path):
    watch = work.Watch(curve, ResultTable(tmp_path, curve.id_columns), Console(file=StringIO()))
    stopped, running = curve.runs([])[:2]

    def log(run, *steps):
        (tmp_path / "runs" / run.hash).mkdir(parents=True, exist_ok=True)
        text = "".join(f"1,{step},0.5\n" for step in steps)
        (tmp_path / "runs" / run.hash / "log.csv").write_text(f"epoch,step,loss\n{text}")

    log(stopped, 1, 2)
    os.utime(tmp_path / "runs" / stopped.hash, (0, 0))
    with watch:
        shown = watch.bar.tasks[0]
        log(running, 1)
        watch.look()
        assert shown.completed == 1 / 2 + 1 / 4
        assert shown.fields["now"] == f"{running}: 25%"
        assert shown.fields["rest"].startswith("about ")
        shutil.rmtree(tmp_path / "runs" / running.hash)  # as after a divergence
        watch.look()
        assert shown.completed == 1 / 2
        assert shown.fields["now"] == ""


def test_progress_in_epochs(place, tmp_path):
    run = study(place, steps=None, epochs=4).runs([])[0]
    assert progress(run, tmp_path) == 0.0
    (tmp_path / "log.csv").write_text("epoch,step,loss\n")
    assert progress(run, tmp_path) == 0.0
    (tmp_path / "log.csv").write_text("epoch,step,loss\n1,7,0.5\n3,21,0.5\n")
    assert progress(run, tmp_path) == 3 / 4


@pytest.mark.slow
def test_a_killed_study_goes_on_with_what_is_missing(rows, place):
    """SIGKILL to everything, twice, at moments that nothing was prepared for."""
    file, folder = write_study(place), place / "killed"
    command = [
        str(Path(sys.executable).with_name("equiforce")),
        "study",
        "learning-curve",
        str(file),
        "-o",
        str(folder),
    ]
    command += ["--data", str(place), "--workers", "2"]
    table = ResultTable(folder, study(place).id_columns)
    for wanted in (2, 6):
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        limit = time.monotonic() + 120
        while len(table.rows()) < wanted and time.monotonic() < limit and running.poll() is None:
            time.sleep(0.05)
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    n_before = len(table.rows())
    assert 6 <= n_before < N_RUNS
    finished = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert f"{n_before} of {N_RUNS} runs were done already" in finished.stdout
    assert comparable(table.rows()) == comparable(rows)


def test_rows_of_other_studies_are_kept_and_left_out(rows, curve, place):
    fewer = curve.only(["l=1"])
    table = ResultTable(place / "one", curve.id_columns)
    assert {row["model"] for row in results(fewer, table)} == {"l=1"}
    assert len(table.rows()) == N_RUNS


def test_a_worker_takes_no_run_that_another_holds(curve, tmp_path, monkeypatch):
    taken = []

    def perform(run, folder, say):
        taken.append(run.id_values["learning_rate"])
        raise Interrupted

    monkeypatch.setattr(work, "perform", perform)
    held = curve.runs([])[0]
    (tmp_path / "runs").mkdir()
    with FileLock(tmp_path / "runs" / f"{held.hash}.lock"), pytest.raises(Interrupted):
        work.work(curve, tmp_path)
    assert taken == [0.05]
    with pytest.raises(Interrupted):  # the lock is free again
        work.work(curve, tmp_path)
    assert taken == [0.05, 0.01]


@pytest.mark.slow
def test_a_worker_that_is_stopped_by_itself_ends_the_study_and_nothing_is_lost(place, tmp_path):
    curve = study(place, steps=[4000, 6000])

    def stop():
        while not (started := list(tmp_path.glob("runs/*/log.csv"))):
            time.sleep(0.1)
        (worker,) = re.findall(r"^(\d+)_0_log.out$", "\n".join(os.listdir(tmp_path / "jobs")), re.MULTILINE)
        os.kill(int(worker), signal.SIGTERM)
        stopped.extend(started)

    stopped = []
    stopping = threading.Thread(target=stop)
    stopping.start()
    ended = run_jobs(partial(work.work, curve, tmp_path), tmp_path, Place(n_workers=1))
    stopping.join()
    assert ended == (True, [])
    assert (stopped[0].parent / "last.pt").exists()
