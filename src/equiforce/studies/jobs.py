"""Runs workers in their own processes, on this machine or as SLURM jobs; no other module uses submitit, an extra."""

import itertools
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from equiforce.errors import InputError, MissingPackageError
from equiforce.machine import n_cores
from equiforce.studies.runs import Interrupted

if TYPE_CHECKING:
    import submitit

PAUSE = 1.0  # seconds between two checks of the jobs
MINUTES_OF_A_JOB = 60 * 24
MAX_RESTARTS = 1000  # of a SLURM job whose time was too short; submitit's default is three


@dataclass(frozen=True, kw_only=True)
class Place:
    """The place where a study runs: ``n_workers`` processes on this machine, or ``n_workers`` SLURM jobs."""

    n_workers: int = 1
    cluster: str = "local"  # or slurm
    parameters: Mapping[str, Any] | None = None  # of submitit, such as {"slurm_partition": "gpu", "timeout_min": 600}


@dataclass(frozen=True)
class Worker:
    """A task as a submitit job; submitit restarts it if the time of the job was too short."""

    task: Callable[[], None]
    n_threads: int | None
    gpu: str | None = None  # as in CUDA_VISIBLE_DEVICES

    def __call__(self) -> bool:
        """Run the task, and return False if a signal stopped it."""
        if self.gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu  # noqa: TID251 (submitit hides all GPUs from this process)
        if self.n_threads is not None:
            torch.set_num_threads(self.n_threads)
        try:
            self.task()
        except Interrupted:
            return False
        return True

    def checkpoint(self) -> "submitit.helpers.DelayedSubmission":
        return _submitit().helpers.DelayedSubmission(self)


def run_jobs(task: Callable[[], None], folder: Path, place: Place) -> None:
    """Run the same task in ``place.n_workers`` jobs, and wait until all have ended.

    Args:
        task: the function that every job calls; it must be picklable, and share the work with the other jobs by itself.
        folder: the folder of the study; logs go into its folder ``jobs``.
        place: number and kind of the jobs.

    Raises:
        Interrupted: a signal stopped a job; the same call continues the study.
        MissingPackageError: submitit is not installed.
        InputError: SLURM does not accept the jobs, or a job ended with an error.
    """
    local, messages = place.cluster == "local", folder / "jobs" / "submitit.err"
    new = next((f for f in (folder, folder / "jobs") if not f.exists()), None)
    executor = _executor(folder / "jobs", place)
    logging.getLogger("submitit").setLevel(logging.ERROR)  # without accounting, it and sacct complain at every check
    n_threads = max(1, n_cores() // place.n_workers) if local else None
    gpus = itertools.cycle((_visible_gpus() if local else []) or [None])
    try:
        with _quietly(messages) if local else nullcontext(), executor.batch():
            jobs = [executor.submit(Worker(task, n_threads, next(gpus))) for _ in range(place.n_workers)]
    except _submitit().core.utils.FailedJobError as error:
        if new is not None:
            shutil.rmtree(new)
        *_, last = str(error).strip().splitlines()
        raise InputError(f"SLURM does not accept the jobs ({last}): correct --slurm") from None
    try:
        while not _all_done(jobs, messages):
            time.sleep(PAUSE)
    except KeyboardInterrupt:
        if local:
            for job in jobs:
                job.cancel()
            for job in jobs:
                job.wait()
        raise
    _require_no_errors(jobs)
    if not all(job.result() for job in jobs):
        raise Interrupted


def _submitit() -> ModuleType:
    try:
        import submitit
    except ImportError:
        raise MissingPackageError(
            '--workers above 1 and --slurm need another package: pip install "equiforce[slurm]"'
        ) from None
    return submitit


def _require_no_errors(jobs: Sequence["submitit.Job"]) -> None:
    for job in jobs:
        if (error := job.exception()) is not None:
            raise InputError(f"a worker ended with an error, see {job.paths.stderr}: {_last_line_of_trace(error)}")


def _last_line_of_trace(error: BaseException) -> str:
    """Return the last line of the trace, which submitit puts between dashed lines, or the last line of the message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    dashed = [i for i, line in enumerate(lines) if not line.strip("-")]
    return lines[dashed[-1] - 1] if dashed else lines[-1]


def _executor(folder: Path, place: Place) -> "submitit.AutoExecutor":
    submitit = _submitit()
    try:
        executor = submitit.AutoExecutor(folder, cluster=place.cluster, slurm_max_num_timeout=MAX_RESTARTS)
    except RuntimeError as error:
        raise InputError(
            f"there is no SLURM on this machine ({error}): leave --slurm out, or use a machine with SLURM"
        ) from None
    try:
        executor.update_parameters(**{"timeout_min": MINUTES_OF_A_JOB} | dict(place.parameters or {}))
    except (TypeError, ValueError, NameError) as error:
        raise InputError(f"submitit refuses the parameters of the jobs: {error}") from None
    return executor


def _visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, with their names in CUDA_VISIBLE_DEVICES."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")  # noqa: TID251 (submitit would choose other GPUs)
    n_gpus = torch.cuda.device_count()
    return named.split(",")[:n_gpus] if named else [str(i) for i in range(n_gpus)]


def _all_done(jobs: Sequence["submitit.Job"], messages: Path) -> bool:
    with _quietly(messages):
        return all(job.done() for job in jobs)


@contextmanager
def _quietly(file: Path) -> Iterator[None]:
    """Write standard error, also of child processes, to a file, because after Ctrl-C every process prints a trace."""
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        with file.open("a", encoding="utf-8") as opened:
            os.dup2(opened.fileno(), 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
