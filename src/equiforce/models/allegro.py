"""Allegro: strictly local E(3)-equivariant interactions (Musaelian et al., Nat. Commun. 14, 579 (2023))."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from equiforce.errors import InputError
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
from equiforce.models.allegro_resources import LayerShape
from equiforce.models.base import Footprint, ModelConfig
from equiforce.models.registry import register
from equiforce.nn.equivariant import Linear
from equiforce.nn.mlp import ScalarMLP
from equiforce.nn.radial import Knots, SplineBasis, StandardBessel, envelope
from equiforce.nn.two_body import TwoBody
from equiforce.options import option

RATIO = 0.5  # of a layer's update to what it updates: alpha of arXiv 2204.05249, as the authors' first code fixed it

# presets, chosen on several sets of data (docs/accuracy.md)
SMALL: dict[str, Any] = {"scalar_channels": 32, "latent_width": 32, "tensor_channels": 16}
ACCURATE: dict[str, Any] = {"l_max": 3, "tensor_channels": 64}


@dataclass(frozen=True, kw_only=True)
class AllegroConfig(ModelConfig):
    """The shape of an Allegro network."""

    cutoff: float = option(5.0, "nothing beyond it is seen, whatever the number of layers", unit="Å", gt=0, le=50)
    pair_cutoffs: dict[str, float] | None = option(
        None,
        "shorter cutoffs of ordered pairs, centre first, as in {H-O: 3.0, O-H: 3.0}; fewer pairs, less time",
        unit="Å",
    )
    n_layers: int = option(2, "nequip-allegro's default; each correlates one more neighbour with an edge", ge=1)
    l_max: int = option(2, "1 is quick, 3 gains little for molecules; 0 sees no angles", ge=0)
    parity: bool = option(
        False,
        "tensors of both parities, where they can matter",
        only_if=("model.l_max is at least 1 and model.n_layers 3", lambda m: m.l_max >= 1 and m.n_layers >= 3),
    )
    scalar_channels: int = option(64, "of each edge; nequip-allegro's default", ge=1)
    tensor_channels: int = option(32, "of each edge and irrep; nequip-allegro's default is 16", ge=1)
    radial_basis: Literal["bessel", "spline"] = option("bessel", "the paper's; spline is a local basis")
    n_basis: int = option(8, "the paper's; a constant comes beside them", ge=3)
    bessel_trainable: bool = option(
        False, "the paper's", only_if=("model.radial_basis is bessel", lambda m: m.radial_basis == "bessel")
    )
    envelope_p: int = option(6, "the paper's; smaller decays earlier, larger uses more of the cutoff", ge=2)
    radial_depth: int = option(2, "hidden layers of the two-body network; the paper has 3", ge=1)
    radial_width: int = option(64, "the paper's grows from 128 to 1024; functions of one number need less", ge=1)
    radial_knots: int | None = option(
        64,
        "two-body functions are splines on so many knots for each ordered pair of species; null: the network itself on "
        "every edge, for very many species",
        ge=8,
    )
    latent_depth: int = option(1, "hidden layers of the scalars' networks; nequip-allegro's default", ge=0)
    latent_width: int = option(
        64,
        "as many as scalar channels",
        ge=1,
        only_if=("model.latent_depth is at least 1", lambda m: m.latent_depth > 0),
    )
    channel_mixing: bool = option(
        False, "the paper mixes channels after each product, at twice the cost; else paths are weighted and added up"
    )
    residual: bool = option(False, "the paper adds up scalars of all layers; else each sees those of all before it")
    readout_depth: int = option(1, "hidden layers of the read-out; the paper's", ge=0)
    readout_width: int = option(
        32,
        "nequip-allegro's default",
        ge=1,
        only_if=("model.readout_depth is at least 1", lambda m: m.readout_depth > 0),
    )
    mean_neighbors: float | None = option(None, "sums over edges are divided by its root; measured on the data", gt=0)

    def __str__(self) -> str:
        channels = f"{self.scalar_channels} scalar and {self.tensor_channels} tensor channels"
        return f"{self.n_layers} layers, l_max {self.l_max}, {channels}, parity {str(self.parity).lower()}"


class AllegroLayer(nn.Module):
    """V_ij <- V_ij x Γ_i with Γ_i = sum_k w_ik Y_ik / sqrt<N>, then x_ij and next w_ij from x_ij and V_ij's scalars.

    The tensor and the scalar track of arXiv 2204.05249 (Methods).
    """

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

    def forward(self, seen, times, weights, harmonics, topology):
        surroundings = self.normalization * environment(weights, harmonics, topology)
        products = times(surroundings, self.weights, topology, self.table)
        invariants, products = leading(products, self.n_invariants)
        hidden = self.latent.hidden(torch.cat([*seen, invariants], dim=1))
        weights = None if self.for_environment is None else self.for_environment(hidden)
        return self.latent.last(hidden), products if self.mixing is None else self.mixing(products), weights

    @property
    def shape(self) -> LayerShape:
        """What the layer's memory depends on."""
        environment = 0 if self.for_environment is None else self.for_environment.weights[0].shape[1]
        mixed = 0 if self.mixing is None else self.mixing.plan.dims[1]
        return LayerShape(self.table, sum(sum(w.shape) for w in self.latent.weights), environment, mixed)


