"""Workers in processes of their own: what they are given, and what is said when they fail; test_work.py trains."""

import os
import re
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch

from equiforce.errors import InputError, MissingPackageError
from equiforce.studies import jobs
from equiforce.studies.jobs import Place, note_task, run_jobs
from equiforce.studies.runs import Interrupted
from tests.storage.test_faults import small_disk


def nothing():
    return None


@pytest.mark.slow
@pytest.mark.parametrize(("named", "shared_out"), [(None, ["0", "1", "0"]), ("5,2", ["5", "2", "5"])])
def test_workers_share_out_the_gpus(named, shared_out, tmp_path, monkeypatch):
    def name_the_gpu(file):
        with file.open("a") as opened:
            opened.write(os.environ["CUDA_VISIBLE_DEVICES"] + "\n")

    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    run_jobs(partial(name_the_gpu, tmp_path / "seen"), tmp_path, Place(n_workers=3))
    assert sorted((tmp_path / "seen").read_text().split()) == sorted(shared_out)


def test_an_error_of_a_worker_is_told(tmp_path):
    def fail():
        raise RuntimeError("full")

    with pytest.raises(InputError, match=r"^a worker ended with an error, see .*log\.err: RuntimeError: full$"):
        run_jobs(fail, tmp_path, Place(n_workers=1))


@pytest.mark.slow
def test_a_worker_that_is_stopped_ends_the_study(tmp_path):
    def stop():
        raise Interrupted

    assert run_jobs(stop, tmp_path, Place(n_workers=1)) == (True, [])


def test_without_submitit_there_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    sentence = re.escape('--workers above 1 and --slurm need another package: pip install "equiforce[slurm]"')
    with pytest.raises(MissingPackageError, match=f"^{sentence}$"):
        run_jobs(nothing, tmp_path / "study", Place(n_workers=2))
    assert not list(tmp_path.iterdir())


def test_parameters_that_submitit_does_not_know_are_refused(tmp_path):
    with pytest.raises(InputError, match="submitit refuses the parameters of the jobs"):
        run_jobs(nothing, tmp_path, Place(n_workers=2, parameters={"nodes_of_gold": 1}))


@pytest.fixture
def refusing_slurm(tmp_path, monkeypatch):
    """A cluster that takes no jobs, and says so in the words of sbatch 22.05."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("srun", "sbatch"):
        (folder / name).write_text("#!/bin/sh\necho 'sbatch: error: Invalid partition name specified' >&2\nexit 1\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


@pytest.mark.usefixtures("refusing_slurm")
@pytest.mark.parametrize("is_new", [True, False])
def test_slurm_that_takes_no_jobs_is_told(tmp_path, is_new):
    folder = tmp_path / "study"
    if not is_new:
        folder.mkdir()
    with pytest.raises(
        InputError, match=r"SLURM does not accept the jobs .*Invalid partition name specified.*: correct"
    ):
        run_jobs(nothing, folder, Place(n_workers=2, cluster="slurm"))
    assert folder.exists() is not is_new
    assert not (folder / "jobs").exists()


@pytest.mark.usefixtures("refusing_slurm")
def test_jobs_of_slurm_are_started_again_often(tmp_path):
    executor = jobs._executor(tmp_path / "jobs", Place(cluster="slurm"))._executor
    assert executor.max_num_timeout == jobs.MAX_RESTARTS


def test_slurm_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="there is no SLURM on this machine"):
        run_jobs(nothing, tmp_path, Place(n_workers=2, cluster="slurm"))


@pytest.mark.slow
def test_a_worker_that_was_killed_is_told_with_what_it_did(tmp_path):
    def be_killed():
        note_task("model l=1, size 2")
        os.kill(os.getpid(), signal.SIGKILL)

    ended = run_jobs(be_killed, tmp_path, Place(n_workers=1))
    assert not ended.interrupted
    (sentence,) = ended.killed
    assert sentence.startswith("a worker ended without a word while it performed model l=1, size 2, as after kill -9")
    assert re.search(r"\d GB are free on the disk\), see .*_0_log\.err$", sentence)


def test_a_process_that_nobody_has_taken_note_of_has_ended():
    process = subprocess.Popen(["true"])
    limit = time.monotonic() + 10
    while jobs._lives(process.pid) and time.monotonic() < limit:
        time.sleep(0.01)
    assert not jobs._lives(process.pid)  # though it is not waited for
    process.wait()
    assert not jobs._lives(process.pid)
    assert jobs._lives(os.getpid())


def test_a_disk_that_is_full_at_the_start_of_the_jobs_is_told(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        (disk / "filler").write_bytes(bytes(64 * 1024))
        with pytest.raises(InputError, match=r"jobs.* cannot be written because the disk is full; .* are free: make"):
            run_jobs(nothing, disk / "study", Place(n_workers=2))
