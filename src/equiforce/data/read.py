"""Reads structures and labels from files, converts them to eV and Å, and checks each structure."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import numpy as np

from equiforce.data import units
from equiforce.data.convergence import without_unconverged
from equiforce.data.files import read_files
from equiforce.data.frames import VIRIAL, Contents, label_names
from equiforce.data.implied_units import check_usual_unit, evidence_of, implied_unit
from equiforce.data.keys import NOTHING, choose_keys
from equiforce.data.numbers import flags, real, whole
from equiforce.data.placeholders import without_placeholders
from equiforce.data.read_report import FileReport, ReadReport
from equiforce.data.stated_units import check_stated_units, states_a_unit, subject_of
from equiforce.data.stress import (
    COMPONENTS,
    ORDERS,
    asymmetries,
    check_virials,
    has_six_components,
    has_volume,
    is_sheared,
    stress_key_of,
    stress_of,
)
from equiforce.data.stress_checks import check_size, order_that_fits
from equiforce.data.values import Keys, Scales, fault, key_in, label_of
from equiforce.elements import SYMBOLS
from equiforce.errors import InputError
from equiforce.neighbors import refuse_coincident
from equiforce.options import option
from equiforce.quantities import ENERGY, FORCES, QUANTITIES, STRESS, Quantity, join_words
from equiforce.structure import Structure


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
        None, "unit of energies; default eV, but in npz files the unit that they state, or that their numbers imply"
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
        "leave out",
        "the labels of frames whose electrons did not converge are wrong; known for outputs of VASP, and from values "
        "such as scf_converged=F",
    )
    stress_order: str | None = option(
        None,
        "order of six components of stresses and virials: 'ase' (xx yy zz yz xz xy), 'vasp' (xx yy zz xy yz zx) or "
        "'lammps' (xx yy zz xy xz yz); default: that of ASE, an error if the structures contradict it",
    )
    stress_without_volume: str = option(
        "error", "'ignore' leaves out stresses of frames without a volume; 'error', because their cell may be lost"
    )
    keep_zeros: bool = option(
        False, "take energies, forces and stresses of exactly zero as they are, though they seem to be placeholders"
    )
    ignore: str | None = option(
        None, "keys, separated by commas, of values that are ignored though they look like a label, a cell or a unit"
    )
    check: bool = option(
        True, "labels that contradict one another, or charges that vary, are an error; false: they are only noted"
    )

    def __post_init__(self) -> None:
        for name, allowed in (
            ("stress_positive_under", ("tension", "compression")),
            ("stress_order", (None, *ORDERS)),
            ("stress_without_volume", ("error", "ignore")),
        ):
            if (value := getattr(self, name)) not in allowed:
                words = join_words(repr(word) for word in allowed if word is not None)
                raise InputError(f"data.{name} is {value!r}: give {words}")
        if NOTHING not in (self.stress_key, self.virial_key) and self.stress_key and self.virial_key:
            raise InputError(
                "data.stress_key and data.virial_key both give the stress: name one of them and set the other to 'none'"
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

    def ignored(self) -> frozenset[str]:
        """The keys that are ignored."""
        return frozenset(name.strip() for name in (self.ignore or "").split(",") if name.strip())

    def key(self, label: str) -> str | None:
        """The key of a label that the user gave; None if it should be found automatically."""
        return getattr(self, f"{label}_key", None)

    def states(self, name: str) -> bool:
        """Whether the user gave the unit of ``length`` or of a quantity."""
        return getattr(self, f"{name}_unit", None) is not None

    def unit(self, quantity: Quantity) -> str | None:
        """The unit of a quantity that the user gave; None if it follows from the units of energy and length."""
        return None if quantity is ENERGY else getattr(self, f"{quantity.name}_unit", None)


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
    paths: str | Path | Iterable[str | Path],
    options: ReadOptions | None = None,
    *,
    labels_required: bool = True,
    on_frame: Callable[[], None] | None = None,
) -> tuple[list[Structure], ReadReport]:
    """Read structures as :func:`read` does, and report which labels were taken from which keys and units.

    Args:
        paths: as in :func:`read`.
        options: as in :func:`read`.
        labels_required: as in :func:`read`.
        on_frame: is called after each frame that was read, to show the progress.

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
        on_frame=on_frame,
    )
    structures: list[Structure] = []
    files: list[FileReport] = []
    for contents in all_contents:
        here, report = _read_contents(contents, options)
        structures.extend(here)
        files.append(report)
    _check_asked(all_contents, options)
    missing = [q for q in (ENERGY, FORCES) if all(s.label(q) is None for s in structures)]
    if labels_required and len(missing) == 2:
        raise _no_labels(all_contents, files)
    keys = ", ".join(_offered(all_contents))
    notes = tuple(
        f"there are no {q.plural} in {_paths(all_contents)}, so that training and tests go without {q.plural}; the "
        f"keys are {keys}: if one of them has {q.plural}, name it with --{q.name}-key"
        for q in missing
        if len(missing) == 1 and options.key(q.name) != NOTHING
    )
    return structures, ReadReport(tuple(files), tuple(skipped), notes)


