"""Write the Triton source of a fused convolution, unrolled from a path table.

All kernels compute derivatives of one form, which is linear in each argument: Φ(g, x, Y, w) = sum over edges ij, paths
p and channels u of w C g_i x_j Y_ij. ``forward`` loops over the edges of each centre and computes ∂Φ/∂g, which is the
convolution. ``backward`` loops over the edges of each neighbour and computes ∂Φ/∂x and the parts of ∂Φ/∂Y and ∂Φ/∂t,
where t are the knot coordinates. ``knots`` loops over the edges between two knots and computes the parts of ∂Φ/∂values,
the spline coefficients of w. With ``JVP`` they do the same for the derivative of Φ along tangents of x, Y and t. One
program writes each result, so there are no atomic additions and a run is reproducible to the last bit.

A program processes tiles of EDGES edges by up to 32 channels. The channels lie along the lanes of a warp, so that whole
lines of memory are read. All tensors of a program have the shape of its tile, even if they do not depend on the
channel. All then have one layout, and the compiler does not pass anything through shared memory inside a loop.
"""

from collections.abc import Callable, Iterator

from equiforce.kernels.gpu.programs import KERNEL_KINDS, KernelKind, ProgramPaths, divide_paths
from equiforce.kernels.spec.paths import Combination, Path, PathGroup, PathTable, combination

PRELUDE = '''\
import triton
import triton.language as tl


@triton.jit
def add(a, b):
    return a + b


@triton.jit
def place(t, n_rows):
    """The first of the four rows that t reads, the distance of t from that knot, and whether t is inside."""
    row = tl.minimum(tl.maximum(tl.floor(t).to(tl.int32), 0), n_rows - 4)
    u = t - row.to(t.dtype)
    return row.to(tl.int64), tl.minimum(u, 1.0), tl.where(u <= 1.0, 1.0, 0.0).to(t.dtype)


@triton.jit
def splines(u, scale):
    v = 1.0 - u
    a = scale * 0.16666666666666666
    return a * v * v * v, a * (u * u * (3.0 * u - 6.0) + 4.0), a * (v * v * (3.0 * v - 6.0) + 4.0), a * u * u * u


@triton.jit
def slopes(u, scale):
    v = 1.0 - u
    a = scale * 0.5
    return -a * v * v, a * u * (3.0 * u - 4.0), a * v * (4.0 - 3.0 * v), a * u * u


@triton.jit
def bends(u, scale):
    v = 1.0 - u
    return scale * v, scale * (3.0 * u - 2.0), scale * (3.0 * v - 2.0), scale * u
'''

ARGUMENTS: dict[KernelKind, str] = {
    "forward": "x, y, values, t, dx, dy, dt, neighbors, starts, out, n_rows",
    "backward": "g, x, y, values, t, dx, dy, dt, order, centers, starts, gx, geometry, n_edges, n_rows",
    "knots": "g, x, y, t, dx, dy, dt, order, centers, neighbors, starts, out, n_rows",
}
FLAGS: dict[KernelKind, tuple[str, ...]] = {
    "forward": ("LANES", "JVP"),
    "backward": ("LANES", "JVP", "X", "GEOMETRY"),
    "knots": ("LANES", "JVP"),
}


def source(table: PathTable) -> str:
    """Write the Python source of a module with the kernels ``forward``, ``backward`` and ``knots`` of a table."""
    title = f"{table.irreps_in} x harmonics up to {table.l_max} -> {table.irreps_out}"
    lines = [f'"""{title}: written by equiforce, not to be edited."""', "", *PRELUDE.splitlines()]
    for kind in KERNEL_KINDS:
        found = divide_paths(table, kind)
        for number, assigned in enumerate(found):
            lines += ["", "", *_Writer(table, kind, assigned).function(f"{kind}_{number}")]
        lines += ["", "", *_entry(kind, found)]
    return "\n".join(lines) + "\n"


def _signature(kind: KernelKind, first: str) -> str:
    return f"{first}{ARGUMENTS[kind]}, {', '.join(f'{flag}: tl.constexpr' for flag in FLAGS[kind])}"


