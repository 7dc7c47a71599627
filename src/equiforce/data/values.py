"""The labels of a frame, in eV and Å, from the values of its file."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from equiforce.data.frames import Frame
from equiforce.data.numbers import not_numbers, short
from equiforce.errors import InputError
from equiforce.quantities import Quantity

Keys = Mapping[str, Sequence[str]]  # label -> its keys in a file; a frame's label is under the first key that it has
UNKNOWN = frozenset({"", "none", "null", "nan", "na", "n/a", "unknown"})  # words, in lower case, for a missing value


class Scales(NamedTuple):
    """The factors that convert the values of a file to eV and Å, and the order of six stress components."""

    length: float
    of: Mapping[Quantity, float]
    converted: str  # the units of the file in words; empty if they are eV and Å
    stress_order: str = "ase"


def is_missing(value: Any) -> bool:
    """Whether a value says that it is not known: it is None, a word such as null, or all its numbers are NaN."""
    if value is None:
        return True
    if isinstance(value, str):
        return value.strip().lower() in UNKNOWN
    numbers = np.asarray(value)
    if numbers.dtype == object:
        return numbers.size > 0 and all(item is None for item in numbers.ravel())
    return numbers.dtype.kind == "f" and numbers.size > 0 and bool(np.isnan(numbers).all())


def key_in(frame: Frame, keys: Sequence[str]) -> str | None:
    """The first of several keys under which the frame has a known value; None if there is none."""
    return next((key for key in keys if not is_missing(frame.values.get(key))), None)


def label_of(frame: Frame, quantity: Quantity, keys: Keys, where: str, scales: Scales) -> float | np.ndarray | None:
    """The value of a quantity other than the stress in a frame, in eV and Å."""
    key, n_atoms = key_in(frame, keys.get(quantity.name, ())), len(frame.atomic_numbers)
    values, shape = values_of(frame, key, where), quantity.rows_of(n_atoms)
    if values is None:
        return None
    if values.shape != shape and not (shape == () and values.size == 1):
        right = f"{quantity.some} is {shape or 'one number'}"
        if quantity.of_atoms:
            right = f"the {quantity.name} on {n_atoms} atoms are {shape}"
        raise fault(where, f"{key!r} has the shape {values.shape}, but {right}")
    values = values.reshape(shape)
    if quantity.of_atoms:
        wrong = np.flatnonzero(~np.isfinite(values.reshape(n_atoms, -1)).all(axis=1))
        if len(wrong):
            raise fault(
                where,
                f"{key!r} of atom {wrong[0]} is {values[wrong[0]].tolist()}, which is not a valid {quantity.one}",
            )
    elif not np.isfinite(values).all():
        raise fault(
            where, f"{key!r} is {values.tolist()}: leave the key out of a frame whose {quantity.name} is not known"
        )
    return values * scales.of[quantity] if shape else values.item() * scales.of[quantity]


def values_of(frame: Frame, key: str | None, where: str) -> np.ndarray | None:
    """A label in the units of the file, or None if the frame does not have it."""
    value: Any = None if key is None else frame.values.get(key)
    if is_missing(value):
        return None
    try:
        what = not_numbers(value)  # ASE reads a word without a value, as in a comment "energy -1.0", as True
    except (TypeError, ValueError):  # rows of different lengths
        what = "not a number"
    if what is not None:
        raise fault(where, f"{key!r} is {short(value)}, {what}")
    return np.asarray(value, dtype=np.float64)


def fault(where: str, what: str) -> InputError:
    """The error for a wrong frame."""
    return InputError(f"{where}: {what} (frames and atoms are counted from 0)")
