"""Irreducible representations (irreps) of O(3), and the memory layout of features.

The notation is that of e3nn: ``1o`` is the irrep of degree 1 and odd parity, and ``32x1o`` are 32 channels of it.

Features are flat, ``[atoms, irreps.dim]``. The block of each irrep is stored as ``[2l+1, channels]``. Channels are the
last axis, so that the innermost loop of a kernel is contiguous. (e3nn stores channels first.)
"""

import re
from collections.abc import Iterable
from itertools import accumulate
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

PARITIES = {"e": 1, "o": -1}
LETTERS = {1: "e", -1: "o"}
IRREP = re.compile(r"(\d+)([eo])", re.ASCII)
TERM = re.compile(r"(?:(\d+)\s*x\s*)?(\S+)", re.ASCII)


class Irrep(NamedTuple):
    """One irreducible representation of O(3): the degree l of its 2l+1 components, and its parity p, 1 or -1."""

    l: int
    p: int

    @classmethod
    def of(cls, irrep: "Irrep | str | tuple[int, int]") -> "Irrep":
        """Convert a name such as ``"1o"``, or a pair (l, p), to an irrep.

        Raises:
            ValueError: there is no such irrep.
        """
        if isinstance(irrep, str):
            found = IRREP.fullmatch(irrep.strip())
            if found is None:
                raise ValueError(f"{irrep!r} is not an irrep: write its degree and then e or o, for example 1o")
            return cls(int(found[1]), PARITIES[found[2]])
        l, p = irrep
        if l < 0 or p not in LETTERS:
            raise ValueError(f"there is no irrep of degree {l} and parity {p}: give a degree of 0 or more, and 1 or -1")
        return cls(l, p)

    @property
    def dim(self) -> int:
        """The number of components, 2l+1."""
        return 2 * self.l + 1

    def __mul__(self, other: "Irrep") -> "tuple[Irrep, ...]":  # type: ignore[override] # no repetition of a tuple
        """The irreps in the tensor product of two irreps, with degrees from |l1-l2| to l1+l2."""
        return tuple(Irrep(l, self.p * other.p) for l in range(abs(self.l - other.l), self.l + other.l + 1))

    def __str__(self) -> str:
        return f"{self.l}{LETTERS[self.p]}"

    def __repr__(self) -> str:
        return str(self)


class MulIrrep(NamedTuple):
    """An irrep with a number of channels."""

    mul: int  # number of channels
    ir: Irrep

    @property
    def dim(self) -> int:
        """The number of components of all channels together."""
        return self.mul * self.ir.dim

    def __str__(self) -> str:
        return f"{self.mul}x{self.ir}"

    def __repr__(self) -> str:
        return str(self)


