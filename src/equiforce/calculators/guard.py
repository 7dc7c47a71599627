"""Detects a simulation that has gone wrong: atoms that fly apart or collapse onto one another."""

from collections.abc import Callable

import numpy as np
import torch
from ase import Atoms
from ase.data import covalent_radii
from torch import Tensor

CLOSEST = 0.3  # smallest distance over the sum of two covalent radii; even compressed bonds are far longer
HOTTEST = 20.0  # largest temperature over the target; fluctuations, even of a few atoms, stay far below
ALWAYS_ALLOWED = 10_000.0  # K; a lower temperature is never a problem
FARTHEST = 100.0  # Å by which the distance of an atom from the centre of mass may exceed its largest initial value


def hottest(temperature: float) -> float:
    """The temperature in K that a simulation at a target temperature in K never reaches unless it goes wrong."""
    return max(HOTTEST * temperature, ALWAYS_ALLOWED)


def closest_pair(radii: Tensor, centers: Tensor, neighbors: Tensor, distances: Tensor) -> tuple[int, float]:
    """The pair whose distance is the smallest for its elements.

    Args:
        radii: the covalent radius of each atom in Å [atoms].
        centers: the first atom of each pair [edges].
        neighbors: the second atom of each pair [edges].
        distances: in Å [edges].

    Returns:
        The index of the pair, and its distance over the sum of the two radii; -1 and infinity without pairs.
    """
    if not len(distances):
        return -1, float("inf")
    closeness = distances / (radii[centers] + radii[neighbors])
    closest = int(closeness.argmin())
    return closest, float(closeness[closest])


class Guard:
    """Checks each step of a simulation, so that no frame is written after the simulation has gone wrong.

    Args:
        atoms: the start, after a first calculation.
        temperature: target temperature in K.
        stop_on_escape: whether an atom that leaves all others is a problem.
    """

    def __init__(self, atoms: Atoms, temperature: float, stop_on_escape: bool):
        graph = atoms.calc.graph
        self.radii = torch.as_tensor(covalent_radii[atoms.numbers], device=graph.positions.device)
        self.had_neighbors = torch.bincount(graph.centers, minlength=graph.n_atoms) > 0
        self.farthest = FARTHEST + self._distances(atoms).max()
        self.too_hot = hottest(temperature)
        self.stop_on_escape = stop_on_escape

    def problem(self, atoms: Atoms, temperature: float) -> str | None:
        """Describe what is wrong with the atoms or their latest forces; None if nothing is."""

        def name(index: int) -> str:
            return f"atom {index} ({atoms.symbols[index]})"

        forces = atoms.get_forces(apply_constraint=False)
        if not (np.isfinite(forces).all() and np.isfinite(atoms.get_potential_energy())):
            return "the energy or the forces are not finite"
        if not temperature < self.too_hot:
            return f"the temperature is {temperature:.0f} K, more than {self.too_hot:.0f} K"
        graph = atoms.calc.graph
        distances = graph.edge_vectors().norm(dim=1)
        closest, closeness = closest_pair(self.radii, graph.centers, graph.neighbors, distances)
        if closeness < CLOSEST:
            one, other = name(int(graph.centers[closest])), name(int(graph.neighbors[closest]))
            return f"{one} and {other} are {distances[closest]:.2f} Å apart"
        return self._escape(atoms, name) if self.stop_on_escape else None

    def _escape(self, atoms: Atoms, name: Callable[[int], str]) -> str | None:
        graph = atoms.calc.graph
        alone = (torch.bincount(graph.centers, minlength=graph.n_atoms) == 0) & self.had_neighbors
        remedy = "(if atoms may leave, turn stop_on_escape off)"
        if bool(alone.any()):
            cutoff = atoms.calc.potential.cutoff
            return f"{name(int(alone.nonzero()[0]))} has lost all neighbours within the cutoff of {cutoff:g} Å {remedy}"
        distances = self._distances(atoms)
        if not atoms.pbc.any() and distances.max() > self.farthest:
            return f"{name(int(distances.argmax()))} is {distances.max():.0f} Å from the centre of mass {remedy}"
        return None

    @staticmethod
    def _distances(atoms: Atoms) -> np.ndarray:
        return np.linalg.norm(atoms.positions - atoms.get_center_of_mass(), axis=1)
