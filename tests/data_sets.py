"""Small labelled data sets: real energies, forces and stresses, of ASE's effective-medium theory."""

from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from equiforce.structure import Structure
from tests.systems import structure_of

TINY = {"cutoff": 3.5, "n_layers": 2, "l_max": 1, "channels": 4, "radial_width": 8, "radial_depth": 1, "n_bessel": 4}


def computed(atoms: Atoms, seed: int, amount: float = 0.1) -> Atoms:
    """The atoms, moved at random, with the labels of the effective-medium theory."""
    atoms = atoms.copy()
    atoms.rattle(amount, seed=seed)
    atoms.calc = EMT()
    labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    if atoms.pbc.all():
        labels["stress"] = atoms.get_stress()
    atoms.calc = SinglePointCalculator(atoms, **labels)
    return atoms


def crystals(n: int, seed: int = 0) -> list[Atoms]:
    """Cells of four copper atoms, strained."""
    rng = np.random.default_rng(seed)
    cells = [bulk("Cu", cubic=True) for _ in range(n)]
    for atoms in cells:
        atoms.set_cell(atoms.cell @ (np.eye(3) + rng.normal(scale=0.02, size=(3, 3))), scale_atoms=True)
    return [computed(atoms, 1000 * seed + i) for i, atoms in enumerate(cells)]


def molecules(n: int, seed: int = 0, name: str = "H2O") -> list[Atoms]:
    return [computed(molecule(name), 1000 * seed + i, 0.05) for i in range(n)]


def labelled(atoms: Atoms, **absent: None) -> Structure:
    """A structure with the labels of its atoms; ``energy=None`` leaves one out."""
    labels = {**atoms.calc.results, **absent}
    stress = labels.get("stress")
    values = {} if stress is None else {"stress": np.asarray(stress)[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3)}
    bare = structure_of(atoms)
    return Structure(
        atomic_numbers=bare.atomic_numbers,
        positions=bare.positions,
        cell=bare.cell,
        pbc=bare.pbc,
        energy=labels["energy"],
        forces=labels["forces"],
        source=f"{atoms.symbols}",
        **values,
    )


def write(path: Path, frames: list[Atoms]) -> Path:
    ase.io.write(path, frames)
    return path
