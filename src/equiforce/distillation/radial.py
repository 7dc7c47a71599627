"""Radial distribution functions of simulations, and how much two of them differ."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from equiforce.coverage import pair_of
from equiforce.elements import SYMBOLS
from equiforce.neighbors import find_pairs
from equiforce.structure import Structure

WIDTH = 0.1  # Å; of a bin
CLOSEST = 0.5  # Å; the spheres below are so small that one chance pair would be a peak


class Difference(NamedTuple):
    """The largest difference of two functions of a pair of elements."""

    pair: str
    largest: float
    distance: float  # Å, where it is
    peak: float  # the highest value of the first function


def radial_distributions(
    frames: Sequence[Structure], radius: float
) -> tuple[Float[np.ndarray, " bins"], dict[str, Float[np.ndarray, " bins"]]]:
    """Compute g(r) of each pair of elements: the density of neighbours over that of as many atoms spread evenly.

    Without a fully periodic cell the atoms are spread over the sphere of this radius, which only scales the function.

    Args:
        frames: of one simulation, with the same atoms.
        radius: the largest distance in Å.

    Returns:
        The centres of the bins in Å, and g(r) by pair of elements such as ``H-O``.
    """
    edges = np.arange(0.0, radius + WIDTH / 2, WIDTH)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    symbols = np.array([SYMBOLS[z] for z in frames[0].atomic_numbers])
    all_elements = sorted(set(symbols.tolist()))
    counts = {pair_of(a, b): np.zeros(len(shells)) for a in all_elements for b in all_elements}
    expected = {pair: np.zeros(len(shells)) for pair in counts}
    n_of = {element: int((symbols == element).sum()) for element in all_elements}
    index = np.searchsorted(all_elements, symbols)
    for frame in frames:
        volume = abs(float(np.linalg.det(frame.cell))) if frame.pbc.all() else 4 / 3 * np.pi * radius**3
        found = find_pairs(frame.positions, frame.cell, frame.pbc, float(edges[-1]), frame.source)
        for i, a in enumerate(all_elements):
            for j, b in enumerate(all_elements[i:], i):
                chosen = (index[found.centers] == i) & (index[found.neighbors] == j)
                counts[pair_of(a, b)] += np.histogram(found.distances[chosen], edges)[0]
                expected[pair_of(a, b)] += n_of[a] * n_of[b] / volume * shells
    centres = (edges[:-1] + edges[1:]) / 2
    return centres, {pair: counts[pair] / expected[pair] for pair in counts}


def differences(one: Sequence[Structure], other: Sequence[Structure], radius: float) -> list[Difference]:
    """The largest difference between the g(r) of two simulations of the same atoms, of each pair, the largest first.

    Args:
        one: frames of the first simulation.
        other: frames of the second one.
        radius: the largest distance in Å.
    """
    centres, first = radial_distributions(one, radius)
    _, second = radial_distributions(other, radius)
    beyond = centres > CLOSEST
    found = []
    for pair, values in first.items():
        apart = np.abs(values - second[pair])[beyond]
        place = int(apart.argmax())
        peak = float(values[beyond].max())
        found.append(Difference(pair, float(apart[place]), round(float(centres[beyond][place]), 3), peak))
    return sorted(found, key=lambda difference: -difference.largest)
