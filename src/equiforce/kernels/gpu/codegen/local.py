"""Write the Triton source of strictly local models: the forms of :mod:`equiforce.kernels.cpu.codegen.local`.

A program processes tiles of ROWS edges (or atoms) by up to 32 channels. The channels lie along the lanes of a warp, so
that whole lines of memory are read. As in ``convolution.py`` all tensors of a program have the shape of its tile, one
program writes each result, and there are no atomic additions.

Work that needs more registers than one program has is divided between several, the *parts* of a kernel. ``act`` divides
the elements of the operator, which it keeps in registers while it loops over the edges of an atom; ``couple`` divides
the terms.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from equiforce.kernels.gpu.codegen.convolution import PRELUDE
from equiforce.kernels.gpu.programs import WARP
from equiforce.kernels.spec.couplings import CouplingTable

# Not yet tuned. Each element of the operator takes a register. 80 elements leave registers for the rows of an edge, and
# the whole operator of l = 2 with natural parity (71 elements, or 79 with paths side by side) fits into one program.
MOST_ELEMENTS = 80
MOST_TERMS_OF_COUPLE = 200  # few registers are needed; the limit bounds the time that Triton takes to compile

HELPERS = '''

@triton.jit
def over_rows(value, zero):
    """The sum over the rows of a tile, repeated in each row."""
    return tl.reduce(value, 0, add, keep_dims=True) + zero
'''


class TritonKernel(NamedTuple):
    """The text of a kernel: for each part, the lines that a program runs for its block of channels."""

    name: str
    arguments: str
    parts: list[list[str]]


class OperatorTerm(NamedTuple):
    """A term of the operator: its rows in the operator ``m``, the path weights ``w`` and the environment ``g``."""

    m: int
    w: int
    g: int
    constant: float


class Entry(NamedTuple):
    """An element of the operator ``m``, with its row in the features ``x`` and in the result ``t``."""

    m: int
    x: int
    t: int


Part = dict[int, list]  # for each row of the result, the terms or entries that contribute to it


class TritonModule(NamedTuple):
    """The text of a module, and the numbers with which its kernels are launched."""

    text: str
    width: int  # number of channels of a tile
    programs: dict[str, int]  # number of programs of each kernel for one atom, or for one tile of rows

    def n_rows(self, n_warps: int) -> int:
        """The number of rows of a program's tile; each thread has one number."""
        return WARP * n_warps // self.width


def width_of(channels: int) -> int:
    """The number of channels of a tile."""
    return min(WARP, 1 << (channels - 1).bit_length())


@cache
def environments(l_max: int, channels: int) -> TritonModule:
    """The kernels ``environment``, ``weights`` and ``harmonics``; each computes the argument of its name."""
    writer = _Environments(l_max, channels)
    return writer.module(f"Environments of {channels} channels up to degree {l_max}", writer.kernels())


@cache
def products(table: CouplingTable) -> TritonModule:
    """The kernels of ``couple`` and ``act``; each has the name of the argument that it computes (``act_features``)."""
    writer = _Products(table)
    title = f"{table.irreps_in} x environments up to {table.l_max} -> {table.irreps_out}"
    return writer.module(title, writer.kernels())


