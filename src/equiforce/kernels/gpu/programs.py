"""How the paths of a table are dealt out to the programs of a GPU, so that sums fit into registers."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Literal, NamedTuple

from equiforce.geometry.irreps import Block
from equiforce.kernels.spec.paths import Path, PathTable

Family = Literal["forward", "backward", "knots"]
FAMILIES: tuple[Family, ...] = ("forward", "backward", "knots")
WARP = 32  # threads, and the most channels of a tile
# Not yet tuned: what a program may sum in registers, a number a lane each. A thread has 255 registers at most, and
# half of that lets a multiprocessor hold 16 warps, which hide from one another how long memory takes to answer.
MOST_SUMS = 32
# Terms of the couplings in the loop of a program that scatters: with more of them nothing fits into registers.
MOST_TERMS = 100


class Work(NamedTuple):
    """What one program does for one atom, or between one pair of knots.

    ``twins`` are one or two lists of paths that have the same code, as those of the two parities have: they differ in
    where they read and write.
    """

    twins: tuple[tuple[Path, ...], ...]
    width: int  # channels of a tile
    n_blocks: int  # tiles that cover all channels

    @property
    def n_parts(self) -> int:
        """How many programs share it."""
        return len(self.twins) * self.n_blocks


@cache
def works(table: PathTable, family: Family) -> tuple[Work, ...]:
    """The paths of a table, dealt out to programs, the longest work first."""
    units: list[tuple[Path, ...]] = list(_of_parities(table)) if family == "backward" else list(_chunks(table, family))
    alike: dict[tuple, list[tuple[Path, ...]]] = {}
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
    """Programs for each atom, or each pair of knots."""
    return sum(work.n_parts for work in works(table, family))


def _chunks(table: PathTable, family: Family) -> Iterator[tuple[Path, ...]]:
    """The paths of each source, so many at a time that their sums stay in registers."""
    for source in _sources(table):
        chunk, size = [], 0
        for path in _paths_of(table, source):
            sums = 2 * path.target.l + 1 if family == "forward" else 4
            if chunk and size + sums > MOST_SUMS:
                yield tuple(chunk)
                chunk, size = [], 0
            chunk, size = [*chunk, path], size + sums
        if chunk:
            yield tuple(chunk)


def _of_parities(table: PathTable) -> Iterator[tuple[Path, ...]]:
    """The paths of one source of each degree, then those of the others, as many sources at a time as a program can do.

    A program's sums over channels are complete where it has all sources, and are summed once more where it has not.
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
    """How many channels lie side by side, and how many such tiles cover them all."""
    width = min(WARP, 1 << (source.channels - 1).bit_length())
    return width, -(-source.channels // width)
