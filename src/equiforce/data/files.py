"""Reads files and folders of all formats that equiforce knows."""

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ase import Atoms
from ase.io.formats import ioformats

from equiforce.data.ase_files import UnreadableError, iterate_atoms, read_with_ase, refuse
from equiforce.data.cut_off import CIF, PDB, signs_of_a_cut
from equiforce.data.deepmd import is_deepmd, read_deepmd
from equiforce.data.formats import NO_LABELS, NPZ, XYZ, Unreadable, recognise
from equiforce.data.frames import Contents
from equiforce.data.npz import read_npz
from equiforce.data.source import Source, faults_of
from equiforce.data.vasp import LABELLED, without_repeated_steps
from equiforce.errors import InputError

SHOWN = 3  # kinds of files that a message names
MODEL = "model.eqf"  # of a run of equiforce, whose folder holds predictions instead of data


class Skipped(NamedTuple):
    """A file of a folder that was not read, and why."""

    path: str
    reason: str


def read_files(
    paths: Iterable[str | Path],
    form: str | None = None,
    *,
    keep_unconverged: bool = False,
    on_frame: Callable[[], None] | None = None,
) -> tuple[list[Contents], list[str]]:
    """Read files and folders, with all their subfolders.

    Args:
        paths: files or folders; a path may end in a slice, as in ``train.xyz@0:100``.
        form: the format of the files, as ASE names it; None to find it by their content and their names.
        keep_unconverged: whether to keep frames whose electrons did not converge.
        on_frame: is called after each frame, to show the progress.

    Returns:
        The contents of each file, and clauses that name the files that were left out, with the reason.

    Raises:
        InputError: a file does not exist, is empty, or cannot be read.
    """
    contents: list[Contents] = []
    skipped: list[Skipped] = []
    reader = partial(_read_file, form=form, keep_unconverged=keep_unconverged, on_frame=on_frame)
    for path in map(str, paths):
        if not Path(path).is_dir() or is_deepmd(Path(path)):
            contents.append(reader(path))
            continue
        found, left_out = _read_folder(path, reader)
        contents += found
        skipped += left_out
    contents, repeated = without_repeated_steps(contents)
    return contents, _grouped([*skipped, *(Skipped(*each) for each in repeated)])


