"""Reads npz files of the MD17 family and of similar programs."""

from collections.abc import Mapping
from typing import Any
from zipfile import ZipFile

import numpy as np

from equiforce.data.frames import Contents, Frame, usual_keys
from equiforce.data.numbers import flags, read_array, real, whole
from equiforce.data.source import Source, check_unpacked
from equiforce.elements import SYMBOLS
from equiforce.errors import InputError

# first the names of MD17 and sGDML, then those of rMD17, then others
NUMBERS = ("z", "nuclear_charges", "Z", "atomic_numbers", "numbers")
POSITIONS = ("R", "coords", "positions", "coordinates", "pos")
LABELS = {"energy": ("E", "energies"), "forces": ("F", "forces")}  # besides the usual ones
CELL = ("cell", "lattice", "pbc")
UNITS = ("e_unit", "r_unit")
MOST_SHOWN = 100  # characters of an error of another library, which may hold parts of the file
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
    arrays, unread = _arrays(source)
    numbers_name, positions_name = (next((n for n in names if n in arrays), "") for names in (NUMBERS, POSITIONS))
    if not numbers_name or not positions_name:
        raise InputError(
            f"{path} contains the arrays {', '.join([*arrays, *unread])} instead of those of MD17 and sGDML (z, R, E, "
            "F) or of rMD17 (nuclear_charges, coords, energies, forces): rename the arrays"
        )
    numbers = whole(arrays[numbers_name], path, f"{numbers_name!r}")
    if len(unknown := numbers[(numbers < 0) | (numbers >= len(SYMBOLS))]):
        raise InputError(f"{path}: {numbers_name!r} holds {unknown[0]}, which is not an element: correct it")
    positions = real(arrays[positions_name], path, f"{positions_name!r}")
    keys = {label: tuple(dict.fromkeys(LABELS.get(label, ()) + names)) for label, names in usual_keys().items()}
    labels = {name for names in keys.values() for name in names}
    if objects := [name for name in unread if name in labels or name in (N_ATOMS, *CELL, *UNITS)]:
        raise InputError(f"{path}: the array {objects[0]!r} holds Python objects, which are never read: store numbers")
    n_frames, n_atoms = np.shape(positions)[:1], np.shape(numbers)[-1:]
    wrong = [n for n, a in arrays.items() if (n in labels or n == N_ATOMS) and a.shape[:1] != n_frames]
    if wrong or positions.shape != (*n_frames, *n_atoms, 3) or numbers.shape not in (n_atoms, (*n_frames, *n_atoms)):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items() if array.ndim)
        raise InputError(f"{path} contains arrays whose shapes do not fit together ({shapes}): correct the file")
    cells, pbc = _cells(path, arrays, *n_frames)
    if (numbers == 0).any() or N_ATOMS in arrays:
        _check_filling(path, numbers, positions, arrays.get(N_ATOMS))
    known = {numbers_name, positions_name, N_ATOMS, *CELL, *UNITS}
    values = {name: a for name, a in arrays.items() if name not in known and a.shape[:1] == n_frames}
    unused = [name for name in (*arrays, *unread) if name not in known and name not in values]
    frames = [
        _frame(numbers if numbers.ndim == 1 else numbers[i], positions[i], cells[i], pbc[i], _each(values, i))
        for i in range(len(positions))[selection]
    ]
    notes = (f"arrays that are not used: {', '.join(unused)}",) if unused else ()
    units = str(arrays.get("e_unit", "")), str(arrays.get("r_unit", "Å"))
    return Contents(path, frames, keys, *units, notes, format="npz")


