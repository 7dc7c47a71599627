"""Reads the frames of files in the units of the file, with ASE's readers or from npz files of the MD17 family."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from ase import Atoms
from ase.io import iread
from ase.io.extxyz import per_atom_properties
from jaxtyping import Bool, Float, Int

from equiforce.ase_atoms import group_of
from equiforce.data.xyz import read_xyz_text
from equiforce.elements import SYMBOLS
from equiforce.errors import InputError
from equiforce.quantities import QUANTITIES

VIRIAL = "virial"  # minus the stress times the volume; some files give it instead of the stress
PREFIXES = ("", "REF_", "ref_", "dft_", "DFT_")  # of the keys of labels in files

# first the keys of MD17 and sGDML, then those of rMD17
NPZ_NUMBERS = ("z", "nuclear_charges")
NPZ_POSITIONS = ("R", "coords")
NPZ_NAMES = {"energy": ("E", "energies"), "forces": ("F", "forces")}
NPZ_CELL = ("cell", "lattice", "pbc")
NPZ_UNITS = ("e_unit", "r_unit")
NPZ_ENERGY_UNIT = "kcal/mol"


@dataclass(frozen=True, slots=True)
class Frame:
    """One structure of a file, with its values that may be labels, by their keys in the file."""

    atomic_numbers: Int[np.ndarray, " atoms"]
    positions: Float[np.ndarray, "atoms 3"]
    cell: Float[np.ndarray, "3 3"]
    pbc: Bool[np.ndarray, "3"]
    values: Mapping[str, Any]
    group: str
    of_atoms: frozenset[str] = frozenset()  # the keys of the values that have a row for each atom


@dataclass(frozen=True, slots=True)
class Contents:
    """The frames of one file, with the keys and units that its format implies."""

    path: str
    frames: list[Frame]
    keys: Mapping[str, tuple[str, ...]]  # the possible keys of each label
    energy_unit: str
    length_unit: str
    notes: tuple[str, ...] = ()  # what was changed or left out when the file was read

    def frame_name(self, number: int) -> str:
        """The name of a frame in messages; frames are counted from 0."""
        return f"{self.path}, frame {number}"


def label_names() -> list[str]:
    """The names of all labels that a file may have: each quantity, and the virial."""
    return [*(quantity.name for quantity in QUANTITIES), VIRIAL]


def read_files(paths: Iterable[str | Path]) -> tuple[list[Contents], list[str]]:
    """Read files and folders.

    Args:
        paths: files or folders; a path may end in a slice, as in ``train.xyz@0:100``.

    Returns:
        The contents of each file, and the names of the files in folders in which no reader finds structures.

    Raises:
        InputError: a file does not exist, is empty, or cannot be read.
    """
    contents: list[Contents] = []
    skipped: list[str] = []
    for path in map(str, paths):
        if not Path(path).is_dir():
            contents.append(_read_file(path))
            continue
        inside = sorted(p for p in Path(path).iterdir() if p.is_file() and not p.name.startswith("."))
        for file in inside:
            try:
                contents.append(_read_file(str(file)))
            except _UnreadableError:
                skipped.append(str(file))
        if len(skipped) == len(inside):
            raise InputError(
                f"The folder {path} has no file with structures that can be read: correct the path, or name the files"
            )
    return contents, skipped


class _UnreadableError(InputError):
    """No reader can find a structure in the file."""


def _read_file(path: str) -> Contents:
    file, selection = _split_selection(path)
    if not Path(file).exists():
        folder = Path(file).parent
        names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
        nearest = get_close_matches(Path(file).name, names, n=1, cutoff=0.4)
        hint = f"; did you mean {folder / nearest[0]}?" if nearest else ""
        raise InputError(f"There is no file {file}{hint or ': correct the path'}")
    contents = _read_npz(path, file, selection) if file.endswith(".npz") else _read_ase(path, file, selection)
    if not contents.frames:
        raise _UnreadableError(f"{path} contains no structures: correct the file or the slice")
    return contents


def _split_selection(path: str) -> tuple[str, slice]:
    """Split ``file@0:10`` into the path and the slice."""
    match = re.fullmatch(r"(.+)@(-?\d+)?(:(-?\d+)?)?(:(-?\d+)?)?", path)
    if match is None or Path(path).exists() or path.endswith("@"):
        return path, slice(None)
    file, first, is_range, last, _, step = match.groups()
    if is_range is None:
        return file, slice(int(first), int(first) + 1 or None)
    return file, slice(*(int(text) if text else None for text in (first, last, step)))


def _read_ase(path: str, file: str, selection: slice) -> Contents:
    frames: list[Frame] = []
    xyz = read_xyz_text(file)
    source, form = (file, None) if xyz is None else (xyz.open(), "extxyz")
    try:
        for atoms in iread(source, index=selection, format=form, do_not_split_by_at_sign=True):
            frames.append(_frame_from_atoms(atoms))  # noqa: PERF401 (the message needs the number of the frame that fails)
    # The readers of about a hundred formats raise errors of all types.
    except Exception as error:
        where = f"{path}, frame {len(frames)}"
        if isinstance(error, KeyError) and (line := _line_with(file, str(error.args[0]))):
            raise InputError(
                f"{where} (counted from 0), line {line}: there is no element {error.args[0]!r}: correct the symbol"
            ) from error
        reason = (str(error).strip().splitlines() or [""])[0]
        kind = InputError if frames else _UnreadableError
        raise kind(
            f"{where} (counted from 0) cannot be read by ASE ({type(error).__name__}: {reason}): correct the file"
        ) from error
    if xyz is not None and len(frames) != (expected := len(range(xyz.n_frames)[selection])):
        raise InputError(f"{path} has {expected} frames, but ASE read {len(frames)} of them: correct the file")
    keys = {quantity.name: quantity.keys for quantity in QUANTITIES} | {VIRIAL: ("virial", "virials")}
    with_prefixes = {
        label: tuple(prefix + key for prefix in PREFIXES for key in keys[label]) for label in label_names()
    }
    return Contents(path, frames, with_prefixes, "eV", "Å", () if xyz is None else xyz.notes)


def _frame_from_atoms(atoms: Atoms) -> Frame:
    results = atoms.calc.results if atoms.calc is not None else {}
    arrays = {name: array for name, array in atoms.arrays.items() if name not in ("numbers", "positions")}
    values = {**atoms.info, **arrays, **results}
    of_atoms = frozenset({*arrays, *(results.keys() & per_atom_properties)})
    return Frame(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, values, group_of(atoms.info), of_atoms)


def _line_with(file: str, symbol: str) -> int | None:
    """The first line, counted from 1, of a text file that contains ``symbol``; None if ``symbol`` is an element."""
    if symbol in SYMBOLS[1:]:
        return None
    with suppress(OSError, UnicodeDecodeError), Path(file).open(encoding="utf-8") as lines:
        return next((n for n, line in enumerate(lines, 1) if symbol in (w.capitalize() for w in line.split())), None)
    return None


def _read_npz(path: str, file: str, selection: slice) -> Contents:
    try:
        # numpy itself would leave the file of a broken archive open
        with Path(file).open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            wanted = {*NPZ_NUMBERS, *NPZ_POSITIONS, *sum(NPZ_NAMES.values(), ()), *NPZ_UNITS, *NPZ_CELL}
            arrays = {name: archive[name] for name in archive.files if name in wanted}
            names = ", ".join(archive.files)
            unused = [name for name in archive.files if name not in wanted]
    except (OSError, ValueError, TypeError, EOFError, BadZipFile) as error:
        raise _UnreadableError(f"{path} cannot be read as npz ({error}): correct the file") from error
    numbers = next((arrays[name] for name in NPZ_NUMBERS if name in arrays), None)
    positions = next((arrays[name] for name in NPZ_POSITIONS if name in arrays), None)
    if numbers is None or positions is None:
        raise InputError(
            f"{path} contains the arrays {names} instead of those of MD17 and sGDML (z, R, E, F) or of rMD17 "
            "(nuclear_charges, coords, energies, forces): rename the arrays"
        )
    labels = {name: array for name, array in arrays.items() if name in sum(NPZ_NAMES.values(), ())}
    n_frames, n_atoms = np.shape(positions)[:1], np.shape(numbers)[-1:]
    per_frame = [*labels.values(), *([numbers] if numbers.ndim > 1 else [])]
    if positions.shape != (*n_frames, *n_atoms, 3) or any(array.shape[:1] != n_frames for array in per_frame):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items() if array.ndim)
        raise InputError(f"{path} contains arrays whose shapes do not fit together ({shapes}): correct the file")
    cells, pbc = _npz_cells(path, arrays, *n_frames)
    return Contents(
        path,
        list(_npz_frames(numbers, positions, cells, pbc, labels, selection)),
        {label: NPZ_NAMES.get(label, ()) for label in label_names()},
        str(arrays.get("e_unit", NPZ_ENERGY_UNIT)),
        str(arrays.get("r_unit", "Å")),
        (f"arrays that are not used: {', '.join(unused)}",) if unused else (),
    )


def _npz_cells(path: str, arrays: Mapping[str, np.ndarray], n_frames: int) -> tuple[np.ndarray, np.ndarray]:
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


def _npz_frames(
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
