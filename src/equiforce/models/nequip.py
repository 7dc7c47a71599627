"""NequIP: E(3)-equivariant message passing (Batzner et al., Nat. Commun. 13, 2453 (2022), arXiv 2101.03164)."""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from equiforce.errors import InputError
from equiforce.geometry.irreps import Irreps, hidden_irreps, reachable
from equiforce.graph import Topology, without_edges
from equiforce.kernels import Radial, edge_geometry
from equiforce.kernels.cpu.targets import KernelSource
from equiforce.models import nequip_resources
from equiforce.models.base import EMBEDDING, LAYERS, RADIAL, READOUT, Footprint, WeightMap, refuse_large_tables
from equiforce.models.nequip_config import ACCURATE, SMALL, NequIPConfig
from equiforce.models.nequip_resources import NequIPLayerShape
from equiforce.models.pair_cutoffs import PairCutoffs
from equiforce.models.registry import register
from equiforce.nn.convolution import Convolution
from equiforce.nn.equivariant import Gate, PowerSpectrum, SpeciesLinear
from equiforce.nn.knots import Knots
from equiforce.nn.mlp import ScalarMLP
from equiforce.nn.norm import RMSNorm
from equiforce.nn.radial import BesselBasis, ParameterCache, in_double


class NequIPLayer(nn.Module):
    """h_i <- gate(W_self h_i + W_out sum_j R(r_ij) (Y(r_ij) x W_in h_j) / sqrt<N>) (arXiv 2101.03164, figure 1)."""

    convolution: Convolution

    def __init__(self, config: NequIPConfig, n_species: int, irreps_in: Irreps, irreps_out: Irreps, *, first: bool):
        super().__init__()
        reached = reachable(irreps_in, config.l_max, irreps_out, reflections=config.reflections)
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
            shared=config.shared_self_connection,
            linear_in_by_species=config.species_linear_in,
            reflections=config.reflections,
            constants=config.scalar_constants,
        )
        self.norm = RMSNorm(self.gate.irreps_in) if config.layer_norm else None
        self.irreps_out = self.gate.irreps_out
        self.residual = config.residual and irreps_in == self.irreps_out and not first

    def forward(
        self,
        h: Float[Tensor, "known inputs"],
        harmonics: Float[Tensor, "edges harmonics"],
        radial_weights: Radial,
        topology: Topology,
    ) -> Float[Tensor, "centers outputs"]:
        """Compute the next features of each centre: convolution, then gate (arXiv 2101.03164, equations 7 to 11).

        Args:
            h: features of the centres; in the first layer, of all atoms [centers or atoms, inputs].
            harmonics: Y_lm of each edge [edges, (l_max+1)²].
            radial_weights: R of each edge.
            topology: the atoms and their neighbours.
        """
        sums = self.convolution(h, harmonics, radial_weights, topology)
        updated: Tensor = self.gate(sums if self.norm is None else self.norm(sums))
        return h + updated if self.residual else updated

    @property
    def shape(self) -> NequIPLayerShape:
        """The sizes on which the layer's memory depends."""
        hidden = sum(weight.shape[1] for weight in self.convolution.radial.mlp.weights[:-1])
        gated, normed = self.gate.irreps_in.dim, self.norm is not None
        return NequIPLayerShape(self.convolution.table, gated, self.gate.irreps_out.dim, hidden, normed)


