"""What ASE does not say about outputs of VASP: lost rows, which steps converged, and which files repeat one another."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from equiforce.data.formats import OUTCAR, VASPRUN
from equiforce.data.frames import Contents, Frame
from equiforce.data.numbers import ODD, is_plain
from equiforce.errors import InputError

LABELLED = (VASPRUN, OUTCAR)  # the more precise one first: an OUTCAR has five decimals of positions
SAME_ENERGY = 1e-4  # eV
SAME_POSITION = 1e-4  # Å
SETTING = re.compile(r'\b(NELM|NSW|IBRION)"?\s*[=>]\s*(-?\d+)')
ITERATION = re.compile(r"Iteration\s*\d+\(\s*(\d+)\)")
RELAXATIONS = (1, 2, 3)  # of IBRION
TABLE = re.compile(r'<varray name="(basis|positions|forces|stress)"')
ROW = re.compile(r"<v>([^<]*)(?:</v>)?")
ENERGY = re.compile(r'<i name="e_\w+_energy">([^<]*)')
OTHER_STRUCTURE = re.compile(r'<structure name="(?!initialpos|finalpos)')  # the primitive cell has fewer atoms
MERGED = re.compile(r"(?<=\d)-(?=\d)")  # two numbers of an OUTCAR between which there is no space
OUTCAR_NUMBERS = ("TOTEN  =", "energy(sigma->0)", "in kB")
ASYMMETRY, SMALL = 0.01, 0.1  # of the largest component, and kbar; ASE takes one half of the matrix without a word
N_NUMBERS = 6  # of a line of an OUTCAR: a position and a force, or a lattice vector and a reciprocal one


@dataclass(slots=True)
class Steps:
    """The ionic steps of an output of VASP."""

    converged: list[bool] = field(default_factory=list)  # whether the electrons of each complete step converged
    n_started: int = 0
    settings: dict[str, int] = field(default_factory=dict)

    @property
    def is_unfinished_relaxation(self) -> bool:
        """Whether a relaxation used all its steps."""
        return self.settings.get("IBRION") in RELAXATIONS and 1 < self.settings.get("NSW", 0) <= len(self.converged)


def read_steps(path: str, form: str, lines: Iterable[str]) -> Steps:
    """Read which ionic steps of an OUTCAR or a vasprun.xml converged.

    Args:
        path: the file, for messages.
        form: the format of the file, ``vasp-out`` or ``vasp-xml``.
        lines: the lines of the file.

    Raises:
        InputError: the file has labels of VASP's own machine-learned force field.
    """
    return _outcar_steps(path, lines) if form == OUTCAR else _vasprun_steps(lines)


def check_tables(path: str, form: str, lines: Iterable[str]) -> None:
    """Check that no row of positions, forces, cells and stresses is lost: ASE would read zeros in its place.

    Args:
        path: the file, for messages.
        form: the format of the file, ``vasp-out`` or ``vasp-xml``.
        lines: the lines of the file.

    Raises:
        InputError: a table has too few or too many rows, or a row has too few or too many numbers.
    """
    whole = (line for line, _ in pairwise(lines))  # the last line may be cut off, and with it its step
    if form == OUTCAR:
        _check_outcar(path, whole)
    else:
        _check_vasprun(path, whole)


def _check_vasprun(path: str, lines: Iterable[str]) -> None:
    n_atoms, in_atoms, table, is_other = 0, False, "", False
    rows: list[list[str]] = []  # of the present table
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        in_atoms = in_atoms or '<array name="atoms"' in line
        if in_atoms:
            n_atoms += line.count("<rc>")
            in_atoms = "</array>" not in line
        is_other = (is_other or OTHER_STRUCTURE.search(line) is not None) and "</structure>" not in line
        if match := TABLE.search(line):
            table, rows = match[1], []
        texts = ROW.findall(line) if table else []
        if not all(is_plain(text.strip()) for text in (*texts, *ENERGY.findall(line))):
            raise InputError(f"{where}: there is a number that only Python reads: correct {line.strip()[:60]!r}")
        rows += [text.split() for text in texts]
        if rows and len(rows[-1]) != 3:
            raise InputError(f"{where}: {texts[-1].strip()[:60]!r} in the {table} are not three numbers: correct it")
        if table and "</varray>" in line:
            right = n_atoms if table in ("positions", "forces") else 3
            if len(rows) != right and not is_other:
                raise InputError(f"{where}: the {table} have {len(rows)} rows instead of {right}: copy the file again")
            if table == "stress":
                _check_symmetric(where, rows)
            table = ""


def _check_symmetric(where: str, rows: Sequence[Sequence[str]]) -> None:
    """Raise InputError if a stress is not symmetric, of which ASE takes one half."""
    try:
        stress = np.array(rows, dtype=np.float64)
    except ValueError:  # ASE has a sentence for it
        return
    asymmetry, size = np.abs(stress - stress.T).max(), np.abs(stress).max()
    if asymmetry > max(ASYMMETRY * size, SMALL):
        raise InputError(
            f"{where}: the stress is not symmetric, by up to {asymmetry:.3g} of {size:.3g} kbar: copy the file again "
            "or remove the stress"
        )


def _check_outcar(path: str, lines: Iterable[str]) -> None:
    n_atoms, number, left, table = 0, 0, 0, ""
    potentials: list[list[str]] = []  # VASP names all of them twice, and ASE takes the first half
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        if table and set(line.strip()) != {"-"}:
            _check_row(where, line, table, is_in_table=left > 0)
            table, left = (table, left - 1) if left else ("", 0)
        if "POTCAR:" in line:
            potentials.append(line.split())
        elif "ions per type" in line:
            n_atoms = sum(int(word) for word in line.split()[4:] if word.isdecimal())
        elif "POSITION          " in line:
            table, left = "positions", n_atoms
        elif "direct lattice vectors" in line:
            table, left = "lattice vectors", 3
        elif any(name in line for name in OUTCAR_NUMBERS) and ODD.search(line):
            raise InputError(f"{where}: there is a number that only Python reads: correct {line.strip()[:60]!r}")
    half = len(potentials) // 2
    if potentials[:half] != potentials[half:]:
        raise InputError(f"{path} does not name its potentials (POTCAR) twice in one order: copy the file again")
    if n_atoms > number:
        raise InputError(f"{path} has {n_atoms} ions by their types, more than it has lines: copy the file again")


def _check_row(where: str, line: str, table: str, *, is_in_table: bool) -> None:
    """Check a line of a table of an OUTCAR, or the line after it."""
    words = MERGED.sub(" -", line).split()
    if is_in_table and (len(words) != N_NUMBERS or not is_plain(line.rstrip())):
        raise InputError(
            f"{where}: {line.strip()[:60]!r} in the {table} are not {N_NUMBERS} numbers: copy the file again"
        )
    if not is_in_table and words and not set(words[0]) - set("+-.0123456789"):
        raise InputError(f"{where}: {line.strip()[:60]!r} after the {table} is one row too many: copy the file again")


def _set(line: str, steps: Steps) -> None:
    for name, value in SETTING.findall(line):
        steps.settings.setdefault(name, int(value))  # vasprun.xml has another NELM for the response functions later


def _outcar_steps(path: str, lines: Iterable[str]) -> Steps:
    steps = Steps()
    reached, count, is_open = False, 0, False
    for line in lines:
        if not steps.n_started:
            _set(line, steps)
        if match := ITERATION.search(line):
            count = int(match[1])
            steps.n_started += not is_open
            is_open = True
        elif "aborting loop" in line:
            reached = "EDIFF is reached" in line
        elif "ML TOTEN" in line:
            raise InputError(
                f"{path} has energies and forces of VASP's machine-learned force field: give the ML_AB file, converted "
                "to extended xyz, or outputs of runs without it"
            )
        elif "FREE ENERGIE OF THE ION-ELECTRON SYSTEM" in line:
            steps.converged.append(reached or count < steps.settings.get("NELM", count + 1))
            reached, is_open = False, False
    return steps


def _vasprun_steps(lines: Iterable[str]) -> Steps:
    steps = Steps()
    count, is_open = 0, False
    for line in lines:
        if "<calculation>" in line:
            steps.n_started += 1
            count, is_open = 0, True
        elif "<scstep>" in line:
            count += 1
        elif is_open and "<structure" in line:
            steps.converged.append(count < steps.settings.get("NELM", count + 1))
            is_open = False
        elif not steps.n_started:
            _set(line, steps)
    return steps


def without_repeated_steps(all_contents: Sequence[Contents]) -> tuple[list[Contents], list[tuple[str, str]]]:
    """Leave out ionic steps that another output of VASP has too, such as those of an OUTCAR beside its vasprun.xml.

    Args:
        all_contents: all files that were read.

    Returns:
        The files in the same order, and the path of each file that was left out with the reason.
    """
    seen: dict[bytes, list[tuple[Frame, str]]] = defaultdict(list)
    kept: dict[int, Contents] = dict(enumerate(all_contents))
    left_out: list[tuple[str, str]] = []
    order = [i for form in LABELLED for i, contents in enumerate(all_contents) if contents.format == form]
    for i in order:
        contents, new, others = all_contents[i], [], set()
        for number, frame in enumerate(contents.frames):
            twin = next((path for other, path in seen[_composition(frame)] if _are_one_step(frame, other)), None)
            if twin is None:
                new.append(number)
            else:
                others.add(twin)
        for number in new:
            seen[_composition(contents.frames[number])].append((contents.frames[number], contents.path))
        n_repeated, names = len(contents.frames) - len(new), ", ".join(sorted(others))
        if n_repeated and not new:
            del kept[i]
            left_out.append((contents.path, f"its {n_repeated} ionic steps are those of {names}"))
        elif n_repeated:
            numbers = contents.numbers or range(len(contents.frames))
            kept[i] = replace(
                contents,
                frames=[contents.frames[number] for number in new],
                numbers=tuple(numbers[number] for number in new),
                notes=(*contents.notes, f"left out {n_repeated} ionic steps that {names} has too"),
            )
    return [kept[i] for i in sorted(kept)], left_out


def _composition(frame: Frame) -> bytes:
    return bytes(frame.atomic_numbers.tolist())


def _are_one_step(one: Frame, other: Frame) -> bool:
    energies = [frame.values.get("free_energy") for frame in (one, other)]
    if None in energies or abs(energies[0] - energies[1]) > SAME_ENERGY:  # type: ignore[operator]
        return False
    if np.abs(one.cell - other.cell).max() > SAME_POSITION:
        return False
    shifts = np.linalg.solve(one.cell.T, (one.positions - other.positions).T)
    apart = (shifts - np.round(shifts)).T @ one.cell
    return bool(np.abs(apart).max() <= SAME_POSITION)