def _entry(kind: KernelKind, found: tuple[ProgramPaths, ...]) -> Iterator[str]:
    """Write the kernel that is launched; each program calls the function of its paths."""
    lengths = ["n_rows", "n_edges"] if kind == "backward" else ["n_rows"]
    yield f"@triton.jit(do_not_specialize={lengths})"
    yield f"def {kind}({_signature(kind, '')}):"
    yield "    program = tl.program_id(1)"
    arguments, first = f"{ARGUMENTS[kind]}, {', '.join(FLAGS[kind])}", 0
    for number, assigned in enumerate(found):
        last = number == len(found) - 1
        if len(found) > 1:
            yield "    else:" if last else f"    {'elif' if number else 'if'} program < {first + assigned.n_programs}:"
        indent = " " * (8 if len(found) > 1 else 4)
        yield f"{indent}{kind}_{number}(program - {first}, {arguments})"
        first += assigned.n_programs


def _signed(terms: list[tuple[int, str]]) -> str:
    return " ".join(f"{'+' if sign > 0 else '-'} {term}" for sign, term in terms)


class _Writer:
    """Writes the function of the paths that are assigned to a program."""

    def __init__(self, table: PathTable, kind: KernelKind, assigned: ProgramPaths):
        self.table, self.kind, self.assigned = table, kind, assigned
        self.n_harmonics = (table.l_max + 1) ** 2
        self.groups = {path.weight: group for group in table.groups for path in group.paths}
        self.sources = list(dict.fromkeys(path.source for path in assigned.twins[0]))
        self.started: set[str] = set()

    def function(self, name: str) -> Iterator[str]:
        # a separate function, because the time of Triton's passes grows much faster than the length of a function
        yield "@triton.jit(noinline=True)"
        yield f"def {name}({_signature(self.kind, 'program, ')}):"
        body = {"forward": self._forward, "backward": self._backward, "knots": self._knots}[self.kind]
        yield from (f"    {line}" for line in self._tile_lines())
        yield from (f"    {line}" for line in body())

    def _number(self, of: Callable[[Path], int], index: int) -> str:
        """A number that may differ between twins."""
        values = [of(paths[index]) for paths in self.assigned.twins]
        return str(values[0]) if len(set(values)) == 1 else f"({values[0]} + {values[1] - values[0]} * twin)"

    def _source_row(self, index: int, m1: int) -> str:
        return self._number(lambda path: path.source.start + m1 * path.source.channels, index)

    def _target_row(self, index: int, m3: int) -> str:
        return self._number(lambda path: path.target.start + path.channel + m3 * path.target.channels, index)

    def _paths(self) -> Iterator[tuple[int, Path, PathGroup]]:
        for index, path in enumerate(self.assigned.twins[0]):
            yield index, path, self.groups[path.weight]

    def _tile_lines(self) -> Iterator[str]:
        width, n_blocks = self.assigned.width, self.assigned.n_blocks
        yield f"EDGES: tl.constexpr = LANES // {width}"
        yield "S: tl.constexpr = x.dtype.element_ty"
        yield f"zero = tl.full([EDGES, {width}], 0, tl.int32)"
        yield "lane = tl.arange(0, EDGES)[:, None] + zero"
        yield f"column = tl.arange(0, {width})[None, :] + zero"
        if len(self.assigned.twins) > 1:
            yield f"twin = program // {n_blocks}"
        yield f"u = column + (program % {n_blocks}) * {width}" if n_blocks > 1 else "u = column"
        yield from (f"in{c} = u < {c}" for c in dict.fromkeys(s.channels for s in self.sources) if self._mask(c))
        yield "owner = tl.program_id(0).to(tl.int64)"
        yield "start = tl.load(starts + owner)"
        yield "stop = tl.load(starts + owner + 1)"
        yield "last = tl.maximum(stop - 1, 0)"

    def _mask(self, channels: int) -> str:
        whole = self.assigned.width * self.assigned.n_blocks
        return "" if channels == whole else f", mask=in{channels}"

    def _load(self, pointer: str, channels: int) -> str:
        mask = self._mask(channels)
        return f"tl.load({pointer}{mask}{', other=0.0' if mask else ''})"

    def _features(self, row: str) -> Iterator[str]:
        """Load the components of every source from one row of the features."""
        yield f"x_row = x + {row} * {self.table.irreps_in.dim} + u"
        yield self._if("JVP", f"dx_row = dx + {row} * {self.table.irreps_in.dim} + u")
        for s, source in enumerate(self.sources):
            index = next(i for i, path, _ in self._paths() if path.source == source)
            for name in ("x", "dx"):
                for m1 in range(2 * source.l + 1):
                    at = self._source_row(index, m1)
                    line = f"{name}{s}_{m1} = {self._load(f'{name}_row + {at}', source.channels)}"
                    yield line if name == "x" else self._if("JVP", line)

    @staticmethod
    def _if(flag: str, line: str) -> str:
        return f"if {flag}: {line}"

    def _geometry(self, bases: dict[str, tuple[str, str]]) -> Iterator[str]:
        """Load the data of ``edge`` and compute spline bases, which are name -> (condition, call of a function)."""
        used = sorted({path.l2 for path in self.assigned.twins[0]})
        for name, flag in (("y", ""), ("dy", "JVP")):
            line = f"{name}_row = {name} + edge * {self.n_harmonics}"
            yield self._if(flag, line) if flag else line
            for column in (c for l2 in used for c in range(l2**2, (l2 + 1) ** 2)):
                line = f"{name}{column} = tl.load({name}_row + {column})"
                yield self._if(flag, line) if flag else line
        yield "row, beyond, inside = place(coordinate, n_rows)"
        yield "valid = tl.where(first + lane < stop, 1.0, 0.0).to(S)"  # a tile that is not full repeats its last edge
        yield "if JVP: along = valid * inside * tl.load(dt + edge)"
        if self.kind != "knots":
            yield f"knot = values + row * {self.table.n_weights} + u"
        for name, (flag, call) in bases.items():
            line = f"{', '.join(f'{name}{b}' for b in range(4))} = {call}"
            yield self._if(flag, line) if flag else line

    def _weights(self, index: int, channels: int, needed: dict[str, tuple[str, str]]) -> Iterator[str]:
        """Load four rows of spline coefficients and compute sums of them, which are name -> (condition, basis)."""
        weight = self._number(lambda path: path.weight, index)
        for b in range(4):
            yield f"r{b} = {self._load(f'knot + {weight} + {b * self.table.n_weights}', channels)}"
        for name, (flag, basis) in needed.items():
            line = f"{name} = " + " + ".join(f"{basis}{b} * r{b}" for b in range(4))
            yield self._if(flag, line) if flag else line

    def _combinations(self, group: PathGroup) -> dict[Combination, list[tuple[int, int, int]]]:
        """Every combination of harmonics of a group, with the (sign, m1, m3) that it couples."""
        found: dict[Combination, list[tuple[int, int, int]]] = {}
        for m1 in range(2 * group.l1 + 1):
            for m3 in range(2 * group.l3 + 1):
                if (signed := combination(group, m1, m3)) is not None:
                    found.setdefault(signed[1], []).append((signed[0], m1, m3))
        return found

    def _coefficients(self, group: PathGroup) -> Iterator[str]:
        for name, y, flag in (("c", "y", ""), ("d", "dy", "JVP")):
            for index, terms in enumerate(self._combinations(group)):
                line = f"{name}{index} = " + " + ".join(f"{value!r} * {y}{column}" for column, value in terms.terms)
                yield self._if(flag, line) if flag else line

    def _coupled(
        self, group: PathGroup, name: str, factor: str, *, m1: int | None = None, m3: int | None = None
    ) -> str:
        """The sum of combinations ``name`` times components of ``factor``, for one m1 or one m3."""
        terms = [
            (sign, f"{name}{index} * {factor}{b if m3 is None else a}")
            for index, pairs in enumerate(self._combinations(group).values())
            for sign, a, b in pairs
            if m1 in (None, a) and m3 in (None, b)
        ]
        return _signed(terms)

    def _add(self, name: str, value: str) -> str:
        """Add to a sum within a tile; the first term creates the sum."""
        fresh = name not in self.started
        self.started.add(name)
        return f"{name} = {value}" if fresh else f"{name} += {value}"

    def _messages(self, index: int, path: Path, group: PathGroup) -> Iterator[str]:
        """Load the gradients of the message and couple them with harmonics, which gives the factors of features."""
        for m3 in range(2 * path.target.l + 1):
            at = self._target_row(index, m3)
            yield f"g{m3} = {self._load(f'received + {at}', path.source.channels)}"
        yield from self._coefficients(group)
        for m1 in range(2 * group.l1 + 1):
            yield f"h{m1} = {self._coupled(group, 'c', 'g', m1=m1).removeprefix('+ ')}"
            yield f"if JVP: k{m1} = {self._coupled(group, 'd', 'g', m1=m1).removeprefix('+ ')}"

    def _sums(self, name: str, count: int, flag: str = "") -> Iterator[str]:
        for k in range(count):
            line = f"{name}_{k} = tl.full([EDGES, {self.assigned.width}], 0.0, S)"
            yield self._if(flag, line) if flag else line

    def _store(self, pointer: str, value: str, channels: int) -> str:
        """Store a sum over the edges of all tiles."""
        inside = f" & in{channels}" if self._mask(channels) else ""
        return f"tl.store({pointer}, tl.reduce({value}, 0, add, keep_dims=True) + zero, mask=(lane == 0){inside})"

    def _forward(self) -> Iterator[str]:
        for index, path, _ in self._paths():
            yield from self._sums(f"a{index}", 2 * path.target.l + 1)
        yield "edge = tl.minimum(start + lane, last).to(tl.int64)"
        yield "sender = tl.load(neighbors + edge)"
        yield "coordinate = tl.load(t + edge)"
        yield "for first in range(start, stop, EDGES):"
        yield from (f"    {line}" for line in self._forward_tile())
        yield f"target = out + owner * {self.table.irreps_out.dim} + u"
        for index, path, _ in self._paths():
            for m3 in range(2 * path.target.l + 1):
                at = self._target_row(index, m3)
                yield self._store(f"target + {at}", f"a{index}_{m3}", path.source.channels)

    def _forward_tile(self) -> Iterator[str]:
        # the indices of the next tile are loaded during this one
        yield "after = tl.minimum(first + EDGES + lane, last).to(tl.int64)"
        yield "next_sender = tl.load(neighbors + after)"
        yield "next_coordinate = tl.load(t + after)"
        yield from self._geometry({"b": ("", "splines(beyond, valid)"), "s": ("JVP", "slopes(beyond, along)")})
        yield from self._features("sender.to(tl.int64)")
        for index, path, group in self._paths():
            s, n1 = self.sources.index(path.source), range(2 * path.source.l + 1)
            yield f"# {path.source.name} x {path.l2} -> {path.target.name}"
            yield from self._weights(index, path.source.channels, {"w": ("", "b"), "p": ("JVP", "s")})
            yield from self._coefficients(group)
            yield from (f"z{m1} = w * x{s}_{m1}" for m1 in n1)
            yield from (self._if("JVP", f"dz{m1} = w * dx{s}_{m1} + p * x{s}_{m1}") for m1 in n1)
            for m3 in range(2 * path.target.l + 1):
                total, here = f"a{index}_{m3}", self._coupled(group, "c", "z", m3=m3)
                there = f"{self._coupled(group, 'c', 'dz', m3=m3)} {self._coupled(group, 'd', 'z', m3=m3)}"
                # from left to right, so that each term is one fused multiply-add
                yield f"{total} = {total} {there} if JVP else {total} {here}"
        yield "edge, sender, coordinate = after, next_sender, next_coordinate"

    def _backward(self) -> Iterator[str]:
        yield from self._features("owner")
        for s, block in enumerate(self.sources):
            yield from self._sums(f"gx{s}", 2 * block.l + 1, "X")
        yield "place_of = tl.minimum(start + lane, last)"
        yield "edge = tl.load(order + place_of).to(tl.int64)"
        yield "center = tl.load(centers + place_of)"
        yield "coordinate = tl.load(t + edge)"
        yield "for first in range(start, stop, EDGES):"
        yield from (f"    {line}" for line in self._backward_tile())
        yield self._if("X", f"target = gx + owner * {self.table.irreps_in.dim} + u")
        for s, block in enumerate(self.sources):
            index = next(i for i, path, _ in self._paths() if path.source == block)
            for m1 in range(2 * block.l + 1):
                at = self._source_row(index, m1)
                yield self._if("X", self._store(f"target + {at}", f"gx{s}_{m1}", block.channels))

    def _backward_tile(self) -> Iterator[str]:
        yield "after = tl.minimum(first + EDGES + lane, last)"
        yield "next_edge = tl.load(order + after).to(tl.int64)"
        yield "next_center = tl.load(centers + after)"
        yield from self._geometry(
            {
                "b": ("", "splines(beyond, valid)"),
                "s": ("JVP or GEOMETRY", "slopes(beyond, inside)"),
                "e": ("JVP and GEOMETRY", "bends(beyond, along)"),
            }
        )
        yield f"received = g + center.to(tl.int64) * {self.table.irreps_out.dim} + u"
        for index, path, group in self._paths():
            s, n1 = self.sources.index(path.source), range(2 * path.source.l + 1)
            yield f"# {path.source.name} x {path.l2} -> {path.target.name}"
            needed = {"w": ("", "b"), "p": ("JVP or GEOMETRY", "s"), "q": ("JVP and GEOMETRY", "e")}
            yield from self._weights(index, path.source.channels, needed)
            yield "if JVP: v = along * p"
            yield from self._messages(index, path, group)
            for m1 in n1:
                total = f"gx{s}_{m1}"
                yield f"if X: {total} = {total} + v * h{m1} + w * k{m1} if JVP else {total} + w * h{m1}"
            yield "if GEOMETRY:"
            yield from (f"    {line}" for line in self._for_geometry(s, group))
        yield "if GEOMETRY:"
        yield from (f"    {line}" for line in self._store_geometry())
        yield "edge, center = next_edge, next_center"
        yield "coordinate = tl.load(t + edge)"

    def _for_geometry(self, s: int, group: PathGroup) -> Iterator[str]:
        n1 = range(2 * group.l1 + 1)
        yield f"here = {' + '.join(f'x{s}_{m1} * h{m1}' for m1 in n1)}"
        there = " + ".join(f"dx{s}_{m1} * h{m1} + x{s}_{m1} * k{m1}" for m1 in n1)
        yield self._add("gt", f"(p * ({there}) + q * here) if JVP else p * here")
        yield from (f"z{m1} = (w * dx{s}_{m1} + v * x{s}_{m1}) if JVP else w * x{s}_{m1}" for m1 in n1)
        for terms, pairs in self._combinations(group).items():
            yield f"f = {_signed([(sign, f'z{m1} * g{m3}') for sign, m1, m3 in pairs]).removeprefix('+ ')}"
            yield from (self._add(f"gy{column}", f"{value!r} * f") for column, value in terms.terms)

    def _store_geometry(self) -> Iterator[str]:
        """Sum over channels; lane c of an edge's channels holds sum c, and all lanes store at the same time."""
        names = [f"gy{c}" if f"gy{c}" in self.started else "" for c in range(self.n_harmonics)] + ["gt"]
        yield f"result = geometry + (tl.program_id(1).to(tl.int64) * n_edges + edge) * {len(names)} + column"
        for begin in range(0, len(names), self.assigned.width):
            some = names[begin : begin + self.assigned.width]
            yield "totals = zero.to(S)"
            for lane, name in enumerate(some):
                if name:
                    yield f"totals = tl.where(column == {lane}, tl.reduce({name}, 1, add, keep_dims=True), totals)"
            yield f"tl.store(result + {begin}, totals, mask=(first + lane < stop) & (column < {len(some)}))"

    def _knots(self) -> Iterator[str]:
        for index, _, _ in self._paths():
            yield from self._sums(f"a{index}", 4)
        yield "begin = start + EDGES * tl.program_id(2)"
        yield "step = EDGES * tl.num_programs(2)"
        yield "edge = tl.load(order + tl.minimum(begin + lane, last)).to(tl.int64)"
        yield from self._load_edge()
        yield "for first in range(begin, stop, step):"
        yield from (f"    {line}" for line in self._knots_tile())
        for b in range(4):
            # row k + b of copy b, cyclic: rows that belong to no interval get the zeros of the last three programs
            yield f"row = tl.program_id(0) + {b}"
            yield "row = tl.where(row < n_rows, row, row - n_rows)"
            yield f"copy = (tl.program_id(2) * 4 + {b}).to(tl.int64) * n_rows + row"
            yield f"target = out + copy * {self.table.n_weights} + u"
            for index, path, _ in self._paths():
                at = self._number(lambda path: path.weight, index)
                yield self._store(f"target + {at}", f"a{index}_{b}", path.source.channels)

    @staticmethod
    def _load_edge() -> Iterator[str]:
        yield "center = tl.load(centers + edge)"
        yield "sender = tl.load(neighbors + edge)"
        yield "coordinate = tl.load(t + edge)"

    def _knots_tile(self) -> Iterator[str]:
        yield "next_edge = tl.load(order + tl.minimum(first + step + lane, last)).to(tl.int64)"
        yield from self._geometry({"b": ("", "splines(beyond, valid)"), "s": ("JVP", "slopes(beyond, along)")})
        yield from self._features("sender.to(tl.int64)")
        yield f"received = g + center.to(tl.int64) * {self.table.irreps_out.dim} + u"
        for index, path, group in self._paths():
            s, n1 = self.sources.index(path.source), range(2 * path.source.l + 1)
            yield f"# {path.source.name} x {path.l2} -> {path.target.name}"
            yield from self._messages(index, path, group)
            yield f"here = {' + '.join(f'x{s}_{m1} * h{m1}' for m1 in n1)}"
            yield f"if JVP: there = {' + '.join(f'dx{s}_{m1} * h{m1} + x{s}_{m1} * k{m1}' for m1 in n1)}"
            yield from (f"a{index}_{b} += (b{b} * there + s{b} * here) if JVP else b{b} * here" for b in range(4))
        yield "edge = next_edge"
        yield from self._load_edge()
