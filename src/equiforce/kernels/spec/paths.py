"""The paths of a convolution's tensor product, with their sparse coupling coefficients."""

import math
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from equiforce.geometry.irreps import Block, Irreps, blocks
from equiforce.geometry.wigner_3j import wigner_3j
from equiforce.kernels.spec.layout import Layout


class Radial(NamedTuple):
    """The radial weights of every edge.

    With ``knot_coordinates``, ``values`` are the coefficients of cubic B-splines on knots with unit spacing. The
    weights of an edge are the values of the splines at its knot coordinate, a number between 0 and rows - 3. Without
    ``knot_coordinates``, each edge has its own row of ``values``.
    """

    values: Float[Tensor, "rows weights"]
    knot_coordinates: Float[Tensor, " edges"] | None = None


class Path(NamedTuple):
    """One product (l1 of the features) x (l2 of the harmonics) -> (l3 of the message)."""

    source: Block  # of irreps_in
    l2: int
    target: Block  # of irreps_out
    channel: int  # first of this path's channels within the target
    weight: int  # first of this path's radial weights, one for each channel
    coupling: tuple[tuple[int, int, int, float], ...]  # non-zero (m1, m2, m3, C), sqrt(2 l3 + 1) times Wigner's 3j


class PathGroup(NamedTuple):
    """The paths with the same degrees and number of channels; they differ only in the blocks they read and write."""

    l1: int
    l2: int
    l3: int
    channels: int
    coupling: tuple[tuple[int, int, int, float], ...]  # of each path
    paths: tuple[Path, ...]


class Combination(NamedTuple):
    """A sum of harmonics times constants, up to its sign; it couples component m1 with m3 on one edge."""

    terms: tuple[tuple[int, float], ...]  # (column of the harmonics, constant)


@dataclass(frozen=True)
class PathTable(Layout):
    """Every path from ``irreps_in`` with harmonics up to ``l_max`` to an irrep of ``targets``.

    Channel u of a path is computed from channel u of the features ("uvu"). Paths to the same irrep lie side by side in
    one block of ``irreps_out``. Without ``reflections`` the harmonics count as even, and so must all irreps: only the
    degrees then decide which paths exist, and the result commutes with rotations only.
    """

    irreps_in: Irreps
    l_max: int
    targets: Irreps
    reflections: bool = True

    __hash__ = Layout.__hash__

    @cached_property
    def _allowed(self) -> list[tuple[Block, int, str]]:
        return allowed_paths(self.irreps_in, self.l_max, self.targets, reflections=self.reflections)

    @cached_property
    def irreps_out(self) -> Irreps:
        """The irreps of the message: for each target, the channels of all paths to it."""
        channels = {str(ir): 0 for _, ir in self.targets}
        for source, _, name in self._allowed:
            channels[name] += source.channels
        return Irreps([(channels[str(ir)], ir) for _, ir in self.targets if channels[str(ir)]])

    @cached_property
    def paths(self) -> tuple[Path, ...]:
        targets = {block.name: block for block in blocks(self.irreps_out)}
        used = dict.fromkeys(targets, 0)
        paths, weight = [], 0
        for source, l2, name in self._allowed:
            coupling = sparse_coupling(source.l, l2, targets[name].l)
            paths.append(Path(source, l2, targets[name], used[name], weight, coupling))
            used[name] += source.channels
            weight += source.channels
        return tuple(paths)

    @cached_property
    def groups(self) -> tuple[PathGroup, ...]:
        """The paths grouped by degrees and channels, so that a kernel contains the code of each group once."""
        kinds: dict[tuple[int, int, int, int], list[Path]] = {}
        for path in self.paths:
            kinds.setdefault((path.source.l, path.l2, path.target.l, path.source.channels), []).append(path)
        return tuple(PathGroup(*kind, paths[0].coupling, tuple(paths)) for kind, paths in kinds.items())

    @cached_property
    def n_weights(self) -> int:
        """The number of radial weights of an edge: one for each path and channel."""
        return sum(source.channels for source, _, _ in self._allowed)


def allowed_paths(
    irreps_in: Irreps, l_max: int, targets: Irreps, *, reflections: bool = True
) -> list[tuple[Block, int, str]]:
    """List every (source block, l2, name of the target irrep) with harmonics up to ``l_max`` and a given target."""
    allowed = {ir for _, ir in targets}
    return [
        (source, harmonic.l, str(result))
        for source, (_, ir) in zip(blocks(irreps_in), irreps_in, strict=True)
        for _, harmonic in Irreps.spherical_harmonics(l_max, reflections=reflections)
        for result in ir * harmonic
        if result in allowed
    ]


@cache
def sparse_coupling(l1: int, l2: int, l3: int) -> tuple[tuple[int, int, int, float], ...]:
    """The non-zero (m1, m2, m3, C) of a coupling, scaled so that inputs of unit variance give unit variance."""
    dense = math.sqrt(2 * l3 + 1) * wigner_3j(l1, l2, l3)
    return tuple((*index, dense[tuple(index)].item()) for index in (dense.abs() > 1e-12).nonzero().tolist())


def combination(group: PathGroup, m1: int, m3: int) -> tuple[int, Combination] | None:
    """The sign and the combination of harmonics that couple component m1 with m3; None if no harmonic does."""
    terms = tuple((group.l2**2 + m2, c) for a, m2, b, c in group.coupling if (a, b) == (m1, m3))
    if not terms:
        return None
    sign = 1 if terms[0][1] > 0 else -1
    return sign, Combination(tuple((column, round(sign * c, 15)) for column, c in terms))
