"""Computes several systems in one pass, for engines that move many at once, and keeps a neighbour list for each."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from equiforce.elements import species_index
from equiforce.forks import refuse_after_unsafe_fork
from equiforce.graph import AtomicGraph, Prediction, batch
from equiforce.neighbors import VerletList
from equiforce.potential import Potential, evaluating
from equiforce.structure import Structure
from equiforce.threads import OfThread


class BatchedPotential:
    """A potential for batches of systems that move a little from call to call.

    The system at each index of the batch has its own neighbour list, which is rebuilt if its elements change. Each
    thread has its own systems.

    Args:
        potential: the potential that computes.
        skin: distance in Å that is added to the cutoff when pairs are listed, so that a list stays valid while atoms
            move little.
    """

    def __init__(self, potential: Potential, skin: float = 0.5):
        self.potential = potential
        self.skin = skin
        self._of_thread = _OfThread()

    def __call__(self, systems: Sequence[Structure], forces: bool = True, stress: bool = False) -> Prediction:
        """Compute what :meth:`equiforce.potential.Potential.forward` computes, for all systems in one batch.

        Args:
            systems: structures of any size, elements and boundary conditions.
            forces: whether to compute forces.
            stress: whether to compute the stress.

        Raises:
            InputError: as in :func:`equiforce.neighbors.build_graph`; the message names the ``source`` of the system.
        """
        refuse_after_unsafe_fork()
        del self._of_thread.tracked[len(systems) :]
        graphs = [self._graph(index, system) for index, system in enumerate(systems)]
        with evaluating(self.potential):
            return self.potential(batch(graphs).to(self.potential.device), forces=forces, stress=stress)

    @property
    def n_neighbor_builds(self) -> int:
        """The number of neighbour searches, summed over the present systems."""
        return sum(tracked.pairs.n_builds for tracked in self._of_thread.tracked)

    def _graph(self, index: int, system: Structure) -> AtomicGraph:
        tracked = self._of_thread.tracked
        if index == len(tracked):
            tracked.append(_TrackedSystem(system, self.potential, self.skin))
        elif not tracked[index].has_elements_of(system):
            tracked[index] = _TrackedSystem(system, self.potential, self.skin)
        return tracked[index].graph(system)


class _OfThread(OfThread):
    def __init__(self) -> None:
        self.tracked: list[_TrackedSystem] = []


class _TrackedSystem:
    """The system at one index of the batch, and its neighbour list."""

    def __init__(self, system: Structure, potential: Potential, skin: float):
        index = species_index(system.atomic_numbers, potential.species, system.source or "the structure")
        self.pairs = VerletList(index, potential.cutoff, skin)
        self._numbers = system.atomic_numbers.copy()
        self._positions = system.positions

    def has_elements_of(self, system: Structure) -> bool:
        return np.array_equal(system.atomic_numbers, self._numbers)

    def graph(self, system: Structure) -> AtomicGraph:
        self.pairs.source = system.source or "the structure"
        positions = _images_near(self._positions, system)
        graph = self.pairs.graph(positions, system.cell, system.pbc)
        self._positions = positions
        return graph


def _images_near(before: Float[np.ndarray, "atoms 3"], system: Structure) -> Float[np.ndarray, "atoms 3"]:
    """Choose for each atom the periodic image that is nearest to its previous position.

    Engines wrap atoms into the cell; without this, the neighbour list would be rebuilt each time an atom is wrapped.
    """
    lattice = system.cell[system.pbc]
    if not (np.isfinite(system.positions).all() and np.isfinite(lattice).all()):
        return system.positions
    jumps = np.rint((system.positions - before) @ np.linalg.pinv(lattice))
    return system.positions - jumps @ lattice
