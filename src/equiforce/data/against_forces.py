"""Compares energies and stresses with the forces of the same structures: their signs, units and order."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np

from equiforce.data.compositions import alike, fractions, two_groups, within_compositions, without
from equiforce.data.findings import Finding
from equiforce.data.force_fit import LEAST_FORCE, ForceFit, rank_correlation
from equiforce.data.units import ENERGY_UNITS, LENGTH_UNITS, PRESSURE_UNITS
from equiforce.elements import formula
from equiforce.structure import Structure

LEAST_EXPLAINED = 0.6  # of the forces; a fit that explains less says nothing about energies
UNEXPLAINED, WELL_DETERMINED = 0.3, 10.0  # share of the forces, and components for each coefficient
FEWEST = 10  # structures whose labels are compared
MANY, FOLLOWED, UNRELATED = 30, 0.8, 0.25  # structures, explained share, and rank correlation of unrelated energies
IN_A_GROUP = 3  # energies
APART, ALIKE = 0.02, 0.2  # eV/atom between two groups of energies; the share of it that the forces explain
CORRELATED, SURELY_CORRELATED = 0.6, 0.8  # rank correlation of labels and predictions
DOUBTFUL_RATIO, WRONG_RATIO = 1.5, 5.0  # of the spreads of labels and predictions, which are equal for right labels
NEAREST = 1.5  # a ratio that is closer than this factor to the ratio of two units is explained by them
N_DRAWN, UNLIKELY = 200, 0.05  # samples of the structures, and the share of them that does not count
PRESENT = 0.3  # of the root mean square force; forces that are predicted to be larger are not zero
# the off-diagonal components yz, xz and xy of files in which another order is taken for that order
ORDERS: Mapping[tuple[int, ...], str] = {(2, 0, 1): "vasp", (2, 1, 0): "lammps", (1, 2, 0): "ase"}


class Agreement(NamedTuple):
    """How labels vary with what is predicted from the forces."""

    correlation: float  # rank correlation
    ratio: float  # of the spread of the labels to that of the predictions
    n: int
    may_be_one: bool  # whether other structures of the same kind could as well have given a ratio of 1
    within_compositions: bool  # whether only structures of one composition were compared


def compare(fitted: ForceFit) -> list[Finding]:
    """Compare the energies, stresses and zero forces of structures with a fit to their forces.

    Args:
        fitted: the fit.

    Returns:
        The findings; none if there are fewer forces than coefficients.
    """
    if fitted.determined < 1:
        return []
    if fitted.explained < LEAST_EXPLAINED:
        return _unexplained(fitted)
    of_energies = _energies(fitted)
    # if the sign of the forces is wrong, that of the stresses seems to be
    of_stresses = [] if any(finding.sure for finding in of_energies) else _stresses(fitted)
    return _zero_forces(fitted) + of_energies + of_stresses


def _unexplained(fitted: ForceFit) -> list[Finding]:
    """The finding that forces do not follow from the positions."""
    size = np.sqrt(np.square(np.concatenate([np.asarray(s.forces) for s in fitted.structures])).mean())
    if fitted.explained > UNEXPLAINED or fitted.determined < WELL_DETERMINED or size < LEAST_FORCE:
        return []
    return [
        Finding(
            sentence=f"{_files(fitted.structures)}: forces do not follow from the positions (a fit explains "
            f"{max(0.0, fitted.explained):.0%} of them): check whether forces and positions have the same order of "
            "atoms, and belong to the same frames",
            sure=False,
        )
    ]


def energy_agreement(fitted: ForceFit) -> Agreement | None:
    """Compare how energies per atom and their predictions vary within each composition; None with too few energies."""
    known = np.array([s.energy is not None for s in fitted.structures], dtype=bool)
    structures = [s for s, k in zip(fitted.structures, known, strict=True) if k]
    if len(structures) < FEWEST:
        return None
    n_atoms = np.array([len(s) for s in structures])
    columns = np.stack([np.array([s.energy for s in structures]) / n_atoms, fitted.energies[known] / n_atoms], axis=1)
    varying, compared = within_compositions(structures, columns)
    within = bool(compared.sum() >= FEWEST)
    labels, predictions = (varying[compared] if within else without(fractions(structures), columns)).T
    may_be_one = _may_be_one(lambda chosen: _ratio(labels[chosen], predictions[chosen]), len(labels))
    ratio = _ratio(labels, predictions)
    return Agreement(rank_correlation(labels, predictions), ratio, len(labels), may_be_one, within)


def _energies(fitted: ForceFit) -> list[Finding]:
    agreement = energy_agreement(fitted)
    if agreement is None:
        return []
    if abs(agreement.correlation) < CORRELATED:
        return _groups(fitted) or _unrelated(fitted, agreement)
    sure = abs(agreement.correlation) >= SURELY_CORRELATED and agreement.within_compositions
    where, ratio = _files(fitted.structures), agreement.ratio
    if agreement.correlation < 0:
        return [
            Finding(
                sentence=f"{where}: energies fall where the forces say that they rise (rank correlation "
                f"{agreement.correlation:.2f} in {agreement.n} structures), as if gradients were stored as forces: "
                "multiply the forces of the file by -1",
                sure=sure and 1 / WRONG_RATIO < ratio < WRONG_RATIO,
            )
        ]
    # poor predictions vary more than the labels do
    if 0.85 / DOUBTFUL_RATIO < ratio < DOUBTFUL_RATIO or agreement.may_be_one:
        return []
    return [
        Finding(
            sentence=f"{where}: energies vary {ratio:.2g} times as much as the forces say{_as_if(ratio, fitted)}: "
            "state the units with data.energy_unit, data.length_unit and data.forces_unit",
            sure=sure and not 1 / WRONG_RATIO < ratio < WRONG_RATIO,
        )
    ]


def _unrelated(fitted: ForceFit, agreement: Agreement) -> list[Finding]:
    """The finding that energies vary as much as the forces say, but in other structures."""
    clear = agreement.n >= MANY and agreement.within_compositions and fitted.explained > FOLLOWED
    if not clear or abs(agreement.correlation) > UNRELATED or not 0.5 < agreement.ratio < 2.0:
        return []
    return [
        Finding(
            sentence=f"{_files(fitted.structures)}: energies do not follow from the forces (rank correlation "
            f"{agreement.correlation:.2f} in {agreement.n} structures): check whether both belong to the same frames",
            sure=False,
        )
    ]


def _groups(fitted: ForceFit) -> list[Finding]:
    """The finding that energies of one composition form two groups, between which the forces see no difference."""
    known = np.array([i for i, s in enumerate(fitted.structures) if s.energy is not None])
    structures = [fitted.structures[i] for i in known]
    n_atoms = np.array([len(s) for s in structures])
    predicted = fitted.energies[known] / n_atoms
    residuals = np.array([s.energy for s in structures]) / n_atoms - predicted
    for group in alike(structures):
        if len(group) < FEWEST:
            continue
        low, high, gap, width = two_groups(residuals[group], IN_A_GROUP)
        apart = abs(float(np.median(predicted[group][low]) - np.median(predicted[group][high])))
        if gap > max(APART, width) and apart < ALIKE * gap:
            one, other = (structures[group[min(indices)]] for indices in (low, high))
            return [
                Finding(
                    sentence=f"the energies of {formula(one.atomic_numbers)} form two groups that are {gap:.2g} eV per "
                    f"atom apart although the forces are alike, {len(low)} frames such as {one.source} and {len(high)} "
                    f"such as {other.source}: check whether they are of one level of theory and of one charge and spin",
                    sure=False,
                )
            ]
    return []


def _as_if(ratio: float, fitted: ForceFit) -> str:
    """The units that explain a ratio of energies to forces, in words."""
    reasons = {
        f"energies were in {energy} and forces in {force}/{length}": ENERGY_UNITS[force]
        / LENGTH_UNITS[length]
        / ENERGY_UNITS[energy]
        for energy, force, length in (
            ("eV", "Hartree", "Bohr"), ("eV", "Hartree", "Å"), ("Hartree", "eV", "Å"), ("Hartree", "Hartree", "Bohr"),
            ("kcal/mol", "eV", "Å"), ("eV", "kcal/mol", "Å"), ("kJ/mol", "eV", "Å"), ("eV", "kJ/mol", "Å"),
            ("meV", "eV", "Å"), ("eV", "meV", "Å"), ("Ry", "Ry", "Bohr"), ("eV", "Ry", "Bohr"),
        )
    }  # fmt: skip
    reasons["positions were in Bohr"] = LENGTH_UNITS["Bohr"]
    reasons["energies were per atom"] = 1 / float(np.median([len(s) for s in fitted.structures]))
    nearest = min(reasons, key=lambda reason: abs(math.log(ratio / reasons[reason])))
    return f", as if {nearest}" if abs(math.log(ratio / reasons[nearest])) < math.log(NEAREST) else ""


def _stresses(fitted: ForceFit) -> list[Finding]:
    known = [
        (s, np.asarray(s.stress), predicted)
        for s, predicted in zip(fitted.structures, fitted.stresses, strict=True)
        if s.stress is not None and predicted is not None and s.stress.any()
    ]
    if len(known) < FEWEST:
        return []
    structures, all_labels, all_predictions = zip(*known, strict=True)
    labels, predictions, where = np.stack(all_labels), np.stack(all_predictions), _files(structures)
    if (order := _order(labels, predictions, where)) is not None:
        return [order]
    # forces say little about the trace, which depends on the volume
    ours, theirs = _traceless(labels), _traceless(predictions)
    correlation = float(_cosine(ours, theirs))
    if abs(correlation) < SURELY_CORRELATED:
        return []
    if correlation < 0:
        return [
            Finding(
                sentence=f"{where}: stresses have the opposite sign of those that follow from the forces (correlation "
                f"{correlation:.2f} in {len(known)} structures): set data.stress_positive_under=compression, "
                "or leave it out if it is set",
                sure=True,
            )
        ]
    sizes, predicted = (np.linalg.norm(values, axis=(1, 2)) for values in (ours, theirs))
    large = (predicted >= np.median(predicted)) & (sizes > 0)  # the noise of labels counts in small stresses
    ratios = sizes[large] / predicted[large]
    ratio = float(np.median(ratios))
    if 1 / DOUBTFUL_RATIO < ratio < DOUBTFUL_RATIO or _may_be_one(lambda i: float(np.median(ratios[i])), len(ratios)):
        return []
    unit = min(PRESSURE_UNITS, key=lambda unit: abs(math.log(ratio * PRESSURE_UNITS[unit])))
    near = abs(math.log(ratio * PRESSURE_UNITS[unit])) < math.log(NEAREST)
    return [
        Finding(
            sentence=f"{where}: stresses are {ratio:.2g} times those that follow from the forces"
            f"{f', as if they were in {unit}' if near else ''}: state their unit with data.stress_unit",
            sure=not 1 / WRONG_RATIO < ratio < WRONG_RATIO,
        )
    ]


def _order(labels: np.ndarray, predictions: np.ndarray, where: str) -> Finding | None:
    """The finding that off-diagonal components are in another order than yz, xz, xy."""
    rows, columns = [1, 0, 0], [2, 2, 1]
    ours, theirs = labels[:, rows, columns], predictions[:, rows, columns]
    by_order = {order: _cosine(ours, theirs[:, order]) for order in permutations(range(3))}
    best = max(by_order, key=lambda order: by_order[order])
    right = by_order[0, 1, 2]
    if best == (0, 1, 2) or by_order[best] < SURELY_CORRELATED or right > by_order[best] - 0.4:
        return None
    name = ORDERS.get(best)
    how = (
        f"are in the order of {name}: set data.stress_order={name} if the file has six components, or else correct it"
        if name
        else "are exchanged: correct the file"
    )
    return Finding(
        sentence=f"{where}: the off-diagonal components of the stress {how} (correlation with the stress that follows "
        f"from the forces {by_order[best]:.2f} instead of {right:.2f})",
        sure=True,
    )


def _zero_forces(fitted: ForceFit) -> list[Finding]:
    """The finding that forces are zero in structures that are not in equilibrium."""
    sizes = np.array([np.sqrt(np.square(np.asarray(s.forces)).mean()) for s in fitted.structures])
    predicted = np.array([np.sqrt(np.square(forces).mean()) for forces in fitted.forces])
    zero = np.flatnonzero((sizes == 0) & (predicted > PRESENT * np.sqrt(np.square(sizes).mean())))
    if not len(zero):
        return []
    more = f" (and {len(zero) - 1} more of {len(sizes)} frames)" if len(zero) > 1 else ""
    return [
        Finding(
            sentence=f"{fitted.structures[zero[0]].source}{more}: all forces are zero although similar frames have "
            "forces: leave the forces out of frames for which they were not computed",
            sure=False,
        )
    ]


def _ratio(labels: np.ndarray, predictions: np.ndarray) -> float:
    """The ratio of the spreads, in which single outliers do not count."""
    spreads = [float(np.median(np.abs(values - np.median(values)))) for values in (labels, predictions)]
    return spreads[0] / spreads[1] if min(spreads) > 0 else 1.0


def _may_be_one(ratio: Callable[[np.ndarray], float], n: int) -> bool:
    """Whether a ratio could be 1, by what it is in samples that are drawn from the same values with replacement.

    Args:
        ratio: of the values with the given indices.
        n: the number of values.
    """
    drawn = np.random.default_rng(0).integers(0, n, (N_DRAWN, n))
    found = [ratio(chosen) for chosen in drawn]
    low, high = np.quantile(found, [UNLIKELY / 2, 1 - UNLIKELY / 2])
    return bool(low <= 1 <= high)


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    size = math.sqrt(float(np.square(one).sum() * np.square(other).sum()))
    return float((one * other).sum()) / size if size > 0 else 0.0


def _traceless(stresses: np.ndarray) -> np.ndarray:
    return stresses - np.einsum("sxx->s", stresses)[:, None, None] * np.eye(3) / 3


def _files(structures: Sequence[Structure]) -> str:
    """The names of the files of structures."""
    names = list(dict.fromkeys(s.source.rpartition(", frame ")[0] or s.source for s in structures))
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
