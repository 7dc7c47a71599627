"""A potential as a driver of i-PI, in i-PI's process or through a socket; several beads are computed in one batch.

The module is not called ipi because i-PI imports a driver's file under the name of the file.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from equiforce import model_file
from equiforce.calculators.batched import BatchedPotential
from equiforce.data.read import read
from equiforce.elements import species_index
from equiforce.errors import InputError
from equiforce.structure import Structure

try:
    from ipi.utils.units import unit_to_internal
except ModuleNotFoundError as error:
    raise InputError('i-PI is not installed: pip install "equiforce[ipi]"') from error

__DRIVER_NAME__ = "equiforce"  # i-PI finds a driver by these two names
__DRIVER_CLASS__ = "EquiforceDriver"

Answer = tuple[float, Float[np.ndarray, "atoms 3"], Float[np.ndarray, "3 3"], str]
Arrays = np.ndarray | list[np.ndarray]

# i-PI's own conversion factors, so that energies and lengths that it prints in eV and Å are those of the model
ENERGY = unit_to_internal("energy", "electronvolt", 1.0)  # hartree
LENGTH = unit_to_internal("length", "angstrom", 1.0)  # bohr


class EquiforceDriver:
    """An i-PI driver that computes energy, forces and virial (-dE/dε, for any system) in i-PI's atomic units.

    Args:
        template: a file that ASE reads, with the atoms in i-PI's order; the driver takes the elements and the periodic
            boundaries from it, and the positions and the cell from i-PI.
        model: the path of a model file.
        device: the device that computes, ``cuda`` or ``cpu``.
        skin: distance in Å that is added to the cutoff when pairs are listed, so that a list stays valid while atoms
            move little.
        periodic: whether the system is periodic along all vectors of i-PI's cell; None takes this from the template.
        verbosity: not used; i-PI passes it to every driver.

    Raises:
        InputError: a file cannot be read, the template has no cell and ``periodic`` is not given, or the model does not
            know an element.
    """

    def __init__(
        self,
        template: str,
        model: str,
        device: str = "cpu",
        skin: float = 0.5,
        periodic: bool | None = None,
        verbosity: Any = None,  # noqa: ARG002
    ):
        self._template = read(template, labels_required=False)[0]
        if periodic is None and not self._template.cell.any():
            raise InputError(
                f"{template} has no cell that ASE reads, so it is unknown whether the system is periodic: write "
                "Lattice and pbc into it as extended xyz, or give the driver periodic=True or periodic=False"
            )
        self._pbc = self._template.pbc if periodic is None else np.full(3, periodic)
        potential = model_file.load(model, device=device)
        species_index(self._template.atomic_numbers, potential.species, str(template))
        self._compute = BatchedPotential(potential, skin)

    def __call__(self, cell: Arrays, pos: Arrays) -> Answer | list[Answer]:
        """Compute the results for one structure or a list of structures; i-PI calls this.

        Args:
            cell: cell vectors in columns, bohr [3 3], or a list of such arrays.
            pos: positions, bohr [atoms 3], or a list of such arrays.

        Returns:
            Energy (hartree), forces (hartree/bohr), virial (hartree) and an empty string, or a list of these.

        Raises:
            InputError: i-PI sends another number of atoms than the template has, or positions that are not numbers.
        """
        if isinstance(cell, list):
            assert isinstance(pos, list)
            return self._answers(cell, pos)
        assert not isinstance(pos, list)
        return self._answers([cell], [pos])[0]

    def _answers(self, cells: list[np.ndarray], positions: list[np.ndarray]) -> list[Answer]:
        if len(positions[0]) != len(self._template):
            raise InputError(
                f"i-PI sends {len(positions[0])} atoms, but the template {self._template.source} has "
                f"{len(self._template)}: give the driver the file from which i-PI starts"
            )
        systems = [
            Structure(
                atomic_numbers=self._template.atomic_numbers,
                positions=coordinates / LENGTH,
                cell=cell.T / LENGTH,
                pbc=self._pbc,
                source=f"structure {number} of {len(cells)} from i-PI (counted from 0)",
            )
            for number, (cell, coordinates) in enumerate(zip(cells, positions, strict=True))
        ]
        found = self._compute(systems, stress=True)
        assert found.forces is not None
        assert found.virial is not None
        forces = (found.forces.cpu() * (ENERGY / LENGTH)).split([len(self._template)] * len(systems))
        energies, virials = (found.energy * ENERGY).tolist(), (found.virial.cpu() * ENERGY).numpy()
        return [(energies[k], forces[k].numpy(), virials[k], "") for k in range(len(systems))]
