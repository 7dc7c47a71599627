"""The text of xyz files, checked and completed before ASE reads it.

ASE's reader of extended xyz ends a file at a blank line, reads ``lattice=`` in lower case as a remark, and takes the
next word as the value of a key without one. All three would change the physics without a word.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import dropwhile, islice
from typing import Any, NamedTuple

import numpy as np
from ase.io.extxyz import key_val_str_to_dict

from equiforce.elements import SYMBOLS
from equiforce.errors import InputError

KEYS = {"lattice": "Lattice", "properties": "Properties", "pbc": "pbc"}  # as ASE spells the keys that it understands
SPELLED = re.compile(r"(?<![\w-])(lattice|properties|pbc)(?=\s*=)", re.IGNORECASE)
WITHOUT_VALUE = re.compile(r"(?<!\S)([^\s=\0]+)\s*=(?=\s+[^\s=\0]+\s*=|\s*$)")
EMPTY = re.compile(r"(?<=\S=)(\"\"|''|\{\}|\[\])(?=\s|$)")  # the value of a key without one, too
LATTICE = re.compile(r"(?<![\w\"'-])lattice\"?\s*=\s*[\"'{\[]", re.IGNORECASE)
QUOTED = re.compile(r"\"(?:\\.|[^\"\\])*\"|'[^']*'|\{[^}]*\}|\[[^\]]*\]")
# ASE takes nothing but nine numbers under these keys, and leaves those with a capital letter alone
MATRIX = re.compile(r"(?<![\w-])(stress|virial)(\s*=\s*)(\0|[^\s\0]+)")
SAME_LENGTH = 4  # so many lines, or more, show that all rows have one length
N_MATRIX = 9
LEADING_ZERO = re.compile(r"([\w.-]+)=([\"']?)(0\d+)\2(?!\S)")
COLUMNS = 4  # of an atom at least: its element and three coordinates
SUFFIX = re.compile(r"\.e?(xt)?xyz(\.(gz|bz2|xz))?$", re.IGNORECASE)
ISOTOPES = ("D", "T")
PLAIN = {"species": 0, "pos": 1, "": COLUMNS}  # the first column of each property without a header, and their number


class XyzText(NamedTuple):
    """The text of an xyz file as ASE should read it."""

    text: str
    n_frames: int
    notes: tuple[str, ...]  # what was changed or is not used, each as a clause for the user

    def open(self) -> StringIO:
        """Return the text as a file."""
        return StringIO(self.text)


def parse_header(line: str) -> dict[str, Any]:
    """Parse the header of a frame as ASE does, but keep names such as 007, which ASE would read as a number."""
    values: dict[str, Any] = key_val_str_to_dict(line)
    names = {key: digits for key, _, digits in LEADING_ZERO.findall(line)}
    return values | {key: digits for key, digits in names.items() if isinstance(values.get(key), int | np.integer)}


def is_xyz(path: str, text: str) -> bool:
    """Whether a text begins as an xyz file does.

    The first line is a number of atoms. Unless the name says so, the next one has keys of extended xyz, or the third
    one looks like an atom.

    Args:
        path: the name of the file.
        text: its first lines at least.
    """
    head = [line.split() for line in islice(dropwhile(lambda line: not line.strip(), text.split("\n")), 3)]
    if not head or len(head[0]) != 1 or not head[0][0].isdecimal():
        return False
    if SUFFIX.search(path) or (len(head) > 1 and SPELLED.search(" ".join(head[1]))):
        return True
    return len(head) == 3 and len(head[2]) >= COLUMNS and head[2][0].capitalize() in (*SYMBOLS[1:], *ISOTOPES)


def complete_xyz(path: str, text: str) -> XyzText:
    """Return the text of an xyz file with every frame between blank lines and with keys as ASE spells them.

    Args:
        path: the file, for messages.
        text: its text.

    Raises:
        InputError: a frame is cut off, a row cannot be an atom, or there is something else where a frame should begin;
            the message names the line, counted from 1.
    """
    lines = text.split("\n")
    frames, changes = [], Counter[str]()
    if lines[-1] == "":
        lines.pop()
    elif {len(line) for line in lines[-SAME_LENGTH:-1]} == {len(lines[-2])} and len(lines[-1]) < len(lines[-2]):
        changes["the last line is shorter than those before and has no end: the file may be cut off there"] += 1
    for number, start, stop in _frames(path, lines):
        if "=" in lines[start + 1] and '"' in QUOTED.sub("", lines[start + 1].replace('\\"', "")):
            raise InputError(
                f"{path}, line {start + 2}: a quotation mark in the header of frame {number} (counted from 0) is not "
                "closed, so that a text takes in the keys behind it: close it"
            )
        header = _header(lines[start + 1], changes)
        if LATTICE.search(lines[start + 1]) and "Lattice" not in parse_header(header):
            raise InputError(
                f"{path}, line {start + 2}: frame {number} (counted from 0) has a cell in its header that cannot be "
                'read there: write it as Lattice="ax ay az bx by bz cx cy cz", and correct the key before it'
            )
        rows = lines[start + 2 : stop]
        _check_atoms(path, number, rows, start + 3)
        _check_columns(f"{path}, line {start + 2}: frame {number} (counted from 0)", header, rows, changes)
        frames.append("\n".join([lines[start], header, *lines[start + 2 : stop]]))
    return XyzText("\n".join(frames) + "\n", len(frames), tuple(f"{what} ({n} times)" for what, n in changes.items()))


def fault_in(path: str, text: str, frame: int) -> str | None:
    """Describe the first line of a frame of an xyz file that ASE cannot read; None if no line is wrong by itself."""
    lines = text.split("\n")
    _, start, stop = next(islice(_frames(path, lines), frame, None))
    columns = _columns(lines[start + 1]) or PLAIN
    for line, row in enumerate(lines[start + 2 : stop], start + 3):
        words = row.split()
        if len(words) < columns[""]:
            return f"line {line}: the header names {columns['']} columns, but the atom has {len(words)}: correct it"
        for word in words[columns["pos"] : columns["pos"] + 3]:
            if not _is_number(word):
                return f"line {line}: {word!r} is not a coordinate: correct it"
        symbol = words[columns["species"]].capitalize() if "species" in columns else SYMBOLS[1]
        if symbol in ISOTOPES:
            return f"line {line}: {symbol!r} is an isotope, and equiforce knows elements only: write 'H'"
        if symbol not in SYMBOLS:
            return f"line {line}: there is no element {words[columns['species']]!r}: correct the symbol"
    return None


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
    line = EMPTY.sub("", line)
    quoted = QUOTED.findall(line)
    line = QUOTED.sub("\0", line)  # texts may contain anything
    for key in WITHOUT_VALUE.findall(line):
        changes[f"ignored the key {key!r}, which has no value"] += 1
    line = WITHOUT_VALUE.sub("", line)
    for found in SPELLED.findall(line):
        if found != (right := KEYS[found.lower()]):
            changes[f"read {found!r} as {right!r}"] += 1
    line = SPELLED.sub(lambda match: KEYS[match[0].lower()], line)
    for match in MATRIX.finditer(line):
        key, value = match[1], quoted[line[: match.start()].count("\0")] if match[3] == "\0" else match[3]
        if len(re.split(r"[\s,]+", value.strip("\"'{}[] "))) != N_MATRIX:
            line = line[: match.start()] + line[match.start() :].replace(key, key.capitalize(), 1)
            changes[f"read {key!r} as {key.capitalize()!r}, because it is not nine numbers"] += 1
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


def _columns(header: str) -> dict[str, int] | None:
    """The first column of each property that the header names, and their number under ``""``; None without any."""
    if (found := re.search(r"Properties=\"?([^\s\"]+)", header)) is None:
        return None
    words = found[1].split(":")
    columns: dict[str, int] = {}
    at = 0
    for name, count in zip(words[::3], words[2::3], strict=False):
        columns[name] = at
        at += int(count) if count.isdecimal() else 1
    return columns | {"": at}


def _check_columns(where: str, header: str, rows: Sequence[str], changes: Counter[str]) -> None:
    """Raise InputError if the header names no positions, and note the columns that it does not name."""
    columns = _columns(header) or PLAIN
    if "pos" not in columns or not {"species", "Z"} & columns.keys():
        raise InputError(
            f"{where} needs the columns of elements and positions in its header: write Properties=species:S:1:pos:R:3 "
            "and what follows"
        )
    if rows and len(rows[0].split()) > (used := columns[""]):  # ASE leaves these out
        changes[
            f"did not use the columns after the first {used} of each atom, which the header does not name: if they are "
            "forces, write Properties=species:S:1:pos:R:3:forces:R:3 there"
        ] += 1


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
