"""Finds what is whole of a file that ends too early, because a run was killed, a disk full or a copy cut off."""

import io
import math
import os
import re
import struct
from typing import NamedTuple

from ase import Atoms

from equiforce.data.source import Source

TABLE_AT, HEAD = 32, 48  # bytes of a trajectory of ASE before the numbers of its table of frames, and before its frames
INTEGER = 8  # bytes
GROWTH = 42  # of the table, if it is full
ARRAY = re.compile(rb'"(?:__)?ndarray(?:__)?": ?\[\[([\d, ]+)\]')  # and its shape
MOST_DIGITS = 15  # of a number of atoms
SAME_RATIO = 0.01  # of two numbers of atoms; some formulas have rounded fractions
PDB, CIF = "proteindatabank", "cif"
FORMULA = re.compile(r"^_chemical_formula_sum\s+(?:'([^']*)'|\"([^\"]*)\"|(\S+))", re.MULTILINE)

ELEMENT = re.compile(r"([A-Z][a-z]?)(\d+(?:\.\d*)?|\.\d+)?")
PLAIN_FORMULA = re.compile(rf"(?:{ELEMENT.pattern}\s*)+")


def whole_frames(text: str) -> tuple[str, str]:
    """Leave out the last frame of an xyz file if the file ends within it and has frames before it.

    Args:
        text: the text of the file.

    Returns:
        The text up to the last whole frame, and a clause about what was left out, empty for nothing.
    """
    lines = text.split("\n")
    number = start = 0
    while start < len(lines):
        if not (line := lines[start].strip()):
            start += 1
            continue
        if not line.isdecimal() or len(line) > MOST_DIGITS:
            return text, ""
        stop = start + 2 + int(line)
        if stop > len(lines) or (stop == len(lines) and _is_cut(lines, start)):
            if number == 0:
                return text, ""
            return "\n".join(lines[:start]) + "\n", _left_out(number, f"line {start + 1}")
        number, start = number + 1, stop
    return text, ""


def _is_cut(lines: list[str], start: int) -> bool:
    """Whether the last line, which has no end, lacks words, or characters where all lines have equally many."""
    others = lines[start + 2 : -1] or [lines[start - 1]]
    lengths = set(map(len, others))
    return (len(lengths) == 1 and len(lines[-1]) < min(lengths)) or len(lines[-1].split()) < len(others[-1].split())


def _left_out(number: int, where: str) -> str:
    return f"frame {number} (counted from 0, {where}) is cut off and left out"


class Items(NamedTuple):
    """The frames of a trajectory of ASE."""

    n: int
    n_whole: int  # before the first one that is not whole
    left_out: str  # a clause about what is not whole, empty for nothing


def whole_items(source: Source) -> Items:
    """Count the whole frames of a trajectory of ASE, whose table says where each of them ends.

    ASE would allocate whatever the numbers in the file say.

    Args:
        source: the file.

    Raises:
        ValueError: the table is lost.
    """
    with source.open() as file:
        n_bytes = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(HEAD)
        n, table = struct.unpack_from("<2q", head, TABLE_AT) if len(head) == HEAD else (-1, 0)
        if not (0 <= n <= n_bytes and HEAD <= table <= n_bytes - INTEGER * n):
            raise ValueError("its table of frames is cut off or damaged")
        room = 1
        while room < n:
            room *= GROWTH
        end = table + INTEGER * room
        file.seek(table)
        for number, place in enumerate(struct.unpack(f"<{n}q", file.read(INTEGER * n))):
            if (behind := _end_of_frame(file, place, n_bytes)) is None:
                return Items(n, number, _left_out(number, f"at byte {place}"))
            end = max(end, behind)
    rest = n_bytes - end
    return Items(n, n, f"the last {rest} bytes are an unfinished frame, which is left out" if rest > 0 else "")


def _end_of_frame(file: io.BufferedIOBase, place: int, n_bytes: int) -> int | None:
    """The first byte behind a frame whose description begins at ``place``; None if the frame is not whole."""
    if not HEAD <= place <= n_bytes - INTEGER:
        return None
    file.seek(place)
    (length,) = struct.unpack("<q", file.read(INTEGER))
    end = place + INTEGER + length
    if length < 0 or end > n_bytes:
        return None
    return None if _has_larger_arrays(file.read(length), n_bytes) else end


def _has_larger_arrays(description: bytes, n_bytes: int) -> bool:
    """Whether ASE's description of a structure names an array with more numbers than the file has bytes."""
    return any(math.prod(map(int, shape.replace(b",", b" ").split())) > n_bytes for shape in ARRAY.findall(description))


def signs_of_a_cut(form: str, text: str, atoms: Atoms) -> list[str]:
    """Clauses about what suggests that a file of one structure, in a format without a number of atoms, is not whole.

    Args:
        form: the name of the format in ASE.
        text: the text of the file.
        atoms: the structure that was read.
    """
    signs = [] if text.endswith("\n") else ["its last line has no end: the file may be cut off there"]
    if form == PDB and not re.search("^END", text, re.MULTILINE):
        signs.append("it has no line END: the file may be cut off")
    formulas = ["".join(found).strip() for found in FORMULA.findall(text)] if form == CIF else []
    if len(formulas) == 1 and PLAIN_FORMULA.fullmatch(formulas[0]):  # and not ?, or with parts joined by dots
        wanted = {symbol: float(n or 1) for symbol, n in ELEMENT.findall(formulas[0])}
        found = atoms.symbols.formula.count()
        ratios = {found.get(symbol, 0) / n for symbol, n in wanted.items() if n}
        if (
            found.keys() != wanted.keys()
            or not ratios
            or max(ratios) - min(ratios) > SAME_RATIO
            or min(ratios) < 1 - SAME_RATIO
        ):
            signs.append(f"its formula is {formulas[0]}, but its atoms are {atoms.symbols}: is the file complete?")
    return signs