class _Writer:
    """The base of the writers of kernels, which writes tiles of rows by channels."""

    def __init__(self, channels: int, n_components: dict[str, int]):
        self.channels, self.n_components = channels, n_components
        self.width = width_of(channels)
        self.n_blocks = -(-channels // self.width)
        self.partial = channels % self.width > 0

    def module(self, title: str, kernels: list[TritonKernel]) -> TritonModule:
        """Write a module with these kernels."""
        text = f'"""{title}: written by equiforce, not to be edited."""\n\n{PRELUDE}{HELPERS}'
        text += "".join(f"{line}\n" for kernel in kernels for line in self._functions(kernel))
        return TritonModule(text, self.width, {kernel.name: len(kernel.parts) * self.n_blocks for kernel in kernels})

    def _functions(self, kernel: TritonKernel) -> Iterator[str]:
        """Write the kernel that is launched and a function for each part; each program calls one function."""
        name, parts = kernel.name, kernel.parts
        signature = f"{kernel.arguments}, ROWS: tl.constexpr"
        if len(parts) > 1:  # separate functions, because the time of Triton's passes grows faster than their length
            for number, part in enumerate(parts):
                yield from ("", "", "@triton.jit(noinline=True)", f"def {name}_{number}(block, {signature}):")
                yield from (f"    {line}" for line in (*self._tile(), *part))
        sizes = [argument for argument in kernel.arguments.split(", ") if argument.startswith("n_")]
        yield from ("", "", f"@triton.jit(do_not_specialize={sizes})", f"def {name}({signature}):")
        yield f"    block = tl.program_id(1) % {self.n_blocks}"
        if len(parts) == 1:
            yield from (f"    {line}" for line in (*self._tile(), *parts[0]))
            return
        for number in range(len(parts)):
            yield f"    if tl.program_id(1) // {self.n_blocks} == {number}:"
            yield f"        {name}_{number}(block, {kernel.arguments}, ROWS)"

    def _tile(self) -> Iterator[str]:
        yield "S: tl.constexpr = out.dtype.element_ty"
        yield f"zero = tl.full([ROWS, {self.width}], 0, tl.int32)"
        yield "lane = tl.arange(0, ROWS)[:, None] + zero"
        yield f"column = tl.arange(0, {self.width})[None, :] + zero"
        yield f"u = block * {self.width} + column"
        if self.partial:
            yield f"inside = u < {self.channels}"

    def _row(self, pointer: str, index: str, of: str = "") -> str:
        """Write the pointer to this tile's channels in the first row of an edge or atom of the tensor ``of``."""
        return f"{pointer}_row = {pointer} + {index} * {self.n_components[of or pointer] * self.channels} + u"

    def _load(self, pointer: str, row: int) -> str:
        mask = ", mask=inside, other=0.0" if self.partial else ""
        return f"{pointer}{row} = tl.load({pointer}_row + {row * self.channels}{mask})"

    def _store(self, row: int, value: str, where: str) -> str:
        mask = f"{where} & inside" if self.partial else where
        return f"tl.store(out_row + {row * self.channels}, {value}, mask={mask})"

    def _store_sums(self, rows: Iterable[int]) -> Iterator[str]:
        """Store sums over the rows of all tiles."""
        yield from (self._store(k, f"over_rows(s{k}, zero)", "(lane == 0)") for k in rows)

    @staticmethod
    def _sums(rows: Iterable[int]) -> Iterator[str]:
        yield from (f"s{k} = zero.to(S)" for k in rows)

    @staticmethod
    def _edges_of_atom() -> Iterator[str]:
        yield "atom = tl.program_id(0).to(tl.int64)"
        yield "start = tl.load(starts + atom)"
        yield "stop = tl.load(starts + atom + 1)"

    @staticmethod
    def _for_edges(lines: Iterable[str]) -> Iterator[str]:
        """Write a loop over tiles of edges; a tile that is not full repeats its last edge."""
        yield "for first in range(start, stop, ROWS):"
        yield "    edge = tl.minimum(first + lane, stop - 1).to(tl.int64)"
        yield "    live = first + lane < stop"
        yield from (f"    {line}" for line in lines)


class _Environments(_Writer):
    """Γ [atoms, harmonics, channels] is ``g``, w [edges, degrees, channels] ``w``, Y [edges, harmonics] ``y``.

    Without ``starts`` each edge belongs to a different atom, and a program processes one tile of edges.
    """

    def __init__(self, l_max: int, channels: int):
        self.n_degrees, self.n_harmonics = l_max + 1, (l_max + 1) ** 2
        super().__init__(channels, {"g": self.n_harmonics, "w": self.n_degrees})
        self.degrees = {k: l for l in range(l_max + 1) for k in range(l**2, (l + 1) ** 2)}

    def kernels(self) -> list[TritonKernel]:
        """One kernel for each argument of the form."""
        return [
            TritonKernel("environment", "out, w, y, starts, n_edges", [list(self._environment())]),
            TritonKernel("weights", "g, out, y, starts, n_edges", [list(self._weights())]),
            TritonKernel("harmonics", "g, w, out, starts, n_edges", [list(self._harmonics())]),
        ]

    def _owner(self) -> Iterator[str]:
        yield "if starts is None:"
        yield "    start = tl.program_id(0) * ROWS"
        yield "    stop = tl.minimum(start + ROWS, n_edges)"
        yield "    owner = tl.minimum(start + lane, stop - 1).to(tl.int64)"
        yield "else:"
        yield from (f"    {line}" for line in self._edges_of_atom())
        yield "    owner = atom + zero"

    def _load_harmonics(self) -> Iterator[str]:
        yield f"y_row = y + edge * {self.n_harmonics}"
        yield from (f"y{k} = tl.load(y_row + {k})" for k in self.degrees)

    def _load_weights(self) -> Iterator[str]:
        yield self._row("w", "edge")
        yield from (self._load("w", l) for l in range(self.n_degrees))

    def _load_environment(self) -> Iterator[str]:
        yield self._row("g", "owner")
        yield from (self._load("g", k) for k in self.degrees)

    def _environment(self) -> Iterator[str]:
        yield from self._owner()
        yield from self._sums(self.degrees)
        lines = [*self._load_weights(), *self._load_harmonics()]
        lines += [f"w{l} = tl.where(live, w{l}, 0.0)" for l in range(self.n_degrees)]
        lines += [f"s{k} += y{k} * w{l}" for k, l in self.degrees.items()]
        yield from self._for_edges(lines)
        yield self._row("out", "owner", "g")
        yield "if starts is None:"
        yield from (f"    {self._store(k, f's{k}', '(start + lane < stop)')}" for k in self.degrees)
        yield "else:"
        yield from (f"    {line}" for line in self._store_sums(self.degrees))

    def _weights(self) -> Iterator[str]:
        yield from self._owner()
        yield from self._load_environment()
        lines = [*self._load_harmonics(), self._row("out", "edge", "w")]
        for l in range(self.n_degrees):
            total = " + ".join(f"y{k} * g{k}" for k, degree in self.degrees.items() if degree == l)
            lines.append(self._store(l, total, "live"))
        yield from self._for_edges(lines)

    def _harmonics(self) -> Iterator[str]:
        """Sum over a block of channels; lane c of an edge's channels holds sum c, and all lanes store together."""
        yield from self._owner()
        yield from self._load_environment()
        lines = list(self._load_weights())
        lines.append(f"result = out + (block.to(tl.int64) * n_edges + edge) * {self.n_harmonics} + column")
        for begin in range(0, self.n_harmonics, self.width):
            some = range(begin, min(begin + self.width, self.n_harmonics))
            lines.append("totals = zero.to(S)")
            for k in some:
                total = f"tl.reduce(w{self.degrees[k]} * g{k}, 1, add, keep_dims=True)"
                lines.append(f"totals = tl.where(column == {k - begin}, {total}, totals)")
            lines.append(f"tl.store(result + {begin}, totals, mask=live & (column < {len(some)}))")
        yield from self._for_edges(lines)


class _Products(_Writer):
    """The operator [atoms, elements, channels] is ``m``, Γ is ``g``, and the path weights [paths, channels] are ``w``.

    The features of edges [edges, columns, channels] are ``x``, and the result [edges, rows, channels] is ``t``.
    """

    def __init__(self, table: CouplingTable):
        columns, rows = table.n_components
        of_atoms = {"m": len(table.elements), "g": (table.l_max + 1) ** 2, "w": table.n_paths}
        super().__init__(table.channels, {**of_atoms, "x": columns, "t": rows})
        elements = list(enumerate(table.elements))
        self.entries = [Entry(number, element.column, element.row) for number, element in elements]
        self.terms = [OperatorTerm(number, *term) for number, element in elements for term in element.terms]

    def kernels(self) -> list[TritonKernel]:
        """One kernel for each argument of each of the two forms."""

        def kernel(name: str, arguments: str, result: str, body: Callable[[str, Part], Iterator[str]]) -> TritonKernel:
            terms, entries = (self.terms, MOST_TERMS_OF_COUPLE), (self.entries, MOST_ELEMENTS)
            members, most = terms if "n_atoms" in arguments else entries
            parts = _divided(members, self.n_components[result], attrgetter(result), most)
            return TritonKernel(name, arguments, [list(body(result, part)) for part in parts])

        return [
            kernel("couple_operator", "out, g, w, n_atoms", "m", self._operator),
            kernel("couple_environment", "m, out, w, n_atoms", "g", self._environment),
            kernel("couple_weights", "m, g, out, n_atoms", "w", self._weights),
            kernel("act_result", "out, m, x, starts", "t", self._multiplied),
            kernel("act_operator", "t, out, x, starts", "m", self._summed),
            kernel("act_features", "t, m, out, starts", "x", self._multiplied),
        ]

    def _load_all(self, pointer: str, members: Iterable[OperatorTerm | Entry]) -> Iterator[str]:
        """Load the rows of a tensor that these members need."""
        yield from (self._load(pointer, k) for k in sorted(set(map(attrgetter(pointer), members))))

    @staticmethod
    def _tile_of_atoms() -> Iterator[str]:
        """Write the index of a tile of atoms; a tile that is not full repeats the last atom."""
        yield "atom = tl.minimum(first + lane, n_atoms - 1).to(tl.int64)"
        yield "live = first + lane < n_atoms"

    def _operator(self, result: str, part: Part) -> Iterator[str]:
        terms = [term for own in part.values() for term in own]
        yield "first = tl.program_id(0) * ROWS"
        yield from self._tile_of_atoms()
        yield from (self._row("g", "atom"), "w_row = w + u", self._row("out", "atom", result))
        yield from (*self._load_all("g", terms), *self._load_all("w", terms))
        yield from (self._store(number, _form("w", "g", own), "live") for number, own in part.items())

    def _environment(self, result: str, part: Part) -> Iterator[str]:
        yield "first = tl.program_id(0) * ROWS"
        yield from self._tile_of_atoms()
        yield from (self._row("m", "atom"), "w_row = w + u", self._row("out", "atom", result))
        yield from self._load_all("w", (term for own in part.values() for term in own))
        yield from self._sums(part)
        yield from self._couple_back("w", part)
        yield from (self._store(k, f"s{k}", "live") for k in part)

    def _weights(self, result: str, part: Part) -> Iterator[str]:
        """Sum over atoms; each program has its own copy of the result and processes a part of the tiles."""
        lines = [*self._tile_of_atoms(), self._row("m", "atom"), self._row("g", "atom")]
        for k in sorted({term.g for own in part.values() for term in own}):
            lines += [self._load("g", k), f"g{k} = tl.where(live, g{k}, 0.0)"]
        yield from self._sums(part)
        yield "for first in range(tl.program_id(0) * ROWS, n_atoms, tl.num_programs(0) * ROWS):"
        yield from (f"    {line}" for line in (*lines, *self._couple_back("g", part)))
        yield self._row("out", "tl.program_id(0).to(tl.int64)", result)
        yield from self._store_sums(part)

    def _couple_back(self, other: str, part: Part) -> Iterator[str]:
        """Load each element of the operator's gradient once and add it to all sums to which it contributes."""
        for number in sorted({term.m for own in part.values() for term in own}):
            yield self._load("m", number)
            for k, own in part.items():
                if terms := [term for term in own if term.m == number]:
                    yield f"s{k} += {_form('m', other, terms)}"

    def _multiplied(self, result: str, part: Part) -> Iterator[str]:
        """Compute rows of each edge from its columns, or columns from rows; the operator stays in registers."""
        other = "x" if result == "t" else "t"
        entries = [entry for own in part.values() for entry in own]
        lines = [self._row(other, "edge"), self._row("out", "edge", result), *self._load_all(other, entries)]
        for k, own in part.items():
            total = " + ".join(f"m{entry.m} * {other}{attrgetter(other)(entry)}" for entry in own)
            lines.append(self._store(k, total or "zero.to(S)", "live"))
        yield from (*self._edges_of_atom(), self._row("m", "atom"), *self._load_all("m", entries))
        yield from self._for_edges(lines)

    def _summed(self, result: str, part: Part) -> Iterator[str]:
        entries = [entry for own in part.values() for entry in own]
        lines = [self._row("x", "edge"), self._row("t", "edge"), *self._load_all("x", entries)]
        for k in sorted({entry.t for entry in entries}):
            lines += [self._load("t", k), f"t{k} = tl.where(live, t{k}, 0.0)"]
            lines += [f"s{entry.m} += t{k} * x{entry.x}" for entry in entries if entry.t == k]
        yield from (*self._edges_of_atom(), *self._sums(part))
        yield from self._for_edges(lines)
        yield self._row("out", "atom", result)
        yield from self._store_sums(part)


def _form(outer: str, inner: str, terms: list[OperatorTerm]) -> str:
    """The sum of rows of ``outer``, each times a sum of constants times rows of ``inner``."""
    of, times = attrgetter(outer), attrgetter(inner)
    sums = []
    for k, some in groupby(sorted(terms, key=of), of):
        sums.append(f"{outer}{k} * ({' + '.join(f'{term.constant!r} * {inner}{times(term)}' for term in some)})")
    return " + ".join(sums)


def _divided(members: Iterable, n_results: int, of: Callable[..., int], most: int) -> Iterator[Part]:
    """Divide the results into parts with at most ``most`` members, or one result with more; yield the parts."""
    by_result: Part = {k: [] for k in range(n_results)}
    for member in members:
        by_result[of(member)].append(member)
    part: Part = {}
    for k, own in by_result.items():
        if part and sum(map(len, part.values())) + len(own) > most:
            yield part
            part = {}
        part[k] = own
    yield part