def _arrays(source: Source) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays of a file, and the names of what is not read: Python objects, and files that are no arrays."""
    arrays: dict[str, np.ndarray] = {}
    unread: list[str] = []
    try:
        with source.open() as stream, ZipFile(stream) as archive:
            files = archive.infolist()
            check_unpacked(source, sum(file.file_size for file in files))
            for file in files:
                name = file.filename.removesuffix(".npy")
                array = None
                if file.filename.endswith(".npy"):
                    with archive.open(file) as content:
                        array = read_array(content, file.file_size, f"{source.path}, array {name!r}")
                if array is None:
                    unread.append(name)
                else:
                    arrays[name] = array
    except InputError:
        raise
    # zipfile, zlib and numpy raise errors of all types for damaged archives
    except Exception as error:
        why = " ".join(str(error).split())[:MOST_SHOWN] or type(error).__name__
        raise InputError(f"{source.path} cannot be read as npz ({why}): correct the file") from error
    if len(arrays) + len(unread) < len(files) or len(set(unread)) < len(unread):
        raise InputError(f"{source.path} has two arrays of one name: write the file again with one of them")
    return arrays, unread


def _each(values: Mapping[str, np.ndarray], i: int) -> dict[str, Any]:
    return {name: array[i] for name, array in values.items()}


def _cells(path: str, arrays: Mapping[str, np.ndarray], n_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """The cell [frames 3 3] and the periodicity [frames 3] of each frame."""
    if "cell" in arrays and "lattice" in arrays:
        raise InputError(f"{path} has the arrays 'cell' and 'lattice': remove one of them")
    # as in nequip's files, with lattice vectors as rows
    cell = real(arrays.get("cell", arrays.get("lattice", np.zeros((3, 3)))), path, "the cell")
    pbc = flags(arrays.get("pbc", cell.any()), path, "'pbc'")
    if cell.shape not in ((3, 3), (n_frames, 3, 3)) or pbc.shape not in ((), (3,), (n_frames, 3)):
        raise InputError(
            f"{path}: the cell has the shape {cell.shape} and pbc {pbc.shape}, but a cell is (3, 3) or "
            f"({n_frames}, 3, 3), and pbc (3,) or ({n_frames}, 3): correct the arrays"
        )
    if "lattice" in arrays:  # sGDML stores lattice vectors as columns
        cell = np.swapaxes(cell, -1, -2)
    return np.broadcast_to(cell, (n_frames, 3, 3)), np.broadcast_to(pbc, (n_frames, 3))


def _check_filling(path: str, numbers: np.ndarray, positions: np.ndarray, n_atoms: np.ndarray | None) -> None:
    """Raise InputError if rows of the element 0 do not only fill up the arrays of smaller structures."""
    rows = numbers if numbers.ndim == 2 else np.broadcast_to(numbers, positions.shape[:2])
    real_atoms = _lengths(rows)
    fillings = np.arange(rows.shape[1]) >= real_atoms[:, None]
    if n_atoms is not None:
        wrong = np.flatnonzero(whole(n_atoms, path, f"{N_ATOMS!r}").reshape(len(rows), -1)[:, 0] != real_atoms)
        what = f"{N_ATOMS!r} does not count the atoms whose element is not 0"
    else:  # without a number of atoms, an atom whose element is lost looks like a filling
        wrong = np.flatnonzero((np.nan_to_num(positions).any(axis=2) & fillings).any(axis=1))
        what = "the last atoms have positions but the element 0"
    if len(wrong):
        raise InputError(f"{path}, frame {wrong[0]} (counted from 0): {what}: correct the elements")


def _lengths(numbers: np.ndarray) -> np.ndarray:
    """The number of atoms of each structure, up to the last one whose element is not 0; all if there is none."""
    known = numbers != 0
    return np.where(known.any(axis=1), numbers.shape[1] - np.argmax(known[:, ::-1], axis=1), numbers.shape[1])


def _frame(
    numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, values: Mapping[str, Any]
) -> Frame:
    """A frame without the rows after its last atom, which fill up the arrays of smaller structures."""
    n_rows = len(numbers)
    n_atoms = int(_lengths(numbers[None])[0]) if n_rows else 0
    of_atoms = {name: value[:n_atoms] for name, value in values.items() if np.shape(value)[:1] == (n_rows,)}
    return Frame(numbers[:n_atoms], positions[:n_atoms], cell, pbc, {**values, **of_atoms}, "")
