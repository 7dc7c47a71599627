"""Energy, forces, virial and stress from atomic energies. All derivatives and signs are in this file."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from threading import Lock
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from equiforce.checks import check_index, check_tensor
from equiforce.errors import InputError
from equiforce.forks import refuse_after_unsafe_fork
from equiforce.graph import AtomicGraph, Prediction, Topology
from equiforce.kernels import pair_gradient, pair_vectors, sorted_by_center
from equiforce.models import Model
from equiforce.nn.pair import ZBL
from equiforce.options import option

LARGEST_SCALE = 1e6  # eV
# How many edges a strictly local model computes at once. The data of 4,096 edges fit into the caches of a CPU; the
# number for GPUs is not tuned.
EDGES_AT_ONCE = defaultdict(lambda: 1_000_000, cpu=4_096)


@dataclass(frozen=True, kw_only=True)
class PotentialConfig:
    """What a potential adds to the network: reference energies, a scale, and repulsion at short range."""

    reference_energies: dict[str, float] | None = option(
        None, "of isolated atoms, by element; null: from isolated-atom frames, or else fitted to the data", unit="eV",
        example="{H: -13.6, O: -430.1}",
    )  # fmt: skip
    atomic_energies_trainable: bool = option(False, "false: an isolated atom keeps its reference energy")
    scale: float | dict[str, float] | None = option(
        None, "of the network's output; one, or one by element; null: root mean square force times 1 Å", unit="eV",
        example="{H: 1.0, O: 2.0}",
    )  # fmt: skip
    scale_trainable: bool = option(False, "false: the network's last layer can learn the same")
    zbl: bool = option(
        False, "true: repulsion of nuclei, for simulations in which atoms come closer than in any training frame"
    )
    zbl_envelope_p: int = option(
        6,
        "how the repulsion goes to zero at the cutoff, as model.envelope_p",
        ge=2,
        le=100,
        only_if=("potential.zbl is true", lambda potential: potential.zbl),
    )
    zbl_pair_cutoffs: bool = option(
        False,
        "true: the repulsion of a pair ends at its model.pair_cutoffs, as in nequip",
        only_if=("potential.zbl is true", lambda potential: potential.zbl),
    )

    def __post_init__(self) -> None:
        scales = self.scale.values() if isinstance(self.scale, dict) else [self.scale]
        if not all(scale is None or 0 < scale <= LARGEST_SCALE for scale in scales):
            limits = f"above 0 and at most {LARGEST_SCALE:g}"
            raise ValueError(f"potential.scale={self.scale} is not {limits}: give positive scales in eV")


class Potential(nn.Module):
    """E = sum_i (σ_Z ε_i + μ_Z) + ZBL, with its forces, virial and stress.

    The weights may be float32. Positions, energies and sums are float64.

    Args:
        model: computes ε_i of each atom from the edge vectors.
        species: chemical symbols; ``graph.species`` is the index into this list.
        cutoff: in Å; a graph must not have longer edges.
        atomic_energies: μ, the energy of an isolated atom of each species in eV.
        scale: σ of each species in eV, usually the root mean square force times 1 Å.
        atomic_energies_trainable: whether training changes μ.
        scale_trainable: whether training changes σ.
        zbl: repulsion of nuclei at short range, or None.

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
        self.register_load_state_dict_pre_hook(_rename_old_weights)  # type: ignore[no-untyped-call] # torch's lacks types

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return next(chain(self.model.parameters(), self.model.buffers()), self.scale).dtype

    @property
    def device(self) -> torch.device:
        return self.atomic_energies.device

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Potential":
        """Convert the network, as ``float()`` and ``to()`` do; what is added to it moves but stays float64."""
        exact = [self.atomic_energies, self.scale, *([] if self.zbl is None else [self.zbl.charges])]
        values = [tensor.data for tensor in exact]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call] # torch's lacks types
        exact = [self.atomic_energies, self.scale, *([] if self.zbl is None else [self.zbl.charges])]
        for tensor, value in zip(exact, values, strict=True):
            if tensor.dtype != value.dtype:
                tensor.data = value.to(tensor.device)
        return self

    def site_energies(self, topology: Topology, vectors: Float[Tensor, "edges 3"]) -> Float[Tensor, " centers"]:
        """Compute the energy of each centre in eV from r_ij in Å."""
        own = self.model(topology, vectors.to(self.dtype)).double()
        species = topology.species_of_centers
        energies = self.scale[species] * own + self.atomic_energies[species]
        if self.zbl is not None:
            energies = energies + self.zbl(topology, vectors)
        return energies

    def forward(
        self,
        graph: AtomicGraph,
        forces: bool = True,
        stress: bool = False,
        energy_mask: Bool[Tensor, " centers"] | None = None,
    ) -> Prediction:
        """Compute energy, forces, virial and stress of a batch of structures.

        All results are differentiable with respect to ``graph.positions`` and ``graph.cell`` if these require grad, and
        with respect to the weights in training mode. In evaluation mode with a graph that does not require grad, and
        under ``torch.no_grad()``, autograd records nothing for forces and stress, which saves time and memory. The
        fused kernels have two derivatives, so forces can be differentiated once.

        Args:
            graph: one or several structures, with every pair closer than the cutoff.
            forces: whether to compute forces.
            stress: whether to compute virial and stress.
            energy_mask: the centres whose energies count; None counts all. The energies of the others are zero, so
                that the predictions for disjoint sets of atoms add up to the prediction for all atoms.

        Returns:
            ``energy`` [structures] and ``energies`` [centers] in eV; ``forces`` [atoms 3] in eV/Å, or None; ``virial``
            [structures 3 3] in eV and ``stress`` [structures 3 3] in eV/Å³, or None. The stress is also None if a
            structure has no volume.

        Raises:
            InputError: the graph has a species that the model does not know (checked on a CPU only), or torch is in
                inference mode.
        """
        refuse_after_unsafe_fork()
        _refuse_inference_mode()  # before the order of the graph's edges is computed, which training uses too
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
        """Compute the energy of each centre in eV and the gradient of their sum with respect to each r_ij in eV/Å.

        Forces, virial and stress follow from these two results. Programs that compute r_ij themselves, such as LAMMPS,
        call this method. The results are differentiable as in :meth:`forward`, with respect to ``vectors``.

        Args:
            topology: the atoms and their neighbours.
            vectors: r_ij of each edge in Å [edges 3]; the tensor is not changed.
            energy_mask: as in :meth:`forward`.
            derivatives: whether to compute the gradient.

        Returns:
            The energies [centers], and the gradient [edges 3] or None.

        Raises:
            InputError: ``vectors`` or ``energy_mask`` has another dtype, shape or device, the topology has a species
                that the model does not know (checked on a CPU only), or torch is in inference mode.
        """
        refuse_after_unsafe_fork()
        _refuse_inference_mode()
        self._check_species(topology)
        device = topology.species.device
        check_tensor(vectors, "vectors", torch.float64, (topology.n_edges, 3), device)
        if energy_mask is not None:
            check_tensor(energy_mask, "energy_mask", torch.bool, (topology.n_centers,), device)
        recorded = torch.is_grad_enabled() and (_trains(self) or vectors.requires_grad or not derivatives)
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
        """Compute energies and gradient in one pass; if ``recorded``, both results can be differentiated."""
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
        """Compute the same for a strictly local model in batches of centres, which saves memory."""
        ordered, order = sorted_by_center(topology, torch.arange(topology.n_edges, device=vectors.device))
        energies = vectors.new_empty(topology.n_centers)
        edge_gradients = vectors.new_empty(vectors.shape) if derivatives else None
        for part, atoms, edges in center_batches(ordered, len(self.species), EDGES_AT_ONCE[vectors.device.type]):
            own = torch.zeros(part.n_atoms, dtype=torch.bool, device=vectors.device)
            own[: atoms.stop - atoms.start] = True if energy_mask is None else energy_mask[atoms]
            found, gradient = self._at_once(part, vectors[order[edges]], own, derivatives, recorded=False)
            energies[atoms] = found[: atoms.stop - atoms.start]
            if edge_gradients is not None and gradient is not None:
                edge_gradients[order[edges]] = gradient
        return energies, edge_gradients

    def _check_species(self, topology: Topology) -> None:
        if topology.species.device.type == "cpu":  # on a GPU the check would wait for the device
            check_index(topology.species, "species", len(self.species), "species in the model")

    @staticmethod
    def _total(energies: Float[Tensor, " centers"], graph: AtomicGraph) -> Float[Tensor, " structures"]:
        structure = graph.structure_of_atom[: graph.n_centers]
        return energies.new_zeros(graph.n_structures).index_add(0, structure, energies)

    @staticmethod
    def _virial(
        edge_gradients: Float[Tensor, "edges 3"], vectors: Float[Tensor, "edges 3"], graph: AtomicGraph
    ) -> Float[Tensor, "structures 3 3"]:
        """-dE/dε = -sum_ij dE/dr_ij ⊗ r_ij in eV; it is symmetric because rotations leave the energy unchanged."""
        if graph.n_structures == 1:
            total = (edge_gradients.mT @ vectors).unsqueeze(0)
        else:
            structure = graph.structure_of_atom[graph.centers]
            rows = edge_gradients.new_zeros(graph.n_structures, 3)
            # row by row, because a [3 3] tensor for each edge would need more memory than all else
            products = (edge_gradients[:, axis : axis + 1] * vectors for axis in range(3))
            total = torch.stack([rows.index_add(0, structure, row) for row in products], dim=1)
        return -0.5 * (total + total.mT)

    @staticmethod
    def _stress(virial: Float[Tensor, "structures 3 3"], graph: AtomicGraph) -> Tensor | None:
        """(1/V) dE/dε in eV/Å³, positive under tension; None if a structure has no volume."""
        volumes = graph.volumes()
        return -virial / volumes.view(-1, 1, 1) if bool((volumes > 0).all()) else None


