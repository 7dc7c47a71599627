"""Write the C source of the operations of strictly local models, unrolled from a coupling table.

There are three forms, which are linear in each argument. Each argument has a kernel that computes it from the others:

- ``environment``: Γ_i = sum_j w_ij Y_ij from weights of each degree and channel;
- ``couple``: the operator of each atom from Γ_i and the path weights;
- ``act``: the operator of the centre times the features of the edge.

Edges are sorted by centre. A kernel loops over the edges of a centre with one vector of channels at a time, so that the
environment or the operator of the centre stays in registers or in the nearest cache.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from equiforce.kernels.backend import CoupleArgument, EnvironmentArgument
from equiforce.kernels.cpu.launch import Arguments, Array
from equiforce.kernels.cpu.targets import PARALLEL, Scalar, Target, horizontal_sums, vector_types
from equiforce.kernels.spec.couplings import CouplingTable

SPARE_REGISTERS = 8


def arguments_of(name: str, rows: Literal["n_edges", "n_centers"], rows_per_thread: int, *arrays: Array) -> Arguments:
    """The struct of one form; without ``centers`` each row belongs to a different centre."""
    return Arguments(name, rows, rows_per_thread, (Array("centers", (rows,), "index"), *arrays), (rows,))


ENVIRONMENT = arguments_of(
    "environment",
    "n_edges",
    128,
    Array("environment", ("n_centers", "dim_environment"), result=True),  # Γ, a row of channels for each harmonic
    Array("weights", ("n_edges", "dim_weights"), result=True),  # w of each edge, a row of channels for each degree
    Array("harmonics", ("n_edges", "n_harmonics"), result=True),  # Y of each edge
)
COUPLE = arguments_of(
    "couple",
    "n_centers",
    16,
    Array("operator", ("n_centers", "dim_operator"), result=True),  # of each atom, a row of channels for each element
    Array("environment", ("n_centers", "dim_environment"), result=True),
    Array("weights", ("n_paths", "channels"), result=True, copies=True),  # of the paths
)
Body = Callable[[str], Iterator[str]]  # writes lines for one vector; argument: number of channels if not whole


@dataclass(frozen=True)
class EnvironmentKernel:
    """Computes Γ [atoms, harmonics, channels], w [edges, degrees, channels] or Y [edges, harmonics]."""

    l_max: int
    channels: int
    scalar: Scalar
    result: EnvironmentArgument

    kind = "environment"

    def source(self, target: Target) -> str:
        """Return the C source; its function ``run`` takes a pointer to the struct of arguments."""
        body = {"environment": self._sum, "weights": self._weights, "harmonics": self._harmonics}[self.result]
        h, l = (self.l_max + 1) ** 2, self.l_max + 1
        lines = [
            f"const S *restrict w = a->weights + e*{l * self.channels}, *restrict y = a->harmonics + e*{h};",
            f"const S *restrict g = a->environment + i*{h * self.channels};",
        ]
        lines = by_center([*lines, *body(target.width(self.scalar))])
        return text_of(ENVIRONMENT, self.scalar, target, self.channels, lines)

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
    """Computes the operator [atoms, elements, channels], Γ, or the path weights [paths, channels]."""

    table: CouplingTable
    scalar: Scalar
    result: CoupleArgument

    kind = "couple"

    def source(self, target: Target) -> str:
        """Return the C source; its function ``run`` takes a pointer to the struct of arguments."""
        table = self.table
        body = {"operator": self._operator, "environment": self._environment, "weights": self._weights}
        own_copy = f" + p*{table.n_paths * table.channels}" if self.result == "weights" else ""
        lines = [
            "const Arguments *a = given;",
            "for (long i = a->n_centers*p/a->n_parts; i < a->n_centers*(p + 1)/a->n_parts; i++) {",
            f"S *restrict m = a->operator + i*{len(table.elements) * table.channels};",
            f"S *restrict g = a->environment + i*{table.dim_environment};",
            f"S *restrict w = a->weights{own_copy};",
            *over_channels(table.channels, target.width(self.scalar), body[self.result]),
            "}",
        ]
        return text_of(COUPLE, self.scalar, target, table.channels, lines)

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


def over_channels(channels: int, width: int, body: Body) -> Iterator[str]:
    """Write a loop over the channels ``u``, one vector at a time, and the rest of the channels after it."""
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
    """Write a loop over the centres of a part of the edges: ``n`` edges from ``e`` on belong to the centre ``i``.

    Without ``centers`` each edge belongs to a different atom.
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


def text_of(arguments: Arguments, scalar: Scalar, target: Target, channels: int, lines: list[str]) -> str:
    """Write the whole C source around the lines that compute part ``p`` of the rows."""
    width = target.width(scalar)
    return "\n".join(
        [
            f"typedef {scalar} S;",
            arguments.c_struct(),
            PARALLEL,
            *vector_types(width, {channels % width} - {0}),
            *horizontal_sums(width, set()),
            "static long start(const Arguments *a, long p) {",
            f"  long e = a->{arguments.rows}*p/a->n_parts;",
            f"  while (a->centers && e > 0 && e < a->{arguments.rows} && a->centers[e] == a->centers[e - 1]) e++;",
            "  return e;",
            "}",
            "static void compute(const void *given, long p) {",
            *lines,
            "}",
            "void run(const Arguments *a) { each_part(compute, a, a->n_parts); }",
            "",
        ]
    )
