"""Reads npz files of the MD17 family and of similar programs."""

from collections.abc import Mapping
from typing import Any
from zipfile import BadZipFile

import numpy as np

from equiforce.data.frames import Contents, Frame, usual_keys
from equiforce.data.source import Source
from equiforce.errors import InputError

# first the names of MD17 and sGDML, then those of rMD17, then others
NUMBERS = ("z", "nuclear_charges", "Z", "atomic_numbers", "numbers")
POSITIONS = ("R", "coords", "positions", "coordinates", "pos")
LABELS = {"energy": ("E", "energies"), "forces": ("F", "forces")}  # besides the usual ones
CELL = ("cell", "lattice", "pbc")
UNITS = ("e_unit", "r_unit")
N_ATOMS = "N"  # of each frame, as in files of PhysNet, whose arrays are filled up with zeros


def read_npz(source: Source, selection: slice) -> Contents:
    """Read an npz file.

    Args:
        source: the file.
        selection: which frames are read.

    Raises:
        InputError: the file is damaged, or has no arrays of elements and positions.
    """
    path = source.path
    arrays, objects = _arrays(source)
    numbers_name, positions_name = (next((n for n in names if n in arrays), "") for names in (NUMBERS, POSITIONS))
    if not numbers_name or not positions_name:
        raise InputError(
            f"{path} contains the arrays {', '.join([*arrays, *objects])} instead of those of MD17 and sGDML (z, R, E, "
            "F) or of rMD17 (nuclear_charges, coords, energies, forces): rename the arrays"
        )
    numbers, positions = arrays[numbers_name], arrays[positions_name]
    keys = {label: tuple(dict.fromkeys(LABELS.get(label, ()) + names)) for label, names in usual_keys().items()}
    labels = {name for names in keys.values() for name in names}
    n_frames, n_atoms = np.shape(positions)[:1], np.shape(numbers)[-1:]
    wrong = [n for n, a in arrays.items() if (n in labels or n == N_ATOMS) and a.shape[:1] != n_frames]
    if wrong or positions.shape != (*n_frames, *n_atoms, 3) or numbers.shape not in (n_atoms, (*n_frames, *n_atoms)):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items() if array.ndim)
        raise InputError(f"{path} contains arrays whose shapes do not fit together ({shapes}): correct the file")
    cells, pbc = _cells(path, arrays, *n_frames)
    known = {numbers_name, positions_name, N_ATOMS, *CELL, *UNITS}
    values = {name: a for name, a in arrays.items() if name not in known and a.shape[:1] == n_frames}
    unused = [name for name in (*arrays, *objects) if name not in known and name not in values]
    frames = [
        _frame(numbers if numbers.ndim == 1 else numbers[i], positions[i], cells[i], pbc[i], _each(values, i))
        for i in range(len(positions))[selection]
    ]
    notes = (f"arrays that are not used: {', '.join(unused)}",) if unused else ()
    units = str(arrays.get("e_unit", "")), str(arrays.get("r_unit", "Å"))
    return Contents(path, frames, keys, *units, notes, format="npz")


def _arrays(source: Source) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays of a file, and the names of those that are Python objects, which are never read."""
    arrays: dict[str, np.ndarray] = {}
    objects: list[str] = []
    try:
        # numpy itself would leave the file of a broken archive open
        with source.open() as stream, np.load(stream, allow_pickle=False) as archive:
            for name in archive.files:
                try:
                    arrays[name] = archive[name]
                except ValueError as error:
                    if "pickle" not in str(error):
                        raise
                    objects.append(name)
    except (ValueError, TypeError, BadZipFile) as error:
        why = "it is not one" if "pickle" in str(error) else str(error)  # numpy proposes to execute code of the file
        raise InputError(f"{source.path} cannot be read as npz ({why}): correct the file") from error
    return arrays, objects


def _each(values: Mapping[str, np.ndarray], i: int) -> dict[str, Any]:
    return {name: array[i] for name, array in values.items()}


def _cells(path: str, arrays: Mapping[str, np.ndarray], n_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """The cell [frames 3 3] and the periodicity [frames 3] of each frame."""
    if "cell" in arrays and "lattice" in arrays:
        raise InputError(f"{path} has the arrays 'cell' and 'lattice': remove one of them")
    cell = arrays.get("cell", np.zeros((3, 3)))  # as in nequip's files, with lattice vectors as rows
    if "lattice" in arrays:  # sGDML stores lattice vectors as columns
        cell = np.swapaxes(arrays["lattice"], -1, -2)
    pbc = np.asarray(arrays.get("pbc", cell.any()), dtype=bool)
    try:
        return np.broadcast_to(cell, (n_frames, 3, 3)), np.broadcast_to(pbc, (n_frames, 3))
    except ValueError as error:
        raise InputError(
            f"{path}: the cell has the shape {np.shape(cell)} and pbc {pbc.shape}, but a cell is (3, 3) or "
            f"({n_frames}, 3, 3), and pbc (3,) or ({n_frames}, 3): correct the arrays"
        ) from error


def _frame(
    numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, values: Mapping[str, Any]
) -> Frame:
    """A frame without the rows after its last atom, which fill up the arrays of smaller structures."""
    atoms, n_rows = np.flatnonzero(numbers > 0), len(numbers)
    n_atoms = int(atoms[-1]) + 1 if len(atoms) else n_rows
    of_atoms = {name: value[:n_atoms] for name, value in values.items() if np.shape(value)[:1] == (n_rows,)}
    return Frame(numbers[:n_atoms], positions[:n_atoms], cell, pbc, {**values, **of_atoms}, "")
