"""Reads the potentials of Nequix (arXiv 2508.16067): a line of JSON, then arrays of numpy. Nothing is executed.

The order of the arrays is that of the fields of Nequix' own classes: the reference energies; for each layer the radial
network, the linear maps before and after the convolution, the self-connection and the norm; the read-out.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from equiforce.elements import SYMBOLS
from equiforce.errors import InputError
from equiforce.foundation.network_options import checked
from equiforce.foundation.weights import UNKNOWN, set_linear, set_mlp, shown
from equiforce.geometry.irreps import Irrep, Irreps
from equiforce.models import Model
from equiforce.models.base import HIGHEST_DEGREE
from equiforce.models.nequip import NequIP, NequIPLayer
from equiforce.models.nequip_config import NequIPConfig
from equiforce.nn.equivariant import Linear
from equiforce.nn.mlp import SILU_GAIN
from equiforce.potential import Potential

LONGEST_LINE = 2**20  # bytes of JSON; published models have 5,000
START = b"\x93NUMPY\x01\x00"  # of each array
HEADER = re.compile(rb"\{'descr': '(<f4|<f8|<i8|\|b1)', 'fortran_order': False, 'shape': \(([0-9, ]{0,100})\), \} *\n")
# The factor of SiLU in Nequix' gates, which e3nn-jax finds from a million random numbers, in single precision.
SILU_OF_NEQUIX = 1.6765648126602173
RATIO = SILU_OF_NEQUIX / SILU_GAIN
OPTIONS = {
    "cutoff": float, "atomic_numbers": list, "hidden_irreps": str, "lmax": int, "n_layers": int, "scale": float,
    "shift": float, "avg_n_neighbors": float, "radial_basis_size": int, "radial_mlp_size": int,
    "radial_mlp_layers": int, "radial_polynomial_p": float, "index_weights": bool, "layer_norm": bool,
}  # fmt: skip


@dataclass(frozen=True)
class NequixFile:
    """The options and the arrays of a file."""

    options: dict[str, Any]
    arrays: list[Tensor]  # float64
    sha256: str  # of all bytes


def read(path: Path) -> NequixFile:
    """Read a ``.nqx`` file.

    Raises:
        InputError: it is no such file, is damaged, or has options that equiforce does not know.
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    file = BytesIO(content)
    try:
        options = json.loads(file.readline(LONGEST_LINE))
        arrays = list(_arrays(file, len(content)))
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{path} is not a file of Nequix, or is damaged: download it again") from error
    if not isinstance(options, dict):
        raise InputError(f"{path} is not a file of Nequix, or is damaged: download it again")
    for name, kind in OPTIONS.items():
        kinds = (int, float) if kind is float else (kind,)
        if type(options.get(name)) not in kinds:
            raise InputError(f"{path} lacks the option {name}, or its value is not a {kind.__name__}: {UNKNOWN}")
        if kind is float and not math.isfinite(options[name]):
            raise InputError(f"{path}: the option {name} is not finite: download the file again")
    if not options["scale"] > 0:
        raise InputError(f"{path}: the option scale is not above 0: download the file again")
    return NequixFile(options, arrays, hashlib.sha256(content).hexdigest())


def _arrays(file: BytesIO, size: int) -> Iterator[Tensor]:
    """Read arrays to the end; the sizes that they state are compared with the size of the file first."""
    while True:
        start = file.read(len(START) + 2)
        if not start.strip():  # published files end with a new line
            return
        length = int.from_bytes(start[len(START) :], "little")
        found = HEADER.fullmatch(file.read(length))
        if start[: len(START)] != START or found is None:
            raise ValueError("an array is not of the kind that Nequix writes")
        dtype, shape = np.dtype(found[1].decode()), tuple(int(n) for n in re.findall(rb"\d+", found[2]))
        n_bytes = math.prod(shape) * dtype.itemsize
        if n_bytes > size - file.tell():
            raise ValueError("an array is cut off")
        numbers = np.frombuffer(file.read(n_bytes), dtype=dtype)
        if shape == ():  # some published files repeat their options after the weights
            continue
        if dtype.kind != "f" or not np.isfinite(numbers).all():
            raise ValueError("an array is not of the kind that Nequix writes, or a number is not finite")
        yield torch.from_numpy(numbers.astype(np.float64).reshape(shape))


