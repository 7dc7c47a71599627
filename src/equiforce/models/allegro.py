"""Allegro: strictly local E(3)-equivariant interactions (Musaelian et al., Nat. Commun. 14, 579 (2023))."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from equiforce.geometry.irreps import Irreps, hidden_irreps, reachable
from equiforce.graph import Topology
from equiforce.kernels import (
    CouplingTable,
    edge_geometry,
    environment,
    leading,
    sorted_by_center,
    tensor_product,
    tensor_product_of_harmonics,
)
from equiforce.kernels.cpu.targets import KernelSource
from equiforce.models import allegro_resources
from equiforce.models.allegro_config import ACCURATE, SMALL, AllegroConfig
from equiforce.models.allegro_resources import AllegroLayerShape
from equiforce.models.base import EMBEDDING, LAYERS, RADIAL, READOUT, Footprint, WeightMap, refuse_large_tables
from equiforce.models.pair_cutoffs import PairCutoffs, kinds_of
from equiforce.models.registry import register
from equiforce.nn.equivariant import Linear
from equiforce.nn.knots import Knots
from equiforce.nn.mlp import ScalarMLP
from equiforce.nn.radial import SplineBasis, StandardBessel, envelope
from equiforce.nn.two_body import TwoBody

RATIO = 0.5  # alpha of arXiv 2204.05249, the weight of a layer's update; the authors' first code has this value
# computes V_ij ⊗ Γ_i of a given V from Γ, path weights, topology and table
TensorProduct = Callable[[Tensor, Tensor, Topology, CouplingTable], Tensor]


class AllegroLayer(nn.Module):
    """V_ij <- V_ij x Γ_i with Γ_i = sum_k w_ik Y_ik / sqrt<N>, then a new x_ij and w_ij from x_ij and V_ij's scalars.

    x are the scalar features and V the tensor features of arXiv 2204.05249 (Methods).
    """

    mixing: Linear | None
    for_environment: ScalarMLP | None

    def __init__(self, config: AllegroConfig, irreps_in: Irreps, irreps_out: Irreps, n_scalars: int, *, last: bool):
        super().__init__()
        mixes, width = config.channel_mixing, config.latent_width if config.latent_depth else None
        self.table = CouplingTable(irreps_in, config.l_max, irreps_out, summed=not mixes)
        n_weights = self.table.n_paths, config.tensor_channels
        self.weights = nn.Parameter(torch.ones(n_weights) if mixes else torch.randn(n_weights), requires_grad=not mixes)
        self.mixing = Linear(self.table.irreps_out, irreps_out) if mixes and not last else None
        self.n_invariants = self.table.irreps_out.count("0e")
        self.irreps_out = irreps_out if mixes else self.table.split
        n_in = n_scalars + self.n_invariants
        self.latent = ScalarMLP(n_in, [config.latent_width] * config.latent_depth, config.scalar_channels)
        n_degrees = 0 if last else config.l_max + 1
        self.for_environment = None if last else ScalarMLP(width or n_in, [], n_degrees * config.tensor_channels)
        self.normalization = 1 / math.sqrt(config.mean_neighbors or 1.0)

    def forward(
        self,
        seen: Sequence[Float[Tensor, "edges _"]],
        product: TensorProduct,
        weights: Float[Tensor, "edges degrees_channels"],
        harmonics: Float[Tensor, "edges harmonics"],
        topology: Topology,
    ) -> tuple[
        Float[Tensor, "edges scalars"], Float[Tensor, "edges features"], Float[Tensor, "edges degrees_channels"] | None
    ]:
        """Compute the next scalars, tensors and environment weights of each edge (arXiv 2204.05249, Methods).

        Args:
            seen: the scalars x that the layer reads, each [edges, scalar channels].
            product: computes V_ij ⊗ Γ_i from Γ, path weights, topology and table.
            weights: w, a row of channels for each degree [edges, (l_max+1) * channels].
            harmonics: Y_lm of each edge [edges, (l_max+1)²].
            topology: the atoms and their neighbours, with edges sorted by centre.

        Returns:
            The update of x, the new V, and the new w, which is None in the last layer.
        """
        environments = self.normalization * environment(weights, harmonics, topology)
        invariants, tensors = leading(product(environments, self.weights, topology, self.table), self.n_invariants)
        hidden = self.latent.hidden(torch.cat([*seen, invariants], dim=1))
        following = None if self.for_environment is None else self.for_environment(hidden)
        return self.latent.last(hidden), tensors if self.mixing is None else self.mixing(tensors), following

    @property
    def shape(self) -> AllegroLayerShape:
        """The sizes on which the layer's memory depends."""
        n_weights = 0 if self.for_environment is None else self.for_environment.weights[0].shape[1]
        mixed = 0 if self.mixing is None else self.mixing.plan.dims[1]
        return AllegroLayerShape(self.table, sum(sum(w.shape) for w in self.latent.weights), n_weights, mixed)


