"""The Triton source that evaluates splines on edges, as ``lookup.c`` does on CPUs.

``lookup_rows`` and ``lookup_strengths`` process tiles of edges by columns. ``lookup_table`` loops over the edges of one
kind between two knots and writes four rows, each into a different copy of the table's gradient. The gradient is the
sum of the copies.
"""

from equiforce.kernels.gpu.codegen.convolution import PRELUDE

# ``minimum`` hides from the compiler that the indices of edges are consecutive. Otherwise it would load knot
# coordinates with the edges along the lanes, and would then have to pass its results through shared memory.

LOOKUPS = '''

@triton.jit
def basis(knot_coordinates, strengths, edge, valid, n_rows, S: tl.constexpr, ORDER: tl.constexpr):
    """The first row that each edge reads, and its strength times a derivative of the four splines."""
    first, beyond, inside = place(tl.load(knot_coordinates + edge), n_rows)
    scale = tl.where(valid, 1.0, 0.0).to(S)
    if strengths is not None:
        scale = scale * tl.load(strengths + edge)
    if ORDER > 0:  # beyond the last knot splines are constant
        scale = scale * inside
    if ORDER == 0:
        b0, b1, b2, b3 = splines(beyond, scale)
    elif ORDER == 1:
        b0, b1, b2, b3 = slopes(beyond, scale)
    elif ORDER == 2:
        b0, b1, b2, b3 = bends(beyond, scale)
    elif ORDER == 3:
        b0, b1, b2, b3 = -scale, 3.0 * scale, -3.0 * scale, scale
    else:
        b0, b1, b2, b3 = 0.0 * scale, 0.0 * scale, 0.0 * scale, 0.0 * scale
    return first, b0, b1, b2, b3


@triton.jit
def weighted_rows(row, live, b0, b1, b2, b3, COLUMNS: tl.constexpr):
    """The sum of four rows of a table with the given factors."""
    r0 = tl.load(row, mask=live, other=0.0)
    r1 = tl.load(row + COLUMNS, mask=live, other=0.0)
    r2 = tl.load(row + 2 * COLUMNS, mask=live, other=0.0)
    r3 = tl.load(row + 3 * COLUMNS, mask=live, other=0.0)
    return b0 * r0 + b1 * r1 + b2 * r2 + b3 * r3


@triton.jit(do_not_specialize=["n_edges", "n_rows"])
def lookup_rows(out, table, strengths, knot_coordinates, kinds, n_edges, n_rows,
                COLUMNS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, ORDER: tl.constexpr):
    zero = tl.full([ROWS, WIDTH], 0, tl.int32)
    lane = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None] + zero
    column = tl.arange(0, WIDTH)[None, :] + zero
    edge, valid = tl.minimum(lane, n_edges - 1).to(tl.int64), lane < n_edges
    first, b0, b1, b2, b3 = basis(knot_coordinates, strengths, edge, valid, n_rows, out.dtype.element_ty, ORDER)
    row = table + (tl.load(kinds + edge).to(tl.int64) * n_rows + first) * COLUMNS + column
    for begin in range(0, COLUMNS, WIDTH):
        live = valid & (begin + column < COLUMNS)
        value = weighted_rows(row + begin, live, b0, b1, b2, b3, COLUMNS)
        tl.store(out + edge * COLUMNS + begin + column, value, mask=live)


@triton.jit(do_not_specialize=["n_edges", "n_rows"])
def lookup_strengths(rows, table, out, knot_coordinates, kinds, n_edges, n_rows,
                     COLUMNS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, ORDER: tl.constexpr):
    zero = tl.full([ROWS, WIDTH], 0, tl.int32)
    lane = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None] + zero
    column = tl.arange(0, WIDTH)[None, :] + zero
    edge, valid = tl.minimum(lane, n_edges - 1).to(tl.int64), lane < n_edges
    first, b0, b1, b2, b3 = basis(knot_coordinates, None, edge, valid, n_rows, out.dtype.element_ty, ORDER)
    row = table + (tl.load(kinds + edge).to(tl.int64) * n_rows + first) * COLUMNS + column
    total = zero.to(out.dtype.element_ty)
    for begin in range(0, COLUMNS, WIDTH):
        live = valid & (begin + column < COLUMNS)
        given = tl.load(rows + edge * COLUMNS + begin + column, mask=live, other=0.0)
        total += given * weighted_rows(row + begin, live, b0, b1, b2, b3, COLUMNS)
    tl.store(out + edge, tl.reduce(total, 1, add, keep_dims=True) + zero, mask=valid & (column == 0))


@triton.jit
def store(out, total, b, live, c, n_all_rows, COLUMNS: tl.constexpr):
    """Row k + b of copy b, cyclic: rows without edges get the zeros of the last three programs of each kind."""
    copy = (tl.program_id(2) * 4 + b).to(tl.int64) * n_all_rows + (tl.program_id(0) + b) % n_all_rows
    tl.store(out + copy * COLUMNS + c, tl.reduce(total, 0, add, keep_dims=True) + 0 * c, mask=live)


@triton.jit(do_not_specialize=["n_all_rows", "n_rows"])
def lookup_table(rows, out, strengths, knot_coordinates, by_row, starts, n_all_rows, n_rows,
                 COLUMNS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, ORDER: tl.constexpr):
    zero = tl.full([ROWS, WIDTH], 0, tl.int32)
    lane = tl.arange(0, ROWS)[:, None] + zero
    c = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)[None, :] + zero
    start = tl.load(starts + tl.program_id(0))
    stop = tl.load(starts + tl.program_id(0) + 1)
    s0 = zero.to(out.dtype.element_ty)
    s1, s2, s3 = s0, s0, s0
    for at in range(start + ROWS * tl.program_id(2), stop, ROWS * tl.num_programs(2)):
        valid = at + lane < stop
        edge = tl.load(by_row + tl.minimum(at + lane, stop - 1)).to(tl.int64)
        first, b0, b1, b2, b3 = basis(knot_coordinates, strengths, edge, valid, n_rows, out.dtype.element_ty, ORDER)
        given = tl.load(rows + edge * COLUMNS + c, mask=c < COLUMNS, other=0.0)
        s0 += b0 * given
        s1 += b1 * given
        s2 += b2 * given
        s3 += b3 * given
    live = (lane == 0) & (c < COLUMNS)
    store(out, s0, 0, live, c, n_all_rows, COLUMNS)
    store(out, s1, 1, live, c, n_all_rows, COLUMNS)
    store(out, s2, 2, live, c, n_all_rows, COLUMNS)
    store(out, s3, 3, live, c, n_all_rows, COLUMNS)
'''

SOURCE = f'"""Splines on edges."""\n\n{PRELUDE}{LOOKUPS}'
