"""Several systems in one pass, for engines that move many at once: each keeps its list of pairs."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from equiforce.elements import species_index
from equiforce.graph import AtomicGraph, Prediction, Structure, batch
from equiforce.neighbors import VerletList
from equiforce.potential import Potential, evaluating


class BatchedPotential:
    """A potential for systems that come again and again, moved a little; others may take their places at any time.

    Args:
        potential: what computes.
        skin: how much farther than the cutoff, in Å, pairs are listed, so that a list outlives small moves.
    """

    def __init__(self, potential: Potential, skin: float = 0.5):
        self.potential = potential
        self.skin = skin
        self._followed: list[_Followed] = []

    def __call__(self, systems: Sequence[Structure], forces: bool = True, stress: bool = False) -> Prediction:
        """As :meth:`equiforce.potential.Potential.forward`, of systems of any size, elements and boundaries.

        Raises:
            InputError: as :func:`equiforce.neighbors.build_graph`, with the ``source`` of the system.
        """
        del self._followed[len(systems) :]
        graphs = [self._graph(place, system) for place, system in enumerate(systems)]
        with evaluating(self.potential):
            return self.potential(batch(graphs).to(self.potential.device), forces=forces, stress=stress)

    @property
    def n_neighbor_builds(self) -> int:
        """How often the pairs of the present systems were searched, all together."""
        return sum(followed.pairs.n_builds for followed in self._followed)

    def _graph(self, place: int, system: Structure) -> AtomicGraph:
        if place == len(self._followed):
            self._followed.append(_Followed(system, self.potential, self.skin))
        elif not self._followed[place].has_atoms_of(system):
            self._followed[place] = _Followed(system, self.potential, self.skin)
        return self._followed[place].graph(system)


class _Followed:
    """The atoms in one place of the batch, and their pairs."""

    def __init__(self, system: Structure, potential: Potential, skin: float):
        index = species_index(system.atomic_numbers, potential.species, system.source or "the structure")
        self.pairs = VerletList(index, potential.cutoff, skin)
        self._numbers = system.atomic_numbers.copy()
        self._positions = system.positions

    def has_atoms_of(self, system: Structure) -> bool:
        return np.array_equal(system.atomic_numbers, self._numbers)

    def graph(self, system: Structure) -> AtomicGraph:
        self.pairs.source = system.source or "the structure"
        positions = _images_near(self._positions, system)
        graph = self.pairs.graph(positions, system.cell, system.pbc)
        self._positions = positions
        return graph


def _images_near(before: Float[np.ndarray, "atoms 3"], system: Structure) -> Float[np.ndarray, "atoms 3"]:
    """Each atom's image nearest to where it was: engines put atoms back into the cell, which breaks no pair."""
    lattice = system.cell[system.pbc]
    if not (np.isfinite(system.positions).all() and np.isfinite(lattice).all()):
        return system.positions
    jumps = np.rint((system.positions - before) @ np.linalg.pinv(lattice))
    return system.positions - jumps @ lattice
