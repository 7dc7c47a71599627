"""The convolution and its derivatives on the CPU, by generated C."""

import ctypes
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from equiforce.graph import Topology
from equiforce.kernels.cpu import build
from equiforce.kernels.cpu.codegen.convolution import ConvolutionKernel
from equiforce.kernels.cpu.codegen.edges import EdgeKernel
from equiforce.kernels.cpu.targets import SCALARS
from equiforce.kernels.spec.paths import NeedsGrad, PathTable, Tangents

EDGES_OF_A_THREAD = 128  # fewer are not worth waking one
POINTERS = ("centers", "neighbors", "order", "x", "y", "table", "t", "g", "dx", "dy", "dt")
RESULTS = ("out", "gx", "gy", "gt", "gtable")


class Arguments(ctypes.Structure):
    """``generate.SIGNATURE``."""

    _fields_ = tuple((name, ctypes.c_long) for name in ("n_parts", "n_edges", "n_rows")) + tuple(
        (name, ctypes.c_void_p) for name in (*POINTERS, *RESULTS)
    )


class EdgeArguments(ctypes.Structure):
    """``generate_edges.SIGNATURE``, for each precision."""

    _fields_ = tuple((name, ctypes.c_long) for name in ("n_parts", "n_edges")) + tuple(
        (name, ctypes.c_void_p) for name in ("v", "dv", "gy", "gt", "y", "t", "gv")
    )


class _Edges32(EdgeArguments):
    _fields_ = (("scale", ctypes.c_float),)


class _Edges64(EdgeArguments):
    _fields_ = (("scale", ctypes.c_double),)


def needed(table: PathTable, dtype: torch.dtype, training: bool) -> list[ConvolutionKernel]:
    """What a convolution needs for energies and forces, and to be trained on them."""
    scalar = SCALARS[dtype]
    kernels = [
        ConvolutionKernel(table, scalar, "gather"),
        ConvolutionKernel(table, scalar, "scatter", x=True, geometry=True),
    ]
    if training:
        kernels += [
            ConvolutionKernel(table, scalar, "scatter", x=True, weights=True),
            ConvolutionKernel(table, scalar, "gather", jvp=True),
            ConvolutionKernel(table, scalar, "scatter", jvp=True, x=True, weights=True),
        ]
    return kernels


def needed_for_edges(l_max: int, dtype: torch.dtype) -> list[EdgeKernel]:
    """What edges need."""
    return [EdgeKernel(l_max, SCALARS[dtype], kind) for kind in ("forward", "transpose", "tangent")]


@cache
def ready(table: PathTable, dtype: torch.dtype, training: bool) -> bool:
    """Whether there is all that a convolution needs; compiles what is missing."""
    return dtype in SCALARS and build.ready(needed(table, dtype, training))


@cache
def edges_ready(l_max: int, dtype: torch.dtype) -> bool:
    """Whether there is all that edges need; compiles what is missing."""
    return dtype in SCALARS and build.ready(needed_for_edges(l_max, dtype))


def gather(
    x: Float[Tensor, "atoms features"],
    harmonics: Float[Tensor, "edges harmonics"],
    values: Float[Tensor, "rows weights"],
    positions: Float[Tensor, " edges"],
    topology: Topology,
    table: PathTable,
    tangents: Tangents | None = None,
) -> Float[Tensor, "centers messages"]:
    """The convolution, or with tangents its derivative along them. Edges are sorted by centre."""
    kernel = _kernel(table, x.dtype, "gather", tangents is not None)
    out = x.new_zeros(topology.n_centers, table.dims[1])
    _run(kernel, topology, x, harmonics, values, positions, tangents, out=out)
    return out


