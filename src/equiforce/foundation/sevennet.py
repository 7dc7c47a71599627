"""Reads the checkpoints of SevenNet (J. Chem. Theory Comput. 20, 4857 (2024)); nothing in them is executed.

A checkpoint has the options of the network and its weights by name. The weights of equivariant maps are flat, in the
order of e3nn (:mod:`equiforce.foundation.e3nn`).
"""

import errno
import hashlib
import math
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from equiforce.elements import SYMBOLS
from equiforce.errors import InputError
from equiforce.foundation import pickles
from equiforce.foundation.archives import Archive
from equiforce.foundation.e3nn import (
    SILU,
    SortedPath,
    fully_connected_matrices,
    gain_ratio,
    gate_columns,
    in_order,
    linear_matrices,
    product_irreps,
    sorted_paths,
)
from equiforce.foundation.pickles import TensorRecord
from equiforce.foundation.sevennet_options import Network, network_of
from equiforce.foundation.weights import UNKNOWN, Weights, set_linear, set_mlp
from equiforce.geometry.irreps import Irrep, Irreps
from equiforce.geometry.wigner_3j import wigner_3j
from equiforce.kernels import LinearPlan
from equiforce.models import Model
from equiforce.models.nequip import NequIP, NequIPLayer
from equiforce.nn.equivariant import Linear, SpeciesLinear
from equiforce.potential import Potential

OLD_NAMES = {
    "EdgeEmbedding": "edge_embedding",
    "reducing nn input to hidden": "reduce_input_to_hidden",
    "reducing nn hidden to energy": "reduce_hidden_to_energy",
    "rescale atomic energy": "rescale_atomic_energy",
}
CONSTANTS = (".output_mask", "_w3j_")  # of e3nn


@dataclass(frozen=True)
class SevenNetFile:
    """The network of a checkpoint, its weights by name, and the level of theory that was chosen."""

    network: Network
    weights: Mapping[str, Tensor]  # float64
    sha256: str
    modal: str | None = None


def read(path: Path) -> SevenNetFile:
    """Read a checkpoint.

    Raises:
        InputError: it is no such file, is damaged, or has options that equiforce does not know.
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    try:
        with zipfile.ZipFile(path) as archive:
            content = Archive(archive, path.stat().st_size)
            values = pickles.load(content.read("data.pkl", pickles.MOST_BYTES))
            options, weights = values["config"], values["model_state_dict"]
            if not isinstance(options, dict) or not isinstance(weights, dict):
                raise ValueError("the options or the weights are no names with values")
            tensors = {name: content.tensor(weight) for name, weight in weights.items() if _is_tensor(weight)}
    except Exception as error:  # damaged zip files raise errors of many kinds
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: a place before the file
            raise
        raise InputError(f"{path} is not a checkpoint of SevenNet, or is damaged: download it again") from error
    try:
        return SevenNetFile(network_of(options), _renamed(tensors), sha256)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _is_tensor(value: Any) -> bool:
    if not isinstance(value, TensorRecord):
        raise ValueError("a weight is no tensor")
    return True


def _renamed(weights: Mapping[Any, Tensor]) -> dict[str, Tensor]:
    """The weights in float64 under the names of today."""
    renamed = {}
    for name, weight in weights.items():
        if not isinstance(name, str) or not weight.is_floating_point():
            raise InputError(f"model_state_dict has a value that is not a weight: {UNKNOWN}")
        if not torch.isfinite(weight).all():
            raise InputError(f"the weight {name} has a number that is not finite: download the file again")
        head, _, rest = name.partition(".")
        head = OLD_NAMES.get(head, head.replace(" ", "_"))
        renamed[f"{head}.{rest.replace('denumerator', 'denominator')}"] = weight.double()
    return renamed


def elements_of(source: SevenNetFile) -> list[str]:
    """The chemical symbols in the order of the file's species."""
    return [SYMBOLS[z] for z in source.network.atomic_numbers]