def _no_labels(all_contents: Sequence[Contents], files: Sequence[FileReport]) -> InputError:
    """The error for data with neither energies nor forces."""
    notes = "; ".join(note for report in files for note in report.notes)
    return InputError(
        f"{_paths(all_contents)}: neither energies nor forces were found among the keys "
        f"{', '.join(_offered(all_contents)) or '(there are none)'}{f' ({notes})' if notes else ''}: name them with "
        "--energy-key and --forces-key"
    )


def _paths(all_contents: Sequence[Contents]) -> str:
    names = [contents.path for contents in all_contents]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more files" if len(names) > 3 else "")


def _read_contents(contents: Contents, options: ReadOptions) -> tuple[list[Structure], FileReport]:
    """Convert the frames of a file to structures, and report what was taken and what was left out."""
    contents = without_unconverged(contents, keep=options.unconverged == "keep")
    choice = choose_keys(contents, {label: options.key(label) for label in label_names()}, options.ignored())
    keys, notes = choice.keys, [*contents.notes, *choice.notes]
    scales, remarks = _scales(contents, keys, options)
    used = {"length": scales.length, **{quantity.name: abs(scale) for quantity, scale in scales.of.items()}}
    check_stated_units(contents, used, {name for name in used if options.states(name)}, options.ignored())
    doubt = _doubt_of_unit(contents, keys, options)
    check_virials(contents, keys, scales)
    raw = [_structure(contents, number, keys, scales, options) for number in range(len(contents.frames))]
    structures, zeros = (raw, []) if options.keep_zeros else without_placeholders(raw)
    more_remarks, more_notes = _check_stresses(contents, structures, keys, scales, options)
    unused = tuple(name for name in choice.unused if not states_a_unit(name))
    return structures, FileReport(
        contents.path,
        len(structures),
        _found(contents, structures, keys),
        scales.converted,
        notes=(*notes, *doubt, *zeros, *more_notes),
        remarks=(*remarks, *more_remarks),
        unused=unused,
    )


def _scales(contents: Contents, keys: Keys, options: ReadOptions) -> tuple[Scales, list[str]]:
    """The scales of a file, and a remark if its numbers imply its unit of energy."""
    remarks = []
    if not (unit := options.energy_unit or contents.energy_unit):
        unit, by = implied_unit(contents.path, evidence_of(contents, keys))
        remarks = [f"in {unit}, which the file does not state, but the size of its {by} implies"] if by else []
    try:
        energy_unit = units.energy_unit(unit)
        length_unit = units.length_unit(options.length_unit or contents.length_unit)
    except InputError as error:
        raise InputError(f"{contents.path}: {error}") from error
    energy, length = units.energy_in_ev(energy_unit), units.length_in_angstrom(length_unit)
    words = [unit for unit in (energy_unit, length_unit) if unit not in ("eV", "Å")]
    scales: dict[Quantity, float] = {}
    for quantity in QUANTITIES:
        scales[quantity] = units.product(energy, length, quantity.dimension)
        if (given := options.unit(quantity)) is not None:
            scales[quantity] = units.UNIT_PARSERS[quantity](given)
            words.append(f"{quantity.name} in {given}")
    if options.stress_positive_under == "compression":
        scales[STRESS] = -scales[STRESS]
        words.append("stress positive under compression")
    return Scales(length, scales, ", ".join(words), options.stress_order or "ase"), remarks


def _doubt_of_unit(contents: Contents, keys: Keys, options: ReadOptions) -> list[str]:
    """A note if a file that is read in eV, and does not state this, has energies of the size of another unit."""
    is_stated = any(subject_of(name) == ENERGY.name for name in _offered([contents]))
    if is_stated or options.energy_unit is not None or contents.energy_unit != "eV":
        return []
    note = check_usual_unit(contents.path, evidence_of(contents, keys))
    return [note] if note else []


