"""Reads files with ASE's readers, and says what these leave out."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import IO, Any, cast

import ase.db
import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian
from ase.io import iread
from ase.io.extxyz import per_atom_properties
from ase.io.formats import ioformats
from ase.io.runner.runneratoms import Units

from equiforce.ase_atoms import full_matrix, group_of
from equiforce.data.counts import COUNTED, check_counts
from equiforce.data.cut_off import whole_frames, whole_items
from equiforce.data.databases import check_json
from equiforce.data.formats import DATABASE, JSON, LAMMPS_DATA, LMDB, NAME_IT, OUTCAR, VASPRUN, XYZ, Unreadable
from equiforce.data.frames import Contents, Frame, usual_keys
from equiforce.data.lammps_data import read_lammps_data
from equiforce.data.source import Source
from equiforce.data.vasp import check_tables, read_steps
from equiforce.data.xyz import complete_xyz, fault_in
from equiforce.errors import InputError

DATABASES = (DATABASE, JSON, LMDB)
RUNNER = "runnerdata"  # of RuNNer and n2p2
DUMP, TRAJECTORY, GPAW = "lammps-dump-text", "traj", "gpaw-out"
CHECKS = dict.fromkeys((OUTCAR, VASPRUN), check_tables) | dict.fromkeys(COUNTED, check_counts)
PYTHON = re.compile(r"broadcast|tuple|unpack|NoneType|object|argument|buffer|sequence|array|attribute|index")
# what programs write if the electrons have not converged; ASE does not look at it
NOT_CONVERGED = {
    "espresso-out": "convergence NOT achieved",
    GPAW: "Did not converge",
    "aims-output": "Self-consistency cycle not yet converged",
    "orca-output": "SCF NOT CONVERGED",
    "gaussian-out": "Convergence failure",
    "abinit-out": "not enough SCF cycles to converge",
    "nwchem-out": "Calculation failed to converge",
}


class UnreadableError(InputError):
    """No reader can find a structure in the file.

    Args:
        message: the sentence for the user.
        reason: why, as a clause for a list of files.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def refuse(source: Source, found: Unreadable) -> UnreadableError:
    """The error for a file that no reader can read."""
    step = found.step if source.with_format else found.step.removeprefix(NAME_IT)
    return UnreadableError(f"{source.path} is {found.what}: {step.replace('FILE', source.file)}", found.what)


def read_with_ase(
    source: Source,
    form: str,
    selection: slice,
    *,
    keep_unconverged: bool = False,
    on_frame: Callable[[], None] | None = None,
) -> Contents:
    """Read the frames of a file with ASE.

    Args:
        source: the file.
        form: the name of its format in ASE.
        selection: which frames are read.
        keep_unconverged: whether to keep frames whose electrons did not converge.
        on_frame: is called after each frame, to show the progress.

    Raises:
        InputError: the file cannot be read.
    """
    if form in (OUTCAR, VASPRUN):
        return _read_vasp(source, form, selection, keep_unconverged=keep_unconverged)
    notes: list[str] = []
    frames: list[Frame] = []
    for atoms in iterate_atoms(source, form, selection, notes):
        frames.append(frame_of(atoms))
        if on_frame is not None:
            on_frame()
    if (mark := NOT_CONVERGED.get(form)) is not None:
        with source.open_text() as lines:
            line = next((number for number, line in enumerate(lines, 1) if mark in line), None)
        if line is not None:
            notes.append(f"line {line} says {mark!r}: remove frames that did not converge")
    if form == DUMP:
        notes.append("positions are taken in Å and forces in eV/Å, as in LAMMPS' units metal")
    units = ("Hartree", "Bohr") if form == RUNNER else ("eV", "Å")
    if form in DATABASES:
        units = _units_of(source, form, frames)
    return Contents(source.path, frames, usual_keys(), *units, tuple(notes), format=form)


