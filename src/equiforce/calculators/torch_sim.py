"""A potential as a model of torch-sim, which simulates many systems at once."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from equiforce import model_file
from equiforce.calculators.batched import BatchedPotential
from equiforce.errors import InputError
from equiforce.potential import Potential
from equiforce.structure import Structure

try:
    from torch_sim.models.interface import ModelInterface
    from torch_sim.state import SimState
except ModuleNotFoundError as error:
    raise InputError('torch-sim is not installed: pip install "equiforce[torch-sim]"') from error


class TorchSimModel(ModelInterface):
    """A torch-sim model that computes energies (eV), forces (eV/Å) and stress (eV/Å³, positive under tension).

    Systems may differ in size and elements. This package lists the pairs of atoms, not torch-sim, so that the result is
    also right for a molecule with a cell, a slab, and a cell smaller than the cutoff. The stress of a system without a
    volume is NaN.

    Args:
        model: the path of a model file, or a potential, which is not changed.
        device: the device that computes, ``"cuda"`` or ``"cpu"``; a potential on another device is copied. None
            computes on the device of the potential, and loads a file onto the CPU.
        dtype: precision of the state and of the results; the weights keep their own.
        skin: distance in Å that is added to the cutoff when pairs are listed, so that a list stays valid while atoms
            move little.
        compute_forces: whether to compute forces.
        compute_stress: whether to compute the stress.
        memory_scales_with: the measure by which torch-sim sizes its batches, ``"n_atoms"`` or ``"n_atoms_x_density"``.
            The first is right for all systems. The second is more exact for crystals of different densities, and
            torch-sim 0.3 cannot compute it for a system without a cell.

    Raises:
        InputError: the file cannot be loaded, or torch cannot compute on the device; at a calculation, if a system has
            an element that the model does not know, a position that is not a number, or atoms that coincide. The
            message then names the system and the atom, counted from 0.
    """

    def __init__(
        self,
        model: str | Path | Potential,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float64,
        *,
        skin: float = 0.5,
        compute_forces: bool = True,
        compute_stress: bool = True,
        memory_scales_with: str = "n_atoms",
    ):
        super().__init__()
        self.potential = model_file.load_or_take(model, device)
        self._dtype = dtype
        self._compute_forces = compute_forces
        self._compute_stress = compute_stress
        self._memory_scales_with = memory_scales_with
        self._compute = BatchedPotential(self.potential, skin)

    @property
    def device(self) -> torch.device:
        """The device that computes."""
        return self.potential.device

    @ModelInterface.compute_forces.setter
    def compute_forces(self, wanted: bool) -> None:
        self._compute_forces = wanted

    @ModelInterface.compute_stress.setter
    def compute_stress(self, wanted: bool) -> None:
        self._compute_stress = wanted

    @property
    def n_neighbor_builds(self) -> int:
        """The number of neighbour searches, summed over the present systems."""
        return self._compute.n_neighbor_builds

    def forward(self, state: SimState | dict[str, Any], **_: Any) -> dict[str, Tensor]:
        """Compute the energies of all systems of a state, and the forces and the stress if they are enabled.

        Args:
            state: a torch-sim state, lengths in Å, or the dictionary of its fields.

        Returns:
            ``energy`` [systems] eV, ``energies`` [atoms] eV, ``forces`` [atoms 3] eV/Å, ``stress`` [systems 3 3] eV/Å³.

        Raises:
            InputError: see the class.
        """
        if isinstance(state, dict):
            state = SimState(**{"masses": torch.ones_like(state["positions"][:, 0]), **state})
        systems = systems_of(state)
        found = self._compute(systems, forces=self._compute_forces, stress=self._compute_stress)
        output = {"energy": found.energy, "energies": found.energies}
        if self._compute_forces:
            assert found.forces is not None
            output["forces"] = found.forces
        if self._compute_stress:
            assert found.virial is not None
            output["stress"] = -found.virial / _volumes(systems).to(found.virial).view(-1, 1, 1)
        return {name: value.to(self._dtype) for name, value in output.items()}


def systems_of(state: SimState) -> list[Structure]:
    """Split a state into its systems; ``pbc`` of the state is that of all systems, or has a row for each."""
    system_of_atom = state.system_idx.cpu()
    if bool((system_of_atom.diff() < 0).any()):
        raise InputError("the atoms of the torch-sim state are not ordered by system: sort its system_idx")
    sizes = system_of_atom.bincount().tolist()
    positions = state.positions.detach().cpu().double().split(sizes)
    numbers = state.atomic_numbers.cpu().long().split(sizes)
    cells = state.row_vector_cell.detach().cpu().double().numpy()
    pbc = np.broadcast_to(torch.as_tensor(state.pbc).cpu().numpy(), (len(sizes), 3))
    return [
        Structure(
            atomic_numbers=numbers[k].numpy(),
            positions=positions[k].numpy(),
            cell=cells[k],
            pbc=pbc[k],
            source=f"system {k} (counted from 0)",
        )
        for k in range(len(sizes))
    ]


def _volumes(systems: list[Structure]) -> Float[Tensor, " systems"]:
    """Compute the volume of each system in Å³, NaN for a system without a volume."""
    volumes = [abs(np.linalg.det(system.cell)) if system.pbc.any() else 0.0 for system in systems]
    return torch.tensor([volume if volume > 0 else torch.nan for volume in volumes], dtype=torch.float64)
