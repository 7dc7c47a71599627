"""Small teachers and structures for the tests of distillations."""

from dataclasses import replace

import numpy as np

from equiforce.distillation.options import DistillOptions
from equiforce.structure import Structure
from tests.data_sets import crystals, labelled

QUICK = DistillOptions(steps=12, every=3, copies=4, frames=20, temperatures="100,200", check_steps=12, rounds=0)
STUDENT = {
    "model.cutoff": 3.5,
    "model.channels": 4,
    "model.n_layers": 2,
    "model.l_max": 1,
    "model.radial_width": 8,
    "training.max_steps": 20,
}


def copper(n: int, seed: int = 0) -> list[Structure]:
    """Strained cells of four atoms with labels of the effective-medium theory."""
    return [labelled(atoms) for atoms in crystals(n, seed)]


def frames(n: int, *, group: str = "", force: float = 1.0, seed: int = 0) -> list[Structure]:
    """Cells that are all different, with forces of a given size."""
    rng = np.random.default_rng(seed)
    (first,) = copper(1)
    made = []
    for number in range(n):
        forces = np.zeros((4, 3))
        forces[0, 0] = force
        moved = first.positions + rng.normal(scale=0.1, size=(4, 3))
        made.append(replace(first, positions=moved, forces=forces, group=group, source=f"{group} {number}"))
    return made