@register(
    "nequip",
    NequIPConfig,
    reason="message passing: learns from few data; quick on a CPU",
    presets={"small": SMALL, "standard": {}, "accurate": ACCURATE},
)
class NequIP(nn.Module):
    """The energy of each atom as a function of the atoms within ``n_layers`` times the cutoff."""

    def __init__(self, config: NequIPConfig, species: Sequence[str]):
        super().__init__()
        self.config, n_species = config, len(species)
        self.pair_cutoffs = PairCutoffs.of(config, species)
        channels = config.channels_of_degree
        n_embedding = config.embedding_channels or channels[0]
        self.embed = nn.Embedding(n_species, n_embedding)
        self.radial_basis = BesselBasis(
            config.n_bessel,
            config.cutoff,
            config.envelope_p,
            trainable=config.bessel_trainable,
            on=config.xplor_on,
        )
        knots = config.radial_knots
        self.knots = None if knots is None else Knots(knots, config.cutoff, config.xplor_on)
        irreps = Irreps([(n_embedding, "0e")])
        everything = hidden_irreps(channels, odd=config.parity, reflections=config.reflections)
        targets = [everything if config.invariant else hidden_irreps(channels[:1], odd=False)]
        for _ in range(config.n_layers - 1):  # backwards: a layer computes only what the energy can depend on
            targets.insert(0, reachable(targets[0], config.l_max, everything, reflections=config.reflections))
        self.cache, self.cache_of_isolated = ParameterCache(), ParameterCache()
        self.layers = nn.ModuleList()
        for number, target in enumerate(targets):
            layer = NequIPLayer(config, n_species, irreps, target, first=number == 0)
            irreps = layer.irreps_out
            self.layers.append(layer)
        if config.residual and not any(layer.residual for layer in self.layers):
            raise InputError(
                "model.residual changes nothing because no layer has an output with the irreps of its input: use more "
                "layers"
            )
        n_functions = sum(layer.convolution.table.n_weights for layer in self._layers)
        refuse_large_tables(config.radial_knots or 0, n_functions, "radial functions")
        self.readout = ScalarMLP(irreps.dim, [config.readout_width] * config.readout_depth, 1)

    @property
    def n_hops(self) -> int:
        """The number of edges over which the energy of an atom depends on other atoms."""
        return len(self.layers)

    def forward(self, topology: Topology, vectors: Float[Tensor, "edges 3"]) -> Float[Tensor, " centers"]:
        """Compute the energy of each centre (arXiv 2101.03164, figure 1).

        Args:
            topology: the atoms and their neighbours.
            vectors: r_ij of each edge in Å, in the dtype of the weights [edges, 3].

        Returns:
            Energies divided by the potential's scale, without unit [centers].
        """
        h = self.propagate(topology, vectors)
        energies: Tensor = self.readout(h).squeeze(1)
        if self.config.first_self_connection:
            energies = energies - self.isolated()[topology.species[: topology.n_centers]]
        return energies

    def propagate(self, topology: Topology, vectors: Float[Tensor, "edges 3"]) -> Float[Tensor, "centers channels"]:
        """Compute the features of each centre after the last layer."""
        per_length, stretch = 1.0 if self.knots is None else self.knots.per_length, None
        if self.pair_cutoffs is not None:
            topology, vectors, stretch = self.pair_cutoffs.within(topology, vectors)
        harmonics, knot_coordinates = edge_geometry(vectors, self.config.l_max, per_length)
        if stretch is not None:
            knot_coordinates = knot_coordinates * stretch
        if self.knots is not None:
            knot_coordinates = self.knots.across_seam(knot_coordinates)
        h: Tensor = self.embed(topology.species)
        for layer, radial in zip(self.layers, self.radial_weights(knot_coordinates), strict=True):
            h = layer(h, harmonics, radial, topology)
        return h

    def radial_weights(self, knot_coordinates: Float[Tensor, " edges"]) -> list[Radial]:
        """Compute R of each layer from knot coordinates, or from lengths in Å if there are no knots."""
        knots, networks = self.knots, [layer.convolution.radial for layer in self._layers]
        if knots is None:
            basis = self.radial_basis(knot_coordinates)
            return [Radial(network(basis)) for network in networks]
        weights = [
            *self.radial_basis.parameters(),
            *self.radial_basis.buffers(),
            *(weight for network in networks for weight in network.parameters()),
        ]
        return [Radial(table, knot_coordinates) for table in self.cache(lambda: self.tables(knots), weights)]

    def tables(self, knots: Knots) -> list[Float[Tensor, "rows weights"]]:
        """Compute the spline coefficients of each layer's radial weights.

        Weights that are not trained get coefficients that are computed in float64 and rounded once, which makes the
        forces of a float32 model several times more accurate.
        """
        like, basis = self.embed.weight, self.radial_basis
        networks = [layer.convolution.radial for layer in self._layers]
        if not any(weight.requires_grad for module in (basis, *networks) for weight in module.parameters()):
            basis, networks = in_double(basis), [in_double(network) for network in networks]
        with torch.autocast(like.device.type, enabled=False):  # rounded coefficients make the energy bumpy
            samples = basis(knots.lengths(like=basis.roots))
            return [network.spline(samples, knots).to(like.dtype) for network in networks]

    def isolated(self) -> Float[Tensor, " species"]:
        """Compute the network's energy of an isolated atom of each species [species].

        It is zero unless every layer has a self-connection.
        """
        weights = [*self.parameters(), *self.buffers()]
        (energies,) = self.cache_of_isolated(lambda: [self._isolated()], weights)
        return energies

    def _isolated(self) -> Float[Tensor, " species"]:
        species = torch.arange(self.embed.num_embeddings, device=self.embed.weight.device)
        h = self.propagate(without_edges(species), self.embed.weight.new_zeros(0, 3))
        energies: Tensor = self.readout(h).squeeze(1)
        return energies

    @property
    def _layers(self) -> Iterable[NequIPLayer]:
        return cast("Iterable[NequIPLayer]", self.layers)

    def footprint(self, *, training: bool) -> Footprint:
        """Compute the memory of one step; see :class:`equiforce.models.base.Model`."""
        return nequip_resources.footprint(
            [layer.shape for layer in self._layers],
            n_harmonics=(self.config.l_max + 1) ** 2,
            n_samples=0 if self.knots is None else self.knots.n_samples,
            example=self.embed.weight,
            training=training,
        )

    def needed_kernels(self, dtype: torch.dtype, *, training: bool) -> list[KernelSource]:
        """List the generated C kernels that the model calls."""
        tables = [layer.convolution.table for layer in self._layers]
        return nequip_resources.needed_kernels(tables, dtype, training=training)

    def weight_map(self) -> WeightMap:
        """List the tensors with rows of species, and the weights of each group."""
        own = [f"{name}.weights" for name, module in self.named_modules() if isinstance(module, SpeciesLinear)]
        rows = dict.fromkeys(["embed.weight", *own], 1)
        return WeightMap.of((name for name, _ in self.named_parameters()), group_of, rows)


def group_of(name: str) -> str:
    """Return the group of a weight: radial functions of all layers are one group, all else in a layer another one."""
    if name.startswith("radial_basis.") or ".radial." in name:
        return RADIAL
    return {"embed": EMBEDDING, "readout": READOUT}.get(name.partition(".")[0], LAYERS)
