"""Write the C source that applies the operator of each centre to the features of its edges: the form ``act``.

See :mod:`equiforce.kernels.cpu.codegen.local` for the three forms of strictly local models.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from equiforce.kernels.backend import ActArgument, ActOnHarmonicsArgument
from equiforce.kernels.cpu.codegen.local import (
    SPARE_REGISTERS,
    Body,
    arguments_of,
    by_center,
    over_channels,
    text_of,
)
from equiforce.kernels.cpu.launch import Array
from equiforce.kernels.cpu.targets import Scalar, Target
from equiforce.kernels.spec.couplings import CouplingTable, Element

_RESULT = Array("result", ("n_edges", "dim_out"), result=True)  # of each edge
_OPERATOR = Array("operator", ("n_centers", "dim_operator"), result=True)
ACT = arguments_of("act", "n_edges", 128, _RESULT, _OPERATOR, Array("features", ("n_edges", "dim_in"), result=True))
ACT_ON_HARMONICS = arguments_of(
    "act on harmonics",
    "n_edges",
    128,
    _RESULT,
    _OPERATOR,
    Array("weights", ("n_edges", "dim_weights"), result=True),
    Array("harmonics", ("n_edges", "n_harmonics"), result=True),
)


@dataclass(frozen=True)
class ActKernel:
    """Computes the result [edges, rows, channels], the operator of each atom, or the features of edges.

    If the features are weighted harmonics w Y, the kernel reads w [edges, degrees, channels] and Y [edges, harmonics]
    instead, so that the features need not be stored.
    """

    table: CouplingTable
    scalar: Scalar
    result: ActArgument | ActOnHarmonicsArgument
    of_harmonics: bool = False

    kind = "act"

    def source(self, target: Target) -> str:
        """Return the C source; its function ``run`` takes a pointer to the struct of arguments."""
        table, width = self.table, target.width(self.scalar)
        n_columns, n_out = table.n_components
        n_given, given = (table.l_max + 1, "weights") if self.of_harmonics else (n_columns, "features")
        lines = [
            f"S *restrict t = a->result + e*{n_out * table.channels};",
            f"S *restrict x = a->{given} + e*{n_given * table.channels};",
            f"S *restrict m = a->operator + i*{len(table.elements) * table.channels};",
            *([f"S *restrict y = a->harmonics + e*{n_columns};"] if self.of_harmonics else []),
        ]
        if self.result == "harmonics":
            body = self._harmonics(width)
        else:
            bodies: dict[str, Body] = {"operator": self._operator(target.n_registers), "result": self._forward}
            body = over_channels(table.channels, width, bodies.get(self.result, self._backward))
        arguments = ACT_ON_HARMONICS if self.of_harmonics else ACT
        return text_of(arguments, self.scalar, target, table.channels, by_center([*lines, *body]))

    def _columns(self, columns: Iterable[int], edge: str, tail: str) -> Iterator[str]:
        """Load components of an edge's features into variables ``x0_e`` and so on for edge ``e`` of the centre."""
        c, (n_columns, _) = self.table.channels, self.table.n_components
        if not self.of_harmonics:
            at = f"x + (k + {edge})*{n_columns * c}"
            yield from (f"const V x{j}_{edge} = LD{tail}({at} + {j * c} + u);" for j in columns)
            return
        for l, own in groupby(columns, key=math.isqrt):
            yield f"const V w{l}_{edge} = LD{tail}(x + (k + {edge})*{(self.table.l_max + 1) * c} + {l * c} + u);"
            yield from (f"const V x{j}_{edge} = y[(k + {edge})*{n_columns} + {j}]*w{l}_{edge};" for j in own)

    def _forward(self, tail: str) -> Iterator[str]:
        """Compute rows from columns; two edges at a time share the loaded elements of the operator."""
        c, (n_columns, n_out) = self.table.channels, self.table.n_components
        yield from self._pairs_of_edges(
            lambda edge: self._columns(range(n_columns), edge, tail),
            {row: [(e.column, k) for k, e in own] for row, own in self._by_row.items()},
            "x",
            lambda row, edge: [f"ST{tail}(t + (k + {edge})*{n_out * c} + {row * c} + u, s{edge});"],
            range(n_out),
            tail,
        )

    def _backward(self, tail: str) -> Iterator[str]:
        """Compute columns, or the weights of their harmonics, from rows."""
        c, (n_columns, n_out) = self.table.channels, self.table.n_components
        degrees = range(self.table.l_max + 1)

        def load(edge: str) -> Iterator[str]:
            yield from (
                f"const V t{j}_{edge} = LD{tail}(t + (k + {edge})*{n_out * c} + {j * c} + u);" for j in range(n_out)
            )
            if self.of_harmonics:
                yield from (f"V w{l}_{edge} = {{0}};" for l in degrees)

        def store(column: int, edge: str) -> Iterator[str]:
            if self.of_harmonics:
                yield f"w{math.isqrt(column)}_{edge} += y[(k + {edge})*{n_columns} + {column}]*s{edge};"
            else:
                yield f"ST{tail}(x + (k + {edge})*{n_columns * c} + {column * c} + u, s{edge});"

        def finish(edge: str) -> Iterator[str]:
            if self.of_harmonics:
                at = f"x + (k + {edge})*{len(degrees) * c}"
                yield from (f"ST{tail}({at} + {l * c} + u, w{l}_{edge});" for l in degrees)

        yield from self._pairs_of_edges(load, self._by_column, "t", store, range(n_columns), tail, finish)

    def _pairs_of_edges(
        self,
        load: Callable[[str], Iterable[str]],
        terms: dict[int, list[tuple[int, int]]],
        given: str,
        store: Callable[[int, str], Iterable[str]],
        made: Iterable[int],
        tail: str,
        finish: Callable[[str], Iterable[str]] = lambda _: (),
    ) -> Iterator[str]:
        """Loop over the edges, two at a time: load components, compute each sum and store it, and finish the edge."""
        yield "long k = 0;"
        for n in (2, 1):
            edges = [str(q) for q in range(n)]
            yield f"for (; k + {n} <= n; k += {n}) {{"
            for edge in edges:
                yield from load(edge)
            for number in made:
                yield from self._sum(terms.get(number, []), given, edges, tail)
                for edge in edges:
                    yield from store(number, edge)
                yield "}"
            for edge in edges:
                yield from finish(edge)
            yield "}"

    def _sum(self, terms: list[tuple[int, int]], given: str, edges: list[str], tail: str) -> Iterator[str]:
        """Open a block in which ``s`` of each edge is the sum of its components times elements of the operator."""
        yield "{" + "".join(f"V s{edge} = {{0}};" for edge in edges)
        for component, number in terms:
            yield f"{{ const V o = LD{tail}(m + {number * self.table.channels} + u);"
            yield "".join(f"s{edge} += o*{given}{component}_{edge};" for edge in edges) + "}"

    def _harmonics(self, width: int) -> Iterator[str]:
        """Compute the gradient of Y of each edge: the gradient of each column times w, summed over channels."""
        c, (n_columns, n_out) = self.table.channels, self.table.n_components

        def body(tail: str) -> Iterator[str]:
            yield from (f"const V t{j}_0 = LD{tail}(t + k*{n_out * c} + {j * c} + u);" for j in range(n_out))
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
        """For each column, the (row, number) of the elements in it."""
        found: dict[int, list[tuple[int, int]]] = {}
        for number, element in enumerate(self.table.elements):
            found.setdefault(element.column, []).append((element.row, number))
        return found

    def _operator(self, n_registers: int) -> Body:
        """Sum over the edges of a centre, with as many elements at the same time as there are registers."""
        c, n_out = self.table.channels, self.table.n_components[1]
        most, elements = n_registers - SPARE_REGISTERS, list(enumerate(self.table.elements))

        def group(tail: str, own: list[tuple[int, Element]]) -> Iterator[str]:
            yield from (f"V s{number} = {{0}};" for number, _ in own)
            yield "for (long k = 0; k < n; k++) {"
            yield from self._columns(sorted({e.column for _, e in own}), "0", tail)
            for row, some in groupby(own, key=lambda entry: entry[1].row):
                yield f"{{ const V g = LD{tail}(t + k*{n_out * c} + {row * c} + u);"
                yield "".join(f"s{number} += g*x{e.column}_0;" for number, e in some) + "}"
            yield "}"
            yield from (f"ST{tail}(m + {number * c} + u, s{number});" for number, _ in own)

        def body(tail: str) -> Iterator[str]:
            for first in range(0, len(elements), most):
                yield "{"
                yield from group(tail, elements[first : first + most])
                yield "}"

        return body