def with_modal(source: SevenNetFile, modal: str | None) -> SevenNetFile:
    """Choose one of the levels of theory of a checkpoint.

    Raises:
        InputError: none is chosen and there are several, or there is none of this name.
    """
    names = source.network.modals
    if modal is None and not names:
        return source
    if modal not in names:
        known = f"choose one with --modal: {', '.join(names)}" if names else "leave --modal out"
        what = "has several levels of theory" if modal is None else f"has no level of theory {modal}"
        raise InputError(f"the potential {what}: {known}")
    return replace(source, modal=modal)


def build(source: SevenNetFile, species: Sequence[str], n_knots: int | None) -> Potential:
    """Build the same potential for some of its elements, in float64.

    Args:
        source: the file.
        species: chemical symbols, all of which the file knows.
        n_knots: the number of knots of the splines; None computes the radial networks on every edge.

    Raises:
        InputError: the file has something that equiforce does not know.
    """
    known, network = elements_of(source), source.network
    index = [known.index(symbol) for symbol in species]
    weights, modal = Weights(source.weights, CONSTANTS), network.modals.index(source.modal) if source.modal else None
    config = network.config(n_knots, modal is not None, _denominator(source.weights))
    # before memory is taken for the network: so many numbers have its matrices at the very least
    least = sum(mul**2 for irreps in network.irreps[:-1] for mul, _ in irreps)
    if least > sum(weight.numel() for weight in source.weights.values()):
        raise InputError(f"the file has fewer weights than the network that its options describe: {UNKNOWN}")
    model = NequIP(config, species).double()
    embedded = network.irreps[0]
    with torch.no_grad():
        roots = weights.take("edge_embedding.basis_function.coeffs", config.n_bessel)
        model.radial_basis.roots.copy_(roots * config.cutoff)
        embedding = _matrices(weights, "onehot_to_feature_x.linear", Irreps([(len(known), "0e")]), embedded)["0e"]
        model.embed.weight.copy_(embedding[index])
        for number, layer in enumerate(cast("Iterable[NequIPLayer]", model.layers)):
            reader = LayerReader(network, weights, number, index, modal)
            reader.set(layer, 2 / config.cutoff**2 / model.radial_basis.scale.item())
        size, constant = _set_readout(model, network, weights, modal)
        shift, scale = (_of_species(weights, name, len(known), network, modal)[index] for name in ("shift", "scale"))
        weights.require_end()
        energies = shift + scale * (constant + size * model.isolated())
    return Potential(
        cast("Model", model),
        species=species,
        cutoff=config.cutoff,
        atomic_energies=energies.tolist(),
        scale=(size * scale).tolist(),
    )


def _denominator(weights: Mapping[str, Tensor]) -> float:
    """By what the first layer divides messages; 1 if it is unusual, for the weights take what is left."""
    found = weights.get("0_convolution.denominator", torch.ones(1))
    return found.item() if found.numel() == 1 and 1 <= found.item() <= 1000 else 1.0


def _matrices(weights: Weights, name: str, irreps_in: Irreps, irreps_out: Irreps) -> dict[str, Tensor]:
    """The matrices of a linear map without a bias."""
    if (bias := weights.find(f"{name}.bias")) is not None and bias.numel():
        raise InputError(f"the linear map {name} has a bias, which equiforce cannot have")
    return linear_matrices(weights.take(f"{name}.weight"), irreps_in, irreps_out)