def read_last(path: str) -> tuple[Atoms, list[str]]:
    """Read the last structure of a file as ASE's atoms, with momenta and constraints if the file has them.

    If the file ends within a frame, the last structure is that of the frame before, and the remarks say so.

    Args:
        path: a file, which may end in a slice; or a data folder of DeePMD-kit.

    Returns:
        The atoms, and clauses about what the user should know of the file.

    Raises:
        InputError: no structure can be read.
    """
    source, selection = _split_selection(path)
    source = replace(source, with_format=False)  # commands that start from one structure have no --format
    folder = Path(source.file)
    if folder.is_dir() and not is_deepmd(folder):
        raise InputError(f"{path} is a folder: name one file with a start structure, after the model")
    form = None if folder.is_dir() else _form_of(source, None)
    if form is None or form == NPZ:
        contents = _read_file(path, keep_unconverged=True)
        frame, n_frames, notes = contents.frames[-1], len(contents.frames), list(contents.notes)
        atoms = Atoms(frame.atomic_numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
    else:
        notes = []
        with faults_of(source):
            last = deque(iterate_atoms(source, form, selection, notes, leave_out_cut=True), maxlen=2)
            if not last:
                raise _without_structures(path)
            atoms, n_frames = last[-1], len(last)
            if form == XYZ or (ioformats[form].single and not ioformats[form].isbinary) or form in (PDB, CIF):
                notes += [] if notes and "cut off" in str(notes) else signs_of_a_cut(form, source.text()[0], atoms)
    return atoms, [*([f"the last of several frames in {path}"] if n_frames > 1 else []), *notes]


def _read_folder(path: str, reader: Callable[[str], Contents]) -> tuple[list[Contents], list[Skipped]]:
    contents: list[Contents] = []
    skipped: list[Skipped] = []
    for file in _walk(Path(path), skipped):
        try:
            contents.append(reader(str(file)))
        except UnreadableError as error:
            skipped.append(Skipped(str(file), error.reason))
    if not contents:
        found = f", only {', '.join(_grouped(skipped)[:SHOWN])}" if skipped else ""
        raise InputError(f"The folder {path} has no file with structures that can be read{found}: correct the path")
    labelled = {Path(each.path).parent for each in contents if each.format in LABELLED}
    companions = [each for each in contents if each.format in NO_LABELS and Path(each.path).parent in labelled]
    skipped += [Skipped(each.path, "structures of the run of VASP whose output is read") for each in companions]
    return [each for each in contents if each not in companions], skipped


def _walk(folder: Path, skipped: list[Skipped]) -> Iterator[Path]:
    """Yield the files and the folders of DeePMD-kit in a folder and its subfolders, in the order of names."""
    for place, folders, files in os.walk(folder):
        here = Path(place)
        if here != folder and MODEL in files:
            skipped.append(Skipped(place, "the folder of a run of equiforce"))
            folders.clear()
            continue
        if is_deepmd(here):
            folders.clear()
            yield here
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (here / name for name in sorted(files) if not name.startswith("."))


def _grouped(skipped: list[Skipped]) -> list[str]:
    """One clause for all files that were left out for the same reason."""
    by_reason: dict[str, list[str]] = {}
    for path, reason in skipped:
        by_reason.setdefault(reason, []).append(path)
    return [
        f"{paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''} ({reason})"
        for reason, paths in by_reason.items()
    ]


def _read_file(
    path: str, form: str | None = None, *, keep_unconverged: bool, on_frame: Callable[[], None] | None = None
) -> Contents:
    source, selection = _split_selection(path)
    if Path(source.file).is_dir():
        contents = read_deepmd(path, Path(source.file), selection)
    else:
        found = _form_of(source, form)
        with faults_of(source):
            if found == NPZ:
                contents = read_npz(source, selection)
            else:
                contents = read_with_ase(source, found, selection, keep_unconverged=keep_unconverged, on_frame=on_frame)
    if not contents.frames:
        raise _without_structures(path)
    if (asked := _asked(selection)) is not None and len(contents.frames) < asked and contents.numbers is None:
        note = f"the slice asks for {asked} frames, but the file has only {len(contents.frames)} of them"
        contents = replace(contents, notes=(*contents.notes, note))
    return contents


def _form_of(source: Source, asked: str | None) -> str:
    """The format of a file, which exists and is a file of data."""
    file = Path(source.file)
    if not file.exists():
        if file.is_symlink():
            raise InputError(f"{file} is a link to a file that does not exist: correct the link")
        names = [p.name for p in file.parent.iterdir()] if file.parent.is_dir() else []
        nearest = get_close_matches(file.name, names, n=1, cutoff=0.4)
        hint = f"; did you mean {file.parent / nearest[0]}?" if nearest else ""
        raise InputError(f"There is no file {file}{hint or ': correct the path'}")
    if not file.is_file():
        raise InputError(f"{source.path} is neither a file nor a data folder of DeePMD-kit: name a file")
    with faults_of(source):
        found = recognise(source, asked)
    if isinstance(found, Unreadable):
        raise refuse(source, found)
    return found


def _without_structures(path: str) -> UnreadableError:
    return UnreadableError(f"{path} contains no structures: correct the file or the slice", "without structures")


def _split_selection(path: str) -> tuple[Source, slice]:
    """Split ``file@0:10`` into the file and the slice."""
    match = re.fullmatch(r"(.+)@(-?\d+)?(:(-?\d+)?)?(:(-?\d+)?)?", path)
    if match is None or Path(path).exists() or path.endswith("@"):
        return Source(path, path), slice(None)
    file, first, is_range, last, _, step = match.groups()
    if is_range is None:
        return Source(path, file), slice(int(first), int(first) + 1 or None)
    if step == "0":
        raise InputError(f"{path}: the step of a slice cannot be 0")
    return Source(path, file), slice(*(int(text) if text else None for text in (first, last, step)))


def _asked(selection: slice) -> int | None:
    """How many frames a slice asks for; None if that depends on the file."""
    start, stop, step = selection.start, selection.stop, selection.step or 1
    if stop is None:
        return -start if start is not None and start < 0 and step == 1 else None
    if stop < 0 or (start or 0) < 0:
        return None
    return len(range(start or 0, stop, step))