@register(
    "allegro",
    AllegroConfig,
    reason="strictly local: atoms exchange no messages; for very large systems",
    presets={"small": SMALL, "standard": {}, "accurate": ACCURATE},
)
class Allegro(nn.Module):
    """The energy of each atom as a sum over its edges, each a function of the neighbours within the cutoff."""

    n_hops = 1

    def __init__(self, config: AllegroConfig, species: Sequence[str]):
        super().__init__()
        self.config, self.n_species = config, len(species)
        channels, n_scalars = config.tensor_channels, config.scalar_channels
        basis: nn.Module = SplineBasis(config.n_basis + 1)
        if config.radial_basis == "bessel":
            basis = StandardBessel(config.n_basis, trainable=config.bessel_trainable)
        knots = None if config.radial_knots is None else Knots(config.radial_knots, 1.0)
        of_degrees = (config.l_max + 1) * channels
        n_functions = self.n_species**2 * (n_scalars + 2 * of_degrees)
        refuse_large_tables(config.radial_knots or 0, n_functions, "functions of pairs of elements")
        self.two_body = TwoBody(
            basis, config.n_basis + 1, config.envelope_p, knots, self.n_species**2, config.radial_depth,
            config.radial_width, [n_scalars, of_degrees, of_degrees],
            envelope_on_basis=config.envelope_multiplies == "basis",
        )  # fmt: skip
        self.pair_cutoffs = PairCutoffs.of(config, species)
        allowed = hidden_irreps((channels,) * (config.l_max + 1), odd=config.parity)
        targets = [Irreps([(channels, "0e")])]
        for _ in range(config.n_layers - 1):  # backwards: a layer computes only what the energy can depend on
            targets.insert(0, reachable(targets[0], config.l_max, allowed))
        tensors, n_seen = hidden_irreps((channels,) * (config.l_max + 1), odd=False), n_scalars
        self.layers = nn.ModuleList()
        for number, target in enumerate(targets):
            made, last = reachable(tensors, config.l_max, target), number == config.n_layers - 1
            layer = AllegroLayer(config, tensors, made, n_seen, last=last)
            self.layers.append(layer)
            tensors, n_seen = layer.irreps_out, n_seen if config.residual else n_seen + n_scalars
        self.readout = ScalarMLP(n_seen, [config.readout_width] * config.readout_depth, 1)
        self.normalization = 1 / math.sqrt(config.mean_neighbors or 1.0)

    def forward(self, topology: Topology, vectors: Float[Tensor, "edges 3"]) -> Float[Tensor, " centers"]:
        """Compute the energy of each centre (arXiv 2204.05249, Methods).

        Args:
            topology: the atoms and their neighbours.
            vectors: r_ij of each edge in Å, in the dtype of the weights [edges, 3].

        Returns:
            Energies divided by the potential's scale, without unit [centers].
        """
        topology, vectors = sorted_by_center(topology, vectors)
        stretch = None
        if self.pair_cutoffs is not None:
            topology, vectors, stretch = self.pair_cutoffs.within(topology, vectors)
        knots = self.two_body.knots
        harmonics, knot_coordinates = edge_geometry(
            vectors, self.config.l_max, (1.0 if knots is None else knots.per_length) / self.config.cutoff
        )
        if stretch is not None:
            knot_coordinates = knot_coordinates * stretch
        scalars, weights, of_tensors = self.two_body(knot_coordinates, kinds_of(topology, self.n_species))
        # for V_ij = w_ij Y_ij, which is not stored
        product: TensorProduct = partial(tensor_product_of_harmonics, of_tensors, harmonics)
        seen = [scalars]
        for layer in self.layers:
            update, tensors, weights = layer(seen, product, weights, harmonics, topology)
            product = partial(tensor_product, tensors)
            seen = [self.updated(seen[0], update, knot_coordinates)] if self.config.residual else [*seen, update]
        energies: Tensor = self.readout(torch.cat(seen, dim=1)).squeeze(1)
        return self.normalization * energies.new_zeros(topology.n_centers).index_add(0, topology.centers, energies)

    def updated(self, x: Tensor, update: Tensor, knot_coordinates: Tensor) -> Tensor:
        """Compute (x + α u(r) update) / sqrt(1 + α²) with the envelope u and α = RATIO (arXiv 2204.05249, Methods)."""
        end = 1.0 if self.two_body.knots is None else self.two_body.knots.per_length
        fading = envelope(knot_coordinates, end, self.config.envelope_p).unsqueeze(1)
        return (x + RATIO * fading * update) / math.sqrt(1 + RATIO**2)

    def footprint(self, *, training: bool) -> Footprint:
        """Compute the memory of one step; see :class:`equiforce.models.base.Model`."""
        config, two_body = self.config, self.two_body
        return allegro_resources.footprint(
            [layer.shape for layer in self._layers],
            two_body=sum(two_body.outputs),
            hidden=config.radial_width * config.radial_depth if two_body.knots is None else 0,
            example=two_body.first,
            training=training,
        )

    def needed_kernels(self, dtype: torch.dtype, *, training: bool) -> list[KernelSource]:  # noqa: ARG002
        """List the generated C kernels that the model calls; training calls no others."""
        tables, splines = [layer.table for layer in self._layers], self.two_body.knots is not None
        return allegro_resources.needed_kernels(tables, splines=splines, dtype=dtype)

    def weight_map(self) -> WeightMap:
        """List the tensors with rows of pairs of species, and the weights of each group."""
        return WeightMap.of((name for name, _ in self.named_parameters()), group_of, {"two_body.first": 2})

    @property
    def _layers(self) -> Iterable[AllegroLayer]:
        return cast("Iterable[AllegroLayer]", self.layers)


def group_of(name: str) -> str:
    """Return the group of a weight: what tells pairs of species apart, the two-body network, layers or read-out."""
    if name == "two_body.first":
        return EMBEDDING
    return {"two_body": RADIAL, "readout": READOUT}.get(name.partition(".")[0], LAYERS)
