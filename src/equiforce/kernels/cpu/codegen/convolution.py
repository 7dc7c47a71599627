"""Write the C source of a fused convolution, unrolled from a path table.

All kernels compute derivatives of one form, which is linear in each argument: Φ(g, x, Y, w) = sum over edges ij, paths
p and channels u of w C g_i x_j Y_ij. ``forward`` loops over the edges of each centre and computes ∂Φ/∂g, which is the
convolution. ``backward`` loops over the edges of each neighbour and computes any of ∂Φ/∂x, ∂Φ/∂Y, ∂Φ/∂t and ∂Φ/∂table,
where t are the knot coordinates. ``jvp`` kernels do the same for the derivative of Φ along tangents of x, Y and t; the
gradient of a loss of forces needs them. No kernel stores an array of the size edges x channels.

Edges are processed in chunks of ``LANES``. All quantities that depend on the edge alone are computed for a whole chunk.
Then each group of paths loops over the chunk with its sums in registers
(:mod:`equiforce.kernels.cpu.codegen.groups`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from equiforce.kernels.cpu.codegen.groups import LANES, Derivative, GroupWriter, spline_bases
from equiforce.kernels.cpu.launch import Arguments, Array
from equiforce.kernels.cpu.targets import PARALLEL, Target, horizontal_sums, vector_types

ARGUMENTS = Arguments(
    name="convolve",
    rows="n_edges",
    rows_per_thread=128,
    sizes=("n_edges", "n_rows", "n_centers", "n_atoms"),
    arrays=(
        Array("centers", ("n_edges",), "index"),
        Array("neighbors", ("n_edges",), "index"),
        Array("by_neighbor", ("n_edges",), "index"),
        Array("x", ("n_atoms", "dim_in")),
        Array("harmonics", ("n_edges", "n_harmonics")),
        Array("values", ("n_rows", "n_weights")),
        Array("knot_coordinates", ("n_edges",)),
        Array("g", ("n_centers", "dim_out")),
        Array("dx", ("n_atoms", "dim_in")),
        Array("dharmonics", ("n_edges", "n_harmonics")),
        Array("dknot_coordinates", ("n_edges",)),
        Array("out", ("n_centers", "dim_out"), result=True),
        Array("gx", ("n_atoms", "dim_in"), result=True),
        Array("gharmonics", ("n_edges", "n_harmonics"), result=True),
        Array("gknot_coordinates", ("n_edges",), result=True),
        Array("gvalues", ("n_rows", "n_weights"), result=True, copies=True),
    ),
)


@dataclass(frozen=True)
class ConvolutionKernel(Derivative):
    """The kernel of a derivative of the form."""

    def source(self, target: Target) -> str:
        """Return the C source; its function ``run`` takes a pointer to the struct of arguments."""
        return "\n".join(_Writer(self, target).lines()) + "\n"


class _Writer:
    def __init__(self, kernel: ConvolutionKernel, target: Target):
        self.kernel, self.table = kernel, kernel.table
        self.width = target.width(kernel.scalar)
        self.n_harmonics = (kernel.table.l_max + 1) ** 2
        self.dim_in, self.dim_out = kernel.table.irreps_in.dim, kernel.table.irreps_out.dim
        self.forward, self.jvp = kernel.kind == "forward", kernel.jvp
        self.key = "a->centers[{}]" if self.forward else "a->neighbors[a->by_neighbor[{}]]"
        self.summed = ("out", self.dim_out, "n_centers") if self.forward else ("gx", self.dim_in, "n_atoms")
        options = {"n_registers": target.n_registers, "width": self.width, "n_harmonics": self.n_harmonics}
        self.groups = [GroupWriter(kernel, group, number, **options) for number, group in enumerate(self.table.groups)]

    def lines(self) -> Iterator[str]:
        yield f"typedef {self.kernel.scalar} S;"
        yield ARGUMENTS.c_struct()
        yield PARALLEL
        yield from self._vectors()
        yield from self._chunk()
        yield from self._prepare()
        for group in self.groups:
            yield from group.lines()
        yield from self._part()
        yield from self._run()

    def _vectors(self) -> Iterator[str]:
        yield from vector_types(self.width, {group.channels % self.width for group in self.table.groups} - {0})
        yield f"typedef S L __attribute__((vector_size({LANES} * sizeof(S)), may_alias));"
        yield "#define LANE(a, k) (((S *)&(a))[k])"

    def _chunk(self) -> Iterator[str]:
        """Declare the struct of a chunk of edges."""
        h = self.n_harmonics
        bases = " ".join(f"{name}[4]," for name in spline_bases(self.kernel))
        yield f"typedef struct {{ int n; L {bases} y[{h}], u;"
        if self.jvp:
            yield f"  L dy[{h}], dt; const S *dx[{LANES}];"
        yield f"  const S *x[{LANES}], *g[{LANES}], *t[{LANES}]; S *gt[{LANES}]; }} Chunk;"

    def _prepare(self) -> Iterator[str]:
        """Write the function that fills a chunk."""
        h = self.n_harmonics
        yield "static void prepare(const Arguments *a, Chunk *c, S *gtable, long first) {"
        yield "  for (int k = 0; k < c->n; k++) {"
        yield f"    const long e = {'first + k' if self.forward else 'a->by_neighbor[first + k]'};"
        if not self.forward:  # the edges of a neighbour lie far apart: ask for those of the next chunk
            yield f"    if (first + k + {LANES} < a->n_edges) {{"
            yield f"      const long next = a->by_neighbor[first + k + {LANES}];"
            yield f"      __builtin_prefetch(a->harmonics + next*{h});"
            yield "      __builtin_prefetch(a->knot_coordinates + next); __builtin_prefetch(a->centers + next);"
            yield "    }"
        yield f"    for (int h = 0; h < {h}; h++) LANE(c->y[h], k) = a->harmonics[e*{h} + h];"
        yield "    const S t = a->knot_coordinates[e];"
        yield "    const long row = t > 0 ? (t < a->n_rows - 4 ? (long)t : a->n_rows - 4) : 0;"
        yield "    const S u = t - row; LANE(c->u, k) = u > 1 ? 1 : u;"
        yield f"    c->t[k] = a->values + row*{self.table.n_weights};"
        if self.jvp:
            yield "    LANE(c->dt, k) = a->dknot_coordinates[e];"
            yield f"    for (int h = 0; h < {h}; h++) LANE(c->dy[h], k) = a->dharmonics[e*{h} + h];"
        if self.forward:
            yield f"    c->x[k] = a->x + a->neighbors[e]*{self.dim_in};"
        else:
            yield f"    c->g[k] = a->g + a->centers[e]*{self.dim_out};"
        if self.forward and self.jvp:
            yield f"    c->dx[k] = a->dx + a->neighbors[e]*{self.dim_in};"
        if self.kernel.weights:
            yield f"    c->gt[k] = gtable + row*{self.table.n_weights};"
        yield "  }"
        yield "  const L u = c->u, v = 1 - u;"
        for name, terms in spline_bases(self.kernel).items():
            yield from (f"  c->{name}[{b}] = {term};" for b, term in enumerate(terms))
        yield "}"

    def _part(self) -> Iterator[str]:
        """Write the function that processes all edges of some atoms, and sets their rows of the result to zero first.

        Atoms without edges belong to the part of the next atom that has edges, or to the last part.
        """
        h = self.n_harmonics
        result, dim, n_atoms = self.summed
        if self.kernel.geometry:
            yield from horizontal_sums(self.width, {n for _, n in self._columns()})
        yield "static void part(const Arguments *a, S *gtable, long e, long stop_at) {"
        yield "  Chunk chunk; memset(&chunk, 0, sizeof chunk); Chunk *c = &chunk;"
        yield f"  V sums[{LANES}][{h + 1}];"
        yield f"  long row = e ? e < a->n_edges ? {self.key.format('e')} : a->{n_atoms} : 0;"
        yield f"  const long end = stop_at < a->n_edges ? {self.key.format('stop_at')} : a->{n_atoms};"
        yield "  for (long stop; e < stop_at; e = stop) {"
        yield f"    const long atom = {self.key.format('e')};"
        yield f"    memset(a->{result} + row*{dim}, 0, (atom + 1 - row)*{dim}*sizeof(S)); row = atom + 1;"
        yield f"    for (stop = e + 1; stop < stop_at && {self.key.format('stop')} == atom; stop++);"
        yield f"    for (long first = e; first < stop; first += {LANES}) {{"
        yield f"      c->n = stop - first < {LANES} ? (int)(stop - first) : {LANES};"
        yield "      prepare(a, c, gtable, first);"
        if self.kernel.geometry:
            yield "      memset(sums, 0, sizeof sums);"
        if self.forward:
            given = f"c, a->out + atom*{self.dim_out}"
        else:
            dx = f"a->dx + atom*{self.dim_in}" if self.jvp else "0"
            gx = f"a->gx + atom*{self.dim_in}"
            given = f"c, a->x + atom*{self.dim_in}, {dx}, {gx}, sums"
        yield from (f"      {group.name}({given});" for group in self.groups)
        if self.kernel.geometry:
            yield "      for (int k = 0; k < c->n; k++) {"
            yield "        const long edge = a->by_neighbor[first + k];"
            for first, n in self._columns():
                yield f"        totals{n}(sums[k] + {first}, a->gharmonics + edge*{h} + {first});"
            yield f"        a->gknot_coordinates[edge] = total(sums[k][{h}]);"
            yield "      }"
        yield "    }"
        yield "  }"
        yield f"  if (row < end) memset(a->{result} + row*{dim}, 0, (end - row)*{dim}*sizeof(S));"
        yield "}"

    def _columns(self) -> Iterator[tuple[int, int]]:
        """Divide the columns of the harmonics into parts that fill a vector: the first column, and how many."""
        for first in range(0, self.n_harmonics, self.width):
            yield first, min(self.width, self.n_harmonics - first)

    def _run(self) -> Iterator[str]:
        """Divide the edges between threads, always in the same way, and add up the threads' copies of the table."""
        size = f"a->n_rows*{self.table.n_weights}"
        yield "static long start(const Arguments *a, long p) {"
        yield "  long e = a->n_edges*p/a->n_parts;"
        yield f"  while (e > 0 && e < a->n_edges && {self.key.format('e')} == {self.key.format('e - 1')}) e++;"
        yield "  return e;"
        yield "}"
        yield "static void compute(const void *given, long p) {"
        yield "  const Arguments *a = given;"
        yield f"  part(a, a->gvalues + p*{size}, start(a, p), start(a, p + 1));"
        yield "}"
        if self.kernel.weights:
            yield "static void reduce(const void *given, long p) {"
            yield f"  const Arguments *a = given; const long n = {size}, n_parts = a->n_parts;"
            yield "  for (long w = n*p/n_parts; w < n*(p + 1)/n_parts; w++)"
            yield "    for (long q = 1; q < n_parts; q++) a->gvalues[w] += a->gvalues[q*n + w];"
            yield "}"
        yield "void run(const Arguments *a) {"
        yield "  each_part(compute, a, a->n_parts);"
        if self.kernel.weights:
            yield "  if (a->n_parts > 1) each_part(reduce, a, a->n_parts);"
        yield "}"
