"""Writes the Triton source of what a strictly local model does around each centre: the forms of ``generate_local.py``.

A program works on tiles of ROWS edges (or atoms) by up to 32 channels, which lie along the lanes of a warp, so that
rows are read in whole lines. As in ``generate_triton.py`` all tensors of a program have the shape of its tile, each
result is written by one program, and nothing is added atomically.

What is too much for the registers of one program is dealt out to several, the *parts* of a kernel: elements of the
operator for ``act``, which keeps them in registers while it runs over the edges of an atom, terms for ``couple``.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import NamedTuple

from equiforce.kernels.couplings import CouplingTable, Element
from equiforce.kernels.generate_triton import PRELUDE
from equiforce.kernels.programs import WARP

# Not yet measured. So many elements of the operator, a register each, leave room for the rows of an edge, and the whole
# operator of l = 2 with even features (71 elements, or 79 side by side) is one program's.
MOST_ELEMENTS = 80
MOST_TERMS = 200  # of ``couple``, which keeps little: a bound on how long Triton takes to compile

HELPERS = '''

@triton.jit
def over_rows(value, zero):
    """The sum over the rows of a tile, in each of them."""
    return tl.reduce(value, 0, add, keep_dims=True) + zero
'''

LOOKUPS = '''

@triton.jit
def basis(positions, strengths, edge, live, n_knots, S: tl.constexpr, ORDER: tl.constexpr):
    """The first row that matters to each edge, and the strength times the derivative of a given order of the splines."""
    first, beyond, inside = place(tl.load(positions + edge, mask=live, other=0.0), n_knots)
    if strengths is None:
        scale = tl.where(live, 1.0, 0.0).to(S)
    else:
        scale = tl.load(strengths + edge, mask=live, other=0.0)
    if ORDER > 0:  # positions beyond the last knot read what is there
        scale = scale * inside
    if ORDER == 0:
        b0, b1, b2, b3 = splines(beyond, scale)
    elif ORDER == 1:
        b0, b1, b2, b3 = slopes(beyond, scale)
    elif ORDER == 2:
        b0, b1, b2, b3 = bends(beyond, scale)
    elif ORDER == 3:
        b0, b1, b2, b3 = -scale, 3.0 * scale, -3.0 * scale, scale
    else:
        b0, b1, b2, b3 = 0.0 * scale, 0.0 * scale, 0.0 * scale, 0.0 * scale
    return first, b0, b1, b2, b3


@triton.jit
def mixed(row, live, b0, b1, b2, b3, COLUMNS: tl.constexpr):
    """Four rows of a table, mixed."""
    r0 = tl.load(row, mask=live, other=0.0)
    r1 = tl.load(row + COLUMNS, mask=live, other=0.0)
    r2 = tl.load(row + 2 * COLUMNS, mask=live, other=0.0)
    r3 = tl.load(row + 3 * COLUMNS, mask=live, other=0.0)
    return b0 * r0 + b1 * r1 + b2 * r2 + b3 * r3


@triton.jit(do_not_specialize=["n_edges", "n_knots"])
def lookup_rows(out, table, strengths, positions, kinds, n_edges, n_knots,
                COLUMNS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, ORDER: tl.constexpr):
    zero = tl.full([ROWS, WIDTH], 0, tl.int32)
    edge = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None] + zero).to(tl.int64)
    c = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)[None, :] + zero
    valid = edge < n_edges
    first, b0, b1, b2, b3 = basis(positions, strengths, edge, valid, n_knots, out.dtype.element_ty, ORDER)
    live = valid & (c < COLUMNS)
    row = table + (tl.load(kinds + edge, mask=valid, other=0).to(tl.int64) * n_knots + first) * COLUMNS + c
    tl.store(out + edge * COLUMNS + c, mixed(row, live, b0, b1, b2, b3, COLUMNS), mask=live)


@triton.jit(do_not_specialize=["n_edges", "n_knots"])
def lookup_strengths(rows, table, out, positions, kinds, n_edges, n_knots,
                     COLUMNS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, ORDER: tl.constexpr):
    zero = tl.full([ROWS, WIDTH], 0, tl.int32)
    edge = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None] + zero).to(tl.int64)
    column = tl.arange(0, WIDTH)[None, :] + zero
    valid = edge < n_edges
    first, b0, b1, b2, b3 = basis(positions, None, edge, valid, n_knots, out.dtype.element_ty, ORDER)
    row = table + (tl.load(kinds + edge, mask=valid, other=0).to(tl.int64) * n_knots + first) * COLUMNS + column
    total = zero.to(out.dtype.element_ty)
    for begin in range(0, COLUMNS, WIDTH):
        live = valid & (begin + column < COLUMNS)
        given = tl.load(rows + edge * COLUMNS + begin + column, mask=live, other=0.0)
        total += given * mixed(row + begin, live, b0, b1, b2, b3, COLUMNS)
    tl.store(out + edge, tl.reduce(total, 1, add, keep_dims=True) + zero, mask=valid & (column == 0))


@triton.jit(do_not_specialize=["n_numbers", "n_rows", "n_knots"])
def lookup_table(rows, out, strengths, positions, order, starts, n_numbers, n_rows, n_knots,
                 COLUMNS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, ORDER: tl.constexpr):
    zero = tl.full([ROWS, WIDTH], 0, tl.int32)
    lane = tl.arange(0, ROWS)[:, None] + zero
    c = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)[None, :] + zero
    stop = tl.load(starts + tl.program_id(0) + 1)
    begin = tl.load(starts + tl.program_id(0)) + ROWS * tl.program_id(2)
    s0 = zero.to(out.dtype.element_ty)
    s1, s2, s3 = s0, s0, s0
    for place_of in range(begin, stop, ROWS * tl.num_programs(2)):
        valid = place_of + lane < stop
        edge = tl.load(order + place_of + lane, mask=valid, other=0).to(tl.int64)
        first, b0, b1, b2, b3 = basis(positions, strengths, edge, valid, n_knots, out.dtype.element_ty, ORDER)
        given = tl.load(rows + edge * COLUMNS + c, mask=valid & (c < COLUMNS), other=0.0)
        s0 += b0 * given
        s1 += b1 * given
        s2 += b2 * given
        s3 += b3 * given
    # row k + b of copy b, cyclic: what no edge belongs to gets the zeros of the last three programs of each kind
    row = tl.program_id(0).to(tl.int64)
    target = out + tl.program_id(2).to(tl.int64) * 4 * n_numbers + c
    live = (lane == 0) & (c < COLUMNS)
    tl.store(target + row * COLUMNS, over_rows(s0, zero), mask=live)
    tl.store(target + n_numbers + (row + 1) % n_rows * COLUMNS, over_rows(s1, zero), mask=live)
    tl.store(target + 2 * n_numbers.to(tl.int64) + (row + 2) % n_rows * COLUMNS, over_rows(s2, zero), mask=live)
    tl.store(target + 3 * n_numbers.to(tl.int64) + (row + 3) % n_rows * COLUMNS, over_rows(s3, zero), mask=live)
'''


class Kernel(NamedTuple):
    """A kernel's name, its arguments, and what the programs of each part do for a block of channels."""

    name: str
    arguments: tuple[str, ...]
    parts: list[list[str]]


