"""Writes the C source of what a strictly local model does around each centre, unrolled from a coupling table.

Three forms, each linear in each of its arguments, and for each argument the kernel that gives it from the others:

- ``environment``: Γ_i = sum_j w_ij Y_ij, from weights of each degree and channel;
- ``couple``: the operator of each atom, from Γ_i and the weights of the paths;
- ``act``: the operator of the centre times the features of the edge.

Edges are sorted by centre. A centre's edges are run over with one vector of channels at a time, so that what they have
in common, the environment or the operator, stays in registers or in the nearest cache.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from equiforce.kernels.couplings import CouplingTable, Element
from equiforce.kernels.targets import PARALLEL, Scalar, Target, horizontal_sum, vector_types

SIGNATURE = """\
typedef struct { long n_parts, n_rows; const long *centers; S *a, *b, *c; } Arguments;
"""
SPARE_REGISTERS = 8
Body = Callable[[str], Iterator[str]]  # the lines for one vector of channels, given its tail


@dataclass(frozen=True)
class EnvironmentKernel:
    """Γ [atoms, harmonics, channels] is ``a``, w [edges, degrees, channels] ``b``, Y [edges, harmonics] ``c``."""

    l_max: int
    channels: int
    scalar: Scalar
    result: Literal["environment", "weights", "harmonics"]

    kind = "environment"

    def source(self, target: Target) -> str:
        """The C source, whose one function ``run`` takes a pointer to its arguments."""
        body = {"environment": self._sum, "weights": self._weights, "harmonics": self._harmonics}[self.result]
        h, l = (self.l_max + 1) ** 2, self.l_max + 1
        lines = [
            f"const S *restrict w = a->b + e*{l * self.channels}, *restrict y = a->c + e*{h};",
            f"const S *restrict g = a->a + i*{h * self.channels};",
        ]
        return _text(self.scalar, target, self.channels, by_center([*lines, *body(target.width(self.scalar))]))

    def _degrees(self) -> Iterator[tuple[int, range]]:
        return ((l, range(l**2, (l + 1) ** 2)) for l in range(self.l_max + 1))

    def _sum(self, width: int) -> Iterator[str]:
        h, l_count = (self.l_max + 1) ** 2, self.l_max + 1

        def body(tail: str) -> Iterator[str]:
            yield from (f"V s{k} = {{0}};" for k in range(h))
            yield "for (long k = 0; k < n; k++) {"
            for l, components in self._degrees():
                yield f"const V w{l} = LD{tail}(w + k*{l_count * self.channels} + {l * self.channels} + u);"
                yield from (f"s{k} += y[k*{h} + {k}]*w{l};" for k in components)
            yield "}"
            yield from (f"ST{tail}((S *)g + {k * self.channels} + u, s{k});" for k in range(h))

        return over_channels(self.channels, width, body)

    def _weights(self, width: int) -> Iterator[str]:
        h, l_count = (self.l_max + 1) ** 2, self.l_max + 1

        def body(tail: str) -> Iterator[str]:
            yield from (f"const V g{k} = LD{tail}(g + {k * self.channels} + u);" for k in range(h))
            yield "for (long k = 0; k < n; k++) {"
            for l, components in self._degrees():
                total = " + ".join(f"y[k*{h} + {k}]*g{k}" for k in components)
                yield f"ST{tail}((S *)w + k*{l_count * self.channels} + {l * self.channels} + u, {total});"
            yield "}"

        return over_channels(self.channels, width, body)

    def _harmonics(self, width: int) -> Iterator[str]:
        h, l_count = (self.l_max + 1) ** 2, self.l_max + 1

        def body(tail: str) -> Iterator[str]:
            for l, components in self._degrees():
                yield f"const V w{l} = LD{tail}(w + k*{l_count * self.channels} + {l * self.channels} + u);"
                yield from (f"s{k} += w{l}*LD{tail}(g + {k * self.channels} + u);" for k in components)

        yield "for (long k = 0; k < n; k++) {"
        yield from (f"V s{k} = {{0}};" for k in range(h))
        yield from over_channels(self.channels, width, body)
        yield from (f"((S *)y)[k*{h} + {k}] = total(s{k});" for k in range(h))
        yield "}"


@dataclass(frozen=True)
class CoupleKernel:
    """The operator [atoms, elements, channels] is ``a``, Γ ``b``, the paths' weights [paths, channels] ``c``."""

    table: CouplingTable
    scalar: Scalar
    result: Literal["operator", "environment", "weights"]

    kind = "couple"

    def source(self, target: Target) -> str:
        """The C source, whose one function ``run`` takes a pointer to its arguments."""
        table, body = (
            self.table,
            {"operator": self._operator, "environment": self._environment, "weights": self._weights},
        )
        lines = [
            "const Arguments *a = given;",
            "for (long i = a->n_rows*p/a->n_parts; i < a->n_rows*(p + 1)/a->n_parts; i++) {",
            f"S *restrict m = a->a + i*{len(table.elements) * table.channels};",
            f"S *restrict g = a->b + i*{table.dim_environment};",
            f"S *restrict w = a->c{f' + p*{table.n_paths * table.channels}' if self.result == 'weights' else ''};",
            *over_channels(table.channels, target.width(self.scalar), body[self.result]),
            "}",
        ]
        return _text(self.scalar, target, table.channels, lines)

    def _at(self, name: str, row: int) -> str:
        return f"{name} + {row * self.table.channels} + u"

    def _operator(self, tail: str) -> Iterator[str]:
        for number, element in enumerate(self.table.elements):
            parts = []
            for path, terms in groupby(element.terms, key=lambda t: t.path):
                along = " + ".join(f"(S){t.constant!r}*LD{tail}({self._at('g', t.environment)})" for t in terms)
                parts.append(f"LD{tail}({self._at('w', path)})*({along})")
            yield f"ST{tail}({self._at('m', number)}, {' + '.join(parts)});"

    def _terms(self) -> list[tuple[int, int, int, float]]:
        """(path, component of the environment, element, constant) of every term."""
        elements = enumerate(self.table.elements)
        return sorted((t.path, t.environment, number, t.constant) for number, e in elements for t in e.terms)

    def _environment(self, tail: str) -> Iterator[str]:
        by_row = sorted((k, path, number, constant) for path, k, number, constant in self._terms())
        reached = set()
        for k, terms in groupby(by_row, key=lambda t: t[0]):
            parts = []
            for path, own in groupby(terms, key=lambda t: t[1]):
                along = " + ".join(f"(S){constant!r}*LD{tail}({self._at('m', number)})" for *_, number, constant in own)
                parts.append(f"LD{tail}({self._at('w', path)})*({along})")
            reached.add(k)
            yield f"ST{tail}({self._at('g', k)}, {' + '.join(parts)});"
        for k in set(range((self.table.l_max + 1) ** 2)) - reached:
            yield f"ST{tail}({self._at('g', k)}, (V){{0}});"

    def _weights(self, tail: str) -> Iterator[str]:
        for path, terms in groupby(self._terms(), key=lambda t: t[0]):
            parts = []
            for k, own in groupby(terms, key=lambda t: t[1]):
                along = " + ".join(f"(S){constant!r}*LD{tail}({self._at('m', number)})" for *_, number, constant in own)
                parts.append(f"LD{tail}({self._at('g', k)})*({along})")
            at = self._at("w", path)
            yield f"ST{tail}({at}, LD{tail}({at}) + {' + '.join(parts)});"


