"""Builds potentials from models of nequip 0.12 and later (arXiv 2101.03164, 2504.16068): ``NequIPGNNModel``."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from equiforce.errors import InputError
from equiforce.foundation.e3nn import (
    SortedPath,
    fully_connected_matrices,
    gain_ratio,
    gate_columns,
    in_order,
    linear_matrices,
    product_irreps,
    simplified,
    sorted_paths,
)
from equiforce.foundation.nequip_files import NequipFile
from equiforce.foundation.nequip_options import (
    NequipWeights,
    Options,
    by_species,
    elements_of,
    energies,
    pair_cutoffs,
    require_constants,
    zbl_of,
)
from equiforce.foundation.network_options import checked
from equiforce.foundation.weights import UNKNOWN, set_linear, set_mlp
from equiforce.geometry.irreps import Irreps, reachable
from equiforce.models import Model
from equiforce.models.nequip import NequIP, NequIPLayer
from equiforce.models.nequip_config import NequIPConfig
from equiforce.nn.equivariant import SpeciesLinear
from equiforce.potential import Potential

PRESETS: dict[str, dict[str, Any]] = {  # of nequip's PresetNequIPGNNModel
    "S": {"num_layers": 2, "l_max": 1, "num_features": [128, 64]},
    "M": {"num_layers": 4, "l_max": 2, "num_features": [128, 64, 32]},
    "L": {"num_layers": 6, "l_max": 3, "num_features": [128, 64, 32, 32]},
    "XL": {"num_layers": 6, "l_max": 4, "num_features": [320, 96, 64, 32, 32]},
}
OF_PRESETS = {"parity": False, "type_embed_num_features": 32, "radial_mlp_depth": 1, "radial_mlp_width": 128}
BUILDERS = ("NequIPGNNModel", "PresetNequIPGNNModel")
NATURAL_PARITY = (0, 16)  # since this version features without parity have that of the harmonics
MOST_WEIGHTS = 2**30
ACTIVATIONS = {"e": "silu", "o": "tanh"}


class Read(NamedTuple):
    """What the options of a model say."""

    config: NequIPConfig  # with the pair cutoffs of all elements
    known: list[str]  # all elements of the model
    neighbors: list[float]  # mean number of neighbours: one for all, or one for each element
    options: Options  # with the pair potential alone left


def read_options(source: NequipFile, n_knots: int | None) -> Read:
    """Read the options of a model.

    Raises:
        InputError: an option is not known, or this package has nothing that corresponds to it.
    """
    values = dict(source.options)
    if str(values.get("_target_")).rpartition(".")[2] == BUILDERS[1]:
        preset = str(values.pop("preset", "")).upper()
        if preset not in PRESETS:
            raise InputError(f"the option preset is none of {', '.join(PRESETS)}: {UNKNOWN}")
        values = OF_PRESETS | PRESETS[preset] | values
    known, options = elements_of(values), Options(values)
    options.take("type_names", list)
    cutoff, n_layers = options.take("r_max", float), options.take("num_layers", int, 4)
    l_max, channels = options.take("l_max", int, 1), options.take_any("num_features", 32)
    channels = channels if isinstance(channels, list) else [channels] * (min(max(l_max, 0), 20) + 1)
    if not all(type(one) is int and one > 0 for one in channels) or len(channels) != l_max + 1:
        raise InputError(f"the option num_features has no positive number for each degree up to l_max: {UNKNOWN}")
    embedding, parity = options.take("type_embed_num_features", int, None), options.take("parity", bool, True)
    neighbors = by_species(options, "avg_num_neighbors", known)
    options.require("convnet_resnet", False)
    options.require("convnet_nonlinearity_type", "gate")
    options.require("convnet_nonlinearity_scalars", ACTIVATIONS)
    options.require("convnet_nonlinearity_gates", ACTIVATIONS)
    options.require("categorical_graph_field_embed", None)
    depth = options.take("readout_mlp_hidden_layers_depth", int, 0)
    options.require("readout_mlp_nonlinearity", *(["silu"] if depth else ["silu", None, "mish", "gelu"]))
    width = options.take_any("readout_mlp_hidden_layers_width")
    learnable, connected = options.take("learnable_shift", bool, False), options.take("convnet_sc", bool, True)
    found = {
        "cutoff": cutoff,
        "pair_cutoffs": pair_cutoffs(options, known, cutoff),
        "n_layers": n_layers,
        "l_max": l_max if n_layers > 1 else 0,
        "parity": parity,
        "reflections": parity or source.version >= NATURAL_PARITY or n_layers <= 2 or l_max == 0,
        "channels": channels if n_layers > 1 else channels[:1],
        "embedding_channels": channels[0] if embedding is None else embedding,
        "n_bessel": options.take("num_bessels", int, 8),
        "bessel_trainable": options.take("bessel_trainable", bool, False),
        "envelope_p": options.take_whole("polynomial_cutoff_p", 6),
        "radial_depth": options.take("radial_mlp_depth", int, 1),
        "radial_width": options.take("radial_mlp_width", int, 128),
        "radial_knots": n_knots,
        "self_connection": connected,
        "first_self_connection": learnable and connected,
        "species_linear_in": len(neighbors) > 1,
        "readout_depth": depth,
        "readout_width": channels[0] if width is None else width,
        "mean_neighbors": sum(neighbors) / len(neighbors),
    }
    return Read(checked(NequIPConfig, found), known, neighbors, options)


def build(source: NequipFile, species: Sequence[str], n_knots: int | None) -> Potential:
    """Build the same potential for some of its elements, in float64.

    Args:
        source: the file.
        species: chemical symbols, all of which the file knows.
        n_knots: the number of knots of the splines; None computes the radial networks on every edge.

    Raises:
        InputError: the file has something that equiforce does not know.
    """
    config, known, neighbors, options = read_options(source, n_knots)
    require_constants(source.constants, config.cutoff, config.pair_cutoffs)
    weights, index = NequipWeights(source.weights), [known.index(symbol) for symbol in species]
    embedding = weights.take("type_embed.embed_module.weight", len(known), config.embedding_channels or 0)
    _require_memory(source, config, len(species))
    config = config.with_elements({symbol: symbol for symbol in species})
    network = NequIP(config, species).double()
    bessel = weights.take("bessel_encode.bessel_weights", 1, config.n_bessel)
    with torch.no_grad():
        network.embed.weight.copy_(embedding[index])
        network.radial_basis.roots.copy_(math.pi * bessel.flatten())
    basis = 2 / config.cutoff**2 / network.radial_basis.scale.item()
    harmonics = Irreps.spherical_harmonics(config.l_max, reflections=config.reflections)
    features, channels = Irreps([(embedding.shape[1], "0e")]), config.channels_of_degree[0]
    for number, layer in enumerate(cast("Iterable[NequIPLayer]", network.layers)):
        target = _hidden(config, source.version) if number < config.n_layers - 1 else Irreps([(channels, "0e")])
        target = reachable(features, config.l_max, target, reflections=config.reflections)
        of_source = SourceLayer(number, features, target, harmonics)
        _set_layer(layer, weights, of_source, embedding, index)
        _set_factors(layer, basis, neighbors, index)
        features = target
    first, *others = weights.perceptron("per_atom_energy_readout.mlp_module")
    set_mlp(network.readout, [gain_ratio("0e") * first, *others])
    scale, shift = energies(weights, source.options, index, len(known))
    if config.first_self_connection:
        shift = shift + scale * network.isolated().detach()
    zbl = zbl_of(options, source.constants, known, species, config.cutoff, network.pair_cutoffs)
    options.require_end()
    weights.require_end()
    return Potential(
        cast("Model", network),
        species=species,
        cutoff=config.cutoff,
        atomic_energies=shift.tolist(),
        scale=scale.tolist(),
        zbl=zbl,
    )


def _hidden(config: NequIPConfig, version: tuple[int, int]) -> Irreps:
    """The hidden irreps in the order of a version of nequip."""
    channels, l_max = config.channels_of_degree, config.l_max
    if config.parity and version < NATURAL_PARITY:
        tensors = [(l, p) for p in (1, -1) for l in range(1, l_max + 1)]
        return Irreps([(channels[l], (l, p)) for l, p in ((0, 1), (0, -1), *tensors)])  # scalars come before a gate
    odd = -1 if config.reflections else 1  # the parity of odd degrees
    parities = [(1, -1) if config.parity else (odd**l,) for l in range(l_max + 1)]
    return Irreps([(channels[l], (l, p)) for l, both in enumerate(parities) for p in both])


def _require_memory(source: NequipFile, config: NequIPConfig, n_species: int) -> None:
    """Raise InputError, before memory is taken, if the network needs far more weights than the file has."""
    squares, width = sum(mul**2 for mul in config.channels_of_degree), config.radial_width
    inner = width**2 * max(config.radial_depth - 1, 0) + width * (config.radial_depth > 0)
    least = (config.n_layers - 1) * squares + config.n_layers * inner
    if least > sum(weight.numel() for weight in source.weights.values()):
        raise InputError(f"the file has fewer weights than the network that its options describe: {UNKNOWN}")
    if config.self_connection and n_species * squares * config.n_layers > MOST_WEIGHTS:
        raise InputError(f"the self-connections of {n_species} elements need too much memory: keep fewer elements")


class SourceLayer(NamedTuple):
    """What a layer of nequip has; the layer here has only what the energy can depend on."""

    number: int
    features: Irreps  # that it gets, in nequip's order
    result: Irreps  # after the gate, likewise
    harmonics: Irreps

    @property
    def name(self) -> str:
        return f"layer{self.number}_convnet.conv"

    @property
    def scalars(self) -> Irreps:
        return Irreps([term for term in self.result if term.ir.l == 0])

    @property
    def gated(self) -> Irreps:
        return Irreps([term for term in self.result if term.ir.l > 0])

    @property
    def before_gate(self) -> Irreps:
        """The irreps before the gate, which e3nn sorts."""
        gates = Irreps([(term.mul, "0e") for term in self.gated])
        return in_order(self.scalars + gates + self.gated)

    @property
    def paths(self) -> list[SortedPath]:
        return sorted_paths(self.features, self.harmonics, self.before_gate)

    def gain(self, irrep: str) -> float:
        """What nequip multiplies a feature that the layer gets by, and this package does not."""
        return gain_ratio(irrep) if self.number else 1.0


def _set_layer(
    layer: NequIPLayer, weights: NequipWeights, source: SourceLayer, embedding: Tensor, index: list[int]
) -> None:
    """Set the weights of a layer, all but the factors of the radial basis and of the number of neighbours."""
    convolution, name = layer.convolution, source.name
    sent = linear_matrices(weights.take(f"{name}.linear_1.weight"), source.features, source.features)
    wanted = {str(ir) for _, ir in convolution.table.irreps_in}
    set_linear(convolution.linear_in, {ir: source.gain(ir) * m for ir, m in sent.items() if ir in wanted})

    radial, paths = weights.perceptron(f"{name}.edge_mlp"), source.paths
    place = {(str(path.source), path.l2, str(path.target)): path for path in paths}
    ours = [place[path.source.name, path.l2, path.target.name] for path in convolution.table.paths]
    if radial[-1].shape[1] != sum(path.channels for path in paths):
        raise InputError(f"the weight {name}.edge_mlp has {radial[-1].shape[1]} results, which do not fit: {UNKNOWN}")
    columns = torch.cat([path.weight + torch.arange(path.channels) for path in ours])
    set_mlp(convolution.radial.mlp, [*radial[:-1], radial[-1][:, columns]])

    columns = gate_columns(source.scalars, source.gated, layer.irreps_out)
    kept = {str(ir) for _, ir in layer.gate.irreps_in}
    after = linear_matrices(
        weights.take(f"{name}.linear_2.weight"), simplified(product_irreps(paths)), source.before_gate
    )
    rows = {ir: torch.cat([p.row + torch.arange(p.channels) for p in ours if str(p.target) == ir]) for ir in kept}
    set_linear(
        convolution.linear_out,
        {ir: matrix[rows[ir]][:, columns] if ir == "0e" else matrix[rows[ir]]
         for ir, matrix in after.items() if ir in kept},
    )  # fmt: skip
    if (connection := convolution.self_connection) is None:
        return
    cubes = fully_connected_matrices(
        weights.take(f"{name}.sc.weight"), source.features, embedding.shape[1], source.before_gate
    )
    for row, known in enumerate(index):
        own = {ir: source.gain(ir) * torch.einsum("uvw,v->uw", cube, embedding[known]) for ir, cube in cubes.items()}
        own = {ir: matrix[:, columns] if ir == "0e" else matrix for ir, matrix in own.items() if ir in kept & wanted}
        set_linear(cast("SpeciesLinear", connection), own, [row])


def _set_factors(layer: NequIPLayer, basis: float, neighbors: list[float], index: list[int]) -> None:
    """Multiply the weights of a layer by the factors that this package does not have, or not there.

    Args:
        layer: the layer.
        basis: the factor of the radial basis.
        neighbors: nequip divides what a species sends by the root of its mean number of neighbours.
        index: the species of the file that are kept.
    """
    convolution, factors = layer.convolution, 1 / torch.tensor(neighbors, dtype=torch.float64).sqrt()
    with torch.no_grad():
        convolution.radial.mlp.weights[0].mul_(basis)
        convolution.linear_in.weights.mul_((factors[index] if len(factors) > 1 else factors).unsqueeze(1))