def elements_of(source: NequixFile) -> list[str]:
    """The chemical symbols in the order of the file's species: Nequix sorts the option by atomic number."""
    numbers = source.options["atomic_numbers"]
    if not all(type(z) is int and 0 < z < len(SYMBOLS) for z in numbers) or len(set(numbers)) < len(numbers):
        raise InputError(f"the option atomic_numbers has no list of elements: {UNKNOWN}")
    return [SYMBOLS[z] for z in sorted(numbers)]


def config_of(source: NequixFile, n_knots: int | None) -> NequIPConfig:
    """The options of the same network here.

    Raises:
        InputError: the network has something that this one cannot have.
    """
    options = source.options
    try:
        hidden = Irreps(options["hidden_irreps"])
    except ValueError as error:
        raise InputError(f"the option hidden_irreps: {error}") from None
    l_max = options["lmax"]
    if not 0 <= l_max <= HIGHEST_DEGREE:
        raise InputError(f"the option lmax is {l_max}, and equiforce has degrees up to {HIGHEST_DEGREE}")
    natural = [Irrep.of((l, (-1) ** l)) for l in range(l_max + 1)]
    if [term.ir for term in hidden] != natural[: len(hidden)] or len(hidden) < len(natural):
        raise InputError(
            f"the option hidden_irreps is {options['hidden_irreps']!r}, which has not one term of natural parity for "
            f"each degree up to {l_max}: equiforce has no such network"
        )
    if options["radial_polynomial_p"] != int(options["radial_polynomial_p"]):
        raise InputError(f"the option radial_polynomial_p is not a whole number: {UNKNOWN}")
    values = {
        "cutoff": float(options["cutoff"]),
        "n_layers": options["n_layers"],
        "l_max": l_max,
        "channels": [term.mul for term in hidden],
        "embedding_channels": len(options["atomic_numbers"]),
        "n_bessel": options["radial_basis_size"],
        "envelope_p": int(options["radial_polynomial_p"]),
        "radial_depth": options["radial_mlp_layers"],
        "radial_width": options["radial_mlp_size"],
        "radial_knots": n_knots,
        "first_self_connection": True,
        "shared_self_connection": not options["index_weights"],
        "layer_norm": options["layer_norm"],
        "mean_neighbors": float(options["avg_n_neighbors"]),
    }
    config = checked(NequIPConfig, values)
    # before memory is taken for the network: so many numbers have its matrices at the very least
    least = config.n_layers - 1 + sum(term.mul**2 for term in hidden) * (config.n_layers > 1)
    if least > sum(array.numel() for array in source.arrays):
        raise InputError(f"the file has fewer weights than the network that its options describe: {UNKNOWN}")
    return config


class Arrays:
    """The arrays of a file, which are taken one after the other."""

    def __init__(self, arrays: Sequence[Tensor]) -> None:
        self._left = list(arrays)

    def take(self, *shape: int) -> Tensor:
        """The next array; raises InputError if there is none, or if it has another shape."""
        if not self._left:
            raise InputError(f"the file has too few arrays: {UNKNOWN}")
        if self._left[0].shape != shape:
            raise InputError(
                f"an array of the file is {shown(self._left[0].shape)} instead of {shown(shape)}: {UNKNOWN}"
            )
        return self._left.pop(0)

    def require_end(self) -> None:
        """Raise InputError if an array is left over."""
        if self._left:
            raise InputError(f"the file has {len(self._left)} arrays that belong to nothing: {UNKNOWN}")


