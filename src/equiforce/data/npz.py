"""Reads npz files of the MD17 family."""

from collections.abc import Iterator, Mapping
from zipfile import BadZipFile

import numpy as np

from equiforce.data.frames import Contents, Frame, label_names
from equiforce.data.source import Source
from equiforce.errors import InputError

# first the keys of MD17 and sGDML, then those of rMD17
NUMBERS = ("z", "nuclear_charges")
POSITIONS = ("R", "coords")
LABELS = {"energy": ("E", "energies"), "forces": ("F", "forces")}
CELL = ("cell", "lattice", "pbc")
UNITS = ("e_unit", "r_unit")
ENERGY_UNIT = "kcal/mol"


def read_npz(source: Source, selection: slice) -> Contents:
    """Read an npz file.

    Args:
        source: the file.
        selection: which frames are read.

    Raises:
        InputError: the file is damaged, or its arrays are not those of MD17, sGDML or rMD17.
    """
    path = source.path
    try:
        # numpy itself would leave the file of a broken archive open
        with source.open() as stream, np.load(stream, allow_pickle=False) as archive:
            wanted = {*NUMBERS, *POSITIONS, *sum(LABELS.values(), ()), *UNITS, *CELL}
            arrays = {name: archive[name] for name in archive.files if name in wanted}
            names = ", ".join(archive.files)
            unused = [name for name in archive.files if name not in wanted]
    except (ValueError, TypeError, BadZipFile) as error:
        raise InputError(f"{path} cannot be read as npz ({error}): correct the file") from error
    numbers = next((arrays[name] for name in NUMBERS if name in arrays), None)
    positions = next((arrays[name] for name in POSITIONS if name in arrays), None)
    if numbers is None or positions is None:
        raise InputError(
            f"{path} contains the arrays {names} instead of those of MD17 and sGDML (z, R, E, F) or of rMD17 "
            "(nuclear_charges, coords, energies, forces): rename the arrays"
        )
    labels = {name: array for name, array in arrays.items() if name in sum(LABELS.values(), ())}
    n_frames, n_atoms = np.shape(positions)[:1], np.shape(numbers)[-1:]
    per_frame = [*labels.values(), *([numbers] if numbers.ndim > 1 else [])]
    if positions.shape != (*n_frames, *n_atoms, 3) or any(array.shape[:1] != n_frames for array in per_frame):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items() if array.ndim)
        raise InputError(f"{path} contains arrays whose shapes do not fit together ({shapes}): correct the file")
    cells, pbc = _cells(path, arrays, *n_frames)
    return Contents(
        path,
        list(_frames(numbers, positions, cells, pbc, labels, selection)),
        {label: LABELS.get(label, ()) for label in label_names()},
        str(arrays.get("e_unit", ENERGY_UNIT)),
        str(arrays.get("r_unit", "Å")),
        (f"arrays that are not used: {', '.join(unused)}",) if unused else (),
        format="npz",
    )


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


def _frames(
    numbers: np.ndarray,
    positions: np.ndarray,
    cells: np.ndarray,
    pbc: np.ndarray,
    labels: dict[str, np.ndarray],
    selection: slice,
) -> Iterator[Frame]:
    for i in range(len(positions))[selection]:
        z = numbers if numbers.ndim == 1 else numbers[i]
        yield Frame(z, positions[i], cells[i], pbc[i], {name: array[i] for name, array in labels.items()}, "")
