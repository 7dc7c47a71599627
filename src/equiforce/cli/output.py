"""What a command prints: text for people, or one JSON object for programs (``--json``)."""

import json
import math
import os
import shutil
import sys
from collections.abc import Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer

from equiforce.storage.faults import AGAIN
from equiforce.terminal import NOTE, Console, own_console, say

WIDE = 160  # the width of tables in a file, where no terminal limits it
FLAG = "--json"

AsJson = Annotated[
    bool,
    typer.Option(FLAG, help="Print the results as one JSON object; messages go to the standard error."),
]


class _Object:
    """The JSON object of a command."""

    printed = False


def begin() -> None:
    """Begin a command, which reads and writes UTF-8 in every locale.

    For a character that the terminal does not know, a mark is printed. File names and the files of other packages are
    in UTF-8 only if Python starts in this mode.
    """
    _Object.printed = False
    if sys.getfilesystemencoding() != "utf-8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def messages(as_json: bool = False) -> Console:
    """The console for messages: the standard output, or the standard error if a JSON object is printed."""
    stream = sys.stderr if as_json else sys.stdout
    width = None if stream is not None and stream.isatty() else shutil.get_terminal_size((WIDE, 25)).columns
    return own_console(stderr=as_json, width=width)


def print_file(text: str) -> None:
    """Print the text of a file, which is in UTF-8 in every locale."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    print(text, end="", flush=True)


def print_object(values: Mapping[str, Any]) -> None:
    """Print a JSON object; paths become texts, and numbers that are not finite become null."""
    _Object.printed = True
    print(json.dumps(_plain(values), indent=1, allow_nan=False), flush=True)


def print_error(error: Exception) -> None:
    """Print an error as one sentence, and with ``--json`` as an object too."""
    sentence = str(error)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        sentence = f"{error.filename} cannot be read or written: {error.strerror}"
    say(own_console(stderr=True), f"error: {sentence}", style="red")
    print_missing_object(sentence)


def print_interruption() -> None:
    """Print that a signal stopped the command before it could save anything itself."""
    say(own_console(stderr=True), f"stopped by a signal: what was not written yet is lost; {AGAIN}", style=NOTE)


def print_missing_object(reason: str) -> None:
    """With ``--json``, print why the command ends before it has printed its object."""
    if FLAG in sys.argv and not _Object.printed:
        print_object({"error": reason})


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
