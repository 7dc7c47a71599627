"""Prints text as it is: nothing that a user names is markup or a command of the terminal, and printing ends no program.

Names of files, groups, keys and models come from users, and so do parts of most messages. No other module imports rich.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import TextColumn as _TextColumn
from rich.progress import track as _track
from rich.table import Table as _Table
from rich.text import Text

__all__ = [
    "BarColumn",
    "Console",
    "MofNCompleteColumn",
    "Progress",
    "ProgressColumn",
    "Table",
    "Task",
    "TaskID",
    "Text",
    "TextColumn",
    "TimeElapsedColumn",
    "TimeRemainingColumn",
    "bar",
    "note",
    "one_line",
    "own_console",
    "say",
    "shortened",
    "show",
    "track",
    "working",
]

NOTE = "yellow"  # the style of remarks that a user should see
T = TypeVar("T")


def one_line(text: object) -> str:
    r"""The text with an escape, such as ``\n`` or ``\x1b``, for each character that has no sign of its own."""
    plain = str(text)
    if plain.isprintable():
        return plain
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in plain)


def shortened(text: object, longest: int) -> str:
    """The text on one line; the middle of a text with more than ``longest`` characters is left out."""
    plain, half = one_line(text), (longest - 1) // 2
    return plain if len(plain) <= longest else f"{plain[:half]}…{plain[-half:]}"


def own_console(*, stderr: bool = False, quiet: bool = False, width: int | None = None) -> Console:
    """A console on the standard output or the standard error, which becomes silent if nobody can read it."""
    return _Console(stderr=stderr, quiet=quiet, width=width, markup=False, emoji=False, highlight=False)


class _Console(Console):
    """A console that becomes silent if its reader goes away, as in ``| head``, or its disk is full."""

    def _check_buffer(self) -> None:
        try:
            super()._check_buffer()
        except OSError as error:
            self.on_broken_pipe()
            if not self.stderr:
                why = f"the standard output cannot be written ({error.strerror})"
                with suppress(OSError):  # of a terminal that is closed
                    print(f"{why}: the rest is not shown", file=sys.stderr, flush=True)

    def on_broken_pipe(self) -> None:
        """Print nothing from now on, so that the work goes on."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


def say(console: Console, *lines: object, style: str = "") -> None:
    """Print lines as they are; none is broken, and characters without a sign are escaped."""
    _print(console, Text("\n".join(map(one_line, lines)), style=style), soft_wrap=True)


def note(console: Console, sentence: object) -> None:
    """Print a remark that the user should see."""
    say(console, f"note: {sentence}", style=NOTE)


def show(console: Console, table: "Table") -> None:
    """Print a table."""
    _print(console, table)


def _print(console: Console, content: Any, **options: Any) -> None:
    _make_lenient(console)
    try:
        console.print(content, **options)
    except OSError:  # of a console that the user made; the results of a program do not depend on it
        console.quiet = True


def _make_lenient(console: Console) -> None:
    """Let the stream of a console print an escape for a character that its encoding lacks, such as Å in ASCII."""
    file = console.file
    if isinstance(file, TextIOWrapper) and file.errors in {"strict", "surrogateescape"}:
        file.reconfigure(errors="backslashreplace")


class Table(_Table):
    """A table of texts, each on one line of its own in its cell."""

    def __init__(self, title: object = "", *, title_style: str = "", show_header: bool = True):
        text = Text(one_line(title), style=title_style or "table.title") if title else None
        super().__init__(title=text, show_header=show_header)

    def add_column(self, heading: object = "", **options: Any) -> None:  # type: ignore[override]
        """Add a column; the heading may have several lines."""
        super().add_column(Text("\n".join(map(one_line, str(heading).split("\n")))), **options)

    def add_row(self, *cells: object, style: str | None = None, styles: Sequence[str] = ()) -> None:  # type: ignore[override]
        """Add a row.

        Args:
            cells: the texts.
            style: of the whole row.
            styles: of the single cells, in their order; missing ones are plain.
        """
        of_cells = [*styles, *[""] * (len(cells) - len(styles))]
        texts = (Text(one_line(cell), style=one) for cell, one in zip(cells, of_cells, strict=True))
        super().add_row(*texts, style=style)
        for column in self.columns:  # in a narrow terminal a name is broken, never cut
            column.overflow = "fold"


class TextColumn(_TextColumn):
    """A text beside a progress bar; ``{task.fields[NAME]}`` in it stands for a value, in which nothing is markup."""

    def __init__(self, text: str, style: str = ""):
        super().__init__(text, style=style, markup=False)

    def render(self, task: Task) -> Text:
        return Text(one_line(self.text_format.format(task=task)), style=self.style, justify=self.justify)


def bar(console: Console, *columns: ProgressColumn, transient: bool = False, visible: bool = True) -> Progress:
    """A progress bar, which the caller starts and stops."""
    _make_lenient(console)
    return Progress(*columns, console=console, transient=transient, disable=not visible)


def track(items: Sequence[T], what: str, console: Console | None, *, visible: bool) -> Iterable[T]:
    """Go through items beside a progress bar."""
    return _track(items, what, console=console, disable=not visible)


@contextmanager
def working(console: Console, what: str) -> Iterator[None]:
    """Show what the program does while it lasts; only in a terminal."""
    with console.status(Text(one_line(what))):
        yield
