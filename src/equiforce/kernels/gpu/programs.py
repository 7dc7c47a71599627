"""The division of a table's paths between the programs of a GPU, so that sums fit into registers."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Literal, NamedTuple

from equiforce.geometry.irreps import Block
from equiforce.kernels.spec.paths import Path, PathTable

Family = Literal["forward", "backward", "knots"]
FAMILIES: tuple[Family, ...] = ("forward", "backward", "knots")
WARP = 32  # threads; also the largest number of channels of a tile
# Not yet tuned: the largest number of sums of a program; each takes a register of every lane. A thread has at most
# 255 registers. With half of them a multiprocessor holds 16 warps, which is enough to hide the latency of memory.
MOST_SUMS = 32
# The largest number of coupling terms in the loop of a ``backward`` program; more do not fit into registers.
MOST_TERMS = 100


class Work(NamedTuple):
    """The paths that one program computes for one atom, or for one interval of knots.

    ``twins`` are one or two lists of paths with the same code, such as those of the two parities. They differ only in
    the blocks that they read and write.
    """

    twins: tuple[tuple[Path, ...], ...]
    width: int  # number of channels of a tile
    n_blocks: int  # number of tiles that cover all channels

    @property
    def n_parts(self) -> int:
        """The number of programs that share the work."""
        return len(self.twins) * self.n_blocks


@cache
def works(table: PathTable, family: Family) -> tuple[Work, ...]:
    """Divide the paths of a table between programs; the longest work comes first."""
    units: list[tuple[Path, ...]] = list(_of_parities(table)) if family == "backward" else list(_chunks(table, family))
    alike: dict[tuple[tuple[int, ...], ...], list[tuple[Path, ...]]] = {}
    for unit in units:
        sources = list(dict.fromkeys(path.source for path in unit))
        kind = tuple((p.source.l, p.l2, p.target.l, p.source.channels, sources.index(p.source)) for p in unit)
        alike.setdefault(kind, []).append(unit)
    found = []
    for same in alike.values():
        width, n_blocks = _tile(same[0][0].source)
        found += [Work(tuple(same[k : k + 2]), width, n_blocks) for k in range(0, len(same), 2)]
    return tuple(sorted(found, key=lambda work: -_n_terms(work.twins[0])))


@cache
def n_parts(table: PathTable, family: Family) -> int:
    """The number of programs for each atom, or for each interval of knots."""
    return sum(work.n_parts for work in works(table, family))


def _chunks(table: PathTable, family: Family) -> Iterator[tuple[Path, ...]]:
    """Divide the paths of each source into chunks whose sums fit into registers."""
    for source in _sources(table):
        chunk: list[Path] = []
        size = 0
        for path in _paths_of(table, source):
            sums = 2 * path.target.l + 1 if family == "forward" else 4
            if chunk and size + sums > MOST_SUMS:
                yield tuple(chunk)
                chunk, size = [], 0
            chunk, size = [*chunk, path], size + sums
        if chunk:
            yield tuple(chunk)


def _of_parities(table: PathTable) -> Iterator[tuple[Path, ...]]:
    """Divide the paths into units with as many sources as a program can process, one parity after the other.

    The sums over channels are complete if one program has all sources. Otherwise the sums of the programs are added.
    """
    seen: dict[tuple[int, int], int] = {}
    alike: dict[tuple[int, int, int], list[list[Path]]] = {}
    for source in _sources(table):
        kind = source.l, source.channels
        seen[kind] = seen.get(kind, -1) + 1
        alike.setdefault((seen[kind], *_tile(source)), []).append(_paths_of(table, source))
    for sources in alike.values():
        unit: list[Path] = []
        for paths in sources:
            if unit and _n_terms([*unit, *paths]) > MOST_TERMS:
                yield tuple(unit)
                unit = []
            unit += paths
        yield tuple(unit)


def _n_terms(paths: Sequence[Path]) -> int:
    return sum(len(path.coupling) for path in paths)


def _sources(table: PathTable) -> list[Block]:
    return list(dict.fromkeys(path.source for path in table.paths))


def _paths_of(table: PathTable, source: Block) -> list[Path]:
    return [path for path in table.paths if path.source == source]


def _tile(source: Block) -> tuple[int, int]:
    """The number of channels of a tile, and the number of tiles that cover all channels."""
    width = min(WARP, 1 << (source.channels - 1).bit_length())
    return width, -(-source.channels // width)
