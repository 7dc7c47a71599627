"""Energy, forces, virial and stress from the energies of single atoms. All derivatives and signs are in this file."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from equiforce.errors import InputError
from equiforce.graph import AtomicGraph, Prediction, Topology, check_index
from equiforce.kernels import pair_gradient, pair_vectors, sorted_by_center
from equiforce.models import Model
from equiforce.nn.pair import ZBL
from equiforce.options import option

# Edges that a strictly local model computes at once. On a CPU they fit into its caches; for GPUs this is not tuned.
EDGES_AT_ONCE = defaultdict(lambda: 1_000_000, cpu=4_096)


@dataclass(frozen=True, kw_only=True)
class PotentialConfig:
    """What surrounds the network: reference energies, scale, and repulsion at short range."""

    reference_energies: dict[str, float] | None = option(
        None, "of isolated atoms by element; else from isolated-atom frames, else fitted to the data", unit="eV"
    )
    atomic_energies_trainable: bool = option(False, "an isolated atom then keeps its reference energy")
    scale: float | dict[str, float] | None = option(
        None, "of the network's output, one or by element; None is the root mean square force times 1 Å", unit="eV"
    )
    scale_trainable: bool = option(False, "the network's last layer can scale as well")
    zbl: bool = option(False, "repulsion of nuclei; for simulations whose atoms come closer than in any training frame")

    def __post_init__(self) -> None:
        scales = self.scale.values() if isinstance(self.scale, dict) else [self.scale]
        if not all(scale is None or scale > 0 for scale in scales):
            raise ValueError(f"potential.scale={self.scale} will not do: a scale is above 0")


class Potential(nn.Module):
    """E = sum_i (σ_Z ε_i + μ_Z) + ZBL, and its forces, stress and virial.

    Weights may be float32; positions, energies and sums are float64.

    Args:
        model: computes ε_i of each atom from the edge vectors.
        species: chemical symbols, in the order of the model's species index.
        cutoff: in Å; edges beyond it must not be given.
        atomic_energies: μ, the energy of an isolated atom of each species in eV.
        scale: σ of each species in eV, usually the root mean square force times 1 Å.
        atomic_energies_trainable: whether training changes μ.
        scale_trainable: whether training changes σ.
        zbl: short-range repulsion of nuclei, or None.

    Raises:
        InputError: the numbers of species, atomic energies and scales differ.
    """

    def __init__(
        self,
        model: Model,
        *,
        species: Sequence[str],
        cutoff: float,
        atomic_energies: Sequence[float],
        scale: Sequence[float],
        atomic_energies_trainable: bool = False,
        scale_trainable: bool = False,
        zbl: ZBL | None = None,
    ):
        super().__init__()
        if not len(species) == len(atomic_energies) == len(scale):
            raise InputError(
                f"{len(species)} species have {len(atomic_energies)} atomic energies and {len(scale)} scales: "
                "give one of each for each species"
            )
        self.model = model
        self.species = list(species)
        self.cutoff = cutoff
        self.zbl = zbl
        self.atomic_energies = _parameter(atomic_energies, trainable=atomic_energies_trainable)
        self.scale = _parameter(scale, trainable=scale_trainable)
        self.register_load_state_dict_pre_hook(_rename_old_weights)

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights."""
        return next(self.model.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return self.atomic_energies.device

    def site_energies(self, topology: Topology, vectors: Float[Tensor, "edges 3"]) -> Float[Tensor, " centers"]:
        """The energy of each atom in eV, from r_ij in Å."""
        own = self.model(topology, vectors.to(self.dtype)).double()
        species = topology.species_of_centers
        energies = self.scale[species] * own + self.atomic_energies[species]
        return energies if self.zbl is None else energies + self.zbl(topology, vectors)

    def forward(
        self,
        graph: AtomicGraph,
        forces: bool = True,
        stress: bool = False,
        energy_mask: Bool[Tensor, " atoms"] | None = None,
    ) -> Prediction:
        """Energy, forces, virial and stress of a batch of structures.

        All results are differentiable with respect to ``graph.positions`` and ``graph.cell`` where these require grad,
        and with respect to the weights in training mode. In evaluation mode, a graph that requires no grad gives
        forces and stress without a record of how they were computed, which saves time and memory; so does
        ``torch.no_grad()`` in either mode. The fused kernels have two derivatives: forces may be differentiated once.

        Args:
            graph: one structure or several, with every pair closer than the cutoff.
            forces: whether to compute forces.
            stress: whether to compute virial and stress.
            energy_mask: the atoms whose energies count. The energies of other atoms are zero, so that predictions for
                disjoint sets of atoms add up to that of all atoms. None counts all.

        Returns:
            ``energy`` [structures] and ``energies`` [atoms] in eV; ``forces`` [atoms 3] in eV/Å, or None; ``virial``
            [structures 3 3] in eV and ``stress`` [structures 3 3] in eV/Å³, or None. The stress is also None where a
            structure has no volume.

        Raises:
            InputError: the graph holds a species that the model does not know, or torch is in inference mode.
        """
        vectors = pair_vectors(graph)
        energies, edge_gradients = self.energies_and_edge_gradients(graph, vectors, energy_mask, forces or stress)
        if edge_gradients is None:
            return Prediction(self._total(energies, graph), energies, None, None, None)
        virial = self._virial(edge_gradients, vectors, graph) if stress else None
        return Prediction(
            energy=self._total(energies, graph),
            energies=energies,
            forces=-pair_gradient(edge_gradients, graph) if forces else None,
            virial=virial,
            stress=self._stress(virial, graph) if virial is not None else None,
        )

    def energies_and_edge_gradients(
        self,
        topology: Topology,
        vectors: Float[Tensor, "edges 3"],
        energy_mask: Bool[Tensor, " centers"] | None = None,
        derivatives: bool = True,
    ) -> tuple[Float[Tensor, " centers"], Float[Tensor, "edges 3"] | None]:
        """The energy of each atom in eV and the gradient of their sum with respect to each r_ij in eV/Å.

        Forces, virial and stress follow from these two. Engines that have r_ij themselves, such as LAMMPS, call this.
        Both results are differentiable with respect to ``vectors`` and the weights as in :meth:`forward`.

        Args:
            topology: the atoms and their neighbours.
            vectors: r_ij of each edge, in Å; left as they are.
            energy_mask: as in :meth:`forward`.
            derivatives: whether to compute the gradient.

        Returns:
            The energies [centers], and the gradient [edges 3] or None.

        Raises:
            InputError: there is a species that the model does not know, or torch is in inference mode.
        """
        self._check_species(topology)
        if torch.is_inference_mode_enabled():
            raise InputError(
                "a potential cannot compute in torch.inference_mode(), which forbids the gradients that forces are: "
                "use torch.no_grad() instead"
            )
        recorded = torch.is_grad_enabled() and (self.training or vectors.requires_grad or not derivatives)
        at_once = recorded or self.model.n_hops > 1 or topology.n_edges <= EDGES_AT_ONCE[vectors.device.type]
        if not at_once:
            return self._in_center_batches(topology, vectors, energy_mask, derivatives)
        return self._at_once(topology, vectors, energy_mask, derivatives, recorded=recorded)

    def _at_once(
        self,
        topology: Topology,
        vectors: Float[Tensor, "edges 3"],
        energy_mask: Bool[Tensor, " centers"] | None,
        derivatives: bool,
        *,
        recorded: bool,
    ) -> tuple[Float[Tensor, " centers"], Float[Tensor, "edges 3"] | None]:
        """Energies and gradient in one pass; ``recorded`` says whether both can be differentiated in their turn."""
        if derivatives and not (recorded and vectors.requires_grad):
            vectors = vectors.detach().requires_grad_()  # the caller's tensor stays as it is
        with torch.set_grad_enabled(derivatives or recorded):
            energies = self.site_energies(topology, vectors)
            if energy_mask is not None:
                energies = torch.where(energy_mask, energies, 0.0)
            if not derivatives:
                return energies, None
            (gradient,) = torch.autograd.grad(
                energies.sum(), vectors, create_graph=recorded, materialize_grads=True, allow_unused=True
            )
        return energies if recorded else energies.detach(), gradient

    def _in_center_batches(
        self,
        topology: Topology,
        vectors: Float[Tensor, "edges 3"],
        energy_mask: Bool[Tensor, " centers"] | None,
        derivatives: bool,
    ) -> tuple[Float[Tensor, " centers"], Float[Tensor, "edges 3"] | None]:
        """The same for a strictly local model, one batch of centres after the other, to save memory."""
        ordered, order = sorted_by_center(topology, torch.arange(topology.n_edges, device=vectors.device))
        energies = vectors.new_empty(topology.n_centers)
        edge_gradients = vectors.new_empty(vectors.shape) if derivatives else None
        for part, atoms, edges in center_batches(ordered, len(self.species), EDGES_AT_ONCE[vectors.device.type]):
            own = torch.zeros(part.n_atoms, dtype=torch.bool, device=vectors.device)
            own[: atoms.stop - atoms.start] = True if energy_mask is None else energy_mask[atoms]
            found, slope = self._at_once(part, vectors[order[edges]], own, derivatives, recorded=False)
            energies[atoms] = found[: atoms.stop - atoms.start]
            if edge_gradients is not None:
                edge_gradients[order[edges]] = slope
        return energies, edge_gradients

    def _check_species(self, topology: Topology) -> None:
        if topology.species.device.type == "cpu":  # on a GPU this would wait for the device
            check_index(topology.species, "species", len(self.species), "species in the model")

    @staticmethod
    def _total(energies: Float[Tensor, " centers"], graph: AtomicGraph) -> Float[Tensor, " structures"]:
        structure = graph.structure_of_atom[: graph.n_centers]
        return energies.new_zeros(graph.n_structures).index_add(0, structure, energies)

    @staticmethod
    def _virial(
        edge_gradients: Float[Tensor, "edges 3"], vectors: Float[Tensor, "edges 3"], graph: AtomicGraph
    ) -> Float[Tensor, "structures 3 3"]:
        """-dE/dε = -sum_ij dE/dr_ij ⊗ r_ij, symmetric because the energy is invariant under rotation."""
        if graph.n_structures == 1:
            total = (edge_gradients.mT @ vectors).unsqueeze(0)
        else:
            structure, rows = (
                graph.structure_of_atom[graph.centers],
                edge_gradients.new_zeros(graph.n_structures, 3),
            )
            # row by row: a tensor for each edge would be the largest thing in memory
            products = (edge_gradients[:, axis : axis + 1] * vectors for axis in range(3))
            total = torch.stack([rows.index_add(0, structure, row) for row in products], dim=1)
        return -0.5 * (total + total.mT)

    @staticmethod
    def _stress(virial: Float[Tensor, "structures 3 3"], graph: AtomicGraph) -> Tensor | None:
        """(1/V) dE/dε, positive under tension."""
        volumes = graph.volumes()
        return -virial / volumes.view(-1, 1, 1) if bool((volumes > 0).all()) else None


class CenterBatch(NamedTuple):
    """Some centres with their edges, and nothing else."""

    topology: Topology
    atoms: slice  # of the whole topology; they come first in this one
    edges: slice


def center_batches(topology: Topology, n_species: int, most_edges: int) -> Iterator[CenterBatch]:
    """Batches of centres, of about one size and with at most ``most_edges`` edges, which are sorted by centre.

    The surroundings of a neighbour are left out, so that all that matters of a neighbour is its species and the edge
    to it: one atom of each species, the last ones of each batch, stands for all neighbours.
    """
    firsts = torch.searchsorted(topology.centers, torch.arange(topology.n_centers + 1, device=topology.centers.device))
    start, ghosts = 0, torch.arange(n_species, device=topology.species.device)
    share = math.ceil(topology.n_edges / max(1, math.ceil(topology.n_edges / most_edges)))
    while start < topology.n_centers:
        enough = torch.searchsorted(firsts, firsts[start] + share, right=True)
        stop = max(start + 1, min(int(enough) - 1, topology.n_centers))
        atoms, edges = slice(start, stop), slice(int(firsts[start]), int(firsts[stop]))
        neighbors = stop - start + topology.species[topology.neighbors[edges]]
        part = Topology(
            species=torch.cat([topology.species[atoms], ghosts]),
            centers=topology.centers[edges] - start,
            neighbors=neighbors,
            by_neighbor=neighbors.argsort(stable=True),
        )
        yield CenterBatch(part, atoms, edges)
        start = stop


@contextmanager
def evaluating(potential: Potential) -> Iterator[None]:
    """Within it, the potential is in evaluation mode and nothing is recorded for later derivatives.

    Afterwards each module of the potential is in the mode that it was in before.
    """
    in_training = [module for module in potential.modules() if module.training]
    for module in in_training:
        module.training = False
    try:
        with torch.no_grad():  # forces turn it on again for themselves
            yield
    finally:
        for module in in_training:
            module.training = True


def _parameter(values: Sequence[float], *, trainable: bool) -> nn.Parameter:
    return nn.Parameter(torch.tensor(list(values), dtype=torch.float64), requires_grad=trainable)


def _rename_old_weights(_: nn.Module, weights: dict[str, Tensor], prefix: str, *__: object) -> None:
    """Model files and checkpoints of format 1 call the atomic energies ``shift``."""
    if f"{prefix}shift" in weights:
        weights[f"{prefix}atomic_energies"] = weights.pop(f"{prefix}shift")
