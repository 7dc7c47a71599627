"""Numbers of files that are what they say: no fractions in atomic numbers, no texts, no complex or short numbers.

Python and numpy convert all of these without a word, and also read 1_000.5 and digits of other scripts as numbers. No
other program does.
"""

import math
import re
from io import BufferedIOBase
from typing import IO, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from equiforce.errors import InputError
from equiforce.memory import available, format_bytes

FEWEST_BYTES = 4  # of a number; those of 16 bits have three digits, fewer than any label needs
# what only Python and ASE take for a part of a number: 1_000, digits of other scripts, and 1\\2 and 1"2 for 12
ODD = re.compile(r"\d_\d|(?![0-9])\d|[0-9.][\"'{}\[\]\\]+[0-9.]")
OTHER_SPACE = re.compile(r"[^\S \t\n]")  # what only Python takes for a space between numbers
LARGEST = 2.0**53  # up to which every whole number is exact


def not_numbers(value: Any) -> str | None:
    """Say what a value is if it is not made of real numbers, as the end of a sentence; None if it is."""
    array = np.asarray(value)
    if array.dtype.kind in "iuf" and array.dtype.itemsize >= FEWEST_BYTES:
        return None
    if array.dtype.kind in "iuf":
        bits = 8 * array.dtype.itemsize
        return f"a number of {bits} bits, which have fewer digits than labels need: store numbers of 64 bits"
    if array.dtype.kind == "c":
        return "a complex number, whose imaginary part would be lost: store its real part"
    return "not a number"


def real(value: Any, where: str, name: str) -> Float[np.ndarray, "..."]:
    """Return real numbers of a file in float64.

    Args:
        value: an array, or what an array is made of.
        where: the file or the frame, for messages.
        name: what the numbers are, for messages.

    Raises:
        InputError: the value is not made of real numbers of at least 32 bits.
    """
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # rows of different lengths
        array = np.array(None)
    if (what := not_numbers(array)) is not None:
        first = array.ravel()[0] if array.size else None
        raise InputError(f"{where}: {name} {'begins with' if array.ndim else 'is'} {short(first)}, {what}{_mend(what)}")
    return array.astype(np.float64)


def whole(value: Any, where: str, name: str) -> Int[np.ndarray, "..."]:
    """Return whole numbers of a file in int64; raises InputError if the value is not made of them."""
    array = np.asarray(value)
    numbers = array.astype(np.float64) if array.dtype.kind in "iu" else real(array, where, name)
    wrong = np.flatnonzero(~((np.abs(numbers) <= LARGEST) & (numbers == np.rint(numbers))))
    if len(wrong):
        at = f" in place {wrong[0]} (counted from 0)" if numbers.size > 1 else ""
        raise InputError(f"{where}: {name} is {numbers.ravel()[wrong[0]]:.10g}{at}, not a whole number: correct it")
    return numbers.astype(np.int64)


def flags(value: Any, where: str, name: str) -> Bool[np.ndarray, "..."]:
    """Return true and false of a file, which may be 1 and 0; raises InputError if there is something else."""
    array = np.asarray(value)
    if array.dtype != bool and not (array.dtype.kind in "iuf" and np.isin(array, (0, 1)).all()):
        raise InputError(f"{where}: {name} is {short(value)}: give true or false, or 1 or 0, for each direction")
    return array.astype(bool)


def is_plain(text: str) -> bool:
    """Whether Python reads the numbers of a line as other programs do: without underscores, between spaces and tabs."""
    return text.isascii() and "_" not in text and text.replace("\t", " ").isprintable()


def short(value: Any) -> str:
    """A value on one line of a message."""
    text = " ".join(repr(value.item() if isinstance(value, np.generic) else value).split())
    return text if len(text) <= 60 else text[:57] + "..."


def read_array(stream: BufferedIOBase | IO[bytes], size: int, where: str) -> np.ndarray | None:
    """Read an array in the format npy, whose size is checked before memory is taken.

    Args:
        stream: the bytes of the array.
        size: their number.
        where: the file or the array in it, for messages.

    Returns:
        The array; None if it holds objects of Python, which are never read.

    Raises:
        InputError: the array is damaged, is larger than its file, or does not fit into the memory.
    """
    form = np.lib.format
    version = form.read_magic(stream)
    read_header = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
    shape, fortran, dtype = read_header(stream)
    if dtype.hasobject:
        return None
    n_bytes = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or stream.tell() + n_bytes != size:
        raise InputError(
            f"{where} says that it holds an array of the shape {short(shape)}, {n_bytes:,} bytes, but has "
            f"{size - stream.tell():,} of them: copy or write the file again"
        )
    if (free := available("cpu")) is not None and n_bytes > free:
        raise InputError(
            f"{where} holds {format_bytes(float(n_bytes))} of numbers, but {format_bytes(free)} of memory are "
            "available: read it on a larger machine, or write a smaller file"
        )
    array = np.frombuffer(stream.read(n_bytes), dtype=dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def _mend(what: str) -> str:
    return "" if ":" in what else ": store it as a number"
