"""Compares the forces of files with one another, which may have different units or signs."""

import math
from collections.abc import Sequence

import numpy as np

from equiforce.data.findings import Finding
from equiforce.data.force_fit import ForceFit, fit, rank_correlation
from equiforce.data.units import ENERGY_UNITS, LENGTH_UNITS
from equiforce.structure import Structure

FEWEST = 10  # structures with forces of a file that is fitted by itself
MOST_FILES = 4  # that are fitted by themselves, the largest ones
COMPARED = 30  # structures of each file
LEAST_EXPLAINED = 0.6  # of the forces of a file with which others are compared
CORRELATED = 0.8  # forces and predictions
WRONG_RATIO = 4.0  # of the sizes of forces and predictions
NEAREST = 1.3  # a ratio that is closer than this factor to that of two units is explained by them
UNITS = {
    f"{energy}/{length}": ENERGY_UNITS[energy] / LENGTH_UNITS[length]
    for energy in ("kcal/mol", "kJ/mol", "Hartree", "Ry", "meV")
    for length in ("Å", "Bohr")
}


def fits_of_files(structures: Sequence[Structure]) -> list[ForceFit]:
    """Fit the forces of each of the largest files, and those of all others together.

    Args:
        structures: the structures of all files.

    Returns:
        The fits, that of the largest file first.
    """
    files: dict[str, list[Structure]] = {}
    for s in structures:
        files.setdefault(s.source.rpartition(", frame ")[0], []).append(s)
    ordered = sorted(files.values(), key=lambda file: -sum(s.forces is not None for s in file))
    large = [file for file in ordered if sum(s.forces is not None for s in file) >= FEWEST][:MOST_FILES]
    others = [s for file in ordered[len(large) :] for s in file]
    return [fitted for group in (*large, others) if (fitted := fit(group)) is not None]


def compare_files(fits: Sequence[ForceFit]) -> list[Finding]:
    """Compare the forces of each file with what follows from those of the largest one.

    Args:
        fits: a fit for each file, that of the largest first.

    Returns:
        A finding for each file whose forces have another sign or another size.
    """
    found: list[Finding] = []
    if not fits or fits[0].determined < 1 or fits[0].explained < LEAST_EXPLAINED:
        return found
    first = fits[0]
    for other in fits[1:]:
        same = [s for s in other.structures if set(s.atomic_numbers.tolist()) <= set(first.species)][:COMPARED]
        if len(same) < FEWEST:
            continue
        labels = np.concatenate([np.asarray(s.forces).ravel() for s in same])
        predicted = np.concatenate([first.forces_on(s).ravel() for s in same])
        sizes = [float(np.median(np.abs(values))) for values in (labels, predicted)]
        if min(sizes) == 0:
            continue
        correlation = rank_correlation(labels, predicted)
        ratio, here, there = sizes[0] / sizes[1], _file(other), _file(first)
        if correlation < -CORRELATED:
            what = f"the opposite sign of those that follow from {there}: multiply the forces of one of them by -1"
        elif correlation > CORRELATED and not 1 / WRONG_RATIO < ratio < WRONG_RATIO:
            what = (
                f"{ratio:.2g} times the size of those that follow from {there}{_as_if(ratio)}: convert one of them, "
                "because all files are read with the same units"
            )
        else:
            continue
        found.append(Finding(sentence=f"the forces of {here} have {what}", sure=True))
    return found


def _as_if(ratio: float) -> str:
    """The units that explain a ratio of forces, in words."""

    def away(value: float) -> float:
        return abs(abs(math.log(ratio)) - abs(math.log(value)))

    unit = min(UNITS, key=lambda unit: away(UNITS[unit]))
    if away(UNITS[unit]) > math.log(NEAREST):
        return ""
    # a unit larger than eV/Å has smaller numbers
    which = "they" if (ratio < 1) == (UNITS[unit] > 1) else "those"
    return f", as if {which} were in {unit}"


def _file(fitted: ForceFit) -> str:
    return fitted.structures[0].source.rpartition(", frame ")[0]
