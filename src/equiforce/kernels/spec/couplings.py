"""What the product of an edge with its centre's environment couples with what: Allegro's V^ij ⊗ Γ_i, path by path.

For one atom and one channel the product is linear in V: a small matrix that depends on the atom alone, through Γ_i and
the weights of the paths. That matrix, the *operator*, is made once an atom, and each edge then costs one multiplication
a pair of components, however many paths and Clebsch-Gordan terms there are.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from equiforce.geometry.irreps import Block, Irreps, blocks
from equiforce.kernels.spec.layout import Layout
from equiforce.kernels.spec.paths import couplings, sparse_coupling


class Coupled(NamedTuple):
    """One path (l1 of the edge) x (l2 of the environment) -> (l3 of the result)."""

    source: Block  # of irreps_in
    l2: int
    target: Block  # of irreps_out
    channel: int  # first of this path's channels within the target


class Term(NamedTuple):
    """What one component of the environment adds to the operator: a constant, times a path's weight."""

    path: int
    environment: int  # l2² + m2
    constant: float


class Element(NamedTuple):
    """An element of the operator that is not zero: from one component of the edge to one of the result."""

    column: int
    row: int
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class CouplingTable(Layout):
    """Every path from ``irreps_in`` with natural irreps up to ``l_max`` to an irrep of ``targets``.

    All irreps have as many channels, and channel u of the edge meets channel u of the environment ("uuu"). Paths to the
    same irrep are added up if ``summed``, but those to even scalars never are: they lie side by side.
    """

    irreps_in: Irreps
    l_max: int
    targets: Irreps
    summed: bool = True

    __hash__ = Layout.__hash__

    @cached_property
    def channels(self) -> int:
        """Of each irrep."""
        return self.irreps_in[0].mul

    @cached_property
    def dim_environment(self) -> int:
        """Numbers of an atom's environment: a row of channels for each harmonic."""
        return (self.l_max + 1) ** 2 * self.channels

    @cached_property
    def _couplings(self) -> list[tuple[Block, int, str]]:
        return couplings(self.irreps_in, self.l_max, self.targets)

    def _adds_up(self, name: str) -> bool:
        """Whether the paths to an irrep are added up."""
        return self.summed and name != "0e"

    @cached_property
    def n_paths(self) -> int:
        return len(self._couplings)

    @cached_property
    def paths_to(self) -> dict[str, int]:
        """How many paths lead to each irrep of the result."""
        names = [name for _, _, name in self._couplings]
        return {str(ir): names.count(str(ir)) for _, ir in self.targets if str(ir) in names}

    @cached_property
    def irreps_out(self) -> Irreps:
        """The irreps of the result, in the order of the targets."""
        many = {name: 1 if self._adds_up(name) else n for name, n in self.paths_to.items()}
        return Irreps([(many[str(ir)] * self.channels, ir) for _, ir in self.targets if str(ir) in many])

    @cached_property
    def split(self) -> Irreps:
        """The irreps of the result with as many channels in each as there were before, the same one several times."""
        return Irreps([(self.channels, ir) for mul, ir in self.irreps_out for _ in range(mul // self.channels)])

    @cached_property
    def paths(self) -> tuple[Coupled, ...]:
        targets = {block.name: block for block in blocks(self.irreps_out)}
        used, paths = dict.fromkeys(targets, 0), []
        for source, l2, name in self._couplings:
            paths.append(Coupled(source, l2, targets[name], 0 if self._adds_up(name) else used[name]))
            used[name] += self.channels
        return tuple(paths)

    @cached_property
    def n_components(self) -> tuple[int, int]:
        """Rows of channels of an edge, before and after; flat features are these rows, one after another."""
        return tuple(dim // self.channels for dim in self.dims)

    @cached_property
    def elements(self) -> tuple[Element, ...]:
        """The operator, ordered by components of the result; paths to the same irrep share its unit variance."""
        terms: dict[tuple[int, int], list[Term]] = {}
        for number, (source, l2, target, channel) in enumerate(self.paths):
            share = self.paths_to[target.name] ** -0.5 if self._adds_up(target.name) else 1.0
            for m1, m2, m3, constant in sparse_coupling(source.l, l2, target.l):
                row = (target.start + m3 * target.channels + channel) // self.channels
                column = source.start // self.channels + m1
                terms.setdefault((row, column), []).append(Term(number, l2**2 + m2, share * constant))
        return tuple(Element(column, row, tuple(terms[row, column])) for row, column in sorted(terms))
