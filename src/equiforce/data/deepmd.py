"""Reads the data folders of DeePMD-kit, whose units are eV and Å."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from equiforce.data.frames import VIRIAL, Contents, Frame, label_names
from equiforce.data.numbers import is_plain, read_array, real, whole
from equiforce.elements import SYMBOLS
from equiforce.errors import InputError

TYPES, NAMES, WITHOUT_CELL = "type.raw", "type_map.raw", "nopbc"
POSITIONS, CELL = "coord", "box"
TYPES_OF_FRAMES = "real_atom_types"  # in folders of mixed types, whose type.raw is a placeholder
LABELS = {"energy": ("energy",), "forces": ("force",), VIRIAL: ("virial",)}
VIRTUAL = -1  # the type of an atom that only fills a row


def is_deepmd(folder: Path) -> bool:
    """Whether a folder is a data folder of DeePMD-kit."""
    return (folder / TYPES).is_file()


def read_deepmd(path: str, folder: Path, selection: slice) -> Contents:
    """Read a data folder of DeePMD-kit, of arrays (``set.000/*.npy``) or of texts (``*.raw``), also with mixed types.

    Args:
        path: the folder as messages name it, with a slice if the user gave one.
        folder: the folder.
        selection: which frames are read.

    Raises:
        InputError: an array is missing, or its shape is wrong.
    """
    types = whole(_load(folder / TYPES), path, TYPES).ravel()
    symbols = (
        (folder / NAMES).read_text(encoding="utf-8", errors="replace").split() if (folder / NAMES).is_file() else []
    )
    unknown = [symbol for symbol in symbols if symbol not in SYMBOLS[1:]]
    if types.min(initial=0) < 0:
        raise InputError(f"{folder / TYPES} has the type {types.min()}, but types are counted from 0: correct the file")
    if unknown or len(symbols) <= types.max(initial=0):
        raise InputError(
            f"{path} does not say the element of each type of atom: write their symbols into {folder / NAMES} in the "
            "order of the types, such as 'O H'"
        )
    numbers_of = np.array([SYMBOLS.index(symbol) for symbol in symbols])
    parts = sorted(folder.glob("set.*")) or [folder]
    suffix = "raw" if parts == [folder] else "npy"
    frames: list[Frame] = []
    for part in parts:
        files = [file for file in sorted(part.glob(f"*.{suffix}")) if file.name not in (TYPES, NAMES)]
        arrays = {file.stem: _load(file) for file in files}
        frames += _frames(part, arrays, types, numbers_of, periodic=not (folder / WITHOUT_CELL).exists())
    keys = {label: LABELS.get(label, ()) for label in label_names()}
    return Contents(path, frames[selection], keys, format="deepmd")


def _load(file: Path) -> np.ndarray:
    """An array from a npy file or from a text of numbers."""
    try:
        if file.suffix == ".npy":
            with file.open("rb") as stream:
                array = read_array(stream, file.stat().st_size, str(file))
        else:
            text = file.read_text(encoding="utf-8")
            array = None
            lines = [line for line in text.split("\n") if line.strip()]
            if all(map(is_plain, lines)):
                array = np.array([line.split() for line in lines], float)
    except InputError:
        raise
    # numpy raises errors of all types for damaged headers
    except Exception as error:
        raise InputError(f"{file} is not an array of numbers: copy the folder of DeePMD-kit again") from error
    if array is None:
        raise InputError(f"{file} is not an array of numbers: copy the folder of DeePMD-kit again")
    return array


def _frames(
    part: Path, arrays: dict[str, np.ndarray], types: np.ndarray, numbers_of: np.ndarray, *, periodic: bool
) -> list[Frame]:
    needed = [POSITIONS, *([CELL] if periodic else [])]
    if missing := [name for name in needed if name not in arrays]:
        raise InputError(
            f"{part} has no {' and no '.join(missing)}: complete the folder of DeePMD-kit, or put an empty file "
            f"{WITHOUT_CELL} beside {TYPES} if there is no cell"
        )
    n_frames, n_atoms = len(np.atleast_1d(arrays[POSITIONS])), len(types)
    sizes = {POSITIONS: 3 * n_atoms, "force": 3 * n_atoms, CELL: 9, VIRIAL: 9, "energy": 1, TYPES_OF_FRAMES: n_atoms}
    for name, array in arrays.items():
        if array.shape[:1] != (n_frames,) or (name in sizes and array.size != n_frames * sizes[name]):
            raise InputError(
                f"{part}: {name} has the shape {array.shape}, which does not fit {n_frames} frames of {n_atoms} atoms: "
                "correct the folder"
            )
    for name in {POSITIONS, CELL} & arrays.keys():
        arrays[name] = real(arrays[name], str(part), name)
    if TYPES_OF_FRAMES in arrays:
        arrays[TYPES_OF_FRAMES] = own = whole(arrays[TYPES_OF_FRAMES], str(part), TYPES_OF_FRAMES)
        if own.min(initial=0) < VIRTUAL or own.max(initial=0) >= len(numbers_of):
            raise InputError(
                f"{part}: {TYPES_OF_FRAMES} has types from {own.min()} to {own.max()}, but {NAMES} names "
                f"{len(numbers_of)} elements: correct one of them"
            )
    return [
        _frame({name: array[i] for name, array in arrays.items()}, types, numbers_of, periodic=periodic)
        for i in range(n_frames)
    ]


def _frame(values: Mapping[str, np.ndarray], types: np.ndarray, numbers_of: np.ndarray, *, periodic: bool) -> Frame:
    own = values.get(TYPES_OF_FRAMES, types)
    real = own != VIRTUAL
    rest = {name: value for name, value in values.items() if name not in (POSITIONS, CELL, TYPES_OF_FRAMES)}
    if "force" in rest:
        rest["force"] = rest["force"].reshape(-1, 3)[real]
    cell = values[CELL].reshape(3, 3) if periodic else np.zeros((3, 3))
    positions = values[POSITIONS].reshape(-1, 3)[real]
    return Frame(numbers_of[own[real]], positions, cell, np.full(3, periodic), rest, "")
