"""Compares our errors with published ones, in tables for the terminal and on a page."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from equiforce.errors import InputError
from equiforce.option_values import read_options
from equiforce.options import option
from equiforce.quantities import FORCES, QUANTITIES, join_words
from equiforce.studies.markdown import plain
from equiforce.studies.runs import DIVERGED, DONE, Row, validation_column
from equiforce.studies.task import PrintedError, Task
from equiforce.terminal import Table
from equiforce.yaml_files import load_yaml

REFERENCE = "NequIP"  # the published method with which our models are compared
VALIDATED = validation_column(FORCES)  # the loss would not do, because its weights may differ between models


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published number."""

    task: str = option(reason="name of the task in the benchmark's file")
    test: str = option(reason="name of the test set in that task")
    quantity: str = option(reason=join_words(quantity.name for quantity in QUANTITIES))
    metric: str = option(reason="MAE or RMSE")
    unit: str = option(reason="unit of value and spread")
    method: str = option(reason="name of the model; ours are compared with NequIP")
    value: float = option(reason="the number as printed", gt=0)
    spread: float | None = option(None, "spread over seeds as printed", ge=0)
    source: str = option(reason="name of the paper in sources")
    note: str = option("", "how it differs from the other numbers of its task")


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """The published numbers of a file, and their sources."""

    sources: dict[str, str] = option(reason="name: the paper, and the copy that was read", factory=dict)
    numbers: list[dict[str, Any]] = option(reason="one entry for each number", factory=list)


class PublishedNumbers(NamedTuple):
    """Published numbers that fit the tasks of a benchmark."""

    sources: Mapping[str, str]
    numbers: tuple[Published, ...]

    def of(self, task: str, test: str, quantity: str, method: str = REFERENCE) -> Published | None:
        """Return the number of a method, or None."""
        key = (task, test, quantity, method)
        return next((n for n in self.numbers if (n.task, n.test, n.quantity, n.method) == key), None)


def load_published(file: Path, tasks: Mapping[str, Task]) -> PublishedNumbers:
    """Load published numbers from a YAML file.

    Args:
        file: a YAML file with the fields of :class:`PublishedFile`.
        tasks: the tasks of the benchmark by name.

    Raises:
        InputError: a number names no known task, test set or source, has another metric or unit than its task prints,
            or occurs twice.
    """
    values = read_options(PublishedFile, load_yaml(file), "published", str(file))
    numbers: dict[tuple[str, ...], Published] = {}
    for count, entry in enumerate(values.numbers, 1):
        origin = f"{file}, number {count}"
        number = read_options(Published, entry, "published", origin)
        _check(number, tasks, values.sources, origin)
        if numbers.setdefault(key := (number.task, number.test, number.quantity, number.method), number) is not number:
            raise InputError(f"{origin}: there is another number for {', '.join(key)}: remove one of them")
    return PublishedNumbers(values.sources, tuple(numbers.values()))


def _check(number: Published, tasks: Mapping[str, Task], sources: Mapping[str, str], origin: str) -> None:
    tests = tasks[number.task].tests if number.task in tasks else {}
    printed_errors = tasks[number.task].printed_errors if number.task in tasks else {}
    for name, given, known in (
        ("task", number.task, tasks),
        ("test", number.test, tests),
        ("quantity", number.quantity, printed_errors),
        ("source", number.source, sources),
    ):
        if given not in known:
            raise InputError(f"{origin}: there is no {name} {given!r}: choose from {', '.join(known)}")
    error = printed_errors[number.quantity]
    if (number.metric, number.unit) != (error.metric, error.unit):
        raise InputError(
            f"{origin}: the task {number.task} prints the {number.quantity} as {error}, not as {number.metric}, "
            f"{number.unit}: correct the task or the number"
        )


class Value(NamedTuple):
    """An error of one of our models, averaged over seeds."""

    mean: float
    spread: float | None  # standard deviation; None for one seed
    n_seeds: int

    def __str__(self) -> str:
        digits = max(0, 2 - math.floor(math.log10(self.mean))) if self.mean > 0 else 0
        return f"{self.mean:.{digits}f}" + ("" if self.spread is None else f" ± {self.spread:.{digits}f}")


class Bold(str):
    """A text that tables show in bold."""

    __slots__ = ()


class Sheet(NamedTuple):
    """A table of texts."""

    title: str
    headings: Sequence[str]
    lines: Sequence[Sequence[str]]

    def rich(self) -> Table:
        """The table for the terminal, without its empty columns; in a narrow one cells are broken, never cut."""
        table = Table(self.title)
        shown = [number for number in range(len(self.headings)) if any(line[number] for line in self.lines)]
        for number in shown:
            table.add_column(self.headings[number], justify="right" if number else "left")
        for line in self.lines:
            cells = [line[number] for number in shown]
            table.add_row(*cells, styles=["bold" if isinstance(cell, Bold) else "" for cell in cells])
        return table

    def markdown(self) -> str:
        """The table for a page."""
        cells = [
            [f"**{plain(cell)}**" if isinstance(cell, Bold) else plain(cell) for cell in line] for line in self.lines
        ]
        lines = [map(plain, self.headings), ["---"] * len(self.headings), *cells]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


