"""The unit boundary: any file with structures and labels -> structures in eV and Å, checked one by one."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from equiforce.ase_atoms import full_matrix
from equiforce.data import units
from equiforce.data.frames import LABELS, Contents, Frame, read_files
from equiforce.elements import SYMBOLS
from equiforce.errors import InputError
from equiforce.graph import Structure
from equiforce.neighbors import refuse_coincident
from equiforce.options import option

ASYMMETRY = 0.05  # of the largest component; more is no rounding
FEW = 3  # files; more of a kind share a line of the report
NOTHING = "none"  # the key that leaves a label out


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Where the labels are in the files, and in which units."""

    energy_key: str | None = option(None, "found by itself; 'none' leaves energies out")
    forces_key: str | None = option(None, "found by itself; 'none' leaves forces out")
    stress_key: str | None = option(None, "found by itself; 'none' leaves stresses out")
    virial_key: str | None = option(None, "found by itself; 'none' leaves virials out")
    energy_unit: str | None = option(None, "eV, or what an npz file states: kcal/mol if nothing")
    length_unit: str | None = option(None, "Å, or what an npz file states")
    forces_unit: str | None = option(None, "the unit of energy over that of length")
    stress_unit: str | None = option(None, "the unit of energy over the cube of that of length; else GPa, kbar, ...")
    stress_positive_under: str = option("tension", "ASE's sign; 'compression' for pressures, as VASP prints them")

    def __post_init__(self) -> None:
        if NOTHING not in (self.stress_key, self.virial_key) and self.stress_key and self.virial_key:
            raise InputError("stress_key and virial_key say the same thing: give one of them, or 'none' for the other")
        if self.stress_positive_under not in ("tension", "compression"):
            raise InputError(
                f"data.stress_positive_under is {self.stress_positive_under!r}: it must be 'tension' or 'compression'"
            )
        for key, unit, known in (
            ("energy_unit", self.energy_unit, units.energy_unit),
            ("length_unit", self.length_unit, units.length_unit),
            ("forces_unit", self.forces_unit, units.force_in_ev_per_angstrom),
            ("stress_unit", self.stress_unit, units.stress_in_ev_per_cubic_angstrom),
        ):
            try:
                if unit is not None:
                    known(unit)
            except InputError as error:
                raise InputError(f"data.{key}: {error}") from None

    def key(self, label: str) -> str | None:
        """The key asked for a label, None where it is to be found."""
        return {
            "energy": self.energy_key,
            "forces": self.forces_key,
            "stress": self.stress_key,
            "virial": self.virial_key,
        }[label]


class Taken(NamedTuple):
    """What was read from one file."""

    path: str
    n_frames: int
    keys: dict[str, tuple[str, int]]  # label -> its key, and how many frames have it
    converted: str  # from which units; empty where they were eV and Å

    def __str__(self) -> str:
        found = [f"{label} from {key!r} ({n} of {self.n_frames})" for label, (key, n) in self.keys.items()]
        labels = ", ".join(found) or "no labels"
        units_used = f"; converted from {self.converted}" if self.converted else ""
        return f"{self.path}: {self.n_frames} structures; {labels}{units_used}"


class ReadReport(NamedTuple):
    """What was read from several files: print it."""

    files: tuple[Taken, ...]
    skipped: tuple[str, ...]  # files of folders in which no structures were found

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """A line for each file, or one for the many files of a folder that are alike."""
        alike: dict[tuple, list[Taken]] = {}
        for taken in self.files:
            keys = tuple((label, key) for label, (key, _) in taken.keys.items())
            alike.setdefault((Path(taken.path).parent, keys, taken.converted), []).append(taken)
        lines: list[str] = []
        for group in alike.values():
            lines += [str(taken) for taken in group] if len(group) <= FEW else [str(_together(group))]
        if self.skipped:
            lines.append(f"not read, for no structures were found there: {', '.join(self.skipped)}")
        return lines


def _together(group: Sequence[Taken]) -> Taken:
    keys = {label: (key, sum(taken.keys[label][1] for taken in group)) for label, (key, _) in group[0].keys.items()}
    name = f"{len(group)} files, {group[0].path} to {group[-1].path}"
    return Taken(name, sum(taken.n_frames for taken in group), keys, group[0].converted)


def read(
    paths: str | Path | Iterable[str | Path], options: ReadOptions | None = None, *, labels_required: bool = True
) -> list[Structure]:
    """The structures of files or folders, in eV and Å, with the energies, forces and stresses that the files give.

    :func:`equiforce.data.read.read_with_report` also says which labels were taken, and from which units.

    Args:
        paths: one or several: anything ASE reads, or npz of MD17, rMD17 or sGDML, or a folder of such files;
            ``file.xyz@0:100`` reads a part of a file.
        options: keys and units, where they cannot be found or are not eV and Å.
        labels_required: refuse data that have neither energies nor forces.

    Returns:
        The structures in the order of the files and of their frames.

    Raises:
        InputError: for a file that cannot be read, a frame that cannot be right, an ambiguous label.
    """
    return read_with_report(paths, options, labels_required=labels_required)[0]