class Irreps(tuple[MulIrrep, ...]):
    """The irreps of a feature vector in their order, each with its number of channels.

    Args:
        irreps: a string such as ``"32x0e + 8x1o"``, where ``"1o"`` means one channel; or pairs (number of channels,
            irrep), where the irrep is an :class:`Irrep`, a name such as ``"1o"``, or a pair (l, p).

    Raises:
        ValueError: a term is not an irrep, or a number of channels is negative.
    """

    __slots__ = ()

    def __new__(cls, irreps: "str | Iterable[tuple[int, Irrep | str | tuple[int, int]]]" = ()) -> "Irreps":
        if isinstance(irreps, cls):
            return irreps
        pairs = _terms(irreps) if isinstance(irreps, str) else irreps
        terms = [MulIrrep(mul, Irrep.of(irrep)) for mul, irrep in pairs]
        if any(term.mul < 0 for term in terms):
            raise ValueError(f"{'+'.join(map(str, terms))} has a negative number of channels: give 0 or more")
        return super().__new__(cls, terms)

    @classmethod
    def spherical_harmonics(cls, l_max: int, *, reflections: bool = True) -> "Irreps":
        """One channel of each degree up to ``l_max`` with its natural parity (-1)^l; all even without reflections."""
        return cls([(1, (l, (-1) ** l if reflections else 1)) for l in range(l_max + 1)])

    @property
    def dim(self) -> int:
        """The length of the feature vector."""
        return sum(term.dim for term in self)

    @property
    def num_irreps(self) -> int:
        """The number of channels of all irreps together."""
        return sum(term.mul for term in self)

    @property
    def lmax(self) -> int:
        """The highest degree that has a channel."""
        return max(term.ir.l for term in self if term.mul > 0)

    def slices(self) -> list[slice]:
        """Where each term lies in the feature vector."""
        stops = accumulate(term.dim for term in self)
        return [slice(stop - term.dim, stop) for term, stop in zip(self, stops, strict=True)]

    def count(self, irrep: Irrep | str) -> int:
        """The number of channels of one irrep."""
        searched = Irrep.of(irrep)
        return sum(term.mul for term in self if term.ir == searched)

    def remove_zero_multiplicities(self) -> "Irreps":
        """These irreps without the terms that have no channel."""
        return Irreps(term for term in self if term.mul > 0)

    def __add__(self, other: "Irreps") -> "Irreps":  # type: ignore[override] # only irreps can be added to irreps
        return Irreps((*self, *other))

    def __str__(self) -> str:
        return "+".join(map(str, self))

    def __repr__(self) -> str:
        return str(self)


def _terms(text: str) -> list[tuple[int, str]]:
    """Split a string such as ``"32x0e + 1o"`` into the number of channels and the name of each irrep."""
    if not text.strip():
        return []
    terms = []
    for term in text.split("+"):
        found = TERM.fullmatch(term.strip())
        if found is None:
            raise ValueError(f"{text!r} are not irreps: write terms such as 32x0e or 1o with + between them")
        terms.append((int(found[1] or 1), found[2]))
    return terms


class Block(NamedTuple):
    """The position of one irrep's channels in a flat feature vector."""

    name: str  # "1o"
    channels: int
    l: int
    parity: int
    start: int
    stop: int

    def of(self, features: Tensor) -> Float[Tensor, "atoms components channels"]:
        """The block of flat features, as a view."""
        return features[:, self.start : self.stop].unflatten(1, (2 * self.l + 1, self.channels))


def blocks(irreps: Irreps) -> tuple[Block, ...]:
    """The blocks of ``irreps`` in their order."""
    slices = zip(irreps, irreps.slices(), strict=True)
    return tuple(Block(str(ir), mul, ir.l, ir.p, s.start, s.stop) for (mul, ir), s in slices)


def hidden_irreps(channels: tuple[int, ...], *, odd: bool, reflections: bool = True) -> Irreps:
    """Irreps with ``channels[l]`` channels of each degree l, with parity (-1)^l, or with both parities if ``odd``.

    Without ``reflections`` all are called even, because rotations alone do not tell parities apart.
    """
    if not reflections:
        return Irreps([(mul, (l, 1)) for l, mul in enumerate(channels)]).remove_zero_multiplicities()
    both = [(mul, (l, sign * (-1) ** l)) for l, mul in enumerate(channels) for sign in ((1, -1) if odd else (1,))]
    return Irreps(both).remove_zero_multiplicities()


def reachable(irreps_in: Irreps, l_max: int, irreps_out: Irreps, *, reflections: bool = True) -> Irreps:
    """The part of ``irreps_out`` that occurs in products of ``irreps_in`` with harmonics up to ``l_max``.

    The relation is symmetric: if a product of A with harmonics contains B, then a product of B contains A. So the
    function can also find the irreps that contribute to given results.
    """
    harmonics = Irreps.spherical_harmonics(l_max, reflections=reflections)
    made = {out for _, a in irreps_in for _, b in harmonics for out in a * b}
    return Irreps([(mul, ir) for mul, ir in irreps_out if ir in made])
