"""Write the C function of one group of paths, which sums over a chunk of edges in registers.

The names within a function: ``x`` are features and ``g`` cotangents, with one variable for each component and vector of
channels (``x2_0``); ``m`` are the combinations of harmonics that couple m1 with m3; ``w`` are radial weights. ``d``
before a name means its tangent; ``sw`` and ``cw`` are the first and second derivatives of w with respect to the knot
coordinate.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from equiforce.kernels.cpu.targets import Scalar
from equiforce.kernels.spec.paths import Combination, PathGroup, PathTable, combination

ConvolutionKind = Literal["forward", "backward"]
LANES = 16  # number of edges in a chunk
MOST_VECTORS = 4  # largest number of vectors of channels that are computed together
SPARE_REGISTERS = 2


@dataclass(frozen=True)
class Derivative:
    """Which derivative of the form a kernel computes; ``backward`` always computes the gradient of x.

    Args:
        table: the paths.
        scalar: the C type of weights and features.
        kind: ``forward`` sums over the edges of each centre, ``backward`` over those of each neighbour.
        jvp: whether tangents of x, Y and knot coordinates are given.
        geometry: whether ``backward`` computes the gradients of Y and of the knot coordinates.
        weights: whether ``backward`` computes the gradient of the spline table.
    """

    table: PathTable
    scalar: Scalar
    kind: ConvolutionKind
    jvp: bool = False
    geometry: bool = False
    weights: bool = False


def spline_bases(kernel: Derivative) -> dict[str, tuple[str, ...]]:
    """The four B-splines of each basis that a kernel uses: values ``b``, slopes ``sb``, and their tangents."""
    bases: dict[str, tuple[str, ...]]
    slope = ("-v*v/2", "(3*u*u - 4*u)/2", "(4*v - 3*v*v)/2", "u*u/2")
    bend = ("v", "3*u - 2", "3*v - 2", "u")
    bases = {"b": ("v*v*v/6", "(3*u*u*u - 6*u*u + 4)/6", "(3*v*v*v - 6*v*v + 4)/6", "u*u*u/6")}
    if kernel.jvp:
        bases |= {"db": tuple(f"c->dt*({term})" for term in slope)}
    if kernel.geometry:
        bases |= {"sb": slope}
    if kernel.jvp and kernel.geometry:
        bases |= {"cb": tuple(f"c->dt*({term})" for term in bend)}
    return bases


class GroupWriter:
    """Writes the C function of one group."""

    def __init__(
        self, kernel: Derivative, group: PathGroup, number: int, *, width: int, n_registers: int, n_harmonics: int
    ):
        self.kernel, self.group, self.name = kernel, group, f"group{number}"
        self.width, self.n_registers, self.n_harmonics = width, n_registers, n_harmonics
        self.forward, self.jvp = kernel.kind == "forward", kernel.jvp
        self.n1, self.n3 = range(2 * group.l1 + 1), range(2 * group.l3 + 1)

    def lines(self) -> Iterator[str]:
        arguments = "S *restrict out"
        if not self.forward:
            arguments = f"const S *x, const S *dx, S *restrict gx, V (*restrict sums)[{self.n_harmonics + 1}]"
        yield f"static __attribute__((noinline)) void {self.name}(const Chunk *restrict c, {arguments}) {{"
        yield from self._coefficients()
        offsets = [(p.source.start, p.target.start + p.channel, p.target.channels, p.weight) for p in self.group.paths]
        for name, values in zip(("XO", "OO", "OS", "WO"), zip(*offsets, strict=True), strict=True):
            yield f"  static const int {name}[] = {{{', '.join(map(str, values))}}};"
        yield f"  for (int q = 0; q < {len(self.group.paths)}; q++) {{"
        yield "    const int xo = XO[q], oo = OO[q], os = OS[q], wo = WO[q];"
        for head, n_vectors, tail in self._pieces():
            yield f"    {head} {{"
            yield from (self._forward if self.forward else self._backward)(range(n_vectors), str(tail or ""))
            yield "    }"
        yield "  }"
        yield "}"

    @cached_property
    def _combinations(self) -> dict[Combination, int]:
        signed = (combination(self.group, m1, m3) for m1 in self.n1 for m3 in self.n3)
        return {terms: number for number, terms in enumerate(dict.fromkeys(s[1] for s in signed if s is not None))}

    def _coefficients(self) -> Iterator[str]:
        for name, y in (("m", "y"), ("dm", "dy")) if self.jvp else (("m", "y"),):
            yield f"  L {name}[{len(self._combinations)}];"
            for combined, index in self._combinations.items():
                value = " + ".join(f"(S){constant!r}*c->{y}[{column}]" for column, constant in combined.terms)
                yield f"  {name}[{index}] = {value};"

    def _pieces(self) -> Iterator[tuple[str, int, int]]:
        """Divide the channels into loops over ``u``: the head of each loop, its number of vectors, and its tail."""
        channels, whole = self.group.channels, self.group.channels // self.width
        rows = len(self.n3) + len(self.n1) * (1 if self.forward else 2) + 2
        most = MOST_VECTORS
        while most > 1 and (most > whole or most * rows > self.n_registers - SPARE_REGISTERS):
            most //= 2
        done = 0
        while most and whole:
            n = whole // most * most * self.width
            if n:
                yield f"for (int u = {done}; u < {done + n}; u += {most}*W)", most, 0
            done, whole, most = done + n, whole % most, most // 2
        if channels % self.width:
            yield f"for (int u = {done}; u < {channels}; u += {channels})", 1, channels % self.width

    def _scalars(self, names: list[str]) -> str:
        return " ".join(f"const S {n}{b} = LANE(c->{n}[{b}], k);" for n in names for b in range(4))

    def _read_table(self, bases: dict[str, str], v: int, tail: str) -> Iterator[str]:
        """Compute vector ``v`` of radial weights for each name in ``bases``."""
        for name, basis in bases.items():
            row = self.kernel.table.n_weights
            terms = (f"{basis}{b}*LD{tail}(t + {b * row} + {v}*W)" for b in range(4))
            yield f"const V {name}_{v} = {' + '.join(terms)};"

    def _coupled(self, name: str, m1: int, m3: int, factor: str) -> str:
        """A signed product with the coefficient that couples m1 with m3; empty if there is none."""
        signed = combination(self.group, m1, m3)
        if signed is None:
            return ""
        sign, terms = signed
        return f" {'+' if sign > 0 else '-'} LANE({name}[{self._combinations[terms]}], k)*{factor}"

    def _forward(self, vectors: range, tail: str) -> Iterator[str]:
        """Sum the messages over the edges of the chunk, component by component."""
        row = "oo + {}*os + u + {}*W"
        for m3 in self.n3:
            yield "".join(f"V a{m3}_{v} = LD{tail}(out + {row.format(m3, v)});" for v in vectors)
        yield "for (int k = 0; k < c->n; k++) {"
        yield f"const S *t = c->t[k] + wo + u, *x = c->x[k] + xo + u; {self._scalars(['b'])}"
        if self.jvp:
            yield f"const S *dx = c->dx[k] + xo + u; {self._scalars(['db'])}"
        for v in vectors:
            yield from self._read_table({"w": "b", "dw": "db"} if self.jvp else {"w": "b"}, v, tail)
            for m1 in self.n1:
                at = f"{m1 * self.group.channels} + {v}*W"
                yield f"const V z{m1}_{v} = w_{v}*LD{tail}(x + {at});"
                if self.jvp:
                    yield f"const V dz{m1}_{v} = w_{v}*LD{tail}(dx + {at}) + dw_{v}*LD{tail}(x + {at});"
        factors = (("m", "dz"), ("dm", "z")) if self.jvp else (("m", "z"),)
        for m3 in self.n3:
            for v in vectors:
                pairs = ((m1, *names) for m1 in self.n1 for names in factors)
                terms = "".join(self._coupled(m, m1, m3, f"{z}{m1}_{v}") for m1, m, z in pairs)
                yield f"a{m3}_{v} = a{m3}_{v}{terms};"
        yield "}"
        for m3 in self.n3:
            yield "".join(f"ST{tail}(out + {row.format(m3, v)}, a{m3}_{v});" for v in vectors)

    def _backward(self, vectors: range, tail: str) -> Iterator[str]:
        """Compute gradients: the gradient of x is a sum over edges, the others belong to an edge or to a table row."""
        rows = [(m1, v, f"xo + {m1 * self.group.channels} + u + {v}*W") for m1 in self.n1 for v in vectors]
        given = ["x"] + ["dx"] * self.jvp
        yield from (f"const V {name}{m1}_{v} = LD{tail}({name} + {at});" for name in given for m1, v, at in rows)
        yield from (f"V gx{m1}_{v} = LD{tail}(gx + {at});" for m1, v, at in rows)
        yield "for (int k = 0; k < c->n; k++) {"
        yield "const S *t = c->t[k] + wo + u, *g = c->g[k] + oo + u;"
        yield self._scalars(list(spline_bases(self.kernel)))
        for v in vectors:
            yield "".join(f"const V g{m3}_{v} = LD{tail}(g + {m3}*os + {v}*W);" for m3 in self.n3)
            yield from self._read_table(self._weights(), v, tail)
            yield f"V p_{v} = {{0}}, s_{v} = {{0}};"
            for m1 in self.n1:
                yield from self._component(m1, v)
        if self.kernel.geometry:
            yield from self._geometry(vectors)
        if self.kernel.weights:
            yield from self._table(vectors, tail)
        yield "}"
        yield from (f"ST{tail}(gx + {at}, gx{m1}_{v});" for m1, v, at in rows)

    def _weights(self) -> dict[str, str]:
        """The radial weights and derivatives that the kernel uses, each with the name of its spline basis."""
        read = {"w": "b", "dw": "db", "sw": "sb", "cw": "cb"}
        return {name: basis for name, basis in read.items() if basis in spline_bases(self.kernel)}

    def _component(self, m1: int, v: int) -> Iterator[str]:
        """Compute h, the coupling times g; p, the product h x, or its tangent in a jvp; s, the product h x in a jvp."""

        def coupled(name: str) -> str:
            terms = "".join(self._coupled(name, m1, m3, f"g{m3}_{v}") for m3 in self.n3)
            return terms.removeprefix(" +") or "(V){0}"

        summed = self.kernel.geometry or self.kernel.weights
        yield f"{{ const V h = {coupled('m')};"
        if self.jvp:
            yield f"const V dh = {coupled('dm')};"
        yield f"gx{m1}_{v} += w_{v}*dh + dw_{v}*h;" if self.jvp else f"gx{m1}_{v} += w_{v}*h;"
        if summed and self.jvp:
            yield f"p_{v} += h*dx{m1}_{v} + dh*x{m1}_{v}; s_{v} += h*x{m1}_{v};"
        elif summed:
            yield f"p_{v} += h*x{m1}_{v};"
        yield "}"

    def _geometry(self, vectors: range) -> Iterator[str]:
        """Add to the gradients of the knot coordinate and of Y; they are summed over channels later."""
        slopes = [f"sw_{v}*p_{v}" for v in vectors] + [f"cw_{v}*s_{v}" for v in vectors] * self.jvp
        yield f"sums[k][{self.n_harmonics}] += {' + '.join(slopes)};"
        for m1 in self.n1:
            for v in vectors:
                x = f"w_{v}*dx{m1}_{v} + dw_{v}*x{m1}_{v}" if self.jvp else f"w_{v}*x{m1}_{v}"
                yield f"const V z{m1}_{v} = {x};"
        by_pair: dict[tuple[int, int], list[tuple[int, float]]] = {}
        for m1, m2, m3, constant in self.group.coupling:
            by_pair.setdefault((m2, m1), []).append((m3, constant))
        for column in range(2 * self.group.l2 + 1):
            total = [
                f"z{m1}_{v}*({' + '.join(f'(S){constant!r}*g{m3}_{v}' for m3, constant in terms)})"
                for (m2, m1), terms in by_pair.items()
                if m2 == column
                for v in vectors
            ]
            if total:
                yield f"sums[k][{self.group.l2**2 + column}] += {' + '.join(total)};"

    def _table(self, vectors: range, tail: str) -> Iterator[str]:
        """Add to the gradients of the four table rows that the edge reads."""
        yield "S *r = c->gt[k] + wo + u;"
        for b in range(4):
            for v in vectors:
                at = f"r + {b * self.kernel.table.n_weights} + {v}*W"
                value = f"b{b}*p_{v} + db{b}*s_{v}" if self.jvp else f"b{b}*p_{v}"
                yield f"ST{tail}({at}, LD{tail}({at}) + {value});"
