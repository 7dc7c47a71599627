"""The convolution and its derivatives on the CPU, by generated C."""

import ctypes

import torch
from jaxtyping import Float
from torch import Tensor

from equiforce.graph import AtomicGraph
from equiforce.kernels import build
from equiforce.kernels.generate import Kernel
from equiforce.kernels.paths import PathTable, Tangents, Wanted

EDGES_OF_A_THREAD = 128  # fewer are not worth waking one
SCALARS = {torch.float32: "float", torch.float64: "double"}


def gather(
    x: Float[Tensor, "atoms features"],
    harmonics: Float[Tensor, "edges harmonics"],
    values: Float[Tensor, "rows weights"],
    positions: Float[Tensor, " edges"],
    graph: AtomicGraph,
    table: PathTable,
    tangents: Tangents | None = None,
) -> Float[Tensor, "atoms messages"]:
    """The convolution, or with tangents its derivative along them. Edges are sorted by centre."""
    kernel = Kernel(table, SCALARS[x.dtype], "gather", dual=tangents is not None)
    out = x.new_zeros(x.shape[0], table.irreps_out.dim)
    _run(kernel, graph, x, harmonics, values, positions, tangents, out=out)
    return out


def scatter(
    g: Float[Tensor, "atoms messages"],
    x: Float[Tensor, "atoms features"],
    harmonics: Float[Tensor, "edges harmonics"],
    values: Float[Tensor, "rows weights"],
    positions: Float[Tensor, " edges"],
    graph: AtomicGraph,
    table: PathTable,
    wanted: Wanted,
    tangents: Tangents | None = None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """The gradients with respect to x, harmonics, values and positions of <g, gather>, those that are wanted."""
    kernel = Kernel(table, SCALARS[x.dtype], "scatter", tangents is not None, *wanted)
    n_parts = _n_parts(graph)
    gx = torch.zeros_like(x) if wanted.x else None
    gy = torch.empty_like(harmonics) if wanted.geometry else None
    gt = torch.empty_like(positions) if wanted.geometry else None
    gtable = values.new_zeros(n_parts, *values.shape) if wanted.values else None
    _run(kernel, graph, x, harmonics, values, positions, tangents, g=g, gx=gx, gy=gy, gt=gt, gtable=gtable)
    return gx, gy, None if gtable is None else gtable[0], gt


def _n_parts(graph: AtomicGraph) -> int:
    return max(1, min(torch.get_num_threads(), graph.n_edges // EDGES_OF_A_THREAD))


def _run(
    kernel: Kernel,
    graph: AtomicGraph,
    x: Tensor,
    harmonics: Tensor,
    values: Tensor,
    positions: Tensor,
    tangents: Tangents | None,
    **others: Tensor | None,
) -> None:
    if graph.n_edges == 0:
        return
    dx, dy, dt = tangents or (None, None, None)
    pointers = {
        "centers": graph.centers, "neighbors": graph.neighbors, "order": graph.by_neighbor,
        "x": x, "y": harmonics, "table": values, "t": positions, "dx": dx, "dy": dy, "dt": dt, **others,
    }  # fmt: skip
    kept = {name: tensor.contiguous() for name, tensor in pointers.items() if tensor is not None}
    arguments = build.Arguments(
        n_parts=_n_parts(graph),
        n_edges=graph.n_edges,
        n_rows=values.shape[0],
        **{name: tensor.data_ptr() for name, tensor in kept.items()},
    )
    build.function(kernel)(ctypes.byref(arguments))
