"""A potential as a driver of i-PI, in its process or at the other end of a socket; several beads are one batch.

The module is not called ipi, for i-PI imports a driver's file under the file's own name.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from equiforce import model_file
from equiforce.calculators.batched import BatchedPotential
from equiforce.data.read import read
from equiforce.elements import species_index
from equiforce.errors import InputError
from equiforce.graph import Structure

try:
    from ipi.utils.units import unit_to_internal
except ModuleNotFoundError as error:
    raise InputError('i-PI is not installed: pip install "equiforce[ipi]"') from error

__DRIVER_NAME__ = "equiforce"  # where i-PI looks for a driver
__DRIVER_CLASS__ = "EquiforceDriver"

Answer = tuple[float, Float[np.ndarray, "atoms 3"], Float[np.ndarray, "3 3"], str]
Arrays = np.ndarray | list[np.ndarray]

# i-PI's own eV and Å, so that what it reads and prints in them are the model's numbers
ENERGY = unit_to_internal("energy", "electronvolt", 1.0)  # hartree
LENGTH = unit_to_internal("length", "angstrom", 1.0)  # bohr


class EquiforceDriver:
    """Energy, forces and virial (-dE/dε, of any system) in i-PI's atomic units.

    Args:
        template: a file that ASE reads with the atoms in i-PI's order; its elements and boundaries count, the rest is
            what i-PI sends.
        model: the path of a model file.
        device: where to compute, ``cuda`` or ``cpu``.
        skin: how much farther than the cutoff, in Å, pairs are listed, so that a list outlives small moves.
        periodic: whether the system repeats along the vectors of i-PI's cell; None is what the template says.
        verbosity: i-PI hands it to every driver; not used.

    Raises:
        InputError: a template without a cell where ``periodic`` is not given, an element that the model does not know.
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
                f"{template} has no cell that ASE reads, so it does not say whether the system repeats: give it "
                "Lattice and pbc of extended xyz, or the driver periodic=True or periodic=False"
            )
        self._pbc = self._template.pbc if periodic is None else np.full(3, periodic)
        potential = model_file.load(model, device=device)
        species_index(self._template.atomic_numbers, potential.species, str(template))
        self._compute = BatchedPotential(potential, skin)

    def __call__(self, cell: Arrays, pos: Arrays) -> Answer | list[Answer]:
        """What i-PI asks of one structure, or of a list of them: lengths in bohr, cell vectors in columns."""
        if not isinstance(cell, list):
            return self._answers([cell], [pos])[0]
        return self._answers(cell, pos)

    def _answers(self, cells: list[np.ndarray], positions: list[np.ndarray]) -> list[Answer]:
        if len(positions[0]) != len(self._template):
            raise InputError(
                f"i-PI sends {len(positions[0])} atoms and the template {self._template.source} has "
                f"{len(self._template)}: give the driver the file that i-PI starts from"
            )
        systems = [
            Structure(
                atomic_numbers=self._template.atomic_numbers,
                positions=place / LENGTH,
                cell=cell.T / LENGTH,
                pbc=self._pbc,
                source=f"structure {number} of {len(cells)} from i-PI (counted from 0)",
            )
            for number, (cell, place) in enumerate(zip(cells, positions, strict=True))
        ]
        found = self._compute(systems, stress=True)
        forces = (found.forces.cpu() * (ENERGY / LENGTH)).split([len(self._template)] * len(systems))
        energies, virials = (found.energy * ENERGY).tolist(), (found.virial.cpu() * ENERGY).numpy()
        return [(energies[k], forces[k].numpy(), virials[k], "") for k in range(len(systems))]