@dataclass(frozen=True)
class ActKernel:
    """The result [edges, rows, channels] is ``a``, the operator of each atom ``b``, the features of edges ``c``."""

    table: CouplingTable
    scalar: Scalar
    result: Literal["result", "operator", "features"]

    kind = "act"

    def source(self, target: Target) -> str:
        """The C source, whose one function ``run`` takes a pointer to its arguments."""
        table, width = self.table, target.width(self.scalar)
        columns, rows = table.n_components
        lines = [
            f"S *restrict t = a->a + e*{rows * table.channels}, *restrict x = a->c + e*{columns * table.channels};",
            f"S *restrict m = a->b + i*{len(table.elements) * table.channels};",
        ]
        body = self._operator(target.n_registers) if self.result == "operator" else self._multiply
        return _text(
            self.scalar, target, table.channels, by_center([*lines, *over_channels(table.channels, width, body)])
        )

    def _multiply(self, tail: str) -> Iterator[str]:
        """Rows from columns, or columns from rows; two edges at a time share what is loaded of the operator."""
        c = self.table.channels
        forward = self.result == "result"
        columns, rows = self.table.n_components if forward else self.table.n_components[::-1]
        given, made = ("x", "t") if forward else ("t", "x")
        numbered = [
            (e.row, e.column, k) if forward else (e.column, e.row, k) for k, e in enumerate(self.table.elements)
        ]
        by_row = {row: list(own) for row, own in groupby(sorted(numbered), key=lambda entry: entry[0])}
        yield "long k = 0;"
        for n in (2, 1):
            yield f"for (; k + {n} <= n; k += {n}) {{"
            edges = range(n)
            for q in edges:
                at = f"{given} + (k + {q})*{columns * c}"
                yield from (f"const V v{j}_{q} = LD{tail}({at} + {j * c} + u);" for j in range(columns))
            for row in range(rows):
                yield "{" + "".join(f"V s{q} = {{0}};" for q in edges)
                for _, column, number in by_row.get(row, []):
                    yield f"{{ const V o = LD{tail}(m + {number * c} + u);"
                    yield "".join(f"s{q} += o*v{column}_{q};" for q in edges) + "}"
                yield from (f"ST{tail}({made} + (k + {q})*{rows * c} + {row * c} + u, s{q});" for q in edges)
                yield "}"
            yield "}"

    def _operator(self, n_registers: int) -> Body:
        """Sums over the edges of a centre, as many elements at once as there are registers."""
        c, (columns, rows) = self.table.channels, self.table.n_components
        most, elements = n_registers - SPARE_REGISTERS, list(enumerate(self.table.elements))

        def group(tail: str, own: list[tuple[int, Element]]) -> Iterator[str]:
            yield from (f"V s{number} = {{0}};" for number, _ in own)
            yield "for (long k = 0; k < n; k++) {"
            for j in sorted({e.column for _, e in own}):
                yield f"const V x{j} = LD{tail}(x + k*{columns * c} + {j * c} + u);"
            for row, some in groupby(own, key=lambda entry: entry[1].row):
                yield f"{{ const V g = LD{tail}(t + k*{rows * c} + {row * c} + u);"
                yield "".join(f"s{number} += g*x{e.column};" for number, e in some) + "}"
            yield "}"
            yield from (f"ST{tail}(m + {number * c} + u, s{number});" for number, _ in own)

        def body(tail: str) -> Iterator[str]:
            for first in range(0, len(elements), most):
                yield "{"
                yield from group(tail, elements[first : first + most])
                yield "}"

        return body


