"""Write the C source of the edge geometry: the spherical harmonics and the knot coordinate of each edge.

``forward`` computes Y(v/|v|) and the knot coordinate s|v| from vectors v. ``backward`` computes the gradient of v from
the gradients of both. ``jvp`` computes the tangents of both from the tangent of v, and ``backward_jvp`` computes the
tangent of the result of ``backward``. All unroll the recursion of :mod:`equiforce.geometry.spherical_harmonics`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from equiforce.geometry.spherical_harmonics import recursion
from equiforce.kernels.cpu.codegen.groups import LANES
from equiforce.kernels.cpu.launch import Arguments, Array
from equiforce.kernels.cpu.targets import PARALLEL, Scalar, Target

EdgeKind = Literal["forward", "backward", "jvp", "backward_jvp"]
ARGUMENTS = Arguments(
    name="edge_geometry",
    rows="n_edges",
    rows_per_thread=1024,
    sizes=("n_edges",),
    doubles=("scale",),
    arrays=(
        Array("vectors", ("n_edges", "three")),
        Array("dvectors", ("n_edges", "three")),
        Array("gharmonics", ("n_edges", "n_harmonics")),
        Array("gknot_coordinates", ("n_edges",)),
        Array("harmonics", ("n_edges", "n_harmonics"), result=True),
        Array("knot_coordinates", ("n_edges",), result=True),
        Array("gvectors", ("n_edges", "three"), result=True),
    ),
)


@dataclass(frozen=True)
class EdgeKernel:
    """One of the four functions for harmonics up to ``l_max``."""

    l_max: int
    scalar: Scalar
    kind: EdgeKind

    def source(self, target: Target) -> str:  # noqa: ARG002 - the compiler maps the vectors of a chunk to registers
        """Return the C source; its function ``run`` takes a pointer to the struct of arguments."""
        h = (self.l_max + 1) ** 2
        loads = ("v", "dv") if self.kind in ("jvp", "backward_jvp") else ("v",)
        bodies = {"forward": _forward, "backward": _backward, "jvp": _jvp, "backward_jvp": _backward_jvp}
        lines = [
            f"typedef {self.scalar} S;",
            ARGUMENTS.c_struct(),
            PARALLEL,
            "#include <math.h>",
            f"typedef S L __attribute__((vector_size({LANES} * sizeof(S)), may_alias));",
            "#define LANE(a, k) (((S *)&(a))[k])",
            "static void chunk(const Arguments *a, long e, int n) {",
            f"L r = {{0}}; {' '.join(f'L {name}[3] = {{{{0}}}};' for name in loads)}",
            f"for (int k = 0; k < {LANES}; k++) {{ const long i = 3*(e + (k < n ? k : 0));",
            *(f"for (int c = 0; c < 3; c++) LANE({name}[c], k) = a->{name}ectors[i + c];" for name in loads),
            "const S x = LANE(v[0], k), y = LANE(v[1], k), z = LANE(v[2], k); LANE(r, k) = sqrt(x*x + y*y + z*z); }",
            "const L n0 = v[0]/r, n1 = v[1]/r, n2 = v[2]/r;",
            *bodies[self.kind](self.l_max, h),
            "}",
            "static void compute(const void *given, long p) {",
            "  const Arguments *a = given;",
            f"  const long n = (a->n_edges + {LANES - 1})/{LANES}, last = n*(p + 1)/a->n_parts*{LANES};",
            f"  for (long e = n*p/a->n_parts*{LANES}; e < last; e += {LANES})",
            f"    chunk(a, e, a->n_edges - e < {LANES} ? (int)(a->n_edges - e) : {LANES});",
            "}",
            "void run(const Arguments *a) { each_part(compute, a, a->n_parts); }",
        ]
        return "\n".join(lines) + "\n"


def _terms(l: int) -> list[tuple[int, int, int, float]]:
    """The non-zero (a, b, c, constant) of Y_l,c = sum constant Y_{l-1},a n_b."""
    matrix = recursion(l)
    return [(*index, matrix[tuple(index)].item()) for index in (matrix.abs() > 1e-12).nonzero().tolist()]


def _harmonics(l_max: int) -> Iterator[str]:
    yield "const L one = r*0 + 1, y0_0 = one;"
    for l in range(1, l_max + 1):
        for m in range(2 * l + 1):
            total = " + ".join(f"(S){k!r}*y{l - 1}_{a}*n{b}" for a, b, c, k in _terms(l) if c == m)
            yield f"const L y{l}_{m} = {total};"


def _store(l_max: int, h: int, length: str, harmonic: str) -> Iterator[str]:
    """Write the knot coordinate and the harmonics, or their tangents, from the variables of the given names."""
    names = ", ".join(f"{harmonic}{l}_{m}" for l in range(l_max + 1) for m in range(2 * l + 1))
    yield f"const L all[{h}] = {{{names}}};"
    yield f"for (int k = 0; k < n; k++) {{ a->knot_coordinates[e + k] = (S)a->scale*LANE({length}, k);"
    yield f"for (int c = 0; c < {h}; c++) a->harmonics[(e + k)*{h} + c] = LANE(all[c], k); }}"


def _forward(l_max: int, h: int) -> Iterator[str]:
    yield from _harmonics(l_max)
    yield from _store(l_max, h, length="r", harmonic="y")


def _changes(l_max: int) -> Iterator[str]:
    """Compute the tangents of the length, the direction and the harmonics from dv."""
    yield "const L along = n0*dv[0] + n1*dv[1] + n2*dv[2];"
    yield from (f"const L dn{b} = (dv[{b}] - n{b}*along)/r;" for b in range(3))
    yield from _harmonics(l_max)
    yield "const L dy0_0 = r*0;"
    for l in range(1, l_max + 1):
        for m in range(2 * l + 1):
            terms = [f"(S){k!r}*(dy{l - 1}_{a}*n{b} + y{l - 1}_{a}*dn{b})" for a, b, c, k in _terms(l) if c == m]
            yield f"const L dy{l}_{m} = {' + '.join(terms)};"


def _jvp(l_max: int, h: int) -> Iterator[str]:
    yield from _changes(l_max)
    yield from _store(l_max, h, length="along", harmonic="dy")


def _load_gradients(h: int) -> Iterator[str]:
    yield f"L gt = {{0}}, g[{h}] = {{{{0}}}};"
    yield "for (int k = 0; k < n; k++) { LANE(gt, k) = (S)a->scale*a->gknot_coordinates[e + k];"
    yield f"for (int c = 0; c < {h}; c++) LANE(g[c], k) = a->gharmonics[(e + k)*{h} + c]; }}"


def _store_vectors() -> Iterator[str]:
    yield "for (int k = 0; k < n; k++) { S *out = a->gvectors + 3*(e + k);"
    yield "out[0] = LANE(gv0, k); out[1] = LANE(gv1, k); out[2] = LANE(gv2, k); }"


def _backward(l_max: int, h: int) -> Iterator[str]:
    yield from _load_gradients(h)
    yield from _harmonics(l_max)
    yield "L gn0 = {0}, gn1 = {0}, gn2 = {0};"
    for l in range(l_max, 0, -1):
        for a, b, c, k in _terms(l):
            upper = f"(S){k!r}*g[{l**2 + c}]"
            yield f"gn{b} += {upper}*y{l - 1}_{a}; g[{(l - 1) ** 2 + a}] += {upper}*n{b};"
    yield "const L across = n0*gn0 + n1*gn1 + n2*gn2;"
    yield from (f"const L gv{b} = (gn{b} - n{b}*across)/r + gt*n{b};" for b in range(3))
    yield from _store_vectors()


def _backward_jvp(l_max: int, h: int) -> Iterator[str]:
    """Compute the tangent of ``_backward`` from dv, line by line."""
    yield from _load_gradients(h)
    yield from _changes(l_max)
    yield f"L gn0 = {{0}}, gn1 = {{0}}, gn2 = {{0}}, dgn0 = {{0}}, dgn1 = {{0}}, dgn2 = {{0}}, dg[{h}] = {{{{0}}}};"
    for l in range(l_max, 0, -1):
        for a, b, c, k in _terms(l):
            upper, lower = l**2 + c, (l - 1) ** 2 + a
            yield f"gn{b} += (S){k!r}*g[{upper}]*y{l - 1}_{a};"
            yield f"dgn{b} += (S){k!r}*(dg[{upper}]*y{l - 1}_{a} + g[{upper}]*dy{l - 1}_{a});"
            yield f"dg[{lower}] += (S){k!r}*(dg[{upper}]*n{b} + g[{upper}]*dn{b});"
            yield f"g[{lower}] += (S){k!r}*g[{upper}]*n{b};"
    yield "const L across = n0*gn0 + n1*gn1 + n2*gn2;"
    yield "const L dacross = dn0*gn0 + dn1*gn1 + dn2*gn2 + n0*dgn0 + n1*dgn1 + n2*dgn2;"
    for b in range(3):
        yield f"const L gv{b} = (dgn{b} - dn{b}*across - n{b}*dacross - (gn{b} - n{b}*across)*along/r)/r + gt*dn{b};"
    yield from _store_vectors()
