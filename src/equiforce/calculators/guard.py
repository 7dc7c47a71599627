"""When a simulation has gone wrong: the signs of atoms that fly apart or fall into one another."""

from collections.abc import Callable

import numpy as np
import torch
from ase import Atoms
from ase.data import covalent_radii

CLOSEST = 0.3  # of the sum of two covalent radii: far inside any bond, compressed ones too
HOTTEST = 20.0  # times the target: fluctuations, even of a few atoms, stay far below
ALWAYS_TOO_HOT = 10_000.0  # K: only ever said of a temperature above this too
FARTHEST = 100.0  # Å, that a part of a molecule may leave the others behind


class Guard:
    """Notices that a simulation has gone wrong, before its frames are written."""

    def __init__(self, atoms: Atoms, temperature: float, stop_on_escape: bool):
        graph = atoms.calc.graph
        self.radii = torch.as_tensor(covalent_radii[atoms.numbers], device=graph.positions.device)
        self.bound = torch.bincount(graph.centers, minlength=graph.n_atoms) > 0
        self.farthest = FARTHEST + self._distances(atoms).max()
        self.too_hot = max(HOTTEST * temperature, ALWAYS_TOO_HOT)
        self.stop_on_escape = stop_on_escape

    def problem(self, atoms: Atoms, temperature: float) -> str | None:
        """What is wrong with the atoms and their latest forces, if anything is."""

        def name(index: int) -> str:
            return f"atom {index} ({atoms.symbols[index]})"

        forces = atoms.get_forces(apply_constraint=False)
        if not (np.isfinite(forces).all() and np.isfinite(atoms.get_potential_energy())):
            return "energy or forces are not finite"
        if not temperature < self.too_hot:
            return f"the temperature is {temperature:.0f} K, more than {self.too_hot:.0f} K"
        graph = atoms.calc.graph
        if graph.n_edges:
            distances = graph.edge_vectors().norm(dim=1)
            closeness = distances / (self.radii[graph.centers] + self.radii[graph.neighbors])
            closest = int(closeness.argmin())
            if closeness[closest] < CLOSEST:
                one, other = name(int(graph.centers[closest])), name(int(graph.neighbors[closest]))
                return f"{one} and {other} are {distances[closest]:.2f} Å apart"
        return self._escape(atoms, name) if self.stop_on_escape else None

    def _escape(self, atoms: Atoms, name: Callable[[int], str]) -> str | None:
        graph = atoms.calc.graph
        alone = (torch.bincount(graph.centers, minlength=graph.n_atoms) == 0) & self.bound
        way_out = "(where atoms may leave, turn stop_on_escape off)"
        if bool(alone.any()):
            cutoff = atoms.calc.potential.cutoff
            return (
                f"{name(int(alone.nonzero()[0]))} has lost all neighbours within the cutoff of {cutoff:g} Å {way_out}"
            )
        distances = self._distances(atoms)
        if not atoms.pbc.any() and distances.max() > self.farthest:
            return f"{name(int(distances.argmax()))} is {distances.max():.0f} Å from the middle of the others {way_out}"
        return None

    @staticmethod
    def _distances(atoms: Atoms) -> np.ndarray:
        return np.linalg.norm(atoms.positions - atoms.get_center_of_mass(), axis=1)
