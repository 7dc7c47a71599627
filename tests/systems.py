"""Structures and potentials that several tests use."""

from dataclasses import fields, replace

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from equiforce.graph import AtomicGraph, HaloExchange, Prediction, batch
from equiforce.model_file import build_potential
from equiforce.models import REGISTRY
from equiforce.neighbors import build_graph
from equiforce.potential import Potential
from equiforce.structure import Structure

SPECIES = ["H", "C", "O"]
CUTOFF = 3.5
ATOMIC_ENERGIES = [-13.6, -1029.5, -2041.9]


def structure_of(atoms: Atoms) -> Structure:
    return Structure(
        atomic_numbers=atoms.numbers.astype(np.int64),
        positions=atoms.positions.copy(),
        cell=np.array(atoms.cell),
        pbc=np.array(atoms.pbc),
    )


def rattled(atoms: Atoms, seed: int = 0, amount: float = 0.1) -> Structure:
    atoms = atoms.copy()
    atoms.rattle(amount, seed=seed)
    return structure_of(atoms)


def ethanol(seed: int = 0) -> Structure:
    return rattled(molecule("CH3CH2OH"), seed)


def crystal(seed: int = 0) -> Structure:
    """A skewed, rattled cell that is smaller than the cutoff."""
    atoms = bulk("C", "diamond", a=3.57)
    atoms.set_cell(atoms.cell @ np.array([[1.03, 0.02, 0], [0.01, 0.98, 0.03], [0, 0.01, 1.0]]), scale_atoms=True)
    return rattled(atoms, seed, 0.05)


def slab(seed: int = 0) -> Structure:
    atoms = fcc111("C", size=(1, 2, 2), a=3.6, vacuum=4.0)
    atoms.pbc = [True, True, False]
    return rattled(atoms, seed, 0.05)


def atom(symbol: str = "O") -> Structure:
    return structure_of(Atoms(symbol, positions=[[0.3, -0.2, 0.1]]))


def potential_of(
    kind: str = "nequip",
    *,
    seed: int = 0,
    dtype: str = "float64",
    zbl: bool = False,
    species: list[str] = SPECIES,
    **options,
) -> Potential:
    torch.manual_seed(seed)
    options = {"cutoff": CUTOFF, "mean_neighbors": 8.0, **options}
    potential = build_potential(
        {
            "kind": kind,
            "config": vars(REGISTRY[kind].config_class(**options)),
            "species": species,
            "dtype": dtype,
            "zbl": zbl,
            "atomic_energies": ATOMIC_ENERGIES,
            "scale": [1.5, 1.2, 0.8],
            "atomic_energies_trainable": False,
            "scale_trainable": False,
        }
    )
    return potential.eval()


def tensors_of(prediction: Prediction) -> list[torch.Tensor]:
    """What was predicted, in the order of the fields."""
    values = (getattr(prediction, field.name) for field in fields(prediction))
    return [value for value in values if value is not None]


def graph_of(*structures: Structure, cutoff: float = CUTOFF) -> AtomicGraph:
    return batch([build_graph(s, SPECIES, cutoff) for s in structures])


class Images(HaloExchange):
    """Ghosts that are images of atoms of the same graph."""

    def __init__(self, n_owned: int, owners: torch.Tensor):
        self.n_owned, self.owners = n_owned, owners

    def forward_comm(self, x):
        return torch.cat([x, x[self.owners]])

    def reverse_comm(self, g):
        return g[: self.n_owned].index_add(0, self.owners, g[self.n_owned :])


def with_ghosts(graph: AtomicGraph) -> AtomicGraph:
    """The same edges, with an atom of its own for every image of an atom that is a neighbour."""
    beyond = graph.shifts.any(dim=1)
    images = torch.cat([graph.neighbors.unsqueeze(1).double(), graph.shifts], dim=1)[beyond]
    found, number = images.unique(dim=0, return_inverse=True)
    owners, neighbors = found[:, 0].long(), graph.neighbors.clone()
    neighbors[beyond] = graph.n_atoms + number
    return replace(
        graph,
        positions=torch.cat([graph.positions, graph.positions[owners] + found[:, 1:] @ graph.cell[0]]),
        species=torch.cat([graph.species, graph.species[owners]]),
        structure_of_atom=graph.structure_of_atom.new_zeros(graph.n_atoms + len(owners)),
        neighbors=neighbors,
        shifts=torch.zeros_like(graph.shifts),
        by_neighbor=neighbors.argsort(stable=True),
        halo=Images(graph.n_atoms, owners),
    )
