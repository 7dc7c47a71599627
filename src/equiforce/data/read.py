"""Reads structures and labels from files, converts them to eV and Å, and checks each structure."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from equiforce.data import units
from equiforce.data.files import read_files
from equiforce.data.frames import VIRIAL, Contents, label_names
from equiforce.data.keys import NOTHING, choose_keys
from equiforce.data.values import Scales, fault, label_of, stress_of
from equiforce.elements import SYMBOLS
from equiforce.errors import InputError
from equiforce.neighbors import refuse_coincident
from equiforce.options import option
from equiforce.quantities import ENERGY, FORCES, QUANTITIES, STRESS, Quantity
from equiforce.structure import Structure

STATED_UNIT = re.compile(r"(energy|length|force|stress)s?[-_ ]?units?")  # of a key in the header of a frame
FEW = 3  # a larger number of similar files in a folder share one line of the report


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """The keys and the units of the labels in the files."""

    energy_key: str | None = option(
        None, "key of the energies in the files; default: found automatically; 'none' ignores energies"
    )
    forces_key: str | None = option(None, "key of the forces; default: found automatically; 'none' ignores forces")
    stress_key: str | None = option(None, "key of the stresses; default: found automatically; 'none' ignores stresses")
    virial_key: str | None = option(
        None, "key of virials, from which stresses follow; default: found automatically; 'none' ignores virials"
    )
    energy_unit: str | None = option(
        None, "unit of energies; default eV, but in npz files the unit that they state, or kcal/mol"
    )
    length_unit: str | None = option(None, "unit of lengths; default Å, or the unit that an npz file states")
    forces_unit: str | None = option(None, "unit of forces, such as Hartree/Bohr; default: energy_unit / length_unit")
    stress_unit: str | None = option(None, "unit of stresses, such as GPa or kbar; default: energy_unit / length_unit³")
    stress_positive_under: str = option(
        "tension", "sign of stresses: 'tension' as in ASE, or 'compression' as for pressures and as VASP prints them"
    )
    format: str | None = option(
        None, "format of the files by its name in ASE ('ase info --formats'); default: found by their content"
    )
    unconverged: Literal["leave out", "keep"] = option(
        "leave out", "the labels of steps whose electrons did not converge are wrong; known for outputs of VASP"
    )

    def __post_init__(self) -> None:
        if NOTHING not in (self.stress_key, self.virial_key) and self.stress_key and self.virial_key:
            raise InputError(
                "data.stress_key and data.virial_key both give the stress: name one of them and set the other to 'none'"
            )
        if self.stress_positive_under not in ("tension", "compression"):
            raise InputError(
                f"data.stress_positive_under is {self.stress_positive_under!r}: give 'tension' or 'compression'"
            )
        for key, known in (
            ("energy_unit", units.energy_unit),
            ("length_unit", units.length_unit),
            *((f"{quantity.name}_unit", known) for quantity, known in units.UNIT_PARSERS.items()),
        ):
            try:
                if (unit := getattr(self, key)) is not None:
                    known(unit)
            except InputError as error:
                raise InputError(f"data.{key}: {error}") from None

    def key(self, label: str) -> str | None:
        """The key of a label that the user gave; None if it should be found automatically."""
        return getattr(self, f"{label}_key", None)

    def unit(self, quantity: Quantity) -> str | None:
        """The unit of a quantity that the user gave; None if it follows from the units of energy and length."""
        return None if quantity is ENERGY else getattr(self, f"{quantity.name}_unit", None)


class FileReport(NamedTuple):
    """What was read from one file."""

    path: str
    n_frames: int
    keys: dict[str, tuple[str, int]]  # label -> its key, and the number of frames that have it
    converted: str  # the units of the file in words; empty if they are eV and Å
    notes: tuple[str, ...] = ()  # what was changed or left out

    def __str__(self) -> str:
        found = [f"{label} from {key!r} ({n} of {self.n_frames})" for label, (key, n) in self.keys.items()]
        labels = ", ".join(found) or "no labels"
        units_used = f"; converted from {self.converted}" if self.converted else ""
        return "\n".join([f"{self.path}: {self.n_frames} structures; {labels}{units_used}", *map(_note, self.notes)])


class ReadReport(NamedTuple):
    """What was read from several files; ``print`` shows it."""

    files: tuple[FileReport, ...]
    skipped: tuple[str, ...]  # clauses that name the files that were left out, with the reason

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """One line for each file, or one line for more than three similar files of a folder."""
        alike: dict[tuple[object, ...], list[FileReport]] = {}
        for report in self.files:
            keys = tuple((label, key) for label, (key, _) in report.keys.items())
            alike.setdefault((Path(report.path).parent, keys, report.converted, report.notes), []).append(report)
        lines: list[str] = []
        for group in alike.values():
            lines += [str(report) for report in group] if len(group) <= FEW else [str(_together(group))]
        if self.skipped:
            lines.append(f"skipped: {', '.join(self.skipped)}")
        return lines


def _together(group: Sequence[FileReport]) -> FileReport:
    keys = {label: (key, sum(report.keys[label][1] for report in group)) for label, (key, _) in group[0].keys.items()}
    name = f"{len(group)} files, {group[0].path} to {group[-1].path}"
    return FileReport(name, sum(report.n_frames for report in group), keys, group[0].converted, group[0].notes)


def _note(text: str) -> str:
    return f"  note: {text}"


def read(
    paths: str | Path | Iterable[str | Path], options: ReadOptions | None = None, *, labels_required: bool = True
) -> list[Structure]:
    """Read structures with their labels from files or folders, in eV and Å.

    :func:`equiforce.data.read.read_with_report` also returns which labels were taken, and from which units.

    Args:
        paths: one or more files or folders, with their subfolders: any format of ASE, npz files of MD17, rMD17 or
            sGDML, or data folders of DeePMD-kit; compressed or not. ``file.xyz@0:100`` reads a part of a file.
        options: keys and units; needed if they cannot be found automatically or are not eV and Å.
        labels_required: whether data with neither energies nor forces are an error.

    Returns:
        The structures in the order of the files and of their frames.

    Raises:
        InputError: a file cannot be read, a frame is wrong, or a label is ambiguous.
    """
    return read_with_report(paths, options, labels_required=labels_required)[0]


def read_with_report(
    paths: str | Path | Iterable[str | Path], options: ReadOptions | None = None, *, labels_required: bool = True
) -> tuple[list[Structure], ReadReport]:
    """Read structures as :func:`read` does, and report which labels were taken from which keys and units.

    Args:
        paths: as in :func:`read`.
        options: as in :func:`read`.
        labels_required: as in :func:`read`.

    Returns:
        The structures, and the report; ``print(report)`` shows a line for each file.

    Raises:
        InputError: as in :func:`read`.
    """
    options = options or ReadOptions()
    all_contents, skipped = read_files(
        [paths] if isinstance(paths, str | Path) else paths,
        options.format,
        keep_unconverged=options.unconverged == "keep",
    )
    asked = {label: options.key(label) for label in label_names()}
    structures: list[Structure] = []
    files: list[FileReport] = []
    for contents in all_contents:
        scales = _scales(contents, options)
        _check_stated_units(contents, options, scales)
        keys = choose_keys(contents, asked, scales)
        here = [_structure(contents, number, keys, scales) for number in range(len(contents.frames))]
        structures.extend(here)
        files.append(_file_report(contents, here, keys, scales))
    _check_asked(all_contents, options)
    if labels_required and not any(report.keys.keys() & {ENERGY.name, FORCES.name} for report in files):
        raise InputError(
            f"{', '.join(contents.path for contents in all_contents[:3])}: neither energies nor forces were found "
            f"among the keys {', '.join(_offered(all_contents)) or '(there are none)'}: name them with --energy-key "
            "and --forces-key"
        )
    return structures, ReadReport(tuple(files), tuple(skipped))


def _scales(contents: Contents, options: ReadOptions) -> Scales:
    try:
        energy_unit = units.energy_unit(options.energy_unit or contents.energy_unit)
        length_unit = units.length_unit(options.length_unit or contents.length_unit)
    except InputError as error:
        raise InputError(f"{contents.path}: {error}") from error
    energy, length = units.energy_in_ev(energy_unit), units.length_in_angstrom(length_unit)
    words = [unit for unit in (energy_unit, length_unit) if unit not in ("eV", "Å")]
    scales: dict[Quantity, float] = {}
    for quantity in QUANTITIES:
        scales[quantity] = units.product(energy, length, quantity.dimension)
        if (unit := options.unit(quantity)) is not None:
            scales[quantity] = units.UNIT_PARSERS[quantity](unit)
            words.append(f"{quantity.name} in {unit}")
    if options.stress_positive_under == "compression":
        scales[STRESS] = -scales[STRESS]
        words.append("stress positive under compression")
    return Scales(length, scales, ", ".join(words))


def _check_stated_units(contents: Contents, options: ReadOptions, scales: Scales) -> None:
    """Raise InputError if a frame states another unit than the one that is used; a unit that the user gave wins."""
    readers = {"energy": units.energy_in_ev, "length": units.length_in_angstrom}
    readers |= {quantity.name: reader for quantity, reader in units.UNIT_PARSERS.items()}
    used = {"length": scales.length, **{quantity.name: abs(scale) for quantity, scale in scales.of.items()}}
    stated = {key: match for key in _offered([contents]) if (match := STATED_UNIT.fullmatch(key.lower()))}
    for key, match in stated.items():
        what = next(name for name in used if name.startswith(match[1]))
        if getattr(options, f"{what}_unit") is not None:
            continue
        for number, frame in enumerate(contents.frames):
            if (unit := frame.values.get(key)) is None:
                continue
            where = f"{contents.frame_name(number)}: {key!r} is {unit!r}"
            try:
                factor = readers[what](str(unit))
            except InputError as error:
                raise InputError(f"{where}, but {error}, with --set data.{what}_unit=UNIT") from error
            if not math.isclose(factor, used[what], rel_tol=1e-3):
                raise InputError(
                    f"{where}, but equiforce would read another unit: add --set data.{what}_unit={unit} if the file is "
                    "right, or give the right unit"
                )


def _structure(contents: Contents, number: int, keys: dict[str, str], scales: Scales) -> Structure:
    """Convert a frame to eV and Å and check it."""
    frame, where = contents.frames[number], contents.frame_name(number)
    numbers = np.asarray(frame.atomic_numbers, dtype=np.int64)
    if len(numbers) == 0:
        raise fault(where, "the frame has no atoms: remove it")
    unknown = np.flatnonzero((numbers < 1) | (numbers >= len(SYMBOLS)))
    if len(unknown):
        raise fault(where, f"atom {unknown[0]} has the atomic number {numbers[unknown[0]]}, which is not an element")
    labels: dict[str, Any] = {
        quantity.name: stress_of(contents, number, keys, scales)
        if quantity is STRESS
        else label_of(frame, quantity, keys, where, scales)
        for quantity in QUANTITIES
    }
    extra = {key: value for key, value in frame.values.items() if key not in keys.values() and value is not None}
    structure = Structure(
        atomic_numbers=numbers,
        positions=np.array(frame.positions, dtype=np.float64) * scales.length,
        cell=np.array(frame.cell, dtype=np.float64) * scales.length,
        pbc=np.array(frame.pbc, dtype=bool),
        group=frame.group,
        source=where,
        extra=extra,
        of_atoms=frame.of_atoms.intersection(extra),
        **labels,
    )
    refuse_coincident(structure)
    return structure


def _file_report(
    contents: Contents, structures: Sequence[Structure], keys: dict[str, str], scales: Scales
) -> FileReport:
    found: dict[str, tuple[str, int]] = {}
    for label, key in keys.items():
        name = STRESS.name if label == VIRIAL else label
        found[name] = (key, sum(getattr(s, name) is not None for s in structures))
    return FileReport(contents.path, len(structures), found, scales.converted, contents.notes)


def _offered(all_contents: Sequence[Contents]) -> list[str]:
    """All keys of the files that may be labels."""
    return list(dict.fromkeys(name for contents in all_contents for frame in contents.frames for name in frame.values))


def _check_asked(all_contents: Sequence[Contents], options: ReadOptions) -> None:
    """Raise InputError if no frame has a key that the user gave."""
    offered = _offered(all_contents)
    for label in label_names():
        asked = options.key(label)
        if asked not in (None, NOTHING, *offered):
            nearest = get_close_matches(str(asked), offered, n=len(offered) or 1, cutoff=0.0)
            available = f"the keys are {', '.join(nearest[:8])}" if nearest else "the files have no keys"
            raise InputError(
                f"{', '.join(contents.path for contents in all_contents[:3])}: no frame has the key {asked!r} for the "
                f"{label}: {available}"
            )