def _structure(contents: Contents, number: int, keys: Keys, scales: Scales, options: ReadOptions) -> Structure:
    """Convert a frame to eV and Å and check it."""
    frame, where = contents.frames[number], contents.frame_name(number)
    numbers = whole(frame.atomic_numbers, where, "the atomic number")
    if len(numbers) == 0:
        raise fault(where, "the frame has no atoms: remove it")
    unknown = np.flatnonzero((numbers < 1) | (numbers >= len(SYMBOLS)))
    if len(unknown):
        raise fault(where, f"atom {unknown[0]} has the atomic number {numbers[unknown[0]]}, which is not an element")
    if not np.isfinite(frame.cell).all():
        raise fault(where, "the cell holds a value that is not finite: correct the cell")
    no_stress = options.stress_without_volume == "ignore" and not has_volume(frame)
    labels: dict[str, Any] = {
        quantity.name: label_of(frame, quantity, keys, where, scales)
        if quantity is not STRESS
        else None
        if no_stress
        else stress_of(contents, number, keys, scales)
        for quantity in QUANTITIES
    }
    taken = {name for names in keys.values() for name in names}
    extra = {key: value for key, value in frame.values.items() if key not in taken and value is not None}
    structure = Structure(
        atomic_numbers=numbers,
        positions=real(frame.positions, where, "the positions") * scales.length,
        cell=real(frame.cell, where, "the cell") * scales.length,
        pbc=flags(frame.pbc, where, "the periodicity"),
        group=frame.group,
        source=where,
        extra=extra,
        of_atoms=frame.of_atoms.intersection(extra),
        **labels,
    )
    refuse_coincident(structure)
    return structure


def _check_stresses(
    contents: Contents, structures: Sequence[Structure], keys: Keys, scales: Scales, options: ReadOptions
) -> tuple[list[str], list[str]]:
    """Check the order and the size of the stresses of a file; returns remarks and notes."""
    remarks, notes = [], asymmetries(contents, keys, scales)
    pairs = list(zip(contents.frames, structures, strict=True))
    six = [s for frame, s in pairs if s.stress is not None and has_six_components(frame, keys)]
    if options.stress_order is None and any(is_sheared(s) for s in six):
        if (order := order_that_fits(six, scales.stress_order)) != scales.stress_order:
            raise InputError(
                f"{contents.path}: the six components of the stresses contradict the structures if they are "
                f"{COMPONENTS[scales.stress_order]}, and fit as {COMPONENTS[order]}: add --set data.stress_order="
                f"{order}, or --set data.stress_order={scales.stress_order} to keep this order"
            )
        remarks.append(
            f"six stress components read as {COMPONENTS[scales.stress_order]} (another order: --set "
            "data.stress_order=vasp or lammps)"
        )
    any_unit = options.energy_unit or options.length_unit
    for label, given in ((STRESS.name, options.stress_unit or any_unit), (VIRIAL, any_unit)):
        found = [(stress_key_of(frame, keys), s) for frame, s in pairs]
        if of_label := [s for key, s in found if key is not None and key[0] == label]:
            remark, note = check_size(of_label, keys[label][0], label, given is not None)
            remarks += [remark] if remark else []
            notes += [note] if note else []
    return remarks, notes


def _found(contents: Contents, structures: Sequence[Structure], keys: Keys) -> dict[str, tuple[tuple[str, int], ...]]:
    """For each label, its keys and the number of frames that have it there."""
    found: dict[str, tuple[tuple[str, int], ...]] = {}
    for quantity in QUANTITIES:
        names = [*keys.get(quantity.name, ()), *(keys.get(VIRIAL, ()) if quantity is STRESS else ())]
        pairs = zip(contents.frames, structures, strict=True)
        used = Counter(key_in(frame, names) for frame, s in pairs if s.label(quantity) is not None)
        if names:
            first = tuple((name, used[name]) for name in names if used[name])
            found[quantity.name] = first or ((names[0], 0),)
    return found


def _offered(all_contents: Sequence[Contents]) -> list[str]:
    """All keys of the files that may be labels."""
    return list(dict.fromkeys(name for contents in all_contents for frame in contents.frames for name in frame.values))


def _check_asked(all_contents: Sequence[Contents], options: ReadOptions) -> None:
    """Raise InputError if no frame has a key that the user gave."""
    offered = _offered(all_contents)
    wanted = [(options.key(label), f"the {label}") for label in label_names()]
    for asked, what in [*wanted, *((name, "data.ignore") for name in sorted(options.ignored()))]:
        if asked not in (None, NOTHING, *offered):
            nearest = get_close_matches(str(asked), offered, n=len(offered) or 1, cutoff=0.0)
            available = f"the keys are {', '.join(nearest[:8])}" if nearest else "the files have no keys"
            raise InputError(f"{_paths(all_contents)}: no frame has the key {asked!r} for {what}: {available}")