def iterate_atoms(
    source: Source, form: str, selection: slice, notes: list[str], *, leave_out_cut: bool = False
) -> Iterator[Atoms]:
    """Yield the atoms of a file in turn, as ASE reads them, and append what was changed to the notes.

    Args:
        source: the file.
        form: the name of its format in ASE.
        selection: which frames are read.
        notes: remarks for the user are appended here.
        leave_out_cut: whether the last frame of a trajectory is left out, with a note, if it is cut off.

    Raises:
        InputError: a frame cannot be read; the message names it.
    """
    number, text = 0, ""
    frames: Iterable[Atoms]
    try:
        if form in DATABASES:
            frames = _rows(source, form, selection)
        elif form == XYZ:
            text, remarks = source.text()
            if leave_out_cut:
                text, left_out = whole_frames(text)
                notes += [left_out] if left_out else []
            xyz = complete_xyz(source.path, text)
            notes += [*remarks, *xyz.notes]
            frames = iread(xyz.open(), index=selection, format=XYZ, properties_parser=xyz.parse_header)
        elif form == TRAJECTORY:
            frames = _trajectory(source, selection, notes, leave_out_cut=leave_out_cut)
        elif form == LAMMPS_DATA:
            frames = [read_lammps_data(source, notes)][selection]
        else:
            frames = _iread(source, form, selection)
        for atoms in frames:
            _mend_results(atoms, form)
            yield atoms
            number += 1
    except InputError:
        raise
    # The readers of about a hundred formats raise errors of all types.
    except Exception as error:
        raise _fault(source, form, number, selection, text, error) from error
    if form == XYZ and number != (expected := len(range(xyz.n_frames)[selection])):
        raise InputError(f"{source.path} has {expected} frames, but ASE read {number} of them: correct the file")


def _iread(source: Source, form: str, selection: slice) -> Iterable[Atoms]:
    """The frames by a reader of ASE other than those of xyz files and databases."""
    of_form = ioformats[form]
    arguments: dict[str, Any] = {"input_units": Units.ASE} if form == RUNNER else {}
    if check := CHECKS.get(form):
        with source.open_text() as lines:
            check(source.path, form, lines)
    if not of_form.acceptsfd:
        _refuse_packed(source)
        frames = iread(source.file, slice(None) if of_form.single else selection, form, do_not_split_by_at_sign=True)
        yield from list(frames)[selection] if of_form.single else frames
        return
    with source.open() if of_form.isbinary else source.open_text() as file:
        frames = iread(cast(IO[Any], file), slice(None) if of_form.single else selection, form, **arguments)
        yield from list(frames)[selection] if of_form.single else frames


def _trajectory(source: Source, selection: slice, notes: list[str], *, leave_out_cut: bool) -> Iterable[Atoms]:
    """The frames of a trajectory of ASE; only those that are whole are given to ASE."""
    items = whole_items(source)
    if items.n_whole == items.n or (items.n_whole and leave_out_cut):
        notes += [items.left_out] if items.left_out else []
    if items.n_whole == items.n:
        yield from _iread(source, TRAJECTORY, selection)
        return
    whole = list(islice(_iread(source, TRAJECTORY, slice(None)), items.n_whole))
    for number in range(items.n_whole if items.n_whole and leave_out_cut else items.n)[selection]:
        if number >= items.n_whole:
            raise ValueError("the file ends within it")
        yield whole[number]


def _mend_results(atoms: Atoms, form: str) -> None:
    """Remove what a reader of ASE invents, and add what it leaves out."""
    if form == DUMP and atoms.calc is not None:
        del atoms.calc.results["energy"]  # always 0
    if form == GPAW and getattr(atoms.calc, "name", "") == "gpaw":  # "energy" is the one extrapolated to 0 K
        free_energy = getattr(atoms.calc, "energy_contributions", {}).get("free energy")
        if free_energy is not None:
            atoms.calc.results["free_energy"] = free_energy


def _refuse_packed(source: Source) -> None:
    if (command := source.unpack_command()) is not None:
        raise InputError(f"{source.file} is compressed, which is not possible for its format: unpack it with {command}")


def _fault(source: Source, form: str, number: int, selection: slice, text: str, error: Exception) -> InputError:
    """The error in one sentence, in the words of users instead of those of Python."""
    where = f"{source.path}, frame {number} (counted from 0)"
    if form == XYZ and selection.step in (None, 1) and (selection.start or 0) >= 0:
        line = fault_in(source.path, text, number + (selection.start or 0))
        if line is not None:
            return InputError(f"{where}, {line}")
    if form == LMDB and isinstance(error, ImportError):
        message = f"{source.path} is an LMDB database of ASE: install its reader with 'pip install ase-db-backends'"
        return UnreadableError(message, "an LMDB database, whose reader 'pip install ase-db-backends' installs")
    reason = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    told = isinstance(error, ValueError | OSError | RuntimeError) and " " in reason and not PYTHON.search(reason)
    other = "name another format with --format" if source.with_format else "convert it to extended xyz"
    if number and selection == slice(None):
        other = f"read the frames before it with {source.file}@:{number}"
    message = (
        f"{where} cannot be read as {ioformats[form].description if form in ioformats else form}"
        f"{f' ({reason})' if told else ''}: correct the file, complete it if it is cut off, or {other}"
    )
    return InputError(message) if number else UnreadableError(message, f"damaged, or not of the format {form}")


