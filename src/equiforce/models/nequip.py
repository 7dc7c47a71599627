"""NequIP: E(3)-equivariant message passing (Batzner et al., Nat. Commun. 13, 2453 (2022), arXiv 2101.03164)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from equiforce.errors import InputError
from equiforce.geometry.irreps import Irreps, hidden_irreps, reachable
from equiforce.graph import Topology, without_edges
from equiforce.kernels import Radial, edge_geometry
from equiforce.kernels.cpu.targets import KernelSource
from equiforce.models import nequip_resources
from equiforce.models.base import Footprint, ModelConfig
from equiforce.models.nequip_resources import LayerShape
from equiforce.models.registry import register
from equiforce.nn.convolution import Convolution
from equiforce.nn.equivariant import Gate, PowerSpectrum
from equiforce.nn.mlp import ScalarMLP
from equiforce.nn.radial import BesselBasis, Knots, ParameterCache
from equiforce.options import option

# presets, chosen on several sets of data (docs/accuracy.md)
SMALL: dict[str, Any] = {"l_max": 1, "channels": 32, "n_layers": 3}
ACCURATE: dict[str, Any] = {"channels": 64, "n_layers": 5}


@dataclass(frozen=True, kw_only=True)
class NequIPConfig(ModelConfig):
    """The shape of a NequIP network."""

    cutoff: float = option(5.0, "as in most equivariant models; the paper took 4 for molecules", unit="Å", gt=0, le=50)
    n_layers: int = option(
        4, "nequip's default, the paper has 5 or 6; each layer widens what an atom sees by one cutoff", ge=1
    )
    l_max: int = option(2, "in the paper 3 gains little over 2 for molecules; 0 is invariant", ge=0)
    parity: bool = option(
        False,
        "twice the features at twice the cost; nequip's authors often find no gain (not measured here)",
        only_if=(
            "model.l_max is at least 1, model.n_layers 4 and model.invariant false",
            lambda m: m.l_max >= 1 and m.n_layers >= 4 and not m.invariant,
        ),
    )
    invariant: bool = option(
        False,
        "layers hand on scalars only and see angles by the lengths of their tensors; to tell angles from equivariance",
        only_if=("model.l_max is at least 1", lambda model: model.l_max > 0),
    )
    channels: int | list[int] = option(
        32, "nequip's default; one number, or one for each degree 0..l_max; the paper took 64 for molecules"
    )
    embedding_channels: int | None = option(None, "features of the species embedding; as many as scalar channels", ge=1)
    n_bessel: int = option(8, "the paper's", ge=1)
    bessel_trainable: bool = option(False, "nequip's default; the paper trained the roots")
    envelope_p: int = option(6, "the paper's; smaller decays earlier, larger uses more of the cutoff", ge=2)
    radial_depth: int = option(2, "hidden layers of the radial network; nequip's default, the paper has 3", ge=0)
    radial_width: int = option(
        64, "the paper's", ge=1, only_if=("model.radial_depth is at least 1", lambda model: model.radial_depth > 0)
    )
    radial_knots: int | None = option(
        64,
        "radial functions are splines on so many knots, sampled from the radial network; 32 cost no accuracy "
        "(docs/benchmarks.md); null: the network itself on every edge, slow",
        ge=8,
    )
    self_connection: bool = option(
        True,
        "a linear map of each species' own features beside the messages",
        only_if=("model.n_layers is at least 2", lambda model: model.n_layers > 1),
    )
    first_self_connection: bool = option(
        False,
        "the paper has one in the first layer too; its isolated-atom energies are then subtracted",
        only_if=("model.self_connection is true", lambda model: model.self_connection),
    )
    residual: bool = option(False, "adds a layer's input to its output; off in the paper and in nequip")
    readout_depth: int = option(0, "hidden layers of the read-out; nequip's default", ge=0)
    readout_width: int = option(
        16, "the paper's", ge=1, only_if=("model.readout_depth is at least 1", lambda model: model.readout_depth > 0)
    )
    mean_neighbors: float | None = option(None, "messages are divided by its root; measured on the training data", gt=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.channels, list) and len(self.channels) != self.l_max + 1:
            raise ValueError(
                f"model.channels lists {len(self.channels)} numbers, but l_max={self.l_max} has {self.l_max + 1} "
                "degrees: give one number for each degree, or a single one"
            )
        if self.n_layers == 1 and self.l_max > 0 and not self.invariant:
            raise ValueError(
                f"model.l_max={self.l_max} changes nothing with model.n_layers=1, whose output is scalar: "
                "set l_max=0, or 2 layers"
            )
        if min(self.channels_of_degree) < 0 or self.channels_of_degree[0] < 1:
            raise ValueError(f"model.channels={self.channels}: at least one scalar channel is needed, and none below 0")
        if self.l_max > 0 and not any(self.channels_of_degree[1:]):
            raise ValueError(f"model.channels={self.channels} leaves only scalars: set model.l_max=0, or list others")

    def __str__(self) -> str:
        parity = str(self.parity).lower()
        handed = ", invariant" if self.invariant else ""
        return f"{self.n_layers} layers, l_max {self.l_max}, {self.channels} channels, parity {parity}{handed}"

    @property
    def channels_of_degree(self) -> tuple[int, ...]:
        """Channels of l = 0, 1, ..., l_max."""
        return tuple(self.channels) if isinstance(self.channels, list) else (self.channels,) * (self.l_max + 1)


class NequIPLayer(nn.Module):
    """h_i <- gate(W_self h_i + W_out sum_j R(r_ij) Y(r_ij) x W_in h_j / sqrt<N>)."""

    def __init__(self, config: NequIPConfig, n_species: int, irreps_in: Irreps, irreps_out: Irreps, *, first: bool):
        super().__init__()
        reached = reachable(irreps_in, config.l_max, irreps_out)
        self.gate = PowerSpectrum(reached) if config.invariant else Gate(reached)
        self.convolution = Convolution(
            irreps_in,
            self.gate.irreps_in,
            l_max=config.l_max,
            n_basis=config.n_bessel,
            radial_depth=config.radial_depth,
            radial_width=config.radial_width,
            mean_neighbors=config.mean_neighbors or 1.0,
            n_species=n_species,
            self_connection=config.self_connection and (config.first_self_connection or not first),
            from_species=first,
        )
        self.irreps_out = self.gate.irreps_out
        self.residual = config.residual and irreps_in == self.irreps_out and not first

    def forward(self, h, harmonics, radial, topology):
        updated = self.gate(self.convolution(h, harmonics, radial, topology.species, topology))
        return h + updated if self.residual else updated

    @property
    def shape(self) -> LayerShape:
        """What the layer's memory depends on."""
        hidden = sum(weight.shape[1] for weight in self.convolution.radial.mlp.weights[:-1])
        return LayerShape(self.convolution.table, self.gate.irreps_in.dim, self.gate.irreps_out.dim, hidden)


