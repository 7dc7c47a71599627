"""A potential as a model of torch-sim, which moves many systems at once."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from equiforce import model_file
from equiforce.calculators.batched import BatchedPotential
from equiforce.errors import InputError
from equiforce.graph import Structure
from equiforce.potential import Potential

try:
    from torch_sim.models.interface import ModelInterface
    from torch_sim.state import SimState
except ModuleNotFoundError as error:
    raise InputError('torch-sim is not installed: pip install "equiforce[torch-sim]"') from error


class TorchSimModel(ModelInterface):
    """Energies (eV), forces (eV/Å) and stress (eV/Å³, positive under tension) for torch-sim.

    Systems may differ in size and elements. Pairs of atoms are listed by this package and not by torch-sim, so that a
    molecule with a cell, a slab, and a cell smaller than the cutoff are right. The stress of a system without a volume
    is NaN.

    Args:
        model: the path of a model file, or a potential, which is used as it is and left as it is.
        device: where to compute, ``"cuda"`` or ``"cpu"``, with a copy of a potential that is elsewhere; None leaves a
            potential where it is, and loads a file onto the CPU.
        dtype: of the state and of what is returned; the weights keep theirs.
        skin: how much farther than the cutoff, in Å, pairs are listed, so that a list outlives small moves.
        compute_forces: whether forces are wanted.
        compute_stress: whether stress is wanted.
        memory_scales_with: what torch-sim sizes its batches by; ``"n_atoms"`` suits molecules, which have no density.

    Raises:
        InputError: at the first calculation, where a system holds an element that the model does not know, or a
            position that is not a number; it names system and atom, counted from 0.
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
        memory_scales_with: str = "n_atoms_x_density",
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
        """Where it computes."""
        return self.potential.device

    @ModelInterface.compute_forces.setter
    def compute_forces(self, wanted: bool) -> None:
        self._compute_forces = wanted

    @ModelInterface.compute_stress.setter
    def compute_stress(self, wanted: bool) -> None:
        self._compute_stress = wanted

    @property
    def n_neighbor_builds(self) -> int:
        """How often the pairs of the present systems were searched, all together."""
        return self._compute.n_neighbor_builds

    def forward(self, state: SimState | dict[str, Any], **_: Any) -> dict[str, Tensor]:
        """``energy`` [systems], ``energies`` [atoms]; if wanted ``forces`` [atoms 3], ``stress`` [systems 3 3]."""
        if isinstance(state, dict):
            state = SimState(**{"masses": torch.ones_like(state["positions"][:, 0]), **state})
        systems = systems_of(state)
        found = self._compute(systems, forces=self._compute_forces, stress=self._compute_stress)
        output = {"energy": found.energy, "energies": found.energies}
        if self._compute_forces:
            output["forces"] = found.forces
        if self._compute_stress:
            output["stress"] = -found.virial / _volumes(systems).to(found.virial).view(-1, 1, 1)
        return {name: value.to(self._dtype) for name, value in output.items()}


def systems_of(state: SimState) -> list[Structure]:
    """The systems of a state, whose boundaries may be shared or each have their own."""
    place = state.system_idx.cpu()
    if bool((place.diff() < 0).any()):
        raise InputError("the atoms of a torch-sim state must follow one another system by system: sort its system_idx")
    sizes = place.bincount().tolist()
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
    """In Å³; NaN where there is none."""
    volumes = [abs(np.linalg.det(system.cell)) if system.pbc.any() else 0.0 for system in systems]
    return torch.tensor([volume if volume > 0 else torch.nan for volume in volumes], dtype=torch.float64)