def _set_readout(model: NequIP, network: Network, weights: Weights, modal: int | None) -> tuple[float, float]:
    """Set the read-out, for which SevenNet has two matrices with nothing between them.

    Returns:
        The factor of the energies, with which the read-out has weights of the size that training expects; and the
        constant of the level of theory.
    """
    channels = network.irreps[-1].dim
    extra = len(network.modals) if network.constants_of_output else 0
    hidden = Irreps([(channels // 2, "0e")])
    first = _matrices(weights, "reduce_input_to_hidden.linear", Irreps([(channels, "0e"), (extra, "0e")]), hidden)
    second = _matrices(weights, "reduce_hidden_to_energy.linear", hidden, Irreps([(1, "0e")]))
    matrix = first["0e"] @ second["0e"]
    size = matrix[:channels].norm().item() or 1.0
    set_mlp(model.readout, [gain_ratio("0e") * matrix[:channels] / size])
    return size, matrix[channels + modal].item() if extra and modal is not None else 0.0


def _of_species(weights: Weights, name: str, n_species: int, network: Network, modal: int | None) -> Tensor:
    """The shift or scale of each species: one number, one for each species or modal, or one for each of both."""
    values = weights.take(f"rescale_atomic_energy.{name}")
    if getattr(network, f"modal_wise_{name}"):
        if modal is None or values.ndim == 0 or len(values) != len(network.modals):
            raise InputError(f"the weight rescale_atomic_energy.{name} has not one row for each modal: {UNKNOWN}")
        values = values[modal]
    if values.numel() not in (1, n_species):
        raise InputError(f"the weight rescale_atomic_energy.{name} has {values.numel()} numbers: {UNKNOWN}")
    return values.flatten().expand(n_species)


class LayerReader:
    """Reads the weights of one layer.

    Args:
        network: the network of the file.
        weights: of the file.
        number: of the layer.
        index: the species of the file that are kept.
        modal: the number of the level of theory, if there are several.
    """

    def __init__(self, network: Network, weights: Weights, number: int, index: list[int], modal: int | None) -> None:
        self.network, self.weights, self.number, self.index, self.modal = network, weights, number, index, modal
        self.before, self.after = network.irreps[number], network.irreps[number + 1]
        last = number == network.n_layers - 1
        products = network.products_of(self.before, self.after.lmax, even_only=last)
        self.paths: list[SortedPath] = sorted_paths(self.before, network.harmonics, products)
        scalars, gated = (Irreps([term for term in self.after if (term.ir.l == 0) == zero]) for zero in (True, False))
        gates = Irreps([(mul, "0e") for mul, _ in gated])
        self.scalars, self.gated, self.into_gate = scalars, gated, in_order(scalars + gates + gated)

    def set(self, layer: NequIPLayer, basis: float) -> None:
        """Set the weights of a layer here; ``basis`` is the ratio of the radial bases."""
        convolution = layer.convolution
        columns = gate_columns(self.scalars, self.gated, layer.irreps_out)
        self._set_self_connection(convolution.self_connection, columns)
        self._set_linear(convolution.linear_in, "self_interaction_1", self.before, self.before, None)
        self._set_radial(layer, basis)
        self._set_linear(
            convolution.linear_out, "self_interaction_2", product_irreps(self.paths), self.into_gate, layer
        )

    def _gain(self, name: str) -> float:
        """What the gate of SevenNet before this layer multiplies by, and the gate here does not."""
        return gain_ratio(name) if self.number else 1.0

    def _kept(self, matrices: Mapping[str, Tensor], plan: LinearPlan, columns: Tensor | None) -> dict[str, Tensor]:
        """The matrices of the irreps that this package computes, with their columns in its order."""
        names = {part.source.name for part in plan.matrices}
        return {
            name: matrix[:, columns] if name == "0e" and columns is not None else matrix
            for name, matrix in matrices.items()
            if name in names
        }

    def _set_self_connection(self, connection: Linear | SpeciesLinear | None, columns: Tensor) -> None:
        name = f"{self.number}_self_connection_intro"
        if isinstance(connection, Linear):
            matrices = _matrices(self.weights, f"{name}.linear", self.before, self.into_gate)
            scaled = {ir: self._gain(ir) * matrix for ir, matrix in matrices.items()}
            set_linear(connection, self._kept(scaled, connection.plan, columns))
        elif connection is not None:
            n_species = len(self.network.atomic_numbers)
            flat = self.weights.take(f"{name}.fc_tensor_product.weight")
            cubes = fully_connected_matrices(flat, self.before, n_species, self.into_gate)
            for row, species in enumerate(self.index):
                scaled = {ir: self._gain(ir) * cube[:, species] for ir, cube in cubes.items()}
                set_linear(connection, self._kept(scaled, connection.plan, columns), [row])

    def _set_linear(
        self, linear: Linear | SpeciesLinear, part: str, before: Irreps, after: Irreps, result_of: NequIPLayer | None
    ) -> None:
        """Set the linear map before the convolution, or after it if ``result_of`` is its layer."""
        intro, network = result_of is None, self.network
        constants = network.constants_of_intro if intro else network.constants_of_outro
        extra = len(network.modals) if constants else 0
        name = f"{self.number}_{part}.linear"
        matrices = _matrices(self.weights, name, before + Irreps([(extra, "0e")]), after)
        columns = None if result_of is None else gate_columns(self.scalars, self.gated, result_of.irreps_out)
        n_scalars = before.count("0e")
        if extra and self.modal is not None and isinstance(linear, Linear) and linear.constants is not None:
            constant = matrices["0e"][n_scalars + self.modal]
            linear.constants.copy_(constant if columns is None else constant[columns])
        if "0e" in matrices:
            matrices["0e"] = matrices["0e"][:n_scalars]
        if result_of is None:
            scaled = {ir: self._gain(ir) * matrix for ir, matrix in matrices.items()}
        else:
            denominator = self.weights.take(f"{self.number}_convolution.denominator")
            if denominator.numel() != 1 or not denominator.item() > 0:
                raise InputError(f"the denominator of layer {self.number} is not one number above 0: {UNKNOWN}")
            scaled = {ir: self._rows(ir, matrix, result_of) / denominator for ir, matrix in matrices.items()}
        set_linear(linear, self._kept(scaled, linear.plan, columns))

    def _rows(self, name: str, matrix: Tensor, layer: NequIPLayer) -> Tensor:
        """The rows of a matrix after the convolution in the order of the paths here."""
        rows = {(p.source, p.l2): p.row + torch.arange(p.channels) for p in self.paths if str(p.target) == name}
        ours = sorted(
            (path for path in layer.convolution.table.paths if path.target.name == name), key=lambda path: path.channel
        )
        return matrix[torch.cat([rows[Irrep.of(p.source.name), p.l2] for p in ours])] if ours else matrix

    def _set_radial(self, layer: NequIPLayer, basis: float) -> None:
        """Set the radial network; before version 0.11 its columns are in the order of the loops over the paths."""
        mlp = layer.convolution.radial.mlp
        order = sorted(self.paths, key=lambda path: path.place) if self.network.sorts_paths else self.paths
        names = [f"{self.number}_convolution.weight_nn.layer{k}.weight" for k in range(len(mlp.weights))]
        shapes = [weight.shape for weight in mlp.weights]
        n_columns = sum(path.channels for path in order)
        shapes[-1] = torch.Size([shapes[-1][0], n_columns])
        matrices = [
            self.weights.take(name, *shape) / math.sqrt(shape[0]) for name, shape in zip(names, shapes, strict=True)
        ]
        starts, used = {}, 0
        for path in order:
            starts[path.source, path.l2, path.target] = used
            used += path.channels
        columns = []
        for own in layer.convolution.table.paths:
            source, target = own.source, own.target
            first = starts[Irrep.of(source.name), own.l2, Irrep.of(target.name)]
            block = matrices[-1][:, first : first + source.channels]
            columns.append(self._sign(source.l, own.l2, target.l) * block)
        inner = [SILU * matrix if number else basis * matrix for number, matrix in enumerate([*matrices[:-1]])]
        set_mlp(mlp, [*inner, SILU * torch.cat(columns, 1)])

    def _sign(self, l1: int, l2: int, l3: int) -> float:
        """The sign of a stored coupling, which old versions of e3nn had otherwise."""
        name = f"{self.number}_convolution.convolution._compiled_main_left_right._w3j_{l1}_{l2}_{l3}"
        if (stored := self.weights.find(name)) is None:
            return 1.0
        ours = wigner_3j(l1, l2, l3)
        sign = 1.0 if stored.shape == ours.shape and (stored * ours).sum() > 0 else -1.0
        if stored.shape != ours.shape or (sign * stored - ours).abs().max() > 1e-5:
            raise InputError(f"the coupling {l1}, {l2}, {l3} of layer {self.number} is another one: {UNKNOWN}")
        return sign