class Source(NamedTuple):
    """The text of a module, and how its kernels are launched."""

    text: str
    width: int  # channels of a tile
    programs: dict[str, int]  # of each kernel: for one atom, or for one tile of rows


@cache
def environments(l_max: int, channels: int) -> Source:
    """The kernels ``environment``, ``weights`` and ``harmonics``, named for what they give from the other two."""
    writer = _Environments(l_max, channels)
    return writer.source(f"{channels} channels up to degree {l_max}")


@cache
def products(table: CouplingTable) -> Source:
    """The kernels of ``couple`` and ``act``, named for what they give from the other two, as ``act_features``."""
    title = f"{table.irreps_in} x environments up to {table.l_max} -> {table.irreps_out}"
    return _Products(table).source(title)


@cache
def lookups() -> str:
    """The text of ``lookup_rows``, ``lookup_strengths`` and ``lookup_table``, the same for all splines."""
    return f'"""Splines that are read edge by edge."""\n\n{PRELUDE}{HELPERS}{LOOKUPS}'


class _Writer:
    """What writers of kernels share: tiles of rows by channels."""

    def __init__(self, channels: int):
        self.channels = channels
        self.width = min(WARP, 1 << (channels - 1).bit_length())
        self.n_blocks = -(-channels // self.width)
        self.inside = " & (u < {channels})".format(channels=channels) if channels % self.width else ""

    def kernels(self) -> list[Kernel]:
        raise NotImplementedError

    def source(self, title: str) -> Source:
        kernels = self.kernels()
        lines = [f'"""{title}: written by equiforce, not to be edited."""', "", *PRELUDE.splitlines()]
        lines += HELPERS.splitlines()
        for kernel in kernels:
            lines += self._functions(kernel)
        programs = {kernel.name: len(kernel.parts) * self.n_blocks for kernel in kernels}
        return Source("\n".join(lines) + "\n", self.width, programs)

    def _functions(self, kernel: Kernel) -> Iterator[str]:
        """The kernel that is launched, whose programs find out which part is theirs, and functions for the parts."""
        name, (first, *others) = kernel.name, kernel.parts
        signature = f"{', '.join(kernel.arguments)}, ROWS: tl.constexpr"
        if others:  # functions by themselves: the time of Triton's passes grows much faster than what they are given
            for number, part in enumerate(kernel.parts):
                yield from ("", "", "@triton.jit(noinline=True)", f"def {name}_{number}(block, {signature}):")
                yield from (f"    {line}" for line in [*self._tile(), *part])
        sizes = [argument for argument in kernel.arguments if argument.startswith("n_")]
        yield from ("", "", f"@triton.jit(do_not_specialize={sizes})", f"def {name}({signature}):")
        yield f"    block = tl.program_id(1) % {self.n_blocks}"
        if others:
            for number in range(len(kernel.parts)):
                yield f"    if tl.program_id(1) // {self.n_blocks} == {number}:"
                yield f"        {name}_{number}(block, {', '.join(kernel.arguments)}, ROWS)"
        else:
            yield from (f"    {line}" for line in [*self._tile(), *first])

    def _tile(self) -> Iterator[str]:
        yield "S: tl.constexpr = out.dtype.element_ty"
        yield f"zero = tl.full([ROWS, {self.width}], 0, tl.int32)"
        yield "lane = tl.arange(0, ROWS)[:, None] + zero"
        yield f"column = tl.arange(0, {self.width})[None, :] + zero"
        yield f"u = block * {self.width} + column"

    def _load(self, name: str, pointer: str, row: int, mask: str = "live") -> str:
        return f"{name} = tl.load({self._at(pointer, row)}, mask={mask}, other=0.0)"

    def _at(self, pointer: str, row: int) -> str:
        return f"{pointer} + {row * self.channels}"

    def _row(self, pointer: str, index: str, n_rows: int) -> str:
        """The channels of this tile in the first row of what belongs to an edge or an atom."""
        return f"{pointer}_of = {pointer} + {index} * {n_rows * self.channels} + u"

    @staticmethod
    def _of_center() -> Iterator[str]:
        yield "atom = tl.program_id(0).to(tl.int64)"
        yield "start = tl.load(starts + atom)"
        yield "stop = tl.load(starts + atom + 1)"

    def _edges(self, lines: list[str]) -> Iterator[str]:
        """A loop over the edges of a centre, a tile at a time."""
        yield "for first in range(start, stop, ROWS):"
        yield "    edge = (first + lane).to(tl.int64)"
        yield f"    live = (first + lane < stop){self.inside}"
        yield from (f"    {line}" for line in lines)

    def _sums(self, names: Sequence[str]) -> Iterator[str]:
        yield from (f"{name} = zero.to(S)" for name in names)

    def _store_sums(self, sums: dict[int, str]) -> Iterator[str]:
        """Writes sums over the rows of all tiles: row of the result -> name."""
        yield f"whole = (lane == 0){self.inside}"
        yield from (f"tl.store({self._at('out_of', k)}, over_rows({s}, zero), mask=whole)" for k, s in sums.items())


class _Environments(_Writer):
    """Γ [atoms, harmonics, channels], w [edges, degrees, channels] and Y [edges, harmonics].

    Without ``starts`` each edge is an atom of its own, and a program works on one tile of them.
    """

    def __init__(self, l_max: int, channels: int):
        super().__init__(channels)
        self.n_degrees, self.n_harmonics = l_max + 1, (l_max + 1) ** 2
        self.degrees = {k: l for l in range(l_max + 1) for k in range(l**2, (l + 1) ** 2)}

    def kernels(self) -> list[Kernel]:
        return [
            Kernel("environment", ("out", "w", "y", "starts", "n_edges"), [list(self._environment())]),
            Kernel("weights", ("g", "out", "y", "starts", "n_edges"), [list(self._weights())]),
            Kernel("harmonics", ("g", "w", "out", "starts", "n_edges"), [list(self._harmonics())]),
        ]

    def _owner(self) -> Iterator[str]:
        yield "if starts is None:"
        yield "    start = tl.program_id(0) * ROWS"
        yield "    stop = tl.minimum(start + ROWS, n_edges)"
        yield "    atom = tl.minimum(start + lane, n_edges - 1).to(tl.int64)"
        yield "else:"
        yield from (f"    {line}" for line in self._of_center())
        yield "    atom = atom + zero"

    def _load_harmonics(self) -> Iterator[str]:
        yield from (f"y{k} = tl.load(y + edge * {self.n_harmonics} + {k}, mask=live, other=0.0)" for k in self.degrees)

    def _load_weights(self) -> Iterator[str]:
        yield self._row("w", "edge", self.n_degrees)
        yield from (self._load(f"w{l}", "w_of", l) for l in range(self.n_degrees))

    def _load_environment(self) -> Iterator[str]:
        yield self._row("g", "atom", self.n_harmonics)
        mask = self.inside.removeprefix(" & ") or "None"
        yield from (
            self._load(f"g{k}", "g_of", k, mask) if self.inside else f"g{k} = tl.load({self._at('g_of', k)})"
            for k in self.degrees
        )

    def _environment(self) -> Iterator[str]:
        yield from self._owner()
        yield from self._sums([f"s{k}" for k in self.degrees])
        sums = [f"s{k} += y{k} * w{l}" for k, l in self.degrees.items()]
        yield from self._edges([*self._load_weights(), *self._load_harmonics(), *sums])
        yield self._row("out", "atom", self.n_harmonics)
        yield "if starts is None:"
        yield f"    each = (start + lane < stop){self.inside}"
        yield from (f"    tl.store({self._at('out_of', k)}, s{k}, mask=each)" for k in self.degrees)
        yield "else:"
        yield from (f"    {line}" for line in self._store_sums({k: f"s{k}" for k in self.degrees}))

    def _weights(self) -> Iterator[str]:
        yield from self._owner()
        yield from self._load_environment()
        lines = [*self._load_harmonics(), self._row("out", "edge", self.n_degrees)]
        for l in range(self.n_degrees):
            total = " + ".join(f"y{k} * g{k}" for k, degree in self.degrees.items() if degree == l)
            lines.append(f"tl.store({self._at('out_of', l)}, {total}, mask=live)")
        yield from self._edges(lines)

    def _harmonics(self) -> Iterator[str]:
        """Sums over a block's channels: lane c of an edge's channels gets sum c, and all lanes write at once."""
        yield from self._owner()
        yield from self._load_environment()
        lines = list(self._load_weights())
        lines.append(f"result = out + (block.to(tl.int64) * n_edges + edge) * {self.n_harmonics} + column")
        for begin in range(0, self.n_harmonics, self.width):
            some = range(begin, min(begin + self.width, self.n_harmonics))
            lines.append("totals = zero.to(S)")
            for lane, k in enumerate(some):
                total = f"tl.reduce(w{self.degrees[k]} * g{k}, 1, add, keep_dims=True)"
                lines.append(f"totals = tl.where(column == {lane}, {total}, totals)")
            lines.append(f"tl.store(result + {begin}, totals, mask=(first + lane < stop) & (column < {len(some)}))")
        yield from self._edges(lines)
