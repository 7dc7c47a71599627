"""The labels of a frame, in eV and Å, from the values of its file."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from equiforce.ase_atoms import full_matrix
from equiforce.data.frames import VIRIAL, Contents, Frame
from equiforce.errors import InputError
from equiforce.quantities import ENERGY, STRESS, Quantity

ASYMMETRY = 0.05  # of the largest component; a larger asymmetry of a stress cannot be rounding


class Scales(NamedTuple):
    """The factors that convert the values of a file to eV and Å."""

    length: float
    of: Mapping[Quantity, float]
    converted: str  # the units of the file in words; empty if they are eV and Å


def label_of(
    frame: Frame, quantity: Quantity, keys: dict[str, str], where: str, scales: Scales
) -> float | np.ndarray | None:
    """The value of a quantity other than the stress in a frame, in eV and Å."""
    key, n_atoms = keys.get(quantity.name), len(frame.atomic_numbers)
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


def stress_of(contents: Contents, number: int, keys: dict[str, str], scales: Scales) -> Float[np.ndarray, "3 3"] | None:
    """The stress of a frame in eV/Å³, positive under tension, from its stress or its virial."""
    frame, where = contents.frames[number], contents.frame_name(number)
    label = VIRIAL if VIRIAL in keys else STRESS.name
    key = keys.get(label)
    values = values_of(frame, key, where)
    if values is None:
        return None
    if values.shape not in ((6,), (9,), (3, 3)):
        raise fault(
            where,
            f"{key!r} has the shape {values.shape}, but a {label} is (3, 3), (9,) or, as xx yy zz yz xz xy, (6,)",
        )
    if not np.isfinite(values).all():
        raise fault(where, f"{key!r} is {values.tolist()}: leave the key out of a frame whose {label} is not known")
    matrix = full_matrix(values) if values.shape == (6,) else values.reshape(3, 3)
    if np.abs(matrix - matrix.T).max() > ASYMMETRY * np.abs(matrix).max():
        raise fault(where, f"{key!r} is not symmetric: {matrix.tolist()}")
    volume = abs(np.linalg.det(frame.cell)) * scales.length**3
    if not np.any(frame.pbc) or volume == 0:
        raise fault(
            where,
            f"{key!r} is given, but there is no volume and therefore no {label} without a periodic cell: "
            f"remove the key, or ignore every {label} with --{label}-key none",
        )
    symmetric = 0.5 * (matrix + matrix.T)
    return symmetric * (scales.of[STRESS] if label == STRESS.name else -scales.of[ENERGY] / volume)


def values_of(frame: Frame, key: str | None, where: str) -> np.ndarray | None:
    """A label in the units of the file, or None if the frame does not have it."""
    value: Any = None if key is None else frame.values.get(key)
    if value is None:
        return None
    try:
        # ASE reads a word without a value, as in a comment "energy -1.0", as True
        if np.asarray(value).dtype != bool:
            return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        pass
    raise fault(where, f"{key!r} is {value!r}, not a number")


def fault(where: str, what: str) -> InputError:
    """The error for a wrong frame."""
    return InputError(f"{where}: {what} (frames and atoms are counted from 0)")
