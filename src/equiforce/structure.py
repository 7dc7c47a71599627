"""A structure with its reference labels, as it is read from a file. Energies are in eV, lengths in Å."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from equiforce.ase_atoms import AseAtoms, geometry_of, labels_of
from equiforce.quantities import Quantity


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Structure:
    """Atoms with positions and a cell, and those reference labels that are known.

    Args:
        atomic_numbers: [atoms].
        positions: in Å [atoms 3].
        cell: lattice vectors in Å, one in each row [3 3]; zeros for a molecule without a cell.
        pbc: whether each direction is periodic [3].
        energy: in eV, or None.
        forces: in eV/Å [atoms 3], or None.
        stress: in eV/Å³, positive under tension as in ASE [3 3], or None.
        group: name of the group in tables of errors, such as a file's ``config_type``.
        source: name of the structure in messages, such as "train.xyz, frame 12".
        extra: the other values in the structure's file, such as a charge or tags of its atoms [atoms], by their keys.
        of_atoms: the keys of ``extra`` whose values have a row for each atom.
    """

    atomic_numbers: Int[np.ndarray, " atoms"]
    positions: Float[np.ndarray, "atoms 3"]
    cell: Float[np.ndarray, "3 3"]
    pbc: Bool[np.ndarray, "3"]
    energy: float | None = None
    forces: Float[np.ndarray, "atoms 3"] | None = None
    stress: Float[np.ndarray, "3 3"] | None = None
    group: str = ""
    source: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    of_atoms: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.atomic_numbers)

    @classmethod
    def from_ase(cls, atoms: AseAtoms, *, labels: bool = True, source: str = "") -> "Structure":
        """Convert ASE's atoms to a structure. The calculator computes nothing, and all arrays are copies.

        The labels are the energy, forces and stress that the calculator has already computed for these atoms. Results
        for earlier positions are left out, and so is the stress of atoms without a volume. Constraints do not change
        the forces. The group is ``info["config_type"]`` or ``info["group"]``. Everything else is left out: velocities,
        masses, charges, constraints, and labels under other names (:func:`equiforce.read` finds those).

        Args:
            atoms: an ``ase.Atoms``.
            labels: whether to take the calculator's results.
            source: name of the structure in messages.

        Returns:
            A structure in eV and Å.

        Raises:
            InputError: ``atoms`` is not an ``ase.Atoms``, or a result has the wrong shape or is not finite.
        """
        geometry = geometry_of(atoms)
        return cls(**geometry, **(labels_of(atoms, source or "the atoms") if labels else {}), source=source)

    def label(self, quantity: Quantity) -> float | np.ndarray | None:
        """The reference value of a quantity, or None if it is not known."""
        value: float | np.ndarray | None = getattr(self, quantity.name)
        return value
