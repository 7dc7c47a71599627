"""Builds potentials from models of nequip-allegro 0.4 and later (arXiv 2204.05249, 2504.16068): ``AllegroModel``."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor

from equiforce.errors import InputError
from equiforce.foundation.nequip_files import NequipFile
from equiforce.foundation.nequip_options import (
    NO_COUNTERPART,
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
from equiforce.foundation.weights import UNKNOWN, set_mlp
from equiforce.geometry.irreps import Irreps, reachable
from equiforce.models import Model
from equiforce.models.allegro import Allegro, AllegroLayer
from equiforce.models.allegro_config import AllegroConfig
from equiforce.nn.mlp import SILU_GAIN, ScalarMLP
from equiforce.potential import Potential

BUILDERS = ("AllegroModel",)
MOST_WEIGHTS = 2**28
EMBEDDING = "TwoBodyBesselScalarEmbed"


class Read(NamedTuple):
    """What the options of a model say."""

    config: AllegroConfig  # with the pair cutoffs of all elements
    known: list[str]  # all elements of the model
    coupled: bool  # whether each path has a weight for each channel
    embedding: int  # width of the radial-chemical embedding
    options: Options  # with the pair potential alone left


def read_options(source: NequipFile, n_knots: int | None) -> Read:
    """Read the options of a model.

    Raises:
        InputError: an option is not known, or this package has nothing that corresponds to it.
    """
    known, options = elements_of(source.options), Options(source.options)
    options.take("type_names", list)
    cutoff = options.take("r_max", float)
    scalars = options.take("num_scalar_features", int, 64)
    embedding = options.take("radial_chemical_embed_dim", int, None)
    of_embedding = Options(options.take("radial_chemical_embed", dict), "radial_chemical_embed")
    target = of_embedding.take("_target_", str)
    if target.rpartition(".")[2] != EMBEDDING:
        raise InputError(f"the option radial_chemical_embed is {target[:60]!r}, and {NO_COUNTERPART}")
    for name in ("scalar_embed_mlp", "allegro_mlp", "readout_mlp"):
        options.require(f"{name}_nonlinearity", "silu")
    options.require("weight_individual_irreps", True)
    options.require("forward_normalize", True)
    neighbors = by_species(options, "avg_num_neighbors", known)
    if len(set(neighbors)) > 1:
        raise InputError(f"the option avg_num_neighbors has a number for each element, and {NO_COUNTERPART}")
    depth = options.take("scalar_embed_mlp_hidden_layers_depth", int, 1)
    if depth < 1:
        raise InputError(f"the option scalar_embed_mlp_hidden_layers_depth is {depth}, and {NO_COUNTERPART}")
    values = {
        "cutoff": cutoff,
        "pair_cutoffs": pair_cutoffs(options, known, cutoff),
        "n_layers": options.take("num_layers", int, 2),
        "l_max": options.take("l_max", int),
        "parity": options.take("parity", bool, True),
        "scalar_channels": scalars,
        "tensor_channels": options.take("num_tensor_features", int, 16),
        "n_basis": of_embedding.take("num_bessels", int, 8),
        "bessel_trainable": of_embedding.take("bessel_trainable", bool, False),
        "envelope_p": of_embedding.take_whole("polynomial_cutoff_p", 6),
        "envelope_multiplies": "basis",
        "radial_depth": depth,
        "radial_width": options.take("scalar_embed_mlp_hidden_layers_width", int, 64),
        "radial_knots": n_knots,
        "latent_depth": options.take("allegro_mlp_hidden_layers_depth", int, 1),
        "latent_width": options.take("allegro_mlp_hidden_layers_width", int, 64),
        "readout_depth": options.take("readout_mlp_hidden_layers_depth", int, 1),
        "readout_width": options.take("readout_mlp_hidden_layers_width", int, 32),
        "mean_neighbors": neighbors[0],
    }
    of_embedding.require_end()
    coupled = options.take("tp_path_channel_coupling", bool, True)
    return Read(checked(AllegroConfig, values), known, coupled, scalars if embedding is None else embedding, options)


def build(source: NequipFile, species: Sequence[str], n_knots: int | None) -> Potential:
    """Build the same potential for some of its elements, in float64.

    Args:
        source: the file.
        species: chemical symbols, all of which the file knows.
        n_knots: the number of knots of the splines; None computes the two-body network on every edge.

    Raises:
        InputError: the file has something that equiforce does not know, or its splines for these elements need too much
            memory.
    """
    config, known, coupled, embedding, options = read_options(source, n_knots)
    require_constants(source.constants, config.cutoff, config.pair_cutoffs)
    weights, index = NequipWeights(source.weights), [known.index(symbol) for symbol in species]
    config = config.with_elements({symbol: symbol for symbol in species})
    paths = [_paths_of(*irreps, config.l_max) for irreps in _irreps(config)]
    shapes = [(config.tensor_channels, len(of_layer)) if coupled else (len(of_layer),) for of_layer in paths]
    products = [weights.take(f"allegro.tps.{t}.weights", *shape) for t, shape in enumerate(shapes)]
    latents = [weights.perceptron(f"allegro.latents.{t}") for t in range(config.n_layers)]
    _require_memory(config, len(species))
    network = Allegro(config, species).double()
    _set_two_body(network, weights, embedding, index, len(known))
    for layer, of_paths, product, latent in zip(
        cast("Iterable[AllegroLayer]", network.layers), paths, products, latents, strict=True
    ):
        matrix = product if coupled else product.expand(config.tensor_channels, -1)
        _set_layer(layer, config, of_paths, matrix, latent)
    set_mlp(network.readout, weights.perceptron("edge_readout.mlp_module"))
    scale, shift = energies(weights, source.options, index, len(known))
    zbl = zbl_of(options, source.constants, known, species, config.cutoff, network.pair_cutoffs)
    options.require_end()
    weights.require_end()
    return Potential(
        cast("Model", network),
        species=species,
        cutoff=config.cutoff,
        atomic_energies=shift.tolist(),
        scale=(scale / math.sqrt(2)).tolist(),
        zbl=zbl,
    )


def _require_memory(config: AllegroConfig, n_species: int) -> None:
    """Raise InputError, before memory is taken, if the first matrices of the two-body network are too large."""
    if n_species**2 * (config.n_basis + 1) * config.radial_width > MOST_WEIGHTS:
        raise InputError(f"the two-body network of {n_species} elements needs too much memory: keep fewer elements")


def _irreps(config: AllegroConfig) -> list[tuple[Irreps, Irreps]]:
    """The irreps of the tensors that each layer of nequip-allegro gets, and of its result, in its order."""
    harmonics = Irreps.spherical_harmonics(config.l_max)
    parities = [(1, -1) if config.parity else ((-1) ** l,) for l in range(config.l_max + 1)]
    allowed = Irreps([(1, (l, p)) for l, both in enumerate(parities) for p in both])
    made = [harmonics]
    for number in range(config.n_layers):
        wanted = Irreps([(1, "0e")]) if number == config.n_layers - 1 else allowed
        made.append(reachable(made[-1], config.l_max, wanted))
    for number in range(config.n_layers - 1, -1, -1):  # backwards: what the energy cannot depend on is left out
        made[number] = reachable(made[number + 1], config.l_max, made[number])
    return list(pairwise(made))


def _paths_of(sources: Irreps, results: Irreps, l_max: int) -> dict[tuple[str, int, str], int]:
    """The place of each path (source, degree of the surroundings, result) among the weights of nequip-allegro."""
    paths = [
        (str(a), harmonic.ir.l, str(result))
        for _, result in results
        for _, a in sources
        for harmonic in Irreps.spherical_harmonics(l_max)
        if result in a * harmonic.ir
    ]
    return {path: place for place, path in enumerate(paths)}


def _set_two_body(network: Allegro, weights: NequipWeights, embedding: int, index: list[int], n_known: int) -> None:
    """Set the two-body network: functions of the distance for each ordered pair of elements."""
    config, two_body, names = network.config, network.two_body, "radial_chemical_embed."
    of_types = names + "type_embed."
    radial = weights.one_matrix(of_types + "basis_linear")
    half = embedding // 2
    centers = weights.take(of_types + "center_embed.weight", n_known, half)[index]
    neighbors = weights.take(of_types + "neighbor_embed.weight", n_known, embedding - half)[index]
    first, *others = weights.perceptron("scalar_embed_mlp.mlp_module")
    shapes = [tuple(matrix.shape) for matrix in (radial, first)]
    if shapes != [(config.n_basis, embedding), (embedding, config.radial_width)] or len(others) != config.radial_depth:
        raise InputError(
            f"the matrices of radial_chemical_embed or of scalar_embed_mlp do not fit the options: {UNKNOWN}"
        )
    roots = math.pi * weights.take(names + "bessel_encode.bessel_weights", 1, config.n_basis).flatten()
    basis = two_body.basis
    mean, scale = cast("Tensor", basis.mean), cast("Tensor", basis.scale)
    pairs = torch.cat([centers.repeat_interleave(len(index), 0), neighbors.repeat(len(index), 1)], dim=1)
    matrices = (radial / math.pi).unsqueeze(0) * pairs.unsqueeze(1) @ first  # of sin(k x) / x [pairs, basis, width]
    constant = (mean.unsqueeze(1) * matrices).sum(1, keepdim=True)
    ours = torch.cat([constant, matrices / scale.unsqueeze(1)], dim=1)  # a wave is mean + ours / scale
    with torch.no_grad():
        cast("Tensor", basis.roots).copy_(roots)
        (part,) = two_body.first_plan.matrices
        two_body.first.copy_(ours.flatten(1) / part.scale)
    shared, last = others[:-1], others[-1]
    for layer, matrix in zip(cast("Iterable[ScalarMLP]", two_body.shared), shared, strict=True):
        set_mlp(layer, [matrix / SILU_GAIN])
    order = _by_degree(config)
    projection = weights.one_matrix("allegro.first_layer_env_embed_projection")
    of_tensors = weights.one_matrix("tensor_embed.env_embed_linear")
    n_scalars = config.scalar_channels
    if len(projection) != n_scalars or projection.shape[1] != n_scalars + len(order):
        raise InputError(f"the weight allegro.first_layer_env_embed_projection does not fit the options: {UNKNOWN}")
    if of_tensors.shape != (n_scalars, len(order)):
        raise InputError(f"the weight tensor_embed.env_embed_linear does not fit the options: {UNKNOWN}")
    parts = projection[:, :n_scalars], projection[:, n_scalars:][:, order], of_tensors[:, order]
    for head, matrix in zip(cast("Iterable[ScalarMLP]", two_body.heads), parts, strict=True):
        set_mlp(head, [last @ matrix / SILU_GAIN])


def _by_degree(config: AllegroConfig) -> Tensor:
    """The place in nequip-allegro, channel by channel, of each weight here, degree by degree."""
    channels, n_degrees = config.tensor_channels, config.l_max + 1
    return torch.arange(channels * n_degrees).view(channels, n_degrees).mT.flatten()


def _set_layer(
    layer: AllegroLayer,
    config: AllegroConfig,
    paths: dict[tuple[str, int, str], int],
    weights: Tensor,
    latent: list[Tensor],
) -> None:
    """Set the weights of a layer.

    Args:
        layer: the layer.
        config: the options.
        paths: the place of each path in ``weights``.
        weights: of each channel and path.
        latent: the matrices of the network of the scalars.
    """
    table, channels, count = layer.table, config.tensor_channels, layer.table.paths_to
    if {(path.source.name, path.l2, path.target.name) for path in table.paths} != paths.keys():
        raise InputError(f"a layer has other paths: {UNKNOWN}")
    with torch.no_grad():
        for row, path in enumerate(table.paths):
            column = weights[:, paths[path.source.name, path.l2, path.target.name]]
            # here paths that are added share the variance
            layer.weights[row] = column * (math.sqrt(count[path.target.name]) if table.adds_up(path.target.name) else 1)
    n_seen = len(latent[0]) - channels
    first = torch.cat([latent[0][:n_seen], *[latent[0][n_seen:]] * (layer.n_invariants // channels)])
    *hidden, last = [first, *latent[1:]]
    if last.shape[1] < config.scalar_channels:
        raise InputError(f"a network of the scalars has too few results: {UNKNOWN}")
    set_mlp(layer.latent, [*hidden, last[:, : config.scalar_channels]])
    following = last[:, config.scalar_channels :]
    if layer.for_environment is not None:
        order = _by_degree(config)
        if following.shape[1] != len(order):
            raise InputError(f"a network of the scalars has another number of results: {UNKNOWN}")
        set_mlp(layer.for_environment, [following[:, order] / (SILU_GAIN if hidden else 1.0)])
    elif following.numel():
        raise InputError(f"the last network of the scalars has too many results: {UNKNOWN}")