@register(
    "nequip",
    NequIPConfig,
    reason="message passing: learns from few data; quick on a CPU",
    presets={"small": SMALL, "standard": {}, "accurate": ACCURATE},
)
class NequIP(nn.Module):
    """The energy of each atom from its surroundings, up to ``n_layers`` times the cutoff away."""

    def __init__(self, config: NequIPConfig, species: Sequence[str]):
        super().__init__()
        self.config, n_species = config, len(species)
        channels = config.channels_of_degree
        n_embedding = config.embedding_channels or channels[0]
        self.embed = nn.Embedding(n_species, n_embedding)
        self.radial_basis = BesselBasis(
            config.n_bessel, config.cutoff, config.envelope_p, trainable=config.bessel_trainable
        )
        self.knots = None if config.radial_knots is None else Knots(config.radial_knots, config.cutoff)
        irreps = Irreps([(n_embedding, "0e")])
        everything = hidden_irreps(channels, odd=config.parity)
        targets = [everything if config.invariant else hidden_irreps(channels[:1], odd=False)]
        for _ in range(config.n_layers - 1):  # backwards, for only what the energy can depend on is worth computing
            targets.insert(0, reachable(targets[0], config.l_max, everything))
        self.cache = ParameterCache()
        self.layers = nn.ModuleList()
        for number, target in enumerate(targets):
            layer = NequIPLayer(config, n_species, irreps, target, first=number == 0)
            irreps = layer.irreps_out
            self.layers.append(layer)
        if config.residual and not any(layer.residual for layer in self.layers):
            raise InputError("model.residual changes nothing, for no layer's output is like its input: use more layers")
        self.readout = ScalarMLP(irreps.dim, [config.readout_width] * config.readout_depth, 1)

    @property
    def n_hops(self) -> int:
        """The number of edges over which the energy of an atom depends on other atoms."""
        return len(self.layers)

    def forward(self, topology: Topology, vectors: Float[Tensor, "edges 3"]) -> Float[Tensor, " centers"]:
        """The energy of each atom, in units of the potential's scale.

        Args:
            topology: the atoms and their neighbours.
            vectors: r_ij of each edge in Å, in the precision of the weights.
        """
        h = self.propagate(topology, vectors)
        energies = self.readout(h).squeeze(1)
        if self.config.first_self_connection:
            energies = energies - self.isolated()[topology.species[: topology.n_centers]]
        return energies

    def propagate(self, topology: Topology, vectors: Float[Tensor, "edges 3"]) -> Float[Tensor, "centers channels"]:
        """The features of each atom after the last layer."""
        per_length = 1.0 if self.knots is None else self.knots.per_length
        harmonics, knot_coordinates = edge_geometry(vectors, self.config.l_max, per_length)
        h = self.embed(topology.species)
        for layer, radial in zip(self.layers, self.radial_weights(knot_coordinates), strict=True):
            h = layer(h, harmonics, radial, topology)
        return h

    def radial_weights(self, knot_coordinates: Float[Tensor, " edges"]) -> list[Radial]:
        """R of each layer, from knot_coordinates along its spline, or from lengths in Å where there is none."""
        if self.knots is None:
            basis = self.radial_basis(knot_coordinates)
            return [Radial(layer.convolution.radial(basis)) for layer in self.layers]
        sources = list(self.radial_basis.parameters())
        for layer in self.layers:
            sources += layer.convolution.radial.parameters()
        return [Radial(table, knot_coordinates) for table in self.cache(self.tables, sources)]

    def tables(self) -> list[Float[Tensor, "rows weights"]]:
        """The coefficients of each layer's splines."""
        weight = self.embed.weight
        with torch.autocast(weight.device.type, enabled=False):  # a knot's rounding is a bump in the energy
            basis = self.radial_basis(self.knots.lengths(like=weight))
            return [layer.convolution.radial.spline(basis, self.knots) for layer in self.layers]

    def isolated(self) -> Float[Tensor, " species"]:
        """What the network gives an atom of each species without neighbours: zero, unless every layer sees itself."""
        species = torch.arange(self.embed.num_embeddings, device=self.embed.weight.device)
        return self.readout(self.propagate(without_edges(species), self.embed.weight.new_zeros(0, 3))).squeeze(1)

    def footprint(self, *, training: bool) -> Footprint:
        """What message passing adds to the memory of a step."""
        return nequip_resources.footprint(
            [layer.shape for layer in self.layers],
            n_harmonics=(self.config.l_max + 1) ** 2,
            n_knots=0 if self.knots is None else self.knots.n_samples,
            example=self.embed.weight,
            training=training,
        )

    def needed_kernels(self, dtype: torch.dtype, *, training: bool) -> list[KernelSource]:
        """The generated C kernels that the model calls."""
        tables = [layer.convolution.table for layer in self.layers]
        return nequip_resources.needed_kernels(tables, dtype, training=training)