def _refuse_inference_mode() -> None:
    if torch.is_inference_mode_enabled():
        raise InputError(
            "a potential cannot compute in torch.inference_mode(), because forces are gradients, which that mode "
            "forbids: use torch.no_grad() instead"
        )


class CenterBatch(NamedTuple):
    """Some of the centres of a topology, with their edges."""

    topology: Topology  # the centres of the batch come first
    atoms: slice  # the centres of the batch in the whole topology
    edges: slice  # their edges in the whole topology


def center_batches(topology: Topology, n_species: int, most_edges: int) -> Iterator[CenterBatch]:
    """Divide a topology into batches of centres with about the same number of edges, for a strictly local model.

    Such a model needs only the species of a neighbour and the vector to it. Therefore one atom of each species stands
    for all neighbours of that species; these atoms are the last ones of each batch.

    Args:
        topology: with edges sorted by centre.
        n_species: number of species.
        most_edges: the largest number of edges of a batch; a centre with more edges is a batch by itself.
    """
    firsts = torch.searchsorted(topology.centers, torch.arange(topology.n_centers + 1, device=topology.centers.device))
    start, stand_ins = 0, torch.arange(n_species, device=topology.species.device)
    share = math.ceil(topology.n_edges / max(1, math.ceil(topology.n_edges / most_edges)))
    while start < topology.n_centers:
        enough = torch.searchsorted(firsts, firsts[start] + share, right=True)
        stop = max(start + 1, min(int(enough) - 1, topology.n_centers))
        atoms, edges = slice(start, stop), slice(int(firsts[start]), int(firsts[stop]))
        neighbors = stop - start + topology.species[topology.neighbors[edges]]
        part = Topology(
            species=torch.cat([topology.species[atoms], stand_ins]),
            centers=topology.centers[edges] - start,
            neighbors=neighbors,
            by_neighbor=neighbors.argsort(stable=True),
        )
        yield CenterBatch(part, atoms, edges)
        start = stop


