"""Runs a study: in this process, in several, or on a cluster; never a run twice, and on from where it was stopped."""

import itertools
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import submitit
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from equiforce.errors import InputError
from equiforce.machine import n_cores
from equiforce.quantities import by_rank
from equiforce.studies.runs import (
    DIVERGED,
    DONE,
    Interrupted,
    Row,
    Run,
    column_of_test,
    perform,
    perform_further,
    progress,
)
from equiforce.studies.table import ResultTable, locked

PAUSE = 1.0  # seconds between looks at what others have done
MINUTES_OF_A_JOB = 60 * 24
MOST_TIMES = 1000  # that a job of SLURM whose time was too short is started again; submitit would give up after three


@runtime_checkable
class Study(Protocol):
    """A set of runs, of which some may depend on the results of others."""

    @property
    def labels(self) -> Sequence[str]:
        """The names of the first columns of the table."""

    def runs(self, rows: Sequence[Row]) -> list[Run]:
        """The runs that are done or can be started, given the rows of the table so far, in the order to run them."""

    def count(self) -> int:
        """The number of all runs, including those that cannot be started yet."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a study is run: ``n_workers`` processes on this machine, or as many jobs of SLURM."""

    n_workers: int = 1
    cluster: str = "local"  # or slurm
    parameters: Mapping[str, Any] | None = None  # of submitit, such as {"slurm_partition": "gpu", "timeout_min": 600}


def execute(study: Study, folder: Path, place: Place, console: Console) -> list[Row]:
    """Run what is missing, and return the rows of all runs of the study; other rows stay in the table.

    Raises:
        Interrupted: Ctrl-C; the same command goes on.
        InputError: a run's data or options will not do.
    """
    table = ResultTable(folder, study.labels)
    try:
        with Watch(study, table, console):
            if place.n_workers == 1 and place.cluster == "local":
                work(study, folder)
            else:
                _by_jobs(study, folder, place)
    except KeyboardInterrupt:
        raise Interrupted from None
    return results(study, table)


def results(study: Study, table: ResultTable) -> list[Row]:
    """Return the rows of the table that belong to runs of the study."""
    rows = table.rows()
    own = {run.hash for run in study.runs(rows)}
    return [row for row in rows if row["hash"] in own]


def work(study: Study, folder: Path) -> None:
    """Perform missing runs one after another, skipping those that other workers perform, until none is missing."""
    table, runs = ResultTable(folder, study.labels), folder / "runs"
    while missing := _missing(study, table):
        for run in missing:
            with locked(runs / f"{run.hash}.lock", wait=False) as mine:
                if mine and run.hash not in {row["hash"] for row in table.rows()}:
                    row = perform(run, runs / run.hash)
                    table.add(row, *perform_further(run, runs / run.hash, row))
                    break
        else:
            time.sleep(PAUSE)  # other workers perform the rest; their results may allow further runs


def _missing(study: Study, table: ResultTable) -> list[Run]:
    rows = table.rows()
    known = {row["hash"] for row in rows}
    return [run for run in study.runs(rows) if run.hash not in known]


@dataclass(frozen=True)
class Worker:
    """:func:`work` as a job of submitit, which starts it again where its time was too short."""

    study: Study
    folder: Path
    n_threads: int | None
    gpu: str | None = None  # as in CUDA_VISIBLE_DEVICES

    def __call__(self) -> bool:
        """Says whether it came to its end, or was stopped."""
        if self.gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu  # noqa: TID251 (its own process, where submitit hides all)
        if self.n_threads is not None:
            torch.set_num_threads(self.n_threads)
        try:
            work(self.study, self.folder)
        except Interrupted:
            return False
        return True

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        return submitit.helpers.DelayedSubmission(self)


