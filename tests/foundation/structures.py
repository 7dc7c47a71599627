"""The structures on which imported models are compared with the programs that made them."""

import numpy as np
from ase import Atoms


def structures() -> list[Atoms]:
    """A molecule without a cell, a skewed crystal that is smaller than the cutoff, and an atom."""
    rng = np.random.default_rng(0)
    molecule = Atoms("OHHCu", positions=[[0, 0, 0], [0.96, 0.1, 0], [-0.2, 0.9, 0.3], [0.4, -0.3, 2.0]])
    cell = [[2.6, 0.3, 0.0], [0.0, 2.9, 0.4], [0.2, 0.0, 3.1]]
    crystal = Atoms("CuO", scaled_positions=[[0, 0, 0], [0.45, 0.52, 0.55]], cell=cell, pbc=True)
    mixed = Atoms(numbers=rng.permutation([29, 29, 8, 8, 1, 1, 1]), cell=[6.0] * 3, pbc=True)
    mixed.set_scaled_positions([[0, 0, 0], [0.5, 0, 0], [0, 0.4, 0], [0, 0, 0.6], [0.5, 0.5, 0.1], [0.4, 0, 0.5],
                                [0.1, 0.5, 0.5]])  # fmt: skip
    return [molecule, crystal, mixed, Atoms("O", positions=[[0, 0, 0]], cell=[9.0] * 3, pbc=True)]
