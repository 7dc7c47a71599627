"""Runs workers in their own processes, on this machine or as SLURM jobs; no other module uses submitit, an extra."""

import itertools
import logging
import math
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from equiforce.errors import InputError, MissingPackageError
from equiforce.machine import n_cores
from equiforce.signals import SIGNALS, interruptions
from equiforce.storage.faults import free_space, in_words, told
from equiforce.studies.runs import Interrupted

if TYPE_CHECKING:
    import submitit

PAUSE = 1.0  # seconds between two checks of the jobs
MINUTES_OF_A_JOB = 60 * 24
TOLD_AGAIN = 10.0  # seconds after which jobs that go on are told again to stop
BEGUN = "begins: "
MAX_RESTARTS = 1000  # of a SLURM job whose time was too short; submitit's default is three


@dataclass(frozen=True, kw_only=True)
class Place:
    """The place where a study runs: ``n_workers`` processes on this machine, or ``n_workers`` SLURM jobs."""

    n_workers: int = 1
    cluster: str = "local"  # or slurm
    parameters: Mapping[str, Any] | None = None  # of submitit, such as {"slurm_partition": "gpu", "timeout_min": 600}


class Ended(NamedTuple):
    """How the jobs ended that did not end with an error."""

    interrupted: bool  # a signal stopped one of them
    killed: list[str]  # a sentence for each that was killed


@dataclass(frozen=True)
class Worker:
    """A task as a submitit job; submitit restarts it if the time of the job was too short."""

    task: Callable[[], None]
    n_threads: int | None
    gpu: str | None = None  # as in CUDA_VISIBLE_DEVICES
    parent: int | None = None  # the process without which the worker ends

    def __call__(self) -> bool:
        """Run the task, and return False if a signal stopped it."""
        if self.gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu  # noqa: TID251 (submitit hides all GPUs from this process)
        if self.n_threads is not None:
            torch.set_num_threads(self.n_threads)
        try:
            with interruptions():
                if self.parent is not None:
                    threading.Thread(target=_end_with, args=(self.parent,), daemon=True).start()
                self.task()
        except (Interrupted, KeyboardInterrupt):
            return False
        return True

    def checkpoint(self) -> "submitit.helpers.DelayedSubmission":
        return _submitit().helpers.DelayedSubmission(self)


def _end_with(process: int) -> None:
    """Stop this process with a signal when another one has ended."""
    while _lives(process):
        time.sleep(PAUSE)
    signal.raise_signal(signal.SIGTERM)


def _lives(process: int) -> bool:
    """Whether a process runs; one that has ended, and whose end nobody has taken note of, does not."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except (OSError, LookupError):  # there is no /proc
        return True


def note_task(what: object) -> None:
    """Write into the log of this job what it begins."""
    print(f"{BEGUN}{what}", flush=True)


def run_jobs(task: Callable[[], None], folder: Path, place: Place) -> Ended:
    """Run the same task in ``place.n_workers`` jobs, and wait until all have ended.

    Args:
        task: the function that every job calls; it must be picklable, and share the work with the other jobs by itself.
        folder: the folder of the study; logs go into its folder ``jobs``.
        place: number and kind of the jobs.

    Returns:
        Whether a signal stopped a job, and which ones were killed; the same call continues the study.

    Raises:
        MissingPackageError: submitit is not installed.
        InputError: SLURM does not accept the jobs, a job ended with an error, or a file cannot be written.
    """
    local, messages = place.cluster == "local", folder / "jobs" / "submitit.err"
    new = next((f for f in (folder, folder / "jobs") if not f.exists()), None)
    with told(folder / "jobs"):
        executor = _executor(folder / "jobs", place)
    logging.getLogger("submitit").setLevel(logging.ERROR)  # without accounting, it and sacct complain at every check
    n_threads = max(1, n_cores() // place.n_workers) if local else None
    gpus = itertools.cycle((_visible_gpus() if local else []) or [None])
    parent = os.getpid() if local else None
    try:
        with told(folder / "jobs"), _locally(messages) if local else nullcontext(), executor.batch():
            workers = [Worker(task, n_threads, next(gpus), parent) for _ in range(place.n_workers)]
            jobs = [executor.submit(worker) for worker in workers]
    except _submitit().core.utils.FailedJobError as error:
        if new is not None:
            shutil.rmtree(new)
        *_, last = str(error).strip().splitlines()
        raise InputError(f"SLURM does not accept the jobs ({last}): correct --slurm") from None
    try:
        _wait(jobs, messages)
    except BaseException:
        if local:
            _stop(jobs, messages)
        raise
    return _ends(jobs, local=local)


def _wait(jobs: Sequence["submitit.Job"], messages: Path, seconds: float = math.inf) -> bool:
    """Wait until all jobs have ended, or for some time; return whether they have."""
    limit = time.monotonic() + seconds
    while not _all_done(jobs, messages):
        if time.monotonic() > limit:
            return False
        time.sleep(PAUSE)
    return True


def _stop(jobs: Sequence["submitit.Job"], messages: Path) -> None:
    """Let local jobs save their runs and end; a worker that had not begun yet when it was told is told again."""
    while True:
        for job in jobs:
            if not job.done():
                with suppress(ProcessLookupError):
                    os.kill(int(job.job_id), signal.SIGTERM)  # which it passes on to its worker
        if _wait(jobs, messages, TOLD_AGAIN):
            return


def _submitit() -> ModuleType:
    try:
        import submitit
    except ImportError:
        raise MissingPackageError(
            '--workers above 1 and --slurm need another package: pip install "equiforce[slurm]"'
        ) from None
    return submitit


def _ends(jobs: Sequence["submitit.Job"], *, local: bool) -> Ended:
    """How the jobs ended.

    Raises:
        InputError: one ended with an error.
    """
    interrupted, killed = False, []
    for job in jobs:
        log, lost = job.paths.stderr, local and not job.paths.result_pickle.exists()  # where files need no time
        error = None if lost else job.exception()
        if error is None and not lost:
            interrupted |= not job.result()
        elif not isinstance(error, _submitit().core.utils.FailedJobError):
            free = in_words(free_space(log))
            doing = _last_begun(job.paths.stdout)
            killed.append(
                f"a worker ended without a word{doing and f' while it performed {doing}'}, as after kill -9 or if the "
                f"memory is used up ({free} are free on the disk), see {log}"
            )
        else:
            said = _last_line_of_trace(error).removeprefix(f"{InputError.__module__}.{InputError.__name__}: ")
            raise InputError(f"a worker ended with an error, see {log}: {said}")
    return Ended(interrupted, killed)


def _last_begun(log: Path) -> str:
    """What a job began last, from its log; empty if it is not known."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.removeprefix(BEGUN) for line in reversed(lines) if line.startswith(BEGUN)), "")


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
def _locally(file: Path) -> Iterator[None]:
    """Start processes that take from here what to do, and do not hear the signals of the terminal themselves.

    submitit would end its workers a second after Ctrl-C, before they have saved their runs. SIGTERM it passes on.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number for number in SIGNALS if number != signal.SIGTERM})
    try:
        with _quietly(file):
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _quietly(file: Path) -> Iterator[None]:
    """Write standard error, also of child processes, to a file, because after a signal every process prints a trace."""
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        with told(file), file.open("a", encoding="utf-8") as opened:
            os.dup2(opened.fileno(), 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
