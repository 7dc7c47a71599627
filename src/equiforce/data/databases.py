"""What ASE does not check in its databases of JSON: keys that are given twice, arrays that are not of their type."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from equiforce.data.numbers import FEWEST_BYTES, short, whole
from equiforce.errors import InputError

ARRAY = "__ndarray__"  # the key of ASE's arrays, with their shape, type and numbers
TYPES: Mapping[str, tuple[type, ...]] = {"i": (int,), "u": (int,), "f": (int, float), "b": (bool,)}


def check_json(path: str, text: str) -> None:
    """Check a database of JSON before ASE reads it.

    Args:
        path: the file, for messages.
        text: its text.

    Raises:
        InputError: a key is given twice, of which ASE would take the last, or an array of numbers holds something else,
            which ASE would convert.
    """

    def check(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise InputError(f"{path} has the key {twice!r} twice in one entry: remove one of them")
        if "positions" in found:
            _check_row(path, found)
        if ARRAY in found:
            _check_array(path, found[ARRAY])
        return found

    try:
        content = json.loads(text, object_pairs_hook=check)
    except InputError:
        raise
    except (ValueError, TypeError, RecursionError) as error:  # numpy has a TypeError for an unknown type
        raise InputError(f"{path} is not JSON ({error}): correct the file, or copy it again") from error
    if not isinstance(content, dict):
        return
    rows, ids = sorted(key for key in content if key.isdecimal()), content.get("ids")
    if (ids is None and len(rows) > 1) or (isinstance(ids, list) and sorted(map(str, ids)) != rows):
        raise InputError(
            f"{path} has {len(rows)} entries, but its 'ids' are {short(ids)}, so that ASE would leave some out: "
            "correct 'ids'"
        )


def _check_array(path: str, array: Any) -> None:
    """Raise InputError if an array has items of another type than it says, which ASE would convert, or too few."""
    shape, kind, items = array if isinstance(array, list) and len(array) == 3 else [None] * 3
    if not (isinstance(shape, list) and isinstance(kind, str) and isinstance(items, list)) or not all(
        type(n) is int and n >= 0 for n in shape
    ):
        raise InputError(f"{path} has an array that is no shape, type and list of numbers: correct the file")
    dtype = np.dtype(kind)
    if (allowed := TYPES.get(dtype.kind)) is None:
        return
    if dtype.kind == "f" and dtype.itemsize < FEWEST_BYTES:
        raise InputError(f"{path} has an array of {kind}, which has fewer digits than labels need: store float64")
    if wrong := [item for item in items if type(item) not in allowed]:
        raise InputError(f"{path} has an array of {kind} that holds {short(wrong[0])}: correct the file")
    if math.prod(shape) != len(items):
        raise InputError(f"{path} has an array of the shape {short(shape)} with {len(items)} numbers: correct the file")


def _check_row(path: str, row: Mapping[str, Any]) -> None:
    """Raise InputError if ASE would cut the atomic numbers of an entry, or the imaginary part of other numbers."""
    of_arrays = {key: value[ARRAY] for key, value in row.items() if isinstance(value, dict) and ARRAY in value}
    for key, (_, kind, _) in of_arrays.items():
        if np.dtype(kind).kind == "c":
            raise InputError(
                f"{path} has complex numbers in {key!r}, whose imaginary part is no label: store real ones"
            )
    numbers = of_arrays["numbers"][2] if "numbers" in of_arrays else row.get("numbers")
    if isinstance(numbers, list):
        whole(numbers, path, "'numbers'")
