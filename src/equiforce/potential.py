"""From the energies of atoms to what a simulation needs. Every sign and every derivative lives here."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from equiforce.errors import InputError
from equiforce.graph import AtomicGraph, Prediction, stars
from equiforce.kernels import pair_gradient, pair_vectors, sorted_by_center
from equiforce.nn.pair import ZBL
from equiforce.options import option

# by a model that sees one edge far: on a CPU as many as stay in its caches; on others not yet tuned
EDGES_AT_ONCE = defaultdict(lambda: 1_000_000, cpu=4_096)


@dataclass(frozen=True, kw_only=True)
class PotentialConfig:
    """What surrounds the network: reference energies, scale, and repulsion at short range."""

    reference_energies: dict[str, float] | None = option(
        None, "of isolated atoms by element; else from isolated-atom frames, else fitted to the data", unit="eV"
    )
    shift_trainable: bool = option(False, "an isolated atom then keeps its reference energy")
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
    """E = sum_i (σ_Z ε_i + μ_Z) + ZBL, its forces, stress and virial.

    Weights may be float32; positions, energies and sums are float64.

    Args:
        model: gives ε_i of each atom from the edge vectors.
        species: chemical symbols, in the order of the model's species index.
        cutoff: in Å; edges beyond it must not be given.
        shift: μ, the energy of each species' isolated atom in eV.
        scale: σ of each species in eV, usually the root mean square force times 1 Å.
        zbl: short-range repulsion of nuclei, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        species: Sequence[str],
        cutoff: float,
        shift: Sequence[float],
        scale: Sequence[float],
        shift_trainable: bool = False,
        scale_trainable: bool = False,
        zbl: ZBL | None = None,
    ):
        super().__init__()
        if not len(species) == len(shift) == len(scale):
            raise InputError(f"{len(species)} species have {len(shift)} shifts and {len(scale)} scales: give one each")
        self.model = model
        self.species = list(species)
        self.cutoff = cutoff
        self.zbl = zbl
        self.shift = nn.Parameter(torch.tensor(list(shift), dtype=torch.float64), requires_grad=shift_trainable)
        self.scale = nn.Parameter(torch.tensor(list(scale), dtype=torch.float64), requires_grad=scale_trainable)

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights."""
        return next(self.model.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return self.shift.device

    def atomic_energies(self, graph: AtomicGraph, vectors: Float[Tensor, "edges 3"]) -> Float[Tensor, " centers"]:
        """The energy of each atom in eV, from r_ij in Å."""
        own = self.model(graph, vectors.to(self.dtype)).double()
        species = graph.species if graph.ghosts is None else graph.species[: graph.n_centers]
        energies = self.scale[species] * own + self.shift[species]
        return energies if self.zbl is None else energies + self.zbl(vectors, graph)

    def forward(
        self,
        graph: AtomicGraph,
        forces: bool = True,
        stress: bool = False,
        counted: Bool[Tensor, " atoms"] | None = None,
    ) -> Prediction:
        """Energy, forces, virial and stress of a batch; differentiable once more while in training mode.

        Args:
            graph: one structure or several, with every pair closer than the cutoff.
            forces: whether forces are wanted.
            stress: whether virial and stress are wanted; stress is None unless every structure has a volume.
            counted: the atoms whose energies count; those of others are zero, so that the predictions of parts that
                share out the atoms between them add up. All count if None.
        """
        derivatives = forces or stress
        with torch.set_grad_enabled(derivatives or torch.is_grad_enabled()):
            vectors = pair_vectors(graph)
            energies, pull = self.energies_and_pull(graph, vectors, counted, derivatives)
        if not derivatives:
            return Prediction(self._total(energies, graph), energies, None, None, None)
        if not self.training:
            energies = energies.detach()
        virial = self._virial(pull, vectors.detach(), graph) if stress else None
        return Prediction(
            energy=self._total(energies, graph),
            energies=energies,
            forces=-pair_gradient(pull, graph) if forces else None,
            virial=virial,
            stress=self._stress(virial, graph) if virial is not None else None,
        )

    def energies_and_pull(
        self,
        graph: AtomicGraph,
        vectors: Float[Tensor, "edges 3"],
        counted: Bool[Tensor, " centers"] | None = None,
        derivatives: bool = True,
    ) -> tuple[Float[Tensor, " centers"], Float[Tensor, "edges 3"] | None]:
        """The energy of each atom in eV and, where derivatives are wanted, that of their sum by each r_ij in eV/Å.

        What all else follows from, for an engine that has r_ij, and knows what to do with what pulls at each edge.

        Args:
            graph: as in :meth:`forward`; its positions, shifts and cells play no part.
            vectors: r_ij of each edge, in Å.
            counted: as in :meth:`forward`.
            derivatives: whether pull is wanted, which is None otherwise.
        """
        at_once = graph.n_edges <= EDGES_AT_ONCE[vectors.device.type] or self.model.reach > 1
        recorded = self.training or (torch.is_grad_enabled() and not derivatives)
        compute = self._at_once if at_once or recorded else self._star_by_star
        with torch.set_grad_enabled(derivatives or torch.is_grad_enabled()):
            return compute(graph, vectors, counted, derivatives)

    def _at_once(
        self,
        graph: AtomicGraph,
        vectors: Float[Tensor, "edges 3"],
        counted: Bool[Tensor, " centers"] | None,
        derivatives: bool,
    ) -> tuple[Float[Tensor, " centers"], Float[Tensor, "edges 3"] | None]:
        vectors = vectors.requires_grad_(derivatives)
        energies = self.atomic_energies(graph, vectors)
        if counted is not None:
            energies = torch.where(counted, energies, 0.0)
        if not derivatives:
            return energies, None
        options = {"create_graph": self.training, "materialize_grads": True, "allow_unused": True}
        return energies, torch.autograd.grad(energies.sum(), vectors, **options)[0]

    def _star_by_star(
        self,
        graph: AtomicGraph,
        vectors: Float[Tensor, "edges 3"],
        counted: Bool[Tensor, " centers"] | None,
        derivatives: bool,
    ) -> tuple[Float[Tensor, " centers"], Float[Tensor, "edges 3"] | None]:
        """The same for a model that sees an atom's edges and no others: some atoms after others, to save memory."""
        sorted_graph, order = sorted_by_center(graph, torch.arange(graph.n_edges, device=vectors.device))
        energies, pull = vectors.new_empty(graph.n_centers), torch.empty_like(vectors) if derivatives else None
        for part, atoms, edges in stars(sorted_graph, len(self.species), EDGES_AT_ONCE[vectors.device.type]):
            own = torch.zeros(part.n_atoms, dtype=torch.bool, device=vectors.device)
            own[: atoms.stop - atoms.start] = True if counted is None else counted[atoms]
            found, slope = self._at_once(part, vectors[order[edges]], own, derivatives)
            energies[atoms] = found[: atoms.stop - atoms.start].detach()
            if pull is not None:
                pull[order[edges]] = slope
        return energies, pull

    @staticmethod
    def _total(energies: Float[Tensor, " atoms"], graph: AtomicGraph) -> Float[Tensor, " structures"]:
        structure = graph.structure_of_atom if graph.ghosts is None else graph.structure_of_atom[: graph.n_centers]
        return energies.new_zeros(graph.n_structures).index_add(0, structure, energies)

    @staticmethod
    def _virial(
        pull: Float[Tensor, "edges 3"], vectors: Float[Tensor, "edges 3"], graph: AtomicGraph
    ) -> Float[Tensor, "structures 3 3"]:
        """-dE/dε = -sum_ij dE/dr_ij ⊗ r_ij, symmetric because the energy is invariant under rotation."""
        if graph.n_structures == 1:
            total = (pull.mT @ vectors).unsqueeze(0)
        else:
            structure, rows = graph.structure_of_atom[graph.centers], pull.new_zeros(graph.n_structures, 3)
            # row by row: a tensor for each edge would be the largest thing in memory
            products = (pull[:, axis : axis + 1] * vectors for axis in range(3))
            total = torch.stack([rows.index_add(0, structure, row) for row in products], dim=1)
        return -0.5 * (total + total.mT)

    @staticmethod
    def _stress(virial: Float[Tensor, "structures 3 3"], graph: AtomicGraph) -> Tensor | None:
        """(1/V) dE/dε, positive under tension."""
        volumes = graph.volumes()
        return -virial / volumes.view(-1, 1, 1) if bool((volumes > 0).all()) else None


@contextmanager
def evaluating(potential: Potential) -> Iterator[None]:
    """Evaluation mode for a while: no derivative of a derivative is prepared."""
    was_training = potential.training
    potential.eval()
    try:
        with torch.no_grad():  # forces turn it on again for themselves
            yield
    finally:
        potential.train(was_training)
