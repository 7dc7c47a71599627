"""The paths of Allegro's tensor product V_ij ⊗ Γ_i of an edge with the environment of its centre.

The product is linear in V. For one atom and one channel it is therefore a small matrix, the *operator*, which depends
only on Γ_i and on the path weights. The operator is computed once for each atom. Each edge then costs one
multiplication for each pair of components, for any number of paths and Clebsch-Gordan terms.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from equiforce.geometry.irreps import Block, Irreps, blocks
from equiforce.kernels.spec.layout import Layout
from equiforce.kernels.spec.paths import allowed_paths, sparse_coupling


class CouplingPath(NamedTuple):
    """One path (l1 of the edge) x (l2 of the environment) -> (l3 of the result)."""

    source: Block  # of irreps_in
    l2: int
    target: Block  # of irreps_out
    channel: int  # first of this path's channels within the target


class Term(NamedTuple):
    """One term of an element of the operator: constant x weight of a path x component of the environment."""

    path: int
    environment: int  # l2² + m2
    constant: float


class Element(NamedTuple):
    """A non-zero element of the operator, from a component of the edge (column) to one of the result (row)."""

    column: int
    row: int
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class CouplingTable(Layout):
    """Every path from ``irreps_in`` with irreps of natural parity up to ``l_max`` to an irrep of ``targets``.

    All irreps have the same number of channels. Channel u of the edge is multiplied by channel u of the environment
    ("uuu"). If ``summed``, paths to the same irrep are added; paths to even scalars always lie side by side.
    """

    irreps_in: Irreps
    l_max: int
    targets: Irreps
    summed: bool = True

    __hash__ = Layout.__hash__

    @cached_property
    def channels(self) -> int:
        """The number of channels of each irrep."""
        return self.irreps_in[0].mul

    @cached_property
    def dim_environment(self) -> int:
        """The size of an atom's environment: a row of channels for each harmonic."""
        return (self.l_max + 1) ** 2 * self.channels

    @cached_property
    def _allowed(self) -> list[tuple[Block, int, str]]:
        return allowed_paths(self.irreps_in, self.l_max, self.targets)

    def adds_up(self, name: str) -> bool:
        """Whether the paths to an irrep are added."""
        return self.summed and name != "0e"

    @cached_property
    def n_paths(self) -> int:
        return len(self._allowed)

    @cached_property
    def paths_to(self) -> dict[str, int]:
        """The number of paths to each irrep of the result."""
        names = [name for _, _, name in self._allowed]
        return {str(ir): names.count(str(ir)) for _, ir in self.targets if str(ir) in names}

    @cached_property
    def irreps_out(self) -> Irreps:
        """The irreps of the result, in the order of the targets."""
        many = {name: 1 if self.adds_up(name) else n for name, n in self.paths_to.items()}
        return Irreps([(many[str(ir)] * self.channels, ir) for _, ir in self.targets if str(ir) in many])

    @cached_property
    def split(self) -> Irreps:
        """The irreps of the result with ``channels`` channels each, so that an irrep can occur several times."""
        return Irreps([(self.channels, ir) for mul, ir in self.irreps_out for _ in range(mul // self.channels)])

    @cached_property
    def paths(self) -> tuple[CouplingPath, ...]:
        targets = {block.name: block for block in blocks(self.irreps_out)}
        used, paths = dict.fromkeys(targets, 0), []
        for source, l2, name in self._allowed:
            paths.append(CouplingPath(source, l2, targets[name], 0 if self.adds_up(name) else used[name]))
            used[name] += self.channels
        return tuple(paths)

    @cached_property
    def n_components(self) -> tuple[int, int]:
        """The number of rows of channels of an edge before and after; flat features are these rows in sequence."""
        before, after = self.dims
        return before // self.channels, after // self.channels

    @cached_property
    def elements(self) -> tuple[Element, ...]:
        """The elements of the operator by row; paths that are added are scaled so that their sum has unit variance."""
        return _elements(self)


@lru_cache(maxsize=16)  # the layers of a model mostly have the same table
def _elements(table: CouplingTable) -> tuple[Element, ...]:
    terms: dict[tuple[int, int], list[Term]] = {}
    for number, (source, l2, target, channel) in enumerate(table.paths):
        share = table.paths_to[target.name] ** -0.5 if table.adds_up(target.name) else 1.0
        for m1, m2, m3, constant in sparse_coupling(source.l, l2, target.l):
            row = (target.start + m3 * target.channels + channel) // table.channels
            column = source.start // table.channels + m1
            terms.setdefault((row, column), []).append(Term(number, l2**2 + m2, share * constant))
    return tuple(Element(column, row, tuple(terms[row, column])) for row, column in sorted(terms))
