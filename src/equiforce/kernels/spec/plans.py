"""What is done with the features of each atom: which blocks are multiplied, and how they are gated."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from equiforce.geometry.irreps import Block, Irreps, blocks
from equiforce.kernels.spec.layout import Layout


class Product(NamedTuple):
    """One matrix: from a block of the input to a block of the output."""

    source: Block
    target: Block
    weight: int  # where its [source.channels, target.channels] numbers begin
    scale: float  # that keeps unit variance


@dataclass(frozen=True)
class LinearPlan(Layout):
    """HasLinearMaps the channels of each irrep; by Schur's lemma nothing else is linear and equivariant.

    Args:
        irreps_in: of the features.
        irreps_out: of the result; irreps that the features do not have give zero.
        n_species: how many sets of matrices there are; an atom is multiplied by that of its species.
        scale: by which the result is multiplied, beside what keeps unit variance.
    """

    irreps_in: Irreps
    irreps_out: Irreps
    n_species: int = 1
    scale: float = 1.0

    __hash__ = Layout.__hash__

    def __post_init__(self) -> None:
        for irreps in (self.irreps_in, self.irreps_out):
            if len({ir for _, ir in irreps}) < len(irreps):
                raise ValueError(f"{irreps} has an irrep twice: what is mixed has each at most once")

    @cached_property
    def products(self) -> tuple[Product, ...]:
        """The matrices, in the order of the weights."""
        sources = {block.name: block for block in blocks(self.irreps_in)}
        products, weight = [], 0
        for target in blocks(self.irreps_out):
            if (source := sources.get(target.name)) is not None:
                products.append(Product(source, target, weight, self.scale / math.sqrt(source.channels)))
                weight += source.channels * target.channels
        return tuple(products)

    @cached_property
    def n_weights(self) -> int:
        """Weights of each species."""
        return sum(p.source.channels * p.target.channels for p in self.products)


@dataclass(frozen=True)
class GatePlan(Layout):
    """SiLU on even scalars, tanh on odd ones, and each other irrep times the SiLU of a scalar of its own.

    The gates are the last of the even scalars of ``irreps_in``, in the order of the irreps of ``irreps_out``.
    """

    irreps_out: Irreps

    __hash__ = Layout.__hash__

    @cached_property
    def irreps_in(self) -> Irreps:
        """The irreps of the input: those of the output, and a scalar for each channel that is gated."""
        n_gates = sum(mul for mul, ir in self.irreps_out if ir.l > 0)
        others = [(mul, ir) for mul, ir in self.irreps_out if str(ir) != "0e"]
        return Irreps([(self.irreps_out.count("0e") + n_gates, "0e"), *others]).remove_zero_multiplicities()

    @cached_property
    def parts(self) -> tuple[tuple[Block, Block, int], ...]:
        """(block of the input, block of the output, first scalar that gates it); scalars have no gate: -1."""
        sources = {block.name: block for block in blocks(self.irreps_in)}
        gate, parts = self.irreps_out.count("0e"), []
        for target in blocks(self.irreps_out):
            parts.append((sources[target.name], target, gate if target.l else -1))
            gate += target.channels if target.l else 0
        return tuple(parts)