def frame_of(atoms: Atoms) -> Frame:
    """The frame of ASE's atoms, with everything that ASE knows of them; nested values get names such as ``a.b``."""
    results = dict(atoms.calc.results) if atoms.calc is not None else {}
    if "stress" in results and np.shape(results["stress"]) == (6,):
        results["stress"] = full_matrix(results["stress"])  # six numbers of a file may have another order than ASE's
    arrays = {name: array for name, array in atoms.arrays.items() if name not in ("numbers", "positions")}
    if not (free := _free(atoms)).all():
        arrays["move_mask"] = free  # the name and the meaning of this column in extended xyz files
    values = {**_flat(atoms.info), **arrays, **results}
    of_atoms = frozenset({*arrays, *(results.keys() & set(per_atom_properties))})
    return Frame(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, values, group_of(atoms.info), of_atoms)


def _free(atoms: Atoms) -> np.ndarray:
    """Whether each atom can move [atoms], or each of its coordinates if some are fixed in part [atoms 3]."""
    free = np.ones((len(atoms), 3), dtype=bool)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            free[constraint.index] = False
        elif isinstance(constraint, FixCartesian):
            free[constraint.index] &= ~constraint.mask
    return free if (free != free[:, :1]).any() else free[:, 0]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _rows(source: Source, form: str, selection: slice) -> Iterator[Atoms]:
    """The rows of a database of ASE, with their key_value_pairs and data as values of the frame."""
    _refuse_packed(source)
    if form == JSON:
        check_json(source.path, source.text()[0])
    with ase.db.connect(source.file, type=form, use_lock_file=False, serial=True) as database:
        chosen = range(database.count())[selection]
        rows = [row.id for row in database.select(columns=["id"])] if form == DATABASE else None
        ids = rows or [row.id for row in database.select()]
        for number in chosen:
            row = database.get(id=ids[number])
            atoms = row.toatoms()
            results = atoms.calc.results if atoms.calc is not None else {}
            for kind, values in (("key_value_pairs", row.key_value_pairs), ("data", row.data)):
                for key, value in _flat(values).items():
                    taken = key in atoms.info or key in results or key in atoms.arrays
                    atoms.info[f"{kind}.{key}" if taken else key] = value
            yield atoms


def _units_of(source: Source, form: str, frames: list[Frame]) -> tuple[str, str]:
    """The units that a database states as those of schnetpack do; else eV and Å."""
    with ase.db.connect(source.file, type=form, use_lock_file=False, serial=True) as database:
        stated = database.metadata
    units = stated.get("_property_unit_dict", {})
    energy, length = units.get("energy"), stated.get("_distance_unit")
    for frame in frames:
        for name in ("forces", "stress"):
            if units.get(name) and name in frame.values:
                frame.values[f"{name}_unit"] = units[name]  # type: ignore[index]
    return energy or "eV", length or "Å"


def _read_vasp(source: Source, form: str, selection: slice, *, keep_unconverged: bool) -> Contents:
    with source.open_text() as lines:
        steps = read_steps(source.path, form, lines)
    notes: list[str] = []
    frames = [frame_of(atoms) for atoms in iterate_atoms(source, form, slice(None), notes)]
    chosen = list(range(len(frames)))[selection]
    if steps.n_started > len(frames):
        notes.append(f"ionic step {len(frames)} (counted from 0) is cut off and left out")
    if steps.is_unfinished_relaxation:
        notes.append(
            "the relaxation stopped at NSW before its end; its frames are kept, because their labels are right"
        )
    bad = [n for n, step in enumerate(chosen) if step < len(steps.converged) and not steps.converged[step]]
    if bad:
        named = f"frames {', '.join(map(str, bad))}, whose electrons did not converge in NELM steps"
        notes.append(
            f"kept {named}" if keep_unconverged else f"left out {named}; --set data.unconverged=keep keeps them"
        )
    numbers = [n for n in range(len(chosen)) if keep_unconverged or n not in bad]
    if bad and not numbers:
        raise InputError(
            f"{source.path}: in none of the frames did the electrons converge in NELM steps: compute them again, or "
            "keep them with --set data.unconverged=keep"
        )
    chosen_frames = [frames[chosen[number]] for number in numbers]
    numbered = tuple(numbers) if len(numbers) < len(chosen) else None
    return Contents(source.path, chosen_frames, usual_keys(), notes=tuple(notes), numbers=numbered, format=form)
