"""Numbers that tell structures apart, from distances of neighbours and forces alone, so that thousands are compared."""

from collections.abc import Sequence
from itertools import product

import numpy as np
from jaxtyping import Float

from equiforce.neighbors import find_pairs
from equiforce.structure import Structure

N_SHELLS = 12
MARGIN = 1e-9  # keeps a block without any spread at zero


def descriptors(structures: Sequence[Structure], cutoff: float) -> Float[np.ndarray, "structures numbers"]:
    """Describe structures by how many neighbours their atoms have at each distance, and by the teacher's forces.

    For each pair of elements, the neighbours of an atom are counted in smooth shells that overlap; the mean and the
    standard deviation over the atoms of the first element are the numbers of the structure. The mean follows volume and
    coordination, and the deviation follows rare surroundings of single atoms, which the mean of a large cell hides.
    Angles are seen only through distances, so the root mean square of the forces on each element is added: it differs
    where energies differ. Each of these blocks is divided by its spread over all structures, so that all count alike.

    Nothing of the teacher's or the student's network is used: the student does not exist yet, and features of a large
    teacher would cost as much as its labels.

    Args:
        structures: of any size and composition; those without forces count as without any force.
        cutoff: in Å, of the student.
    """
    numbers = np.unique(np.concatenate([s.atomic_numbers for s in structures]))
    rows = [_blocks(structure, numbers, cutoff) for structure in structures]
    blocks = [np.array(block) for block in zip(*rows, strict=True)]
    scaled = []
    for block in blocks:
        spread = float(np.sqrt(block.var(axis=0).sum()))
        scaled.append(block / spread if spread > MARGIN else np.zeros_like(block))
    return np.concatenate(scaled, axis=1)


def _blocks(structure: Structure, numbers: np.ndarray, cutoff: float) -> list[np.ndarray]:
    """Means and deviations of one structure for each pair of elements, then its forces on each element."""
    index = np.searchsorted(numbers, structure.atomic_numbers)
    pairs = find_pairs(structure.positions, structure.cell, structure.pbc, cutoff, structure.source)
    width = cutoff / N_SHELLS
    places = (pairs.distances[:, None] - width * (np.arange(N_SHELLS) + 0.5)) / width
    # a neighbour at the cutoff counts nothing, so that numbers change smoothly when one enters
    shells = np.exp(-0.5 * places**2) * (0.5 * (1 + np.cos(np.pi * pairs.distances / cutoff)))[:, None]
    blocks = []
    for center, neighbor in product(range(len(numbers)), repeat=2):
        atoms = np.flatnonzero(index == center)
        if not len(atoms):
            blocks.append(np.zeros(2 * N_SHELLS))
            continue
        chosen = (index[pairs.centers] == center) & (index[pairs.neighbors] == neighbor)
        counts = np.zeros((len(structure), N_SHELLS))
        np.add.at(counts, pairs.centers[chosen], shells[chosen])
        blocks.append(np.concatenate([counts[atoms].mean(axis=0), counts[atoms].std(axis=0)]))
    forces = np.zeros_like(structure.positions) if structure.forces is None else structure.forces
    for center in range(len(numbers)):
        on_element = forces[index == center]
        blocks.append(np.array([np.sqrt((on_element**2).sum(axis=1).mean()) if len(on_element) else 0.0]))
    return blocks