class _Evaluation(NamedTuple):
    """How many threads evaluate a potential now, and which of its modules were in training mode before."""

    n_threads: int
    in_training: list[nn.Module]


_evaluations: WeakKeyDictionary[Potential, _Evaluation] = WeakKeyDictionary()
_mode = Lock()  # is held while the mode of a potential changes


@contextmanager
def evaluating(potential: Potential) -> Iterator[None]:
    """A context in which the potential is in evaluation mode and autograd records nothing.

    At its end each module of the potential returns to its earlier mode. If several threads evaluate the potential, the
    last of them does this. A thread that trains it meanwhile is not disturbed.
    """
    refuse_after_unsafe_fork()
    with _mode:
        n_threads, in_training = _evaluations.get(potential, _Evaluation(0, []))
        in_training = in_training + [module for module in potential.modules() if module.training]
        _evaluations[potential] = _Evaluation(n_threads + 1, in_training)
        for module in in_training:
            module.training = False
    try:
        with torch.no_grad():  # the potential enables gradients itself where forces need them
            yield
    finally:
        with _mode:
            n_threads, in_training = _evaluations.pop(potential)
            if n_threads > 1:
                _evaluations[potential] = _Evaluation(n_threads - 1, in_training)
            else:
                for module in in_training:
                    module.training = True


def _trains(potential: Potential) -> bool:
    """Whether the potential is in training mode, or was before other threads began to evaluate it."""
    with _mode:
        return potential.training or any(
            module is potential for module in _evaluations.get(potential, _Evaluation(0, [])).in_training
        )


def _parameter(values: Sequence[float], *, trainable: bool) -> nn.Parameter:
    return nn.Parameter(torch.tensor(list(values), dtype=torch.float64), requires_grad=trainable)


def _rename_old_weights(_: nn.Module, weights: dict[str, Tensor], prefix: str, *__: object) -> None:
    """Rename the weight ``shift`` of model files and checkpoints of format 1 to ``atomic_energies``."""
    if f"{prefix}shift" in weights:
        weights[f"{prefix}atomic_energies"] = weights.pop(f"{prefix}shift")
