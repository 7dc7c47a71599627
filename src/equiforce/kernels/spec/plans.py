"""The plans of linear maps and gates: where their blocks and weights lie."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from equiforce.geometry.irreps import Block, Irreps, blocks
from equiforce.kernels.spec.layout import Layout


class IrrepMatrix(NamedTuple):
    """One matrix of a linear map, from a block of the input to a block of the output."""

    source: Block
    target: Block
    weight: int  # index of the first of its [source.channels, target.channels] numbers
    scale: float  # factor that keeps unit variance


@dataclass(frozen=True)
class LinearPlan(Layout):
    """A linear map y = x W(species) with one matrix for each irrep.

    Args:
        irreps_in: irreps of x, each at most once.
        irreps_out: irreps of y, each at most once; an irrep that x does not have gives zeros.
        n_species: number of species, each of which has its own matrices.
        scale: factor of the result, in addition to the factor that keeps unit variance.

    Raises:
        ValueError: an irrep occurs twice.
    """

    irreps_in: Irreps
    irreps_out: Irreps
    n_species: int = 1
    scale: float = 1.0

    __hash__ = Layout.__hash__

    def __post_init__(self) -> None:
        for irreps in (self.irreps_in, self.irreps_out):
            if len({ir for _, ir in irreps}) < len(irreps):
                raise ValueError(f"{irreps} has an irrep twice: a linear map needs each irrep at most once")

    @cached_property
    def matrices(self) -> tuple[IrrepMatrix, ...]:
        """The matrices in the order of their weights."""
        sources = {block.name: block for block in blocks(self.irreps_in)}
        matrices, weight = [], 0
        for target in blocks(self.irreps_out):
            if (source := sources.get(target.name)) is not None:
                matrices.append(IrrepMatrix(source, target, weight, self.scale / math.sqrt(source.channels)))
                weight += source.channels * target.channels
        return tuple(matrices)

    @cached_property
    def n_weights(self) -> int:
        """The number of weights of each species."""
        return sum(m.source.channels * m.target.channels for m in self.matrices)


@dataclass(frozen=True)
class GatePlan(Layout):
    """SiLU of even scalars, tanh of odd scalars, and each other irrep times the SiLU of a scalar (its gate).

    The gates are the last even scalars of ``irreps_in``, in the order of the irreps of ``irreps_out``.
    """

    irreps_out: Irreps

    __hash__ = Layout.__hash__

    @cached_property
    def irreps_in(self) -> Irreps:
        """The irreps of the input: those of the output, and one even scalar for each channel that has a gate."""
        n_gates = sum(mul for mul, ir in self.irreps_out if ir.l > 0)
        others = [(mul, ir) for mul, ir in self.irreps_out if str(ir) != "0e"]
        return Irreps([(self.irreps_out.count("0e") + n_gates, "0e"), *others]).remove_zero_multiplicities()

    @cached_property
    def parts(self) -> tuple[tuple[Block, Block, int], ...]:
        """Block of the input, block of the output, and index of its first gate; -1 for scalars, which have no gate."""
        sources = {block.name: block for block in blocks(self.irreps_in)}
        gate, parts = self.irreps_out.count("0e"), []
        for target in blocks(self.irreps_out):
            parts.append((sources[target.name], target, gate if target.l else -1))
            gate += target.channels if target.l else 0
        return tuple(parts)