class Gap(NamedTuple):
    """One of our errors and the published one."""

    task: str
    test: str
    quantity: str
    model: str
    ours: Value
    published: Published

    @property
    def ratio(self) -> float:
        return self.ours.mean / self.published.value


class Comparison:
    """Compares the errors of some rows with published errors.

    Args:
        tasks: the tasks by name.
        published: published numbers of these tasks.
        rows: rows of the table of results, one for each task, model, seed and test set; a run that diverged has one
            row.
    """

    def __init__(self, tasks: Mapping[str, Task], published: PublishedNumbers, rows: Sequence[Row]):
        self.tasks, self.published = tasks, published
        self.rows = [row for row in rows if row["state"] == DONE]
        self.diverged = [row for row in rows if row["state"] == DIVERGED]

    def models(self, task: str | None = None) -> list[str]:
        """Return the models that have been run, for one task or for all, in the order of the rows."""
        return list(dict.fromkeys(str(row["model"]) for row in self.rows if task in (None, row["task"])))

    def ours(self, task: str, model: str, test: str, quantity: str) -> Value | None:
        """Return the error of a model in the printed unit, or None if it was not measured."""
        error = self.tasks[task].printed_errors[quantity]
        found = [row[error.column] for row in self._rows(task, model, test) if row[error.column] not in (None, "")]
        values = [error.factor * value for value in found]
        if not values:
            return None
        return Value(fmean(values), stdev(values) if len(values) > 1 else None, len(values))

    def _rows(self, task: str, model: str, test: str | None = None) -> list[Row]:
        own = [row for row in self.rows if (row["task"], str(row["model"])) == (task, model)]
        return own if test is None else [row for row in own if str(row["test"]) == test]

    def columns(self, task: str) -> list[tuple[str, str, PrintedError]]:
        """Return test set, quantity and printed form of each error of a task that we or others have measured."""
        printed_errors = self.tasks[task].printed_errors
        return [
            (test, quantity, error)
            for test in self.tasks[task].tests
            for quantity, error in printed_errors.items()
            if any(self.ours(task, model, test, quantity) for model in self.models(task))
            or any((n.task, n.test, n.quantity) == (task, test, quantity) for n in self.published.numbers)
        ]

    def cell(self, task: str, model: str, test: str, quantity: str) -> str:
        """Write our error and in brackets its ratio to the published one, in bold if it is not larger."""
        ours, reference = self.ours(task, model, test, quantity), self.published.of(task, test, quantity)
        if ours is None:
            return "–"
        if reference is None:
            return str(ours)
        text = f"{ours} ({ours.mean / reference.value:.2f})"
        return Bold(text) if ours.mean <= reference.value else text

    def overview(self) -> Sheet:
        """Return a table with one line for each error for which NequIP has a published number."""
        models = self.models()
        lines = []
        for task, described in self.tasks.items():
            for test, quantity, error in self.columns(task) if self.models(task) else ():
                if (reference := self.published.of(task, test, quantity)) is not None:
                    name = f"{described.title or task}, {test}: {quantity}, {error}"
                    known = f"{_printed(reference)}{f' ({reference.note})' if reference.note else ''}"
                    lines.append([name, known, *(self.cell(task, m, test, quantity) for m in models)])
        return Sheet(f"in brackets: ratio to {REFERENCE}", ["error", f"{REFERENCE}, published", *models], lines)

    def sheet(self, task: str) -> Sheet:
        """Return a table of a task, with our errors above the published ones."""
        described, columns, lines = self.tasks[task], self.columns(task), []
        for model in self.models(task):
            rows = self._rows(task, model)
            seconds, seeds = fmean(row["seconds"] for row in rows), {row["seed"] for row in rows}
            budget = [f"{rows[0]['steps']:,}", _duration(seconds), str(rows[0]["threads"]), f"{rows[0]['n_weights']:,}"]
            errors = [self.cell(task, model, test, quantity) for test, quantity, _ in columns]
            lines.append([f"equiforce {model}", *errors, str(rows[0]["n_train"]), *budget, str(len(seeds)), ""])
        for method in dict.fromkeys(n.method for n in self.published.numbers if n.task == task):
            numbers = [self.published.of(task, test, quantity, method) for test, quantity, _ in columns]
            printed = ["–" if number is None else _printed(number) for number in numbers]
            lines.append([method, *printed, *[""] * 6, _origins(n for n in numbers if n is not None)])
        several = len(described.tests) > 1
        headings = [f"{f'{test}: ' if several else ''}{quantity}, {error}" for test, quantity, error in columns]
        budget = ["trained on", "steps", "time", "threads", "weights", "seeds", "source"]
        return Sheet(described.title or task, ["", *headings, *budget], lines)

    def gaps(self) -> list[Gap]:
        """Return our errors and NequIP's, for the model of each task with the lowest validation error of forces."""
        found = []
        for task, described in self.tasks.items():
            if (model := self._validated(task)) is None:
                continue
            for test in described.tests:
                for quantity in described.printed_errors:
                    ours = self.ours(task, model, test, quantity)
                    reference = self.published.of(task, test, quantity)
                    if ours is not None and reference is not None:
                        found.append(Gap(task, test, quantity, model, ours, reference))
        return found

    def _validated(self, task: str) -> str | None:
        """Return the model with the lowest validation error of forces; the lowest test error may be luck."""
        errors = {model: [row[VALIDATED] for row in self._rows(task, model)] for model in self.models(task)}
        known = {model: fmean(values) for model, values in errors.items() if None not in values}
        return min(known, key=known.__getitem__, default=None)

    def missing(self) -> list[str]:
        """Write a line for each error that is larger than the published one, the largest ratio first."""
        lines = []
        for gap in sorted(self.gaps(), key=lambda gap: -gap.ratio):
            if gap.ratio > 1:
                task, rows = self.tasks[gap.task], self._rows(gap.task, gap.model)
                error, seconds = task.printed_errors[gap.quantity], fmean(row["seconds"] for row in rows)
                about = "; ".join(filter(None, [error.metric, gap.published.note]))
                lines.append(
                    f"{task.title or gap.task}, {gap.test}: {gap.quantity} {gap.ours} against {gap.published.value} "
                    f"{error.unit} ({about}), {gap.ratio:.2f} times; {gap.model}, {rows[0]['steps']:,} "
                    f"steps, {_duration(seconds)}, {gap.ours.n_seeds} seed{'s' * (gap.ours.n_seeds > 1)}"
                )
        return lines

    def page(self, title: str, note: str) -> str:
        """Write the page as Markdown; ``note`` is what a reader has to know about all tasks."""
        done = [task for task in self.tasks if self.models(task)]
        gaps, missing = self.gaps(), self.missing()
        waiting = [self.tasks[task].title or task for task in self.tasks if task not in done]
        alone = [self.tasks[t].title or t for t in done if not any(n.task == t for n in self.published.numbers)]
        parts = [
            f"# {plain(title)}",
            "Written by `equiforce study benchmark`; the rows are in `results.csv`. Our errors are means over seeds ± "
            f"standard deviation. Brackets hold the ratio to the published number of {REFERENCE}; bold errors are not "
            "larger than that number. All seeds of a task train on the same frames, and differ in the initial weights "
            "and the order of batches. A run ends after a number of steps; the tables give the training time and the "
            "number of threads, and the machine is named below each table.",
            *filter(None, [plain(note)]),
            self.overview().markdown(),
            "## What is missing",
            "For each task, the model with the lowest validation error of forces is compared: "
            f"{len(gaps) - len(missing)} of {len(gaps)} errors are not larger than those published for {REFERENCE}."
            f"{' The others:' if missing else ''}",
            *filter(None, ["\n".join(f"- {plain(line)}" for line in missing)]),
        ]
        if self.diverged:
            cells = [f"{row['task']}, {row['model']}, seed {row['seed']}" for row in self.diverged]
            parts.append(f"Diverged: {plain('; '.join(cells))}.")
        if waiting:
            parts.append(f"Not run yet: {plain('; '.join(waiting))}.")
        if alone:
            parts.append(f"No published numbers were found for: {plain('; '.join(alone))}.")
        for task in done:
            parts += self._section(task)
        parts += [
            "## Sources",
            "\n".join(f"- {plain(f'{name}: {text}')}" for name, text in self.published.sources.items()),
        ]
        return "\n\n".join(parts) + "\n"

    def _section(self, task: str) -> list[str]:
        described = self.tasks[task]
        rows = [row for row in self.rows if row["task"] == task]
        frames = {str(row["test"]): row["n_test"] for row in rows}
        tests = ", ".join(f"{name} ({frames[name]:,} frames)" for name in described.tests if name in frames)
        machines = dict.fromkeys(
            f"{row['machine']}, equiforce {row['equiforce']}, torch {row['torch']}" for row in rows
        )
        notes = dict.fromkeys(f"{n.method}: {n.note}." for n in self.published.numbers if n.task == task and n.note)
        return [
            f"## {plain(described.title or task)}",
            plain(" ".join(filter(None, [described.note, f"Validated on {described.validation}; tested on {tests}."]))),
            self.sheet(task).markdown(),
            plain(" ".join([*notes, f"Ours: {'; '.join(machines)}."])),
        ]


def _printed(number: Published) -> str:
    return f"{number.value}" + ("" if number.spread is None else f" ± {number.spread}")


def _origins(numbers: Iterable[Published]) -> str:
    return ", ".join(dict.fromkeys(number.source for number in numbers))


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
