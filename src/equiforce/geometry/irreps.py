"""The thin face over e3nn's irreps and Wigner 3j symbols.

Features are flat, ``[atoms, irreps.dim]``. Each block of ``channels x l p`` is stored as ``[2l+1, channels]``,
channels last, so that the innermost loop of a kernel is contiguous. (e3nn itself stores channels first.)
"""

from functools import cache
from typing import NamedTuple

import torch
from e3nn import o3
from e3nn.o3 import Irreps
from jaxtyping import Float
from torch import Tensor


class Block(NamedTuple):
    """Where the channels of one irrep lie in a flat feature vector."""

    name: str  # "1o"
    channels: int
    l: int
    parity: int
    start: int
    stop: int

    def of(self, features: Tensor) -> Float[Tensor, "atoms components channels"]:
        """This block of flat features, as a view."""
        return features[:, self.start : self.stop].unflatten(1, (2 * self.l + 1, self.channels))


def blocks(irreps: Irreps) -> tuple[Block, ...]:
    """The blocks of ``irreps``, in order."""
    slices = zip(irreps, irreps.slices(), strict=True)
    return tuple(Block(str(ir), mul, ir.l, ir.p, s.start, s.stop) for (mul, ir), s in slices)


def hidden_irreps(channels: tuple[int, ...], *, odd: bool) -> Irreps:
    """``channels[l]`` copies of each degree, with its natural parity (-1)^l, or with both parities where ``odd``."""
    both = [(mul, (l, sign * (-1) ** l)) for l, mul in enumerate(channels) for sign in ((1, -1) if odd else (1,))]
    return Irreps(both).remove_zero_multiplicities()


def reachable(irreps_in: Irreps, l_max: int, irreps_out: Irreps) -> Irreps:
    """The part of ``irreps_out`` that some product of ``irreps_in`` with harmonics up to ``l_max`` gives.

    It works backwards too: what such products give X is what products of X give.
    """
    harmonics = Irreps.spherical_harmonics(l_max)
    made = {out for _, a in irreps_in for _, b in harmonics for out in a * b}
    return Irreps([(mul, ir) for mul, ir in irreps_out if ir in made])


@cache
def wigner_3j(l1: int, l2: int, l3: int) -> Float[Tensor, "m1 m2 m3"]:
    """The real Wigner 3j symbol of e3nn's basis, of Frobenius norm 1, float64."""
    return o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
