"""How e3nn 0.5 and 0.6 lay out the weights of equivariant networks, for importers of programs that use e3nn.

These functions read flat weights into dense matrices, one for each irrep, for :mod:`equiforce.foundation.weights`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from equiforce.errors import InputError
from equiforce.foundation.weights import UNKNOWN
from equiforce.geometry.irreps import Irrep, Irreps
from equiforce.nn.mlp import SILU_GAIN, TANH_GAIN

# The factors of the activations, which e3nn finds from a million random numbers (e3nn.math.normalize2mom).
SILU, TANH = 1.6791767923989418, 1.5937334472592695


def gain_ratio(irrep: Irrep | str) -> float:
    """The ratio of e3nn's gate to the gate of this package for features of an irrep: tanh for 0o, else SiLU."""
    return TANH / TANH_GAIN if Irrep.of(irrep) == Irrep(0, -1) else SILU / SILU_GAIN


def simplified(irreps: Irreps) -> Irreps:
    """The irreps with neighbouring terms of the same irrep merged, and without terms that have no channel."""
    merged: list[tuple[int, Irrep]] = []
    for mul, ir in irreps.remove_zero_multiplicities():
        before = merged.pop()[0] if merged and merged[-1][1] == ir else 0
        merged.append((before + mul, ir))
    return Irreps(merged)


def in_order(irreps: Irreps) -> Irreps:
    """The irreps sorted by degree and then parity, odd before even, and simplified."""
    terms = sorted(irreps, key=lambda term: term.ir)
    return simplified(Irreps(terms))


def linear_matrices(flat: Tensor, irreps_in: Irreps, irreps_out: Irreps) -> dict[str, Tensor]:
    """Read the weights of a linear map (``o3.Linear`` without bias) as dense matrices.

    Args:
        flat: all weights of the map.
        irreps_in: of the input, as e3nn has them; terms of the same irrep lie side by side in its matrix.
        irreps_out: of the result, likewise.

    Returns:
        For each irrep of both, the matrix [channels in, channels out] with 1 / sqrt(fan-in) inside, in float64.

    Raises:
        InputError: the number of weights is another one.
    """
    return {name: cube[:, 0] for name, cube in fully_connected_matrices(flat, irreps_in, 1, irreps_out).items()}


def fully_connected_matrices(flat: Tensor, irreps_in: Irreps, n_scalars: int, irreps_out: Irreps) -> dict[str, Tensor]:
    """Read the weights of a product of features with even scalars (``o3.FullyConnectedTensorProduct``).

    Args:
        flat: all weights of the product.
        irreps_in: of the features, as in :func:`linear_matrices`.
        n_scalars: number of even scalars.
        irreps_out: of the result.

    Returns:
        For each irrep of both, numbers [channels in, scalars, channels out] with 1 / sqrt(fan-in) inside, in float64.

    Raises:
        InputError: the number of weights is another one.
    """
    pairs = [(i, o) for i, a in enumerate(irreps_in) for o, b in enumerate(irreps_out) if a.ir == b.ir]
    sizes = [irreps_in[i].mul * n_scalars * irreps_out[o].mul for i, o in pairs]
    if flat.numel() != sum(sizes):
        raise InputError(f"a linear map has {flat.numel()} weights instead of {sum(sizes)}: {UNKNOWN}")
    parts = {}
    for (i, o), numbers in zip(pairs, flat.double().flatten().split(sizes), strict=True):
        fan_in = n_scalars * irreps_in.count(irreps_out[o].ir)
        cube = numbers.view(irreps_in[i].mul, n_scalars, irreps_out[o].mul)
        parts[i, o] = cube / math.sqrt(max(fan_in, 1))
    found = {}
    for ir in dict.fromkeys(term.ir for term in irreps_out):
        sources = [i for i, term in enumerate(irreps_in) if term.ir == ir]
        targets = [o for o, term in enumerate(irreps_out) if term.ir == ir]
        if sources:
            found[str(ir)] = torch.cat([torch.cat([parts[i, o] for o in targets], 2) for i in sources])
    return found


class SortedPath(NamedTuple):
    """One path of a tensor product whose results were sorted by irrep."""

    source: Irrep
    l2: int  # of the harmonics
    target: Irrep
    channels: int
    weight: int  # the first of its weights in the order of the loops
    place: int  # of its results after sorting
    row: int  # the first of its channels in the simplified block of the target


def sorted_paths(irreps_in: Irreps, harmonics: Irreps, allowed: Irreps) -> list[SortedPath]:
    """List the paths of a product of features with harmonics, channel by channel ('uvu'), in the order of the loops.

    The loops run over the terms of the features, the harmonics, and the irreps of their product. Results are sorted by
    irrep, and for the same irrep by the order of the loops.

    Args:
        irreps_in: of the features.
        harmonics: one term for each degree.
        allowed: irreps of the result; paths to others do not exist.
    """
    wanted = {term.ir for term in allowed}
    loop = [
        (term, harmonic.ir.l, ir)
        for term in irreps_in
        for harmonic in harmonics
        for ir in term.ir * harmonic.ir
        if ir in wanted
    ]
    order = sorted(range(len(loop)), key=lambda number: (loop[number][2], number))
    rows: dict[Irrep, int] = {}
    row_of, place_of = {}, {}
    for place, number in enumerate(order):
        term, _, ir = loop[number]
        row_of[number], place_of[number] = rows.get(ir, 0), place
        rows[ir] = row_of[number] + term.mul
    paths, weight = [], 0
    for number, (term, l2, ir) in enumerate(loop):
        paths.append(SortedPath(term.ir, l2, ir, term.mul, weight, place_of[number], row_of[number]))
        weight += term.mul
    return paths


def product_irreps(paths: Sequence[SortedPath]) -> Irreps:
    """The simplified irreps of the results of :func:`sorted_paths`."""
    return in_order(Irreps([(path.channels, path.target) for path in paths]))


def gate_columns(scalars: Irreps, gated: Irreps, kept: Irreps) -> Tensor:
    """The columns of e3nn's even scalars before a gate, in the order of the gate of this package.

    The even scalars of e3nn's gate are those of the result, and then a gate for each channel of the gated irreps, in
    their order. Here the gates have the order of ``kept``.

    Args:
        scalars: of e3nn's result, even and odd.
        gated: the other irreps of e3nn's result, in its order.
        kept: the irreps of the result here, which may be fewer.
    """
    n_even = scalars.count("0e")
    starts, used = {}, n_even
    for mul, ir in gated:
        starts[ir] = used
        used += mul
    gates = [torch.arange(starts[ir], starts[ir] + mul) for mul, ir in kept if ir.l > 0]
    return torch.cat([torch.arange(n_even), *gates])
