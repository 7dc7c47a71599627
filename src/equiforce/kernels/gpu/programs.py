"""The division of a table's paths between the programs of a GPU, so that sums fit into registers."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Literal, NamedTuple

from equiforce.geometry.irreps import Block
from equiforce.kernels.spec.paths import Path, PathTable

KernelKind = Literal["forward", "backward", "knots"]
KERNEL_KINDS: tuple[KernelKind, ...] = ("forward", "backward", "knots")
WARP = 32  # threads; also the largest number of channels of a tile
# Not yet tuned: the largest number of sums of a program; each takes a register of every lane. A thread has at most
# 255 registers. With half of them a multiprocessor holds 16 warps, which is enough to hide the latency of memory.
MOST_SUMS = 32
# The largest number of coupling terms in the loop of a ``backward`` program; more do not fit into registers.
MOST_TERMS_OF_BACKWARD = 100


class ProgramPaths(NamedTuple):
    """The paths of the programs with the same code, for one atom or for one interval of knots.

    Each program computes one list of paths, for one tile of channels. ``twins`` are one or two such lists, for example
    those of the two parities. They differ only in the blocks that they read and write.
    """

    twins: tuple[tuple[Path, ...], ...]
    width: int  # number of channels of a tile
    n_blocks: int  # number of tiles that cover all channels

    @property
    def n_programs(self) -> int:
        """The number of programs that share the paths: one for each list and tile."""
        return len(self.twins) * self.n_blocks


@cache
def divide_paths(table: PathTable, kind: KernelKind) -> tuple[ProgramPaths, ...]:
    """Divide the paths of a table between programs; the longest code comes first."""
    units: list[tuple[Path, ...]] = list(_of_parities(table)) if kind == "backward" else list(_chunks(table, kind))
    alike: dict[tuple[tuple[int, ...], ...], list[tuple[Path, ...]]] = {}
    for unit in units:
        sources = list(dict.fromkeys(path.source for path in unit))
        code = tuple((p.source.l, p.l2, p.target.l, p.source.channels, sources.index(p.source)) for p in unit)
        alike.setdefault(code, []).append(unit)
    found = []
    for same in alike.values():
        width, n_blocks = _tile(same[0][0].source)
        found += [ProgramPaths(tuple(same[k : k + 2]), width, n_blocks) for k in range(0, len(same), 2)]
    return tuple(sorted(found, key=lambda assigned: -_n_terms(assigned.twins[0])))


@cache
def n_programs(table: PathTable, kind: KernelKind) -> int:
    """The number of programs for each atom, or for each interval of knots."""
    return sum(assigned.n_programs for assigned in divide_paths(table, kind))


def _chunks(table: PathTable, kind: KernelKind) -> Iterator[tuple[Path, ...]]:
    """Divide the paths of each source into chunks whose sums fit into registers."""
    for source in _sources(table):
        chunk: list[Path] = []
        size = 0
        for path in _paths_of(table, source):
            sums = 2 * path.target.l + 1 if kind == "forward" else 4
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
        irrep = source.l, source.channels
        seen[irrep] = seen.get(irrep, -1) + 1
        alike.setdefault((seen[irrep], *_tile(source)), []).append(_paths_of(table, source))
    for sources in alike.values():
        unit: list[Path] = []
        for paths in sources:
            if unit and _n_terms([*unit, *paths]) > MOST_TERMS_OF_BACKWARD:
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