def over_channels(channels: int, width: int, body: Body) -> Iterator[str]:
    """A loop over the channels ``u``, a vector at a time, and what remains."""
    whole, rest = channels // width * width, channels % width
    if whole:
        yield f"for (long u = 0; u < {whole}; u += W) {{"
        yield from body("")
        yield "}"
    if rest:
        yield f"{{ const long u = {whole};"
        yield from body(str(rest))
        yield "}"


def by_center(lines: list[str]) -> list[str]:
    """A part of the edges, centre after centre: ``n`` edges from ``e`` on end at atom ``i``.

    Without ``centers`` each edge is an atom of its own.
    """
    return [
        "const Arguments *a = given;",
        "const long stop_at = start(a, p + 1);",
        "for (long e = start(a, p), stop; e < stop_at; e = stop) {",
        "const long i = a->centers ? a->centers[e] : e;",
        "for (stop = e + 1; a->centers && stop < stop_at && a->centers[stop] == i; stop++);",
        "const long n = stop - e;",
        *lines,
        "}",
    ]


def _text(scalar: Scalar, target: Target, channels: int, lines: list[str]) -> str:
    width = target.width(scalar)
    return "\n".join(
        [
            f"typedef {scalar} S;",
            SIGNATURE,
            PARALLEL,
            *vector_types(width, {channels % width} - {0}),
            *horizontal_sum(width),
            "static long start(const Arguments *a, long p) {",
            "  long e = a->n_rows*p/a->n_parts;",
            "  while (a->centers && e > 0 && e < a->n_rows && a->centers[e] == a->centers[e - 1]) e++;",
            "  return e;",
            "}",
            "static void compute(const void *given, long p) {",
            *lines,
            "}",
            "void run(const Arguments *a) { each_part(compute, a, a->n_parts); }",
            "",
        ]
    )
