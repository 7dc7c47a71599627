"""What ASE does not say about outputs of VASP: which steps converged, and which files repeat one another."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from equiforce.data.formats import OUTCAR, VASPRUN
from equiforce.data.frames import Contents, Frame
from equiforce.errors import InputError

LABELLED = (VASPRUN, OUTCAR)  # the more precise one first: an OUTCAR has five decimals of positions
SAME_ENERGY = 1e-4  # eV
SAME_POSITION = 1e-4  # Å
SETTING = re.compile(r'\b(NELM|NSW|IBRION)"?\s*[=>]\s*(-?\d+)')
ITERATION = re.compile(r"Iteration\s*\d+\(\s*(\d+)\)")
RELAXATIONS = (1, 2, 3)  # of IBRION


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
