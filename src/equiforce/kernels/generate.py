"""Writes the C source of a fused convolution, unrolled from a path table.

All kernels differentiate one form, linear in each of its arguments: Φ(g, x, Y, w) = sum over edges ij, paths p and
channels u of w C g_i x_j Y_ij. ``gather`` runs over the edges of each centre and gives ∂Φ/∂g, the convolution itself;
``scatter`` runs over the edges of each neighbour and gives any of ∂Φ/∂x, ∂Φ/∂Y, ∂Φ/∂positions and ∂Φ/∂table. With
tangents of x, Y and positions, ``dual`` kernels do the same for the derivative of Φ along them, which is what the
gradient of a loss of forces needs. Nothing that is written has the size of edges x channels.

Edges come in chunks of ``LANES``: what depends on an edge alone is computed for a chunk at once, then each group of
paths runs over the chunk with its sums in registers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from equiforce.kernels.paths import Combination, Group, PathTable, combination
from equiforce.kernels.targets import Scalar, Target

LANES = 16
SIGNATURE = """\
typedef struct {
  long n_parts, n_edges, n_rows;
  const long *centers, *neighbors, *order;
  const S *x, *y, *table, *t, *g, *dx, *dy, *dt;
  S *out, *gx, *gy, *gt, *gtable;
} Arguments;
"""


@dataclass(frozen=True)
class Kernel:
    """Which derivative of the form a kernel computes.

    Args:
        kind: ``gather`` sums over the edges of each centre, ``scatter`` over those of each neighbour.
        dual: whether tangents of x, Y and positions are given.
        x: scatter only: whether the gradient of x is wanted.
        geometry: scatter only: whether the gradients of Y and of the positions are wanted.
        weights: scatter only: whether the gradient of the spline table is wanted.
    """

    table: PathTable
    scalar: Scalar
    kind: Literal["gather", "scatter"]
    dual: bool = False
    x: bool = False
    geometry: bool = False
    weights: bool = False

    def source(self, target: Target) -> str:
        """The C source, whose one function ``run`` takes a pointer to its arguments."""
        return "\n".join(_Writer(self, target).lines()) + "\n"


class _Writer:
    def __init__(self, kernel: Kernel, target: Target):
        self.kernel, self.table = kernel, kernel.table
        self.width = target.width(kernel.scalar)
        self.n_registers = target.n_registers
        self.n_harmonics = (kernel.table.l_max + 1) ** 2
        self.dim_in, self.dim_out = kernel.table.irreps_in.dim, kernel.table.irreps_out.dim
        self.gather, self.dual = kernel.kind == "gather", kernel.dual
        self.slope = self.dual or kernel.geometry  # whether derivatives of the splines are needed
        self.curvature = self.dual and kernel.geometry

    def lines(self) -> Iterator[str]:
        yield f"typedef {self.kernel.scalar} S;"
        yield SIGNATURE
        yield from self._vectors()
        yield from self._chunk()
        for number, group in enumerate(self.table.groups):
            yield from self._group(number, group)
        yield from self._part()
        yield from self._run()

    # --- what depends on an edge alone

    def _vectors(self) -> Iterator[str]:
        yield "#include <string.h>"
        yield f"#define W {self.width}"
        yield "typedef S V __attribute__((vector_size(W * sizeof(S)), aligned(sizeof(S)), may_alias));"
        yield f"typedef S L __attribute__((vector_size({LANES} * sizeof(S)), may_alias));"
        yield "#define LD(p) (*(const V *)(p))"
        yield "#define ST(p, v) (*(V *)(p) = (v))"
        for tail in sorted({group.channels % self.width for group in self.table.groups} - {0}):
            size = f"{tail} * sizeof(S)"
            yield f"static inline V LD{tail}(const S *p) {{ V v = {{0}}; memcpy(&v, p, {size}); return v; }}"
            yield f"static inline void ST{tail}(S *p, V v) {{ memcpy(p, &v, {size}); }}"

    def _splines(self) -> list[tuple[str, tuple[str, str, str, str]]]:
        """The name and the four terms of the spline bases that this kernel reads."""
        value = ("v*v*v/6", "(3*u*u*u - 6*u*u + 4)/6", "(3*v*v*v - 6*v*v + 4)/6", "u*u*u/6")
        slope = ("-v*v/2", "(3*u*u - 4*u)/2", "(4*v - 3*v*v)/2", "u*u/2")
        bend = ("v", "3*u - 2", "3*v - 2", "u")
        bases = [("b", value)]
        if self.dual:  # times the tangent of the position
            bases.append(("db", tuple(f"dt*({term})" for term in slope)))
        if self.kernel.geometry:
            bases.append(("sb", slope))
        if self.curvature:
            bases.append(("cb", tuple(f"dt*({term})" for term in bend)))
        return bases

    def _chunk(self) -> Iterator[str]:
        """The struct of what a chunk of edges shares, and the function that fills it."""
        h, tangent = self.n_harmonics, "L dy[%d], dt; const S *dx[%d];" % (self.n_harmonics, LANES)
        bases = " ".join(f"L {name}[4];" for name, _ in self._splines())
        yield f"typedef struct {{ int n; L y[{h}], u; {bases} {tangent if self.dual else ''}"
        yield f"  const S *x[{LANES}], *g[{LANES}], *t[{LANES}]; S *gt[{LANES}]; }} Chunk;"
        yield "#define LANE(a, k) (((const S *)&(a))[k])"
        yield "#define SET(a, k) (((S *)&(a))[k])"
        yield "static void prepare(const Arguments *a, Chunk *c, S *gtable, long first) {"
        yield "  for (int k = 0; k < c->n; k++) {"
        yield f"    const long e = {'first + k' if self.gather else 'a->order[first + k]'};"
        yield f"    for (int h = 0; h < {h}; h++) SET(c->y[h], k) = a->y[e*{h} + h];"
        yield "    const S t = a->t[e];"
        yield "    long row = t > 0 ? (long)t : 0; if (row > a->n_rows - 4) row = a->n_rows - 4;"
        yield "    const S u = t - row; SET(c->u, k) = u > 1 ? 1 : u;"
        yield f"    c->t[k] = a->table + row*{self.table.n_weights};"
        if self.dual:
            yield "    SET(c->dt, k) = a->dt[e];"
            yield f"    for (int h = 0; h < {h}; h++) SET(c->dy[h], k) = a->dy[e*{h} + h];"
        if self.gather:
            yield f"    c->x[k] = a->x + a->neighbors[e]*{self.dim_in};"
            if self.dual:
                yield f"    c->dx[k] = a->dx + a->neighbors[e]*{self.dim_in};"
        else:
            yield f"    c->g[k] = a->g + a->centers[e]*{self.dim_out};"
        if self.kernel.weights:
            yield f"    c->gt[k] = gtable + row*{self.table.n_weights};"
        yield "  }"
        yield "  const L u = c->u, v = 1 - u;"
        if self.dual:
            yield "  const L dt = c->dt;"
        for name, terms in self._splines():
            for b, term in enumerate(terms):
                yield f"  c->{name}[{b}] = {term};"
        yield "}"

    # --- one group of paths on a chunk

    def _group(self, number: int, group: Group) -> Iterator[str]:
        combinations = self._combinations(group)
        arguments = "S *restrict out" if self.gather else "const S *x, const S *dx, S *restrict gx, V (*restrict sums)[%d]"
        if not self.gather:
            arguments %= self.n_harmonics + 1
        yield f"static __attribute__((noinline)) void group{number}(const Chunk *restrict c, {arguments}) {{"
        yield from self._coefficients(group, combinations)
        for name, values in (
            ("XO", [path.source.start for path in group.paths]),
            ("OO", [path.target.start + path.channel for path in group.paths]),
            ("OS", [path.target.channels for path in group.paths]),
            ("WO", [path.weight for path in group.paths]),
        ):
            yield f"  static const int {name}[] = {{{', '.join(map(str, values))}}};"
        yield f"  for (int q = 0; q < {len(group.paths)}; q++) {{"
        yield "    const int xo = XO[q], oo = OO[q], os = OS[q], wo = WO[q];"
        body = self._gather_body if self.gather else self._scatter_body
        for head, n_vectors, tail in self._pieces(group):
            yield f"    {head} {{"
            yield from body(group, combinations, n_vectors, tail)
            yield "    }"
        yield "  }"
        yield "}"

    def _combinations(self, group: Group) -> dict[Combination, int]:
        found: dict[Combination, int] = {}
        for m1 in range(2 * group.l1 + 1):
            for m3 in range(2 * group.l3 + 1):
                if (signed := combination(group, m1, m3)) is not None:
                    found.setdefault(signed[1], len(found))
        return found

    def _coefficients(self, group: Group, combinations: dict[Combination, int]) -> Iterator[str]:
        for name, y in (("m", "y"), ("dm", "dy")) if self.dual else (("m", "y"),):
            yield f"  L {name}[{len(combinations)}];"
            for terms, index in combinations.items():
                value = " + ".join(f"(S){constant!r}*c->{y}[{column}]" for column, constant in terms.terms)
                yield f"  {name}[{index}] = {value};"

    def _pieces(self, group: Group) -> Iterator[tuple[str, int, int]]:
        """How the channels are covered: the head of a loop or block over ``u``, vectors side by side, and the tail."""
        rows = (2 * group.l3 + 1) + (2 * group.l1 + 1) * (1 if self.gather else 2)
        whole = group.channels // self.width
        most = 4
        while most > 1 and (most > whole or most * (rows + 2) > self.n_registers - 2):
            most //= 2
        done = 0
        while most and whole:
            n = whole // most * most * self.width
            if n:
                yield f"for (int u = {done}; u < {done + n}; u += {most}*W)", most, 0
            done, whole, most = done + n, whole % most, most // 2
        if group.channels % self.width:
            yield f"for (int u = {done}; u < {group.channels}; u += {group.channels})", 1, group.channels % self.width

    def _weights(self, bases: dict[str, str], v: int, load: str) -> Iterator[str]:
        """Reads the table for vector ``v`` of each variable of ``bases``."""
        for name, basis in bases.items():
            terms = (f"{basis}{b}*{load}(t + {b * self.table.n_weights} + {v}*W)" for b in range(4))
            yield f"V {name}_{v} = {' + '.join(terms)};"

    def _lane_scalars(self, names: list[str]) -> str:
        return " ".join(f"const S {n}{b} = LANE(c->{n}[{b}], k);" for n in names for b in range(4))

    def _gather_body(self, group: Group, combinations, n_vectors: int, tail: int) -> Iterator[str]:
        load, store = (f"LD{tail}", f"ST{tail}") if tail else ("LD", "ST")
        vectors, n1, n3 = range(n_vectors), range(2 * group.l1 + 1), range(2 * group.l3 + 1)
        for m3 in n3:
            yield "".join(f"V a{m3}_{v} = {load}(out + oo + {m3}*os + u + {v}*W);" for v in vectors)
        yield "for (int k = 0; k < c->n; k++) {"
        yield f"const S *t = c->t[k] + wo + u, *x = c->x[k] + xo + u; {self._lane_scalars(['b'])}"
        if self.dual:
            yield f"const S *dx = c->dx[k] + xo + u; {self._lane_scalars(['db'])}"
        for v in vectors:
            yield from self._weights({"w": "b", "dw": "db"} if self.dual else {"w": "b"}, v, load)
            for m1 in n1:
                at = f"{m1 * group.channels} + {v}*W"
                yield f"V z{m1}_{v} = w_{v}*{load}(x + {at});"
                if self.dual:
                    yield f"V s{m1}_{v} = w_{v}*{load}(dx + {at}) + dw_{v}*{load}(x + {at});"
        for m3 in n3:
            for v in vectors:
                terms = []
                for m1 in n1:
                    if self.dual:
                        terms += [self._term(group, combinations, "m", m1, m3, f"s{m1}_{v}")]
                        terms += [self._term(group, combinations, "dm", m1, m3, f"z{m1}_{v}")]
                    else:
                        terms += [self._term(group, combinations, "m", m1, m3, f"z{m1}_{v}")]
                if any(terms):
                    yield f"a{m3}_{v} = a{m3}_{v}{''.join(terms)};"
        yield "}"
        for m3 in n3:
            yield "".join(f"{store}(out + oo + {m3}*os + u + {v}*W, a{m3}_{v});" for v in vectors)

    @staticmethod
    def _term(group: Group, combinations: dict[Combination, int], name: str, m1: int, m3: int, factor: str) -> str:
        signed = combination(group, m1, m3)
        if signed is None:
            return ""
        return f" {'+' if signed[0] > 0 else '-'} LANE({name}[{combinations[signed[1]]}], k)*{factor}"

    def _scatter_body(self, group: Group, combinations, n_vectors: int, tail: int) -> Iterator[str]:
        load, store = (f"LD{tail}", f"ST{tail}") if tail else ("LD", "ST")
        kernel, vectors, n1, n3 = self.kernel, range(n_vectors), range(2 * group.l1 + 1), range(2 * group.l3 + 1)
        for m1 in n1:
            at = f"{m1 * group.channels} + u"
            yield "".join(f"const V x{m1}_{v} = {load}(x + xo + {at} + {v}*W);" for v in vectors)
            if self.dual:
                yield "".join(f"const V dx{m1}_{v} = {load}(dx + xo + {at} + {v}*W);" for v in vectors)
            if kernel.x:
                yield "".join(f"V gx{m1}_{v} = {load}(gx + xo + {at} + {v}*W);" for v in vectors)
        yield "for (int k = 0; k < c->n; k++) {"
        yield f"const S *t = c->t[k] + wo + u, *g = c->g[k] + oo + u; {self._lane_scalars([n for n, _ in self._splines()])}"
        for v in vectors:
            yield "".join(f"const V g{m3}_{v} = {load}(g + {m3}*os + {v}*W);" for m3 in n3)
            yield from self._weights(self._needed_weights(), v, load)
            yield f"V p_{v} = {{0}}, s_{v} = {{0}};"
            for m1 in n1:
                yield from self._scatter_component(group, combinations, m1, v)
        if kernel.geometry:
            yield from self._geometry_sums(group, vectors)
        if kernel.weights:
            yield f"S *r = c->gt[k] + wo + u;"
            for b in range(4):
                for v in vectors:
                    at = f"r + {b * self.table.n_weights} + {v}*W"
                    value = f"b{b}*p_{v} + db{b}*s_{v}" if self.dual else f"b{b}*p_{v}"
                    yield f"{store}({at}, {load}({at}) + {value});"
        yield "}"
        if kernel.x:
            for m1 in n1:
                at = f"{m1 * group.channels} + u"
                yield "".join(f"{store}(gx + xo + {at} + {v}*W, gx{m1}_{v});" for v in vectors)

    def _needed_weights(self) -> dict[str, str]:
        needed = {}
        if self.kernel.x or self.kernel.geometry:
            needed["w"] = "b"
            if self.dual:
                needed["dw"] = "db"
        if self.kernel.geometry:
            needed["sw"] = "sb"
            if self.dual:
                needed["cw"] = "cb"
        return needed

    def _scatter_component(self, group: Group, combinations, m1: int, v: int) -> Iterator[str]:
        """h = the coupling times g; p pairs it with x (dual: with the tangents), s likewise without tangents."""
        n3 = range(2 * group.l3 + 1)

        def coupled(name: str) -> str:
            terms = "".join(self._term(group, combinations, name, m1, m3, f"g{m3}_{v}") for m3 in n3).lstrip()
            return terms.removeprefix("+ ") or "(V){0}"

        yield f"{{ const V h = {coupled('m')};"
        scalar_sums = self.kernel.geometry or self.kernel.weights
        if self.dual:
            yield f"const V dh = {coupled('dm')};"
            if self.kernel.x:
                yield f"gx{m1}_{v} += w_{v}*dh + dw_{v}*h;"
            if scalar_sums:
                yield f"p_{v} += h*dx{m1}_{v} + dh*x{m1}_{v}; s_{v} += h*x{m1}_{v};"
        else:
            if self.kernel.x:
                yield f"gx{m1}_{v} += w_{v}*h;"
            if scalar_sums:
                yield f"p_{v} += h*x{m1}_{v};"
        yield "}"

    def _geometry_sums(self, group: Group, vectors: range) -> Iterator[str]:
        """Adds the gradients of Y and of the position, still a number for each channel."""
        slope = "sw_{v}*p_{v} + cw_{v}*s_{v}" if self.dual else "sw_{v}*p_{v}"
        yield f"sums[k][{self.n_harmonics}] += {' + '.join(slope.format(v=v) for v in vectors)};"
        by_pair: dict[tuple[int, int], list[tuple[int, float]]] = {}
        for m1, m2, m3, constant in group.coupling:
            by_pair.setdefault((m2, m1), []).append((m3, constant))
        for m1 in range(2 * group.l1 + 1):
            for v in vectors:
                x = f"w_{v}*dx{m1}_{v} + dw_{v}*x{m1}_{v}" if self.dual else f"w_{v}*x{m1}_{v}"
                yield f"const V z{m1}_{v} = {x};"
        for m2 in range(2 * group.l2 + 1):
            total = [
                f"z{m1}_{v}*({' + '.join(f'(S){constant!r}*g{m3}_{v}' for m3, constant in terms)})"
                for (a, m1), terms in by_pair.items()
                if a == m2
                for v in vectors
            ]
            if total:
                yield f"sums[k][{group.l2**2 + m2}] += {' + '.join(total)};"

    # --- all edges

    def _part(self) -> Iterator[str]:
        key = "a->centers[e]" if self.gather else "a->neighbors[a->order[e]]"
        if self.kernel.geometry:
            yield from _horizontal_sum(self.width)
        yield "static void part(const Arguments *a, S *gtable, long e, long stop_at) {"
        yield "  Chunk chunk; memset(&chunk, 0, sizeof chunk); Chunk *c = &chunk;"
        if not self.gather:
            yield f"  V sums[{LANES}][{self.n_harmonics + 1}];"
        yield "  for (long stop; e < stop_at; e = stop) {"
        yield f"    const long atom = {key};"
        yield f"    for (stop = e + 1; stop < stop_at && {key.replace('e]', 'stop]', 1)} == atom; stop++);"
        yield f"    for (long first = e; first < stop; first += {LANES}) {{"
        yield f"      c->n = stop - first < {LANES} ? (int)(stop - first) : {LANES};"
        yield "      prepare(a, c, gtable, first);"
        if self.gather:
            call = f"c, a->out + atom*{self.dim_out}"
        else:
            if self.kernel.geometry:
                yield "      memset(sums, 0, sizeof sums);"
            dx = f"a->dx + atom*{self.dim_in}" if self.dual else "0"
            gx = f"a->gx + atom*{self.dim_in}" if self.kernel.x else "0"
            call = f"c, a->x + atom*{self.dim_in}, {dx}, {gx}, sums"
        for number in range(len(self.table.groups)):
            yield f"      group{number}({call});"
        if self.kernel.geometry:
            h = self.n_harmonics
            yield "      for (int k = 0; k < c->n; k++) {"
            yield "        const long edge = a->order[first + k];"
            yield f"        for (int h = 0; h < {h}; h++) a->gy[edge*{h} + h] = total(sums[k][h]);"
            yield f"        a->gt[edge] = total(sums[k][{h}]);"
            yield "      }"
        yield "    }"
        yield "  }"
        yield "}"

    def _run(self) -> Iterator[str]:
        """Shares the edges out, the same way every time, and adds up what each part had to keep for itself."""
        key = "a->centers[e]" if self.gather else "a->neighbors[a->order[e]]"
        before = key.replace("e]", "e - 1]", 1)
        size = f"a->n_rows*{self.table.n_weights}"
        yield "static long start(const Arguments *a, long p) {"
        yield "  long e = a->n_edges*p/a->n_parts;"
        yield f"  while (e > 0 && e < a->n_edges && {key} == {before}) e++;"
        yield "  return e;"
        yield "}"
        yield "void run(const Arguments *a) {"
        yield "  #pragma omp parallel for num_threads(a->n_parts) schedule(static, 1)"
        yield f"  for (long p = 0; p < a->n_parts; p++) part(a, a->gtable + p*{size}, start(a, p), start(a, p + 1));"
        if self.kernel.weights:
            yield "  #pragma omp parallel for num_threads(a->n_parts)"
            yield f"  for (long w = 0; w < {size}; w++)"
            yield f"    for (long p = 1; p < a->n_parts; p++) a->gtable[w] += a->gtable[p*{size} + w];"
        yield "}"


def _horizontal_sum(width: int) -> Iterator[str]:
    yield "#if defined(__clang__) || __GNUC__ >= 12"
    yield "static inline S total(V v) {"
    step = width // 2
    while step:
        order = ", ".join(str(lane ^ step) for lane in range(width))
        yield f"  v += __builtin_shufflevector(v, v, {order});"
        step //= 2
    yield "  return v[0];"
    yield "}"
    yield "#else"
    yield "static inline S total(V v) { S s = 0; for (int k = 0; k < W; k++) s += v[k]; return s; }"
    yield "#endif"
