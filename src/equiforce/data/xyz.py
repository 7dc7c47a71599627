"""The text of xyz files, checked and completed before ASE reads it.

ASE's reader of extended xyz ends a file at a blank line, reads ``lattice=`` in lower case as a remark, and takes the
next word as the value of a key without one. All three would change the physics without a word.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from itertools import dropwhile, islice
from pathlib import Path
from typing import NamedTuple

from equiforce.elements import SYMBOLS
from equiforce.errors import InputError

KEYS = {"lattice": "Lattice", "properties": "Properties", "pbc": "pbc"}  # as ASE spells the keys that it understands
SPELLED = re.compile(r"(?<![\w-])(lattice|properties|pbc)(?=\s*=)", re.IGNORECASE)
WITHOUT_VALUE = re.compile(r"(?<!\S)([\w-]+)=(?=\s+[\w-]+\s*=|\s*$)")
QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'|\{[^}]*\}|\[[^\]]*\]")
COLUMNS = 4  # of an atom at least: its element and three coordinates
SUFFIXES = (".xyz", ".extxyz", ".exyz")


class XyzText(NamedTuple):
    """The text of an xyz file as ASE should read it."""

    text: str
    n_frames: int
    notes: tuple[str, ...]  # what was changed, each as a clause for the user

    def open(self) -> StringIO:
        """Return the text as a file."""
        return StringIO(self.text)


def read_xyz_text(path: str) -> XyzText | None:
    """Read the text of an xyz file, with every frame between blank lines and with keys as ASE spells them.

    Args:
        path: the file.

    Returns:
        The text, or None if the file is not an xyz file, by its name or its first lines.

    Raises:
        InputError: a frame is cut off, or there is something else where a frame should begin; the message names the
            line, counted from 1.
    """
    try:
        with Path(path).open(encoding="utf-8-sig") as file:
            if not _is_xyz(path, file):  # reads three lines: other formats may be large
                return None
            file.seek(0)
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    frames, changes = [], Counter[str]()
    for number, start, stop in _frames(path, lines):
        header = _header(lines[start + 1], changes)
        _check_atoms(path, number, lines[start + 2 : stop], start + 3)
        frames.append("\n".join([lines[start], header, *lines[start + 2 : stop]]))
    return XyzText("\n".join(frames) + "\n", len(frames), tuple(f"{what} ({n} times)" for what, n in changes.items()))


def _is_xyz(path: str, lines: Iterable[str]) -> bool:
    """Whether the first line is a number of atoms and, unless the name says so, the third one looks like an atom."""
    head = [line.split() for line in islice(dropwhile(lambda line: not line.strip(), lines), 3)]
    if not head or len(head[0]) != 1 or not head[0][0].isdecimal():
        return False
    return path.endswith(SUFFIXES) or (len(head) == 3 and head[2][:1] != [] and head[2][0].capitalize() in SYMBOLS[1:])


def _frames(path: str, lines: Sequence[str]) -> Iterator[tuple[int, int, int]]:
    """Yield the number of each frame, the index of its first line, and of the line after its last."""
    number, start = 0, 0
    while start < len(lines):
        if not (line := lines[start].strip()):
            start += 1
            continue
        if not line.isdecimal():
            raise InputError(
                f"{path}, line {start + 1}: frame {number} (counted from 0) should begin here with its number of "
                f"atoms, but the line is {line[:60]!r}: correct the number of the frame before, or remove the line"
            )
        stop = start + 2 + int(line)
        if stop > len(lines):
            raise InputError(
                f"{path}, line {start + 1}: frame {number} (counted from 0) has {line} atoms, but the file ends after "
                f"{max(0, len(lines) - start - 2)} of them: complete or remove the frame"
            )
        yield number, start, stop
        number, start = number + 1, stop


def _header(line: str, changes: Counter[str]) -> str:
    """Return the comment line of a frame with keys as ASE spells them, and without keys that have no value."""
    if "=" not in line:
        return line
    quoted = QUOTED.findall(line)
    line = QUOTED.sub("\0", line)  # texts may contain anything
    for key in WITHOUT_VALUE.findall(line):
        changes[f"ignored the key {key!r}, which has no value"] += 1
    line = WITHOUT_VALUE.sub("", line)
    for found in SPELLED.findall(line):
        if found != (right := KEYS[found.lower()]):
            changes[f"read {found!r} as {right!r}"] += 1
    line = SPELLED.sub(lambda match: KEYS[match[0].lower()], line)
    head, *rest = line.split("\0")
    return head + "".join(text + after for text, after in zip(quoted, rest, strict=True))


def _check_atoms(path: str, number: int, rows: Sequence[str], first_line: int) -> None:
    """Raise InputError if a row cannot be an atom."""
    for line, row in enumerate(rows, first_line):
        if len(row.split()) < COLUMNS:
            raise InputError(
                f"{path}, line {line}: frame {number} (counted from 0) needs an atom here, with an element and three "
                f"coordinates, but the line is {row.strip()[:60]!r}: correct it, or the number of atoms of the frame"
            )