def read_with_report(
    paths: str | Path | Iterable[str | Path], options: ReadOptions | None = None, *, labels_required: bool = True
) -> tuple[list[Structure], ReadReport]:
    """The structures of :func:`read`, and which labels were taken from which keys and units.

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
    contents, skipped = read_files([paths] if isinstance(paths, str | Path) else paths)
    structures: list[Structure] = []
    files: list[Taken] = []
    for part in contents:
        scales = _scales(part, options)
        keys = _choose_keys(part, options, scales)
        here = [_structure(part, number, keys, scales) for number in range(len(part.frames))]
        structures.extend(here)
        files.append(_taken(part, here, keys, scales))
    _check_asked(contents, options)
    if labels_required and not any(taken.keys.keys() & {"energy", "forces"} for taken in files):
        raise InputError(
            f"{', '.join(part.path for part in contents[:3])}: neither energies nor forces were found among "
            f"{', '.join(_offered(contents)) or 'bare positions'}; name them with --energy-key and --forces-key"
        )
    return structures, ReadReport(tuple(files), tuple(skipped))


class _Scales(NamedTuple):
    """What values are multiplied with to be in eV and Å."""

    energy: float
    length: float
    forces: float
    stress: float
    converted: str  # in words; empty where nothing changes


def _scales(part: Contents, options: ReadOptions) -> _Scales:
    try:
        energy_unit = units.energy_unit(options.energy_unit or part.energy_unit)
        length_unit = units.length_unit(options.length_unit or part.length_unit)
    except InputError as error:
        raise InputError(f"{part.path}: {error}") from error
    energy, length = units.energy_in_ev(energy_unit), units.length_in_angstrom(length_unit)
    forces, stress = energy / length, energy / length**3
    words = [unit for unit in (energy_unit, length_unit) if unit not in ("eV", "Å")]
    if options.forces_unit is not None:
        forces = units.force_in_ev_per_angstrom(options.forces_unit)
        words.append(f"forces in {options.forces_unit}")
    if options.stress_unit is not None:
        stress = units.stress_in_ev_per_cubic_angstrom(options.stress_unit)
        words.append(f"stress in {options.stress_unit}")
    if options.stress_positive_under == "compression":
        stress = -stress
        words.append("stress positive under compression")
    return _Scales(energy, length, forces, stress, ", ".join(words))


def _choose_keys(part: Contents, options: ReadOptions, scales: _Scales) -> dict[str, str]:
    """The key of each label that the file has."""
    present = Counter(name for frame in part.frames for name, value in frame.values.items() if value is not None)
    keys: dict[str, str] = {}
    for label in LABELS:
        asked = options.key(label)
        candidates = [name for name in (part.names[label] if asked is None else (asked,)) if present[name]]
        for other in candidates[1:]:
            _check_same(part, label, candidates[0], other)
        if candidates and asked != NOTHING:
            keys[label] = candidates[0]
    if "stress" in keys and "virial" in keys:
        if options.virial_key is not None:
            del keys["stress"]
        elif options.stress_key is None:
            _check_virial(part, keys, scales)
        keys.pop("virial" if "stress" in keys else "stress", None)
    return keys


def _check_same(part: Contents, label: str, one: str, other: str) -> None:
    """Two keys for one label will do only where they say the same."""
    for number, frame in enumerate(part.frames):
        a, b = (_values(frame, key, part.frame(number)) for key in (one, other))
        same = a is b if a is None or b is None else a.shape == b.shape and np.allclose(a, b, rtol=1e-7, atol=1e-6)
        if not same:
            raise InputError(
                f"{part.frame(number)}: {one!r} and {other!r} both may be the {label}, and are not the same: "
                f"say which with --{label}-key {one} or --{label}-key {other}"
            )


def _check_virial(part: Contents, keys: dict[str, str], scales: _Scales) -> None:
    for number in range(len(part.frames)):
        stress = _stress(part, number, {"stress": keys["stress"]}, scales)
        from_virial = _stress(part, number, {"virial": keys["virial"]}, scales)
        if stress is None or from_virial is None:
            same = stress is from_virial
        else:
            same = np.allclose(stress, from_virial, rtol=1e-3, atol=1e-5)
        if not same:
            raise InputError(
                f"{part.frame(number)}: {keys['stress']!r} is not −virial/volume of {keys['virial']!r}: "
                f"say which to take with --stress-key {keys['stress']} or --virial-key {keys['virial']}"
            )


def _structure(part: Contents, number: int, keys: dict[str, str], scales: _Scales) -> Structure:
    """One frame in eV and Å, after every check."""
    frame, where = part.frames[number], part.frame(number)
    numbers = np.asarray(frame.atomic_numbers, dtype=np.int64)
    if len(numbers) == 0:
        raise _fault(where, "there are no atoms")
    unknown = np.flatnonzero((numbers < 1) | (numbers >= len(SYMBOLS)))
    if len(unknown):
        raise _fault(where, f"atom {unknown[0]} is no element, its atomic number is {numbers[unknown[0]]}")
    structure = Structure(
        atomic_numbers=numbers,
        positions=np.array(frame.positions, dtype=np.float64) * scales.length,
        cell=np.array(frame.cell, dtype=np.float64) * scales.length,
        pbc=np.array(frame.pbc, dtype=bool),
        energy=_energy(frame, keys.get("energy"), where, scales),
        forces=_forces(frame, keys.get("forces"), where, scales),
        stress=_stress(part, number, keys, scales),
        group=frame.group,
        source=where,
    )
    refuse_coincident(structure)
    return structure


def _energy(frame: Frame, key: str | None, where: str, scales: _Scales) -> float | None:
    values = _values(frame, key, where)
    if values is None:
        return None
    if values.size != 1:
        raise _fault(where, f"{key!r} has the shape {values.shape}, where an energy is one number")
    if not np.isfinite(values).all():
        raise _fault(where, f"{key!r} is {values.item()}; leave the key out of a frame whose energy is not known")
    return float(values.item()) * scales.energy


def _forces(frame: Frame, key: str | None, where: str, scales: _Scales) -> Float[np.ndarray, "atoms 3"] | None:
    values = _values(frame, key, where)
    if values is None:
        return None
    n_atoms = len(frame.atomic_numbers)
    if values.shape != (n_atoms, 3):
        raise _fault(
            where, f"{key!r} has the shape {values.shape}, where the forces on {n_atoms} atoms are ({n_atoms}, 3)"
        )
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(wrong):
        raise _fault(where, f"{key!r} of atom {wrong[0]} is {values[wrong[0]].tolist()}, which is no force")
    return values * scales.forces


def _stress(part: Contents, number: int, keys: dict[str, str], scales: _Scales) -> Float[np.ndarray, "3 3"] | None:
    frame, where = part.frames[number], part.frame(number)
    label = "virial" if "virial" in keys else "stress"
    key = keys.get(label)
    values = _values(frame, key, where)
    if values is None:
        return None
    if values.shape not in ((6,), (9,), (3, 3)):
        raise _fault(
            where,
            f"{key!r} has the shape {values.shape}, where a {label} is (3, 3), (9,) or, as xx yy zz yz xz xy, (6,)",
        )
    if not np.isfinite(values).all():
        raise _fault(where, f"{key!r} is {values.tolist()}; leave the key out of a frame whose {label} is not known")
    matrix = full_matrix(values) if values.shape == (6,) else values.reshape(3, 3)
    if np.abs(matrix - matrix.T).max() > ASYMMETRY * np.abs(matrix).max():
        raise _fault(where, f"{key!r} is not symmetric: {matrix.tolist()}")
    volume = abs(np.linalg.det(frame.cell)) * scales.length**3
    if not np.any(frame.pbc) or volume == 0:
        raise _fault(
            where,
            f"{key!r} is given, but without a periodic cell there is no volume and no {label}; "
            f"drop it, or leave every {label} out with --{label}-key none",
        )
    symmetric = 0.5 * (matrix + matrix.T)
    return symmetric * scales.stress if label == "stress" else symmetric * (-scales.energy / volume)


def _values(frame: Frame, key: str | None, where: str) -> np.ndarray | None:
    """A label as it stands in the file, or None where the frame has none."""
    value: Any = None if key is None else frame.values.get(key)
    if value is None:
        return None
    try:
        # a word without a value, as in a comment "energy -1.0", is read as True
        if np.asarray(value).dtype != bool:
            return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        pass
    raise _fault(where, f"{key!r} is {value!r}, not a number")


def _fault(where: str, what: str) -> InputError:
    return InputError(f"{where}: {what} (frames and atoms count from 0)")


def _taken(part: Contents, structures: Sequence[Structure], keys: dict[str, str], scales: _Scales) -> Taken:
    found: dict[str, tuple[str, int]] = {}
    for label, key in keys.items():
        name = "stress" if label == "virial" else label
        found[name] = (key, sum(getattr(s, name) is not None for s in structures))
    return Taken(part.path, len(structures), found, scales.converted)


def _offered(contents: Sequence[Contents]) -> list[str]:
    return list(dict.fromkeys(name for part in contents for frame in part.frames for name in frame.values))


def _check_asked(contents: Sequence[Contents], options: ReadOptions) -> None:
    """A key that the user names must be somewhere."""
    offered = _offered(contents)
    for label in LABELS:
        asked = options.key(label)
        if asked not in (None, NOTHING, *offered):
            nearest = get_close_matches(str(asked), offered, n=len(offered) or 1, cutoff=0.0)
            there = f"there are {', '.join(nearest[:8])}" if nearest else "there are bare positions"
            raise InputError(
                f"{', '.join(part.path for part in contents[:3])}: no frame has {asked!r}, which is asked for as "
                f"{label}; {there}"
            )
