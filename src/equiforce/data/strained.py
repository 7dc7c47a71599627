"""Compares stresses with the energies of strained copies of one structure, such as those of an equation of state."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from equiforce.data.findings import Finding
from equiforce.data.units import PRESSURE_UNITS
from equiforce.structure import Structure

SAME_PLACE = 1e-3  # in fractions of the lattice vectors
LARGEST = 0.1  # strain between two copies; energies between them are otherwise not quadratic
SMALLEST = 1e-4  # strain
FEWEST = 8  # pairs of copies
FOLLOWS = 0.95  # the correlation of energies and of the work of the stress
WRONG_RATIO = 1.5  # of the two


def compare_strained(structures: Sequence[Structure]) -> list[Finding]:
    """Compare the differences of energies of strained copies with the work of their stresses.

    Args:
        structures: the structures.

    Returns:
        A finding if the sign or the unit of the stresses is wrong.
    """
    energies, works = _pairs(structures)
    if len(energies) < FEWEST or not works.any() or not energies.any():
        return []
    correlation = float(energies @ works / math.sqrt(float(energies @ energies) * float(works @ works)))
    if abs(correlation) < FOLLOWS:
        return []
    ratio = float(works @ works) / float(energies @ works)
    which = f"in {len(energies)} pairs of strained copies of one structure"
    if correlation < 0:
        what = (
            f"energies fall where the stresses say that they rise ({which}): set "
            "data.stress_positive_under=compression, or leave it out if it is set"
        )
    elif not 1 / WRONG_RATIO < ratio < WRONG_RATIO:
        unit = min(PRESSURE_UNITS, key=lambda unit: abs(math.log(ratio * PRESSURE_UNITS[unit])))
        near = abs(math.log(ratio * PRESSURE_UNITS[unit])) < math.log(WRONG_RATIO)
        what = (
            f"stresses are {ratio:.2g} times those that follow from the energies ({which})"
            f"{f', as if they were in {unit}' if near else ''}: state their unit with data.stress_unit"
        )
    else:
        return []
    return [Finding(sentence=what, sure=True)]


def _pairs(structures: Sequence[Structure]) -> tuple[np.ndarray, np.ndarray]:
    """The differences of energies and the work of the mean stress in eV, between copies with similar cells."""
    groups: dict[bytes, list[tuple[Structure, np.ndarray]]] = {}
    for s in structures:
        if s.energy is not None and s.stress is not None and s.pbc.all():
            groups.setdefault(s.atomic_numbers.tobytes(), []).append((s, s.positions @ np.linalg.inv(s.cell)))
    energies: list[float] = []
    works: list[float] = []
    for group in groups.values():
        group.sort(key=lambda entry: abs(np.linalg.det(entry[0].cell)))
        for (one, here), (other, there) in pairwise(group):
            moved = (there - there[0]) - (here - here[0])
            strain = np.linalg.solve(0.5 * (one.cell + other.cell), other.cell - one.cell)
            if np.abs(moved).max() < SAME_PLACE and SMALLEST < np.abs(strain).max() < LARGEST:
                forces = sum(np.asarray(s.stress) * abs(np.linalg.det(s.cell)) / 2 for s in (one, other))
                energies.append(float(other.energy or 0.0) - float(one.energy or 0.0))
                works.append(float((forces * strain).sum()))
    return np.array(energies), np.array(works)
