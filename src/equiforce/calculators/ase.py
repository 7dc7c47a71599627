"""A potential as an ASE calculator."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from equiforce import model_file
from equiforce.chunks import ChunkedPotential, ChunkPlan
from equiforce.data.statistics import fitted_elements
from equiforce.elements import species_index
from equiforce.errors import InputError
from equiforce.forks import refuse_after_unsafe_fork
from equiforce.graph import AtomicGraph
from equiforce.neighbors import VerletList
from equiforce.potential import Potential, evaluating
from equiforce.threads import OfThread


class Calculator(AseCalculator):
    """An ASE calculator that computes energies (eV), forces (eV/Å) and stress (eV/Å³, Voigt, positive under tension).

    It accepts any system: one atom, a molecule, a slab, a cell smaller than the cutoff. Several threads may use it at
    once, each for its own atoms: each sees the atoms, results and neighbours of its own latest calculation.

    Args:
        model: the path of a model file, or a potential, which is not changed.
        device: the device that computes, ``"cuda"`` or ``"cpu"``; a potential on another device is copied. None
            computes on the device of the potential, and loads a file onto the CPU.
        skin: distance in Å that is added to the cutoff when pairs are listed, so that the list stays valid while atoms
            move little.
        always_stress: compute the stress with every energy, as constant-pressure dynamics needs, and not only when
            it is asked for.
        max_memory: in GB; a system that would take more is computed in chunks. None is the memory that is available at
            the first calculation.

    It warns once if it computes a single atom whose reference energy was fitted, because that energy has no meaning.

    Raises:
        InputError: the file cannot be loaded, torch cannot compute on the device, or ``max_memory`` is not above 0; at
            a calculation, if the model does not know an element, a position is not a number, atoms coincide, or the
            atoms do not fit into memory even in chunks.
        PropertyNotImplementedError: if the stress of a structure without a volume is asked for.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012

    def __init__(
        self,
        model: str | Path | Potential,
        device: str | torch.device | None = None,
        skin: float = 0.5,
        always_stress: bool = False,
        max_memory: float | None = None,
    ):
        self._of_thread = _OfThread()
        super().__init__()
        self.potential = model_file.load_or_take(model, device)
        self._compute = ChunkedPotential(self.potential, max_memory)
        origin = "" if isinstance(model, Potential) else model_file.reference_energies_from(model)
        self._fitted_elements = fitted_elements(
            origin, self.potential.species
        )  # of which a single atom is warned about
        self.skin = skin
        self.always_stress = always_stress

    @property
    def atoms(self) -> Atoms | None:
        """A copy of the atoms of this thread's latest calculation."""
        return self._of_thread.atoms

    @atoms.setter
    def atoms(self, atoms: Atoms | None) -> None:
        self._of_thread.atoms = atoms

    @property
    def results(self) -> dict[str, Any]:
        """The results of this thread's latest calculation."""
        return self._of_thread.results

    @results.setter
    def results(self, results: dict[str, Any]) -> None:
        self._of_thread.results = results

    @property
    def graph(self) -> AtomicGraph | None:
        """The graph of this thread's latest calculation."""
        return self._of_thread.graph

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill ``results`` with the energy and the forces, and with the stress if it is asked for."""
        refuse_after_unsafe_fork()
        super().calculate(atoms, properties, system_changes)
        atoms = self.atoms
        if atoms is None:
            raise InputError("this thread has computed nothing with this calculator yet: give it the atoms")
        has_stress = bool(atoms.pbc.any() and atoms.cell.volume > 0)
        if "stress" in properties and not has_stress:
            raise PropertyNotImplementedError(
                f"{atoms.get_chemical_formula()} has no stress because it is not periodic or its cell has no "
                "volume: set cell and pbc of the atoms"
            )
        graph = self._of_thread.graph = self._graph_of(atoms)
        self._warn_of_single_atoms(graph, atoms.symbols)
        with_stress = has_stress and (self.always_stress or "stress" in properties)
        with evaluating(self.potential):
            prediction = self._compute(graph, stress=with_stress)
        assert prediction.forces is not None
        energy = prediction.energy.item()
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "energies": prediction.energies.cpu().numpy(),
            "forces": prediction.forces.cpu().numpy(),
        }
        if prediction.stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(prediction.stress[0].cpu().numpy())

    def _warn_of_single_atoms(self, graph: AtomicGraph, symbols: Iterable[str]) -> None:
        """Warn once that the energy of atoms without neighbours has no meaning if it was fitted."""
        if graph.n_edges == 0 and (without := sorted(set(symbols) & set(self._fitted_elements))):
            self._fitted_elements = []
            warnings.warn(
                f"the energy of a single atom of {', '.join(without)} means nothing, and neither do cohesive energies, "
                "because the model was trained without isolated atoms: add them to its training data",
                stacklevel=2,
            )

    def plan(self, atoms: Atoms) -> ChunkPlan:
        """Predict the memory that a calculation of these atoms takes, and the chunks it needs, if any."""
        return self._compute.plan(self._graph_of(atoms))

    def _graph_of(self, atoms: Atoms) -> AtomicGraph:
        own = self._of_thread
        if own.pairs is None or not np.array_equal(atoms.numbers, own.numbers):
            index = species_index(atoms.numbers, self.potential.species, atoms.get_chemical_formula())
            own.pairs = VerletList(index, self.potential.cutoff, self.skin)
            own.numbers = atoms.numbers.copy()
        return own.pairs.graph(atoms.positions, atoms.cell.array, atoms.pbc).to(self.potential.device)

    def search_neighbors(self, atoms: Atoms) -> None:
        """Search the neighbours of these atoms anew, even if the last search is still valid for them."""
        self._of_thread.pairs = None
        self._graph_of(atoms)

    @property
    def searched_at(self) -> tuple[np.ndarray, np.ndarray]:
        """The positions and the cell of the last neighbour search, in Å."""
        pairs = self._of_thread.pairs
        searched = None if pairs is None else pairs.searched_at
        if searched is None:
            raise ValueError("no neighbours have been searched yet")
        return searched

    @property
    def n_neighbor_builds(self) -> int:
        """The number of neighbour searches for the present atoms."""
        pairs = self._of_thread.pairs
        return 0 if pairs is None else pairs.n_builds


class _OfThread(OfThread):
    """What a thread has computed: ASE asks for it piece by piece, and another thread may compute in between."""

    def __init__(self) -> None:
        self.atoms: Atoms | None = None
        self.results: dict[str, Any] = {}
        self.graph: AtomicGraph | None = None
        self.pairs: VerletList | None = None
        self.numbers = np.zeros(0, dtype=np.int64)
