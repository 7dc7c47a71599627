"""Values per atom, compared between structures of the same composition."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from equiforce.structure import Structure

ENOUGH = 10  # structures of a composition whose energies are fitted to their volumes
SIMILAR_VOLUMES = 0.25  # the width of classes of the logarithm of the volume


def within_compositions(
    structures: Sequence[Structure], columns: Float[np.ndarray, "structures columns"]
) -> tuple[Float[np.ndarray, "structures columns"], Bool[np.ndarray, " structures"]]:
    """Compute how values per atom vary between structures of one composition, beyond what follows from the volume.

    Args:
        structures: the structures.
        columns: values per atom.

    Returns:
        The values minus those of typical structures, and whether there are others of the same composition.
    """
    groups: dict[object, list[int]] = {}
    for i, s in enumerate(structures):
        counts = np.bincount(s.atomic_numbers)
        periodic = bool(s.pbc.all())  # two cells have the composition of one
        groups.setdefault((periodic, (counts // (np.gcd.reduce(counts) if periodic else 1)).tobytes()), []).append(i)
    varying, compared = np.zeros(columns.shape), np.zeros(len(structures), dtype=bool)
    for (periodic, _), group in groups.items():  # type: ignore[misc]
        if len(group) < 3:
            continue
        compared[group] = True
        varying[group] = columns[group] - np.median(columns[group], axis=0)
        if periodic and len(group) >= ENOUGH:
            volumes = np.array([_volume_per_atom(structures[i]) for i in group])
            if np.ptp(volumes) > 1e-6 * volumes.mean():
                away = (volumes - volumes.mean()) / np.ptp(volumes)
                varying[group] = without(np.stack([np.ones(len(group)), away, away**2], axis=1), columns[group])
    return varying, compared


def alike(structures: Sequence[Structure]) -> list[list[int]]:
    """The indices of structures with the same number of atoms of each element, directions and volume to a quarter."""
    groups: dict[object, list[int]] = {}
    for i, s in enumerate(structures):
        size = round(float(np.log(_volume_per_atom(s))) / SIMILAR_VOLUMES) if s.pbc.all() else 0
        groups.setdefault((np.bincount(s.atomic_numbers).tobytes(), s.pbc.tobytes(), size), []).append(i)
    return list(groups.values())


def two_groups(values: Float[np.ndarray, " values"], fewest: int) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Divide values at their largest gap.

    Args:
        values: the values; at least twice ``fewest``.
        fewest: values on each side.

    Returns:
        The indices of the lower and of the upper ones, the gap, and the sum of the widths of both groups.
    """
    order = np.argsort(values, kind="stable")
    gaps = np.diff(values[order])[fewest - 1 : len(values) - fewest]
    place = fewest + int(np.argmax(gaps))
    low, high = order[:place], order[place:]
    return low, high, float(gaps.max()), float(np.ptp(values[low]) + np.ptp(values[high]))


def fractions(structures: Sequence[Structure]) -> Float[np.ndarray, "structures elements"]:
    """The fraction of each element in each structure."""
    most = max(int(s.atomic_numbers.max()) for s in structures) + 1
    return np.array([np.bincount(s.atomic_numbers, minlength=most) / len(s) for s in structures])


def without(
    design: Float[np.ndarray, "structures terms"], columns: Float[np.ndarray, "structures columns"]
) -> Float[np.ndarray, "structures columns"]:
    """The residuals of a least-squares fit."""
    left, sizes, _ = np.linalg.svd(design, full_matrices=False)
    left = left[:, sizes > 1e-8 * sizes[0]]
    return columns - left @ (left.T @ columns)


def _volume_per_atom(structure: Structure) -> float:
    return abs(float(np.linalg.det(structure.cell))) / len(structure)
