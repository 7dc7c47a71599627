"""Writes the C source of what a strictly local model does around each centre, unrolled from a coupling table.

Three forms, each linear in each of its arguments, and for each argument the kernel that gives it from the others:

- ``environment``: Γ_i = sum_j w_ij Y_ij, from weights of each degree and channel;
- ``couple``: the operator of each atom, from Γ_i and the weights of the paths;
- ``act``: the operator of the centre times the features of the edge.

Edges are sorted by centre. A centre's edges are run over with one vector of channels at a time, so that what they have
in common, the environment or the operator, stays in registers or in the nearest cache.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from equiforce.kernels.cpu.launch import Arguments, Array
from equiforce.kernels.cpu.targets import PARALLEL, Scalar, Target, horizontal_sum, vector_types
from equiforce.kernels.spec.couplings import CouplingTable, Element

SPARE_REGISTERS = 8


def _arguments(name: str, rows: str, rows_per_thread: int, *arrays: Array) -> Arguments:
    """The struct of one form; without ``centers`` each row belongs to an atom of its own."""
    centers = Array("centers", ("n_rows",), "index")
    return Arguments(name, rows, rows_per_thread, (centers, *arrays), ("n_rows",))


ENVIRONMENT = _arguments(
    "environment",
    "n_rows",
    128,
    Array("environment", ("n_atoms", "dim_environment"), result=True),  # Γ, a row of channels for each harmonic
    Array("weights", ("n_rows", "dim_weights"), result=True),  # w of each edge, a row of channels for each degree
    Array("harmonics", ("n_rows", "n_harmonics"), result=True),  # Y of each edge
)
COUPLE = _arguments(
    "couple",
    "n_rows",
    16,
    Array("operator", ("n_rows", "dim_operator"), result=True),  # of each atom, a row of channels for each element
    Array("environment", ("n_rows", "dim_environment"), result=True),
    Array("weights", ("n_paths", "channels"), result=True, copies=True),  # of the paths
)
_RESULT = Array("result", ("n_rows", "dim_out"), result=True)  # of each edge
_OPERATOR = Array("operator", ("n_atoms", "dim_operator"), result=True)
ACT = _arguments("act", "n_rows", 128, _RESULT, _OPERATOR, Array("features", ("n_rows", "dim_in"), result=True))
ACT_ON_HARMONICS = _arguments(
    "act on harmonics",
    "n_rows",
    128,
    _RESULT,
    _OPERATOR,
    Array("weights", ("n_rows", "dim_weights"), result=True),
    Array("harmonics", ("n_rows", "n_harmonics"), result=True),
)
Body = Callable[[str], Iterator[str]]  # the lines for one vector of channels, given its tail


@dataclass(frozen=True)
class EnvironmentKernel:
    """Computes one of Γ [atoms, harmonics, channels], w [edges, degrees, channels] and Y [edges, harmonics]."""

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
            f"const S *restrict w = a->weights + e*{l * self.channels}, *restrict y = a->harmonics + e*{h};",
            f"const S *restrict g = a->environment + i*{h * self.channels};",
        ]
        lines = by_center([*lines, *body(target.width(self.scalar))])
        return _text(ENVIRONMENT, self.scalar, target, self.channels, lines)

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
    """Computes one of the operator [atoms, elements, channels], Γ, and the weights of the paths [paths, channels]."""

    table: CouplingTable
    scalar: Scalar
    result: Literal["operator", "environment", "weights"]

    kind = "couple"

    def source(self, target: Target) -> str:
        """The C source, whose one function ``run`` takes a pointer to its arguments."""
        table = self.table
        body = {"operator": self._operator, "environment": self._environment, "weights": self._weights}
        own_copy = f" + p*{table.n_paths * table.channels}" if self.result == "weights" else ""
        lines = [
            "const Arguments *a = given;",
            "for (long i = a->n_rows*p/a->n_parts; i < a->n_rows*(p + 1)/a->n_parts; i++) {",
            f"S *restrict m = a->operator + i*{len(table.elements) * table.channels};",
            f"S *restrict g = a->environment + i*{table.dim_environment};",
            f"S *restrict w = a->weights{own_copy};",
            *over_channels(table.channels, target.width(self.scalar), body[self.result]),
            "}",
        ]
        return _text(COUPLE, self.scalar, target, table.channels, lines)

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
    """Computes one of the result [edges, rows, channels], the operator of each atom, and the features of edges.

    Features that are weighted harmonics w Y need not be written out: then w [edges, degrees, channels] and
    Y [edges, harmonics] take the place of the features.
    """

    table: CouplingTable
    scalar: Scalar
    result: Literal["result", "operator", "features", "weights", "harmonics"]
    of_harmonics: bool = False

    kind = "act"

    def source(self, target: Target) -> str:
        """The C source, whose one function ``run`` takes a pointer to its arguments."""
        table, width = self.table, target.width(self.scalar)
        n_columns, n_rows = table.n_components
        n_given, given = (table.l_max + 1, "weights") if self.of_harmonics else (n_columns, "features")
        lines = [
            f"S *restrict t = a->result + e*{n_rows * table.channels};",
            f"S *restrict x = a->{given} + e*{n_given * table.channels};",
            f"S *restrict m = a->operator + i*{len(table.elements) * table.channels};",
            *([f"S *restrict y = a->harmonics + e*{n_columns};"] if self.of_harmonics else []),
        ]
        if self.result == "harmonics":
            body = self._harmonics(width)
        else:
            bodies = {"operator": self._operator(target.n_registers), "result": self._forward}
            body = over_channels(table.channels, width, bodies.get(self.result, self._backward))
        arguments = ACT_ON_HARMONICS if self.of_harmonics else ACT
        return _text(arguments, self.scalar, target, table.channels, by_center([*lines, *body]))

    def _columns(self, wanted: Iterable[int], edge: str, tail: str) -> Iterator[str]:
        """Components of an edge's features, called ``x0_e`` and so on for edge ``e`` of the centre."""
        c, (n_columns, _) = self.table.channels, self.table.n_components
        if not self.of_harmonics:
            at = f"x + (k + {edge})*{n_columns * c}"
            yield from (f"const V x{j}_{edge} = LD{tail}({at} + {j * c} + u);" for j in wanted)
            return
        for l, own in groupby(wanted, key=math.isqrt):
            yield f"const V w{l}_{edge} = LD{tail}(x + (k + {edge})*{(self.table.l_max + 1) * c} + {l * c} + u);"
            yield from (f"const V x{j}_{edge} = y[(k + {edge})*{n_columns} + {j}]*w{l}_{edge};" for j in own)

    def _forward(self, tail: str) -> Iterator[str]:
        """Rows from columns; two edges at a time share what is loaded of the operator."""
        c, (n_columns, n_rows) = self.table.channels, self.table.n_components
        yield from self._pairs_of_edges(
            lambda edge: self._columns(range(n_columns), edge, tail),
            {row: [(e.column, k) for k, e in own] for row, own in self._by_row.items()},
            "x",
            lambda row, edge: [f"ST{tail}(t + (k + {edge})*{n_rows * c} + {row * c} + u, s{edge});"],
            range(n_rows),
            tail,
        )

    def _backward(self, tail: str) -> Iterator[str]:
        """Columns, or the weights of their harmonics, from rows."""
        c, (n_columns, n_rows) = self.table.channels, self.table.n_components
        degrees = range(self.table.l_max + 1)

        def load(edge: str) -> Iterator[str]:
            yield from (
                f"const V t{j}_{edge} = LD{tail}(t + (k + {edge})*{n_rows * c} + {j * c} + u);" for j in range(n_rows)
            )
            if self.of_harmonics:
                yield from (f"V w{l}_{edge} = {{0}};" for l in degrees)

        def keep(column: int, edge: str) -> Iterator[str]:
            if self.of_harmonics:
                yield f"w{math.isqrt(column)}_{edge} += y[(k + {edge})*{n_columns} + {column}]*s{edge};"
            else:
                yield f"ST{tail}(x + (k + {edge})*{n_columns * c} + {column * c} + u, s{edge});"

        def close(edge: str) -> Iterator[str]:
            if self.of_harmonics:
                at = f"x + (k + {edge})*{len(degrees) * c}"
                yield from (f"ST{tail}({at} + {l * c} + u, w{l}_{edge});" for l in degrees)

        yield from self._pairs_of_edges(load, self._by_column, "t", keep, range(n_columns), tail, close)

    def _pairs_of_edges(
        self,
        load: Callable[[str], Iterable[str]],
        terms: dict[int, list[tuple[int, int]]],
        given: str,
        keep: Callable[[int, str], Iterable[str]],
        made: Iterable[int],
        tail: str,
        close: Callable[[str], Iterable[str]] = lambda _: (),
    ) -> Iterator[str]:
        """Loads an edge's components, keeps each of the sums that are made of them, and closes, for every edge."""
        yield "long k = 0;"
        for n in (2, 1):
            edges = [str(q) for q in range(n)]
            yield f"for (; k + {n} <= n; k += {n}) {{"
            for edge in edges:
                yield from load(edge)
            for number in made:
                yield from self._sum(terms.get(number, []), given, edges, tail)
                for edge in edges:
                    yield from keep(number, edge)
                yield "}"
            for edge in edges:
                yield from close(edge)
            yield "}"

    def _sum(self, terms: list[tuple[int, int]], given: str, edges: list[str], tail: str) -> Iterator[str]:
        """Opens a block in which ``s`` of each edge is the sum of its components times elements of the operator."""
        yield "{" + "".join(f"V s{edge} = {{0}};" for edge in edges)
        for component, number in terms:
            yield f"{{ const V o = LD{tail}(m + {number * self.table.channels} + u);"
            yield "".join(f"s{edge} += o*{given}{component}_{edge};" for edge in edges) + "}"

    def _harmonics(self, width: int) -> Iterator[str]:
        """The gradient of Y of each edge: what columns have to do with w, summed over channels."""
        c, (n_columns, n_rows) = self.table.channels, self.table.n_components

        def body(tail: str) -> Iterator[str]:
            yield from (f"const V t{j}_0 = LD{tail}(t + k*{n_rows * c} + {j * c} + u);" for j in range(n_rows))
            for l in range(self.table.l_max + 1):
                yield f"const V w{l} = LD{tail}(x + k*{(self.table.l_max + 1) * c} + {l * c} + u);"
            for column in range(n_columns):
                yield from self._sum(self._by_column.get(column, []), "t", ["0"], tail)
                yield f"h{column} += w{math.isqrt(column)}*s0; }}"

        yield "for (long k = 0; k < n; k++) {"
        yield from (f"V h{j} = {{0}};" for j in range(n_columns))
        yield from over_channels(c, width, body)
        yield from (f"y[k*{n_columns} + {j}] = total(h{j});" for j in range(n_columns))
        yield "}"

    @property
    def _by_row(self) -> dict[int, list[tuple[int, Element]]]:
        numbered = enumerate(self.table.elements)
        return {row: list(own) for row, own in groupby(numbered, key=lambda entry: entry[1].row)}

    @property
    def _by_column(self) -> dict[int, list[tuple[int, int]]]:
        """For each column, (row, element) of what it meets."""
        found: dict[int, list[tuple[int, int]]] = {}
        for number, element in enumerate(self.table.elements):
            found.setdefault(element.column, []).append((element.row, number))
        return found

    def _operator(self, n_registers: int) -> Body:
        """Sums over the edges of a centre, as many elements at once as there are registers."""
        c, n_rows = self.table.channels, self.table.n_components[1]
        most, elements = n_registers - SPARE_REGISTERS, list(enumerate(self.table.elements))

        def group(tail: str, own: list[tuple[int, Element]]) -> Iterator[str]:
            yield from (f"V s{number} = {{0}};" for number, _ in own)
            yield "for (long k = 0; k < n; k++) {"
            yield from self._columns(sorted({e.column for _, e in own}), "0", tail)
            for row, some in groupby(own, key=lambda entry: entry[1].row):
                yield f"{{ const V g = LD{tail}(t + k*{n_rows * c} + {row * c} + u);"
                yield "".join(f"s{number} += g*x{e.column}_0;" for number, e in some) + "}"
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


def _text(arguments: Arguments, scalar: Scalar, target: Target, channels: int, lines: list[str]) -> str:
    width = target.width(scalar)
    return "\n".join(
        [
            f"typedef {scalar} S;",
            arguments.c_struct(),
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
