"""Runs a study in this process, in several processes, or on a cluster, and continues a study that was stopped."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

from equiforce.errors import InputError
from equiforce.quantities import by_rank
from equiforce.storage.faults import told
from equiforce.storage.folders import held, holder
from equiforce.studies.jobs import Ended, Place, note_task, run_jobs
from equiforce.studies.runs import (
    CHECKPOINTS,
    DIVERGED,
    DONE,
    Interrupted,
    Row,
    Run,
    column_of_test,
    perform,
    perform_further,
    progress,
    tidy,
)
from equiforce.studies.table import ResultTable
from equiforce.terminal import BarColumn, Console, MofNCompleteColumn, TextColumn, TimeElapsedColumn, bar, say

PAUSE = 1.0  # seconds between two checks of what other workers have done


@runtime_checkable
class Study(Protocol):
    """A set of runs; some may depend on the results of others."""

    @property
    def id_columns(self) -> Sequence[str]:
        """The names of the first columns of the table."""

    def runs(self, rows: Sequence[Row]) -> list[Run]:
        """The runs that are done or can be started, given the rows of the table so far, in the order to run them."""

    def count(self) -> int:
        """The number of all runs, including those that cannot be started yet."""


def execute(study: Study, folder: Path, place: Place, console: Console) -> list[Row]:
    """Run the missing runs of a study, and return the rows of all its runs; other rows stay in the table.

    Args:
        study: the study.
        folder: the folder of the results.
        place: number and kind of the processes that compute the runs.
        console: shows the progress.

    Raises:
        Interrupted: a signal stopped the study; the same command continues it.
        InputError: the data or the options of a run are wrong, a file cannot be written, or a worker was killed.
        MissingPackageError: several workers are asked for without submitit.
    """
    table, tell = ResultTable(folder, study.id_columns), partial(say, console)
    try:
        with Watch(study, table, console):
            if place.n_workers == 1 and place.cluster == "local":
                work(study, folder, tell)
            else:
                ended = run_jobs(partial(work, study, folder, begins=note_task), folder, place)
                _judge(ended, finished=not _missing(study, table), say=tell)
    except KeyboardInterrupt:
        raise Interrupted from None
    return results(study, table)


def _judge(ended: Ended, *, finished: bool, say: Callable[[str], object]) -> None:
    """Say which workers were killed; that is an error if runs are missing, because nobody performs them."""
    if ended.killed and not finished:
        raise InputError(f"{'; '.join(ended.killed)}; the same command continues the study")
    for sentence in ended.killed:
        say(f"{sentence}; the others have performed its runs")
    if ended.interrupted and not finished:
        raise Interrupted


def results(study: Study, table: ResultTable) -> list[Row]:
    """Return the rows of the table that belong to runs of the study."""
    return table.rows_of(study.runs(table.rows()))


def work(
    study: Study,
    folder: Path,
    say: Callable[[str], object] = print,
    begins: Callable[[object], object] = lambda _: None,
) -> None:
    """Perform missing runs one after another, skipping those that other workers perform, until none is missing.

    Args:
        study: the study.
        folder: the folder of the results.
        say: is told what a user should know about a run.
        begins: is told each run that this process performs.

    Raises:
        Interrupted: a signal stopped a run.
        InputError: the data or the options of a run are wrong, or a file cannot be written.
    """
    table, runs = ResultTable(folder, study.id_columns), folder / "runs"
    with told(runs):
        runs.mkdir(parents=True, exist_ok=True)
    waiting = False
    _tidy_done(study, table, folder)
    while missing := _missing(study, table):
        for run in missing:
            # a lock that is taken means that another worker performs this run
            with held(runs / f"{run.hash}.lock") as free:
                if free and run.hash in {other.hash for other in _missing(study, table)}:
                    begins(run)
                    _perform(run, runs / run.hash, table, say)
                    break
        else:
            if not waiting:
                others = "; ".join(f"{run} ({holder(runs / f'{run.hash}.lock')})" for run in missing)
                say(f"other processes perform the rest: {others}")
            waiting = True
            time.sleep(PAUSE)  # the results of others may allow further runs


def _perform(run: Run, place: Path, table: ResultTable, say: Callable[[str], object]) -> None:
    """Perform a run whose lock this process holds; its row is in the table before anything of it is deleted."""
    try:
        row = perform(run, place, say)
        table.add(row, *perform_further(run, place, row))
    except InputError as error:
        raise InputError(f"{run}: {error}") from error
    tidy(place, row)


def _tidy_done(study: Study, table: ResultTable, folder: Path) -> None:
    """Delete what nobody needs of runs whose worker was killed after it had written their row."""
    for row in results(study, table):
        place = folder / "runs" / row["hash"]
        if any((place / name).exists() for name in CHECKPOINTS):
            with held(place.with_suffix(".lock")) as free:
                if free:
                    tidy(place, row)


def _missing(study: Study, table: ResultTable) -> list[Run]:
    runs = study.runs(table.rows())
    known = {row["hash"] for row in table.rows_of(runs)}
    return [run for run in runs if run.hash not in known]


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
        self.bar = bar(console, *columns, *texts, transient=True)
        self.began = time.time()  # comparable with the modification times of files
        self.read: int | None = None  # modification time (ns) of the table from which `done` and `missing` were read
        self.done, self.missing = list[Row](), list[Run]()

    def __enter__(self) -> "Watch":
        self._read()
        self.seen = {row["hash"] for row in self.done}
        self.progress_before = self._progress()
        if self.done:
            say(self.console, f"{len(self.done)} of {self.study.count()} runs were done already")
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
            with suppress(InputError):  # of a table that was cut or edited meanwhile, about which the worker says it
                self._read()
            for row in self.done:
                if row["hash"] not in self.seen:
                    self.seen.add(row["hash"])
                    say(self.console, self._line(row))
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
            # each validation replaces files in the folder
            return (self.folder / run.hash).stat().st_mtime >= self.began
        except FileNotFoundError:
            return False

    def _line(self, row: Row) -> str:
        run = ", ".join(f"{name} {row[name]}" for name in self.study.id_columns)
        if row["state"] == DIVERGED:
            return f"{run}: diverged"
        assert row["state"] == DONE
        headlines = [quantity for quantity in by_rank() if quantity.headline]
        found = [(row[column_of_test(quantity, "mae")], quantity.logged.unit) for quantity in headlines]
        errors = [f"{value:.4g} {unit}" for value, unit in found if value is not None]
        return f"{run}: {', '.join(errors)} in {row['seconds']:.0f} s"