def _by_jobs(study: Study, folder: Path, place: Place) -> None:
    local, messages = place.cluster == "local", folder / "jobs" / "submitit.err"
    new = next((f for f in (folder, folder / "jobs") if not f.exists()), None)
    logging.getLogger("submitit").setLevel(logging.ERROR)  # without accounting, it and sacct complain at every look
    executor = _executor(folder / "jobs", place)
    n_threads = max(1, n_cores() // place.n_workers) if local else None
    gpus = itertools.cycle((_visible_gpus() if local else []) or [None])
    try:
        with _quietly(messages) if local else nullcontext(), executor.batch():
            jobs = [executor.submit(Worker(study, folder, n_threads, next(gpus))) for _ in range(place.n_workers)]
    except submitit.core.utils.FailedJobError as error:
        if new is not None:
            shutil.rmtree(new)
        *_, last = str(error).strip().splitlines()
        raise InputError(f"SLURM does not take the jobs ({last}): correct --slurm") from None
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


def _require_no_errors(jobs: Sequence[submitit.Job]) -> None:
    for job in jobs:
        if (error := job.exception()) is not None:
            raise InputError(f"a worker ended with an error, see {job.paths.stderr}: {_last_line_of_trace(error)}")


def _last_line_of_trace(error: BaseException) -> str:
    """Of the trace that submitit puts between dashed lines; the last line of all where there is none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    dashed = [i for i, line in enumerate(lines) if not line.strip("-")]
    return lines[dashed[-1] - 1] if dashed else lines[-1]


def _executor(folder: Path, place: Place) -> submitit.AutoExecutor:
    try:
        executor = submitit.AutoExecutor(folder, cluster=place.cluster, slurm_max_num_timeout=MOST_TIMES)
    except RuntimeError as error:
        raise InputError(
            f"there is no SLURM on this machine ({error}): leave --slurm out, or go to one with it"
        ) from None
    try:
        executor.update_parameters(**{"timeout_min": MINUTES_OF_A_JOB} | dict(place.parameters or {}))
    except (TypeError, ValueError, NameError) as error:
        raise InputError(f"submitit refuses the parameters of the jobs: {error}") from None
    return executor


def _visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")  # noqa: TID251 (submitit would give the workers others)
    n_gpus = torch.cuda.device_count()
    return named.split(",")[:n_gpus] if named else [str(i) for i in range(n_gpus)]


def _all_done(jobs: Sequence[submitit.Job], messages: Path) -> bool:
    with _quietly(messages):
        return all(job.done() for job in jobs)


@contextmanager
def _quietly(file: Path) -> Iterator[None]:
    """Errors go to a file meanwhile, those of processes that are started too, which Ctrl-C would show from each."""
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        with file.open("a") as opened:
            os.dup2(opened.fileno(), 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


class Watch:
    """Shows the progress of a study: a line for each finished run, a progress bar, and the remaining time.

    A thread reads the files of all runs, because runs in other processes can only be followed by their files.
    """

    def __init__(self, study: Study, table: ResultTable, console: Console):
        self.study, self.table, self.console = study, table, console
        self.folder = table.path.parent / "runs"
        self.seen: set[str] = set()
        self.looking, self.ended = threading.Lock(), threading.Event()
        self.thread = threading.Thread(target=self._keep_looking, daemon=True)
        columns = (TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        texts = (TextColumn("{task.fields[rest]}"), TextColumn("{task.fields[now]}", style="dim"))
        self.bar = Progress(*columns, *texts, console=console, transient=True)
        self.began = time.time()  # comparable with the modification times of files
        self.read: int | None = None  # time at which the table was written from which `done` and `missing` come
        self.done, self.missing = list[Row](), list[Run]()

    def __enter__(self) -> "Watch":
        self._read()
        self.seen = {row["hash"] for row in self.done}
        self.progress_before = self._progress()
        if self.done:
            self.console.print(f"{len(self.done)} of {self.study.count()} runs were done already", highlight=False)
        self.task = self.bar.add_task("", total=self.study.count(), completed=len(self.done), rest="", now="")
        self.bar.start()
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()
        self.look()
        self.bar.stop()

    def _keep_looking(self) -> None:
        while not self.ended.wait(PAUSE):
            self.look()

    def look(self) -> None:
        """Print new rows of the table, and update the bar with the progress of the present runs."""
        with self.looking:
            self._read()
            for row in self.done:
                if row["hash"] not in self.seen:
                    self.seen.add(row["hash"])
                    self.console.print(self._line(row), highlight=False, soft_wrap=True)
            by_now, total, rest = self._progress(), self.study.count(), ""
            if total > by_now > self.progress_before:
                speed = (by_now - self.progress_before) / (time.time() - self.began)
                minutes = (total - by_now) / speed / 60
                rest = f"about {minutes:.0f} min left" if minutes < 90 else f"about {minutes / 60:.1f} h left"
            now = "; ".join(f"{run}: {self._part(run):.0%}" for run in self.missing if self._is_trained(run))
            self.bar.update(self.task, completed=by_now, total=total, rest=rest, now=now)

    def _read(self) -> None:
        """Read the table: the missing runs, and for each finished run the row of its first test set."""
        if (written := self.table.written()) is not None and written == self.read:
            return
        first: dict[str, Row] = {}
        for row in results(self.study, self.table):
            first.setdefault(row["hash"], row)
        self.read, self.done, self.missing = written, list(first.values()), _missing(self.study, self.table)

    def _progress(self) -> float:
        return sum((self._part(run) for run in self.missing), float(len(self.done)))

    def _part(self, run: Run) -> float:
        return progress(run, self.folder / run.hash)

    def _is_trained(self, run: Run) -> bool:
        try:
            return (
                self.folder / run.hash
            ).stat().st_mtime >= self.began  # each validation replaces files in the folder
        except FileNotFoundError:
            return False

    def _line(self, row: Row) -> str:
        run = ", ".join(f"{name} {row[name]}" for name in self.study.labels)
        if row["state"] == DIVERGED:
            return f"{run}: diverged"
        assert row["state"] == DONE
        headlines = [quantity for quantity in by_rank() if quantity.headline]
        found = [(row[column_of_test(quantity, "mae")], quantity.logged.unit) for quantity in headlines]
        errors = [f"{value:.4g} {unit}" for value, unit in found if value is not None]
        return f"{run}: {', '.join(errors)} in {row['seconds']:.0f} s"