def scatter(
    g: Float[Tensor, "centers messages"],
    x: Float[Tensor, "atoms features"],
    harmonics: Float[Tensor, "edges harmonics"],
    values: Float[Tensor, "rows weights"],
    positions: Float[Tensor, " edges"],
    topology: Topology,
    table: PathTable,
    wanted: NeedsGrad,
    tangents: Tangents | None = None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """The gradients with respect to x, harmonics, values and positions of <g, gather>, those that are wanted."""
    # where the geometry is wanted so is x, but in a first layer, which is not worth a kernel of its own
    wanted = wanted._replace(x=wanted.x or wanted.geometry or wanted.values)
    kernel = _kernel(table, x.dtype, "scatter", tangents is not None, *wanted)
    n_parts = _n_parts(topology.n_edges)
    gx = torch.zeros_like(x) if wanted.x else None
    gy = torch.empty_like(harmonics) if wanted.geometry else None
    gt = torch.empty_like(positions) if wanted.geometry else None
    gtable = values.new_zeros(n_parts, *values.shape) if wanted.values else None
    _run(kernel, topology, x, harmonics, values, positions, tangents, g=g, gx=gx, gy=gy, gt=gt, gtable=gtable)
    return gx, gy, None if gtable is None else gtable[0], gt


@cache
def _kernel(table: PathTable, dtype: torch.dtype, *which: Any) -> build.Function:
    return build.function(ConvolutionKernel(table, SCALARS[dtype], *which))


@cache
def _edge_kernel(*which: Any) -> build.Function:
    return build.function(EdgeKernel(*which))


def edges(vectors: Float[Tensor, "edges 3"], l_max: int, scale: float) -> tuple[Tensor, Tensor]:
    """Y of each vector's direction [edges, harmonics], and ``scale`` times its length [edges]."""
    y, t = vectors.new_empty(len(vectors), (l_max + 1) ** 2), vectors.new_empty(len(vectors))
    _run_edges("forward", l_max, scale, vectors, y=y, t=t)
    return y, t


def edges_transpose(vectors: Tensor, g_harmonics: Tensor, g_positions: Tensor, l_max: int, scale: float) -> Tensor:
    """The gradient of the vectors, from those of what :func:`edges` gives."""
    gv = torch.empty_like(vectors)
    _run_edges("transpose", l_max, scale, vectors, gy=g_harmonics, gt=g_positions, gv=gv)
    return gv


def edges_tangent(vectors: Tensor, tangent: Tensor, l_max: int, scale: float) -> tuple[Tensor, Tensor]:
    """How what :func:`edges` gives changes with the vectors, along ``tangent``."""
    y, t = vectors.new_empty(len(vectors), (l_max + 1) ** 2), vectors.new_empty(len(vectors))
    _run_edges("tangent", l_max, scale, vectors, dv=tangent, y=y, t=t)
    return y, t


def edges_curvature(
    vectors: Tensor, tangent: Tensor, g_harmonics: Tensor, g_positions: Tensor, l_max: int, scale: float
) -> Tensor:
    """How :func:`edges_transpose` changes with the vectors, along ``tangent``; Hessians need it."""
    gv = torch.empty_like(vectors)
    _run_edges("curvature", l_max, scale, vectors, dv=tangent, gy=g_harmonics, gt=g_positions, gv=gv)
    return gv


def _n_parts(n_edges: int) -> int:
    return max(1, min(torch.get_num_threads(), n_edges // EDGES_OF_A_THREAD))


def _run_edges(kind: str, l_max: int, scale: float, vectors: Tensor, **others: Tensor) -> None:
    n_edges, dtype = len(vectors), vectors.dtype
    kept = {name: tensor.contiguous() for name, tensor in (("v", vectors), *others.items())}
    arguments = (_Edges32 if dtype == torch.float32 else _Edges64)(
        n_parts=_n_parts(n_edges // 8),  # they are quick
        n_edges=n_edges,
        scale=scale,
        **{name: tensor.data_ptr() for name, tensor in kept.items()},
    )
    _edge_kernel(l_max, SCALARS[dtype], kind)(ctypes.byref(arguments))


def _run(
    run: build.Function,
    topology: Topology,
    x: Tensor,
    harmonics: Tensor,
    values: Tensor,
    positions: Tensor,
    tangents: Tangents | None,
    **others: Tensor | None,
) -> None:
    if topology.n_edges == 0:
        return
    dx, dy, dt = tangents or (None, None, None)
    pointers = {
        "centers": topology.centers, "neighbors": topology.neighbors, "order": topology.by_neighbor,
        "x": x, "y": harmonics, "table": values, "t": positions, "dx": dx, "dy": dy, "dt": dt, **others,
    }  # fmt: skip
    kept = {name: tensor.contiguous() for name, tensor in pointers.items() if tensor is not None}
    arguments = Arguments(
        n_parts=_n_parts(topology.n_edges),
        n_edges=topology.n_edges,
        n_rows=values.shape[0],
        **{name: tensor.data_ptr() for name, tensor in kept.items()},
    )
    run(ctypes.byref(arguments))