@register(
    "allegro",
    AllegroConfig,
    reason="strictly local: nothing is exchanged between atoms, for very large systems",
    presets={"small": SMALL, "standard": {}, "accurate": ACCURATE},
)
class Allegro(nn.Module):
    """The energy of each atom as a sum over its edges, none of which sees beyond the cutoff of their centre."""

    n_hops = 1

    def __init__(self, config: AllegroConfig, species: Sequence[str]):
        super().__init__()
        self.config, self.n_species = config, len(species)
        channels, n_scalars = config.tensor_channels, config.scalar_channels
        if config.radial_basis == "bessel":
            basis = StandardBessel(config.n_basis, trainable=config.bessel_trainable)
        else:
            basis = SplineBasis(config.n_basis + 1)
        knots = None if config.radial_knots is None else Knots(config.radial_knots, 1.0)
        of_degrees = (config.l_max + 1) * channels
        self.two_body = TwoBody(
            basis, config.n_basis + 1, config.envelope_p, knots, self.n_species**2, config.radial_depth,
            config.radial_width, [n_scalars, of_degrees, of_degrees],
        )  # fmt: skip
        self.register_buffer("stretch", pair_stretch(config, species), persistent=False)
        allowed = hidden_irreps((channels,) * (config.l_max + 1), odd=config.parity)
        targets = [Irreps([(channels, "0e")])]
        for _ in range(config.n_layers - 1):  # backwards, for only what the energy can depend on is worth computing
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
        """The energy of each atom, in units of the potential's scale.

        Args:
            topology: the atoms and their neighbours.
            vectors: r_ij of each edge in Å, in the precision of the weights.
        """
        topology, vectors = sorted_by_center(topology, vectors)
        kinds = self.kinds(topology)
        if self.config.pair_cutoffs is not None:
            near = vectors.detach().norm(dim=1) * self.stretch[kinds] < self.config.cutoff
            topology, vectors, kinds = topology.select_edges(near), vectors[near], kinds[near]
        knots = self.two_body.knots
        harmonics, knot_coordinates = edge_geometry(
            vectors, self.config.l_max, (1.0 if knots is None else knots.per_length) / self.config.cutoff
        )
        if self.config.pair_cutoffs is not None:
            knot_coordinates = knot_coordinates * self.stretch[kinds]
        scalars, weights, of_tensors = self.two_body(knot_coordinates, kinds)
        times = partial(tensor_product_of_harmonics, of_tensors, harmonics)  # V_ij x, with V_ij = w_ij Y_ij
        seen = [scalars]
        for layer in self.layers:
            update, tensors, weights = layer(seen, times, weights, harmonics, topology)
            times = partial(tensor_product, tensors)
            seen = [self.updated(seen[0], update, knot_coordinates)] if self.config.residual else [*seen, update]
        energies = self.readout(torch.cat(seen, dim=1)).squeeze(1)
        return self.normalization * energies.new_zeros(topology.n_centers).index_add(0, topology.centers, energies)

    def kinds(self, topology: Topology) -> Int[Tensor, " edges"]:
        """The ordered pair of species of each edge, centre first."""
        return self.n_species * topology.species[topology.centers] + topology.species[topology.neighbors]

    def updated(self, x: Tensor, update: Tensor, knot_coordinates: Tensor) -> Tensor:
        """The paper's residual form: a fixed share of the update, which fades out at the cutoff."""
        end = 1.0 if self.two_body.knots is None else self.two_body.knots.per_length
        fading = envelope(knot_coordinates, end, self.config.envelope_p).unsqueeze(1)
        return (x + RATIO * fading * update) / math.sqrt(1 + RATIO**2)

    def footprint(self, *, training: bool) -> Footprint:
        """What a strictly local model adds to the memory of a step."""
        config, two_body = self.config, self.two_body
        return allegro_resources.footprint(
            [layer.shape for layer in self.layers],
            two_body=sum(head.weights[0].shape[1] for head in two_body.heads),
            hidden=config.radial_width * config.radial_depth if two_body.knots is None else 0,
            example=two_body.first,
            training=training,
        )

    def needed_kernels(self, dtype: torch.dtype, *, training: bool) -> list[KernelSource]:  # noqa: ARG002 - the same
        """The generated C kernels that the model calls."""
        tables, splines = [layer.table for layer in self.layers], self.two_body.knots is not None
        return allegro_resources.needed_kernels(tables, splines=splines, dtype=dtype)


def pair_stretch(config: AllegroConfig, species: Sequence[str]) -> Float[Tensor, " kinds"]:
    """The cutoff over that of each ordered pair of species."""
    given = dict(config.pair_cutoffs or {})
    stretch = [config.cutoff / given.pop(f"{a}-{b}", config.cutoff) for a in species for b in species]
    if given:
        raise InputError(
            f"model.pair_cutoffs has {', '.join(given)}, but the elements are {', '.join(species)}: write a pair as "
            f"{species[0]}-{species[-1]}, centre first"
        )
    return torch.tensor(stretch)
