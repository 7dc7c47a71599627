"""Runs a study: in this process, in several, or on a cluster; never a run twice, and on from where it was stopped."""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from equiforce.studies.jobs import Place, run_jobs
from equiforce.studies.runs import DIVERGED, DONE, Interrupted, Row, Run, perform, perform_further, progress
from equiforce.studies.table import ResultTable

PAUSE = 1.0  # seconds between looks at what others have done


@runtime_checkable
class Study(Protocol):
    """What can be run: runs that are known by now, and how many there will be in all."""

    labels: Sequence[str]

    def runs(self, rows: Sequence[Row]) -> list[Run]:
        """The runs that can be started, or are done, given the rows of the table so far; the first ones first."""

    def count(self) -> int:
        """All runs, those included that wait for others."""


def execute(study: Study, folder: Path, place: Place, console: Console) -> list[Row]:
    """Runs what is missing, and returns all rows; those of runs that the study does not have are kept and left out.

    Raises:
        Interrupted: Ctrl-C; the same command goes on.
        InputError: a run's data or options will not do, or there are to be several workers and no submitit.
    """
    table = ResultTable(folder, study.labels)
    try:
        with Watch(study, table, console):
            if place.n_workers == 1 and place.cluster == "local":
                work(study, folder)
            else:
                run_jobs(partial(work, study, folder), folder, place)
    except KeyboardInterrupt:
        raise Interrupted from None
    return results(study, table)


def results(study: Study, table: ResultTable) -> list[Row]:
    """The rows of the study's own runs."""
    rows = table.rows()
    own = {run.hash for run in study.runs(rows)}
    return [row for row in rows if row["hash"] in own]


def work(study: Study, folder: Path) -> None:
    """Takes one missing run after another until none is left that no other worker has taken."""
    table, runs = ResultTable(folder, study.labels), folder / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    while missing := _missing(study, table):
        for run in missing:
            # a lock that is held means that another worker is at this run
            with suppress(Timeout), FileLock(runs / f"{run.hash}.lock", timeout=0):
                if run.hash not in {row["hash"] for row in table.rows()}:
                    row = perform(run, runs / run.hash)
                    table.add(row, *perform_further(run, runs / run.hash, row))
                    break
        else:
            time.sleep(PAUSE)  # others are at the rest, and it may turn out that more follows from theirs


def _missing(study: Study, table: ResultTable) -> list[Run]:
    rows = table.rows()
    known = {row["hash"] for row in rows}
    return [run for run in study.runs(rows) if run.hash not in known]


class Watch:
    """The progress of a whole study: a line for each run that is done, a bar, and how long the rest will take.

    A thread looks at what is written, for that is all that there is to be seen of runs in other processes.
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
        self.began = time.time()  # by the clock of files
        self.read: int | None = None  # when the table was written that `done` and `missing` are of
        self.done, self.missing = list[Row](), list[Run]()

    def __enter__(self) -> "Watch":
        self._read()
        self.seen = {row["hash"] for row in self.done}
        self.progress_before = self._progress()
        if self.done:
            self.console.print(f"{len(self.done)} of {self.study.count()} runs were done before", highlight=False)
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
        """Shows what has been added to the table, and how far the runs are that are trained now."""
        with self.looking:
            self._read()
            for row in self.done:
                if row["hash"] not in self.seen:
                    self.seen.add(row["hash"])
                    self.console.print(self._told(row), highlight=False, soft_wrap=True)
            by_now, total, rest = self._progress(), self.study.count(), ""
            if total > by_now > self.progress_before:
                speed = (by_now - self.progress_before) / (time.time() - self.began)
                minutes = (total - by_now) / speed / 60
                rest = f"about {minutes:.0f} min left" if minutes < 90 else f"about {minutes / 60:.1f} h left"
            now = "; ".join(f"{run}: {self._part(run):.0%}" for run in self.missing if self._is_trained(run))
            self.bar.update(self.task, completed=by_now, total=total, rest=rest, now=now)

    def _read(self) -> None:
        """Finds the runs that are missing, and a row of each that is done, that of its first test set."""
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
            return (self.folder / run.hash).stat().st_mtime >= self.began  # each validation replaces files in it
        except FileNotFoundError:
            return False

    def _told(self, row: Row) -> str:
        what = ", ".join(f"{name} {row[name]}" for name in self.study.labels)
        if row["state"] == DIVERGED:
            return f"{what}: diverged"
        assert row["state"] == DONE
        forces, energy = row["test_forces_mae_meV_per_A"], row["test_energy_mae_meV_per_atom"]
        errors = [
            f"{value:.4g} {unit}" for value, unit in ((forces, "meV/Å"), (energy, "meV/atom")) if value is not None
        ]
        return f"{what}: {', '.join(errors)} in {row['seconds']:.0f} s"
