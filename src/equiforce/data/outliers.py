"""Finds single energies and forces far from all others, and energies of one composition that form two groups."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from equiforce.data.compositions import alike, two_groups, within_compositions
from equiforce.data.findings import Finding
from equiforce.data.units import ENERGY_UNITS
from equiforce.elements import formula
from equiforce.structure import Structure

FEWEST = 10  # structures whose labels are compared
OUTLIER, LEAST_OUTLIER = 20.0, 5.0  # times the usual deviation, and eV
MANY = 0.02  # a larger share of outliers has another reason
LEAST_FORCE = 30.0  # eV/Å, of a component; other forces are not named
IN_A_GROUP = 3  # energies
APART, SURELY_APART = 0.3, 2.0  # eV/atom, between two groups of energies of one composition and volume
MOST_BETWEEN_PHASES = 20.0  # eV/atom; more than twice what binds a crystal
SPREADS = 3.0  # times the widths of both groups
SAME_SIZE, OTHER_UNIT = 1.5, 10.0  # of the ratio of forces of two groups
SAME_UNIT = 0.05  # a ratio of energies that is as close to the ratio of two units is explained by them


def energy_outliers(structures: Sequence[Structure]) -> list[Finding]:
    """Find single energies that are far from those of structures of the same composition with similar forces.

    Args:
        structures: the structures.

    Returns:
        A finding that names the worst structure, if there are any.
    """
    known = [s for s in structures if s.energy is not None and s.forces is not None]
    if len(known) < FEWEST:
        return []
    n_atoms = np.array([len(s) for s in known])
    energies = np.array([s.energy for s in known]) / n_atoms
    sizes = _sizes_of_forces(known)
    varying, compared = within_compositions(known, np.stack([energies, sizes], axis=1))
    away = np.where(compared, np.abs(varying[:, 0]), 0.0)
    usual = _usual(known, np.where(compared, away, np.nan))
    calm = (sizes < 2 * _usual(known, sizes)) & (sizes > 0)  # the large energy has no large forces beside it
    far = np.flatnonzero(calm & (away > OUTLIER * usual) & (away * n_atoms > LEAST_OUTLIER))
    if not 0 < len(far) <= max(1, MANY * len(known)):
        return []
    worst = int(far[np.argmax(away[far] * n_atoms[far])])
    return [
        Finding(
            sentence=f"{known[worst].source}{_more(far)}: the energy is {away[worst] * n_atoms[worst]:.3g} eV away "
            f"from those of similar frames of {formula(known[worst].atomic_numbers)}, and the forces are not: check "
            "whether the calculation converged, or leave the frame out",
            sure=False,
        )
    ]


def force_outliers(structures: Sequence[Structure]) -> list[Finding]:
    """Find single structures whose forces are many times those of the others.

    Args:
        structures: the structures.

    Returns:
        A finding that names the worst structure, if there are any.
    """
    known = [s for s in structures if s.forces is not None]
    if len(known) < FEWEST:
        return []
    sizes = _sizes_of_forces(known)
    usual = _usual(known, sizes)
    largest = np.array([np.abs(np.asarray(s.forces)).max() for s in known])
    far = np.flatnonzero((sizes > OUTLIER * usual) & (largest > LEAST_FORCE))
    if not 0 < len(far) <= max(1, MANY * len(known)):
        return []
    worst = int(far[np.argmax(sizes[far])])
    return [
        Finding(
            sentence=f"{known[worst].source}{_more(far)}: forces of up to {largest[worst]:,.0f} eV/Å are "
            f"{sizes[worst] / usual[worst]:.0f} times as large as in other frames: check the calculation and the unit, "
            "or leave the frame out",
            sure=False,
        )
    ]


def energy_levels(structures: Sequence[Structure]) -> list[Finding]:
    """Find energies that form two groups, although the structures have the same composition and volume.

    Args:
        structures: the structures.

    Returns:
        A finding for the composition whose groups are farthest apart, if there are any.
    """
    known = [s for s in structures if s.energy is not None]
    energies = np.array([s.energy for s in known]) / np.array([len(s) for s in known])
    found = [(gap, low, high) for low, high, gap in _divided(known, energies)]
    if not found:
        return []
    gap, low, high = max(found, key=lambda entry: entry[0])
    one, other = (known[i[0]] for i in (low, high))
    low_energy, high_energy = (float(np.median(energies[i])) for i in (low, high))
    unit = _unit_between(low_energy, high_energy)
    return [
        Finding(
            sentence=f"the energies of {formula(one.atomic_numbers)} form two groups, {low_energy:.4g} eV per atom in "
            f"{len(low)} frames such as {one.source} and {high_energy:.4g} in {len(high)} such as {other.source}: they "
            f"are in different units{unit} or of different levels of theory, so convert them, or keep one group",
            sure=gap > SURELY_APART,
        )
    ]


def _divided(
    structures: Sequence[Structure], energies: Float[np.ndarray, " structures"]
) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    """For each composition with two groups of energies their indices and the gap between them."""
    for group in alike(structures):
        if len(group) < 2 * IN_A_GROUP or len(structures[group[0]]) < 2:
            continue
        *parts, gap, width = two_groups(energies[group], IN_A_GROUP)
        low, high = (np.sort(np.array(group)[part]) for part in parts)
        if gap > max(APART, SPREADS * width) and (
            gap > MOST_BETWEEN_PHASES or _are_alike([[structures[i] for i in part] for part in (low, high)])
        ):
            yield low, high, gap


def _are_alike(groups: Sequence[Sequence[Structure]]) -> bool:
    """Whether the forces of two groups have the same size, unlike those of a crystal and its melt, or another unit."""
    sizes = [_sizes_of_forces([s for s in group if s.forces is not None]) for group in groups]
    if not all(len(size) for size in sizes):
        return True
    ratio = float(np.median(sizes[0]) / max(float(np.median(sizes[1])), 1e-300))
    return 1 / SAME_SIZE < ratio < SAME_SIZE or not 1 / OTHER_UNIT < ratio < OTHER_UNIT


def _unit_between(one: float, other: float) -> str:
    """The unit that explains the ratio of two energies in words; empty if there is none."""
    sizes = sorted([abs(one), abs(other)])
    ratio = sizes[1] / sizes[0] if sizes[0] > 0 else math.inf
    for unit, value in ENERGY_UNITS.items():
        if value != 1 and abs(math.log(ratio / max(value, 1 / value))) < SAME_UNIT:
            return f" (the ratio is that of eV and {unit})"
    return ""


def _sizes_of_forces(structures: Sequence[Structure]) -> Float[np.ndarray, " structures"]:
    """The root mean square of the force components of each structure, all of which have forces, in eV/Å."""
    return np.array([np.sqrt(np.square(np.asarray(s.forces)).mean()) for s in structures])


def _usual(structures: Sequence[Structure], values: np.ndarray) -> Float[np.ndarray, " structures"]:
    """The median value of the structures of the same elements, or of all if those are few; NaN does not count."""
    groups: dict[bytes, list[int]] = {}
    for i, s in enumerate(structures):
        if not np.isnan(values[i]):
            groups.setdefault(np.unique(s.atomic_numbers).tobytes(), []).append(i)
    usual = np.full(len(structures), np.nanmedian(values) if groups else 0.0)
    for group in groups.values():
        if len(group) >= FEWEST:
            usual[group] = np.median(values[group])
    return usual


def _more(found: np.ndarray) -> str:
    return f" (and {len(found) - 1} more)" if len(found) > 1 else ""