def build(source: NequixFile, species: Sequence[str], n_knots: int | None) -> Potential:
    """Build the same potential for some of its elements, in float64.

    Args:
        source: the file.
        species: chemical symbols, all of which the file knows.
        n_knots: the number of knots of the splines; None computes the radial networks on every edge.

    Raises:
        InputError: the file has something that equiforce does not know.
    """
    known = elements_of(source)
    index = [known.index(symbol) for symbol in species]
    arrays, config = Arrays(source.arrays), config_of(source, n_knots)
    network = NequIP(config, species).double()
    energies = arrays.take(len(known))[index]
    with torch.no_grad():
        network.embed.weight.copy_(torch.eye(len(known), dtype=torch.float64)[index])
        network.radial_basis.roots.copy_(math.pi * torch.arange(1, config.n_bessel + 1, dtype=torch.float64))
    basis = 2 / config.cutoff**2 / network.radial_basis.scale.item()
    neighbors = float(source.options["avg_n_neighbors"])
    for number, layer in enumerate(cast("Iterable[NequIPLayer]", network.layers)):
        factors = Factors(basis, RATIO if number else 1.0, 1 / math.sqrt(neighbors))
        _set_layer(layer, arrays, index, len(known), factors)
    channels = config.channels_of_degree[0]
    set_mlp(network.readout, [RATIO * arrays.take(channels, 1) / math.sqrt(channels)])
    arrays.require_end()
    scale = float(source.options["scale"])
    energies = energies + float(source.options["shift"]) + scale * network.isolated().detach()
    return Potential(
        cast("Model", network),
        species=species,
        cutoff=config.cutoff,
        atomic_energies=energies.tolist(),
        scale=[scale] * len(species),
    )


class Factors(NamedTuple):
    """What Nequix multiplies by, and this package does not."""

    basis: float  # the radial basis
    features: float  # the features that a layer gets
    messages: float  # the sum of the messages


def _set_layer(layer: NequIPLayer, arrays: Arrays, index: list[int], n_known: int, factors: Factors) -> None:
    """Set the weights of a layer.

    Args:
        layer: the layer.
        arrays: the next array is the first of the layer.
        index: the species of the file that are kept.
        n_known: the number of species of the file.
        factors: by which some of the matrices are multiplied.
    """
    convolution, result = layer.convolution, layer.gate.irreps_in
    table = convolution.table
    radial = [arrays.take(*weight.shape) for weight in convolution.radial.mlp.weights]
    paths = sorted(table.paths, key=lambda path: path.target.l)  # stable: the loops over features and harmonics
    starts, used = {}, 0
    for path in paths:
        starts[path.weight] = used
        used += path.source.channels
    columns = torch.cat([starts[p.weight] + torch.arange(p.source.channels) for p in table.paths])
    set_mlp(convolution.radial.mlp, [factors.basis * radial[0], *radial[1:-1], radial[-1][:, columns]])

    sources, sums = table.irreps_in, table.irreps_out
    before = {str(ir): factors.features * _matrix(arrays, mul, mul) for mul, ir in sources}
    set_linear(convolution.linear_in, before)
    after = {str(ir): factors.messages * _matrix(arrays, sums.count(ir), mul) for mul, ir in result}
    set_linear(convolution.linear_out, after)
    own = [(mul, ir) for mul, ir in result if sources.count(ir)]
    connection = convolution.self_connection
    if isinstance(connection, Linear):
        set_linear(connection, {str(ir): factors.features * _matrix(arrays, sources.count(ir), mul) for mul, ir in own})
    elif connection is not None:
        each = [arrays.take(n_known, sources.count(ir), mul) / math.sqrt(sources.count(ir)) for mul, ir in own]
        for row, number in enumerate(index):
            set_linear(
                connection, {str(ir): factors.features * m[number] for (_, ir), m in zip(own, each, strict=True)}, [row]
            )
    if layer.norm is not None:
        weights = torch.cat([arrays.take(mul) for mul, _ in result])
        with torch.no_grad():
            layer.norm.weights.copy_(weights / math.sqrt(layer.norm.nequix_mean_square))


def _matrix(arrays: Arrays, n_in: int, n_out: int) -> Tensor:
    return arrays.take(n_in, n_out) / math.sqrt(n_in)
