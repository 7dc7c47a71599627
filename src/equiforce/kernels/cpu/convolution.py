"""The convolution, its derivatives and the geometry of edges on the CPU, by generated C.

There is no autograd here: see ``autograd.py``. The Protocols in ``backend.py`` say what each function computes.
"""

from functools import cache

import torch
from torch import Tensor

from equiforce.graph import Topology
from equiforce.kernels.backend import NeedsGrad, Tangents
from equiforce.kernels.cpu import build
from equiforce.kernels.cpu.codegen.convolution import ARGUMENTS, ConvolutionKernel
from equiforce.kernels.cpu.codegen.edges import ARGUMENTS as EDGE_ARGUMENTS
from equiforce.kernels.cpu.codegen.edges import EdgeKernel
from equiforce.kernels.cpu.targets import SCALARS
from equiforce.kernels.spec.paths import PathTable


def needed(table: PathTable, dtype: torch.dtype, training: bool) -> list[ConvolutionKernel]:
    """The kernels of a convolution: those of energies and forces, and with ``training`` those of a loss of both."""
    scalar = SCALARS[dtype]
    kernels = [
        ConvolutionKernel(table, scalar, "forward"),
        ConvolutionKernel(table, scalar, "backward", x=True, geometry=True),
    ]
    if training:
        kernels += [
            ConvolutionKernel(table, scalar, "backward", x=True, weights=True),
            ConvolutionKernel(table, scalar, "forward", jvp=True),
            ConvolutionKernel(table, scalar, "backward", jvp=True, x=True, weights=True),
        ]
    return kernels


def needed_for_edges(l_max: int, dtype: torch.dtype) -> list[EdgeKernel]:
    """The kernels of the edge geometry."""
    return [EdgeKernel(l_max, SCALARS[dtype], kind) for kind in ("forward", "backward", "jvp")]


@cache
def ready(table: PathTable, dtype: torch.dtype, training: bool) -> bool:
    """Whether the kernels of a convolution can be used; compiles those that are missing."""
    return dtype in SCALARS and build.ready(needed(table, dtype, training))


@cache
def edges_ready(l_max: int, dtype: torch.dtype) -> bool:
    """Whether the kernels of the edge geometry can be used; compiles those that are missing."""
    return dtype in SCALARS and build.ready(needed_for_edges(l_max, dtype))


def convolve_forward(
    x: Tensor,
    harmonics: Tensor,
    values: Tensor,
    knot_coordinates: Tensor,
    topology: Topology,
    table: PathTable,
    tangents: Tangents | None = None,
) -> Tensor:
    """See :class:`equiforce.kernels.backend.ConvolutionBackend`."""
    kernel = _kernel(table, x.dtype, "forward", tangents is not None)
    given = _given(x, harmonics, values, knot_coordinates, topology, tangents)
    made = {"out": torch.zeros}
    return ARGUMENTS.call(kernel, x.dtype, _sizes(topology, values, table), given, made)[0]


def convolve_backward(
    g: Tensor,
    x: Tensor,
    harmonics: Tensor,
    values: Tensor,
    knot_coordinates: Tensor,
    topology: Topology,
    table: PathTable,
    needs_grad: NeedsGrad,
    tangents: Tangents | None = None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """See :class:`equiforce.kernels.backend.ConvolutionBackend`."""
    _, geometry, weights = needs_grad
    # whoever needs one of the others needs that of x too, except in a first layer, which is not worth its own kernel
    kernel = _kernel(table, x.dtype, "backward", tangents is not None, True, geometry, weights)
    given = {**_given(x, harmonics, values, knot_coordinates, topology, tangents), "g": g}
    made = {"gx": torch.zeros}
    made |= {"gharmonics": torch.empty, "gknot_coordinates": torch.empty} if geometry else {}
    made |= {"gvalues": torch.zeros} if weights else {}
    results = ARGUMENTS.call(kernel, x.dtype, _sizes(topology, values, table), given, made)
    gy, gt = results[1:3] if geometry else (None, None)
    return results[0], gy, results[-1][0] if weights else None, gt


def _sizes(topology: Topology, values: Tensor, table: PathTable) -> dict[str, int]:
    dim_in, dim_out = table.dims
    return {
        "n_edges": topology.n_edges,
        "n_rows": len(values),
        "n_atoms": topology.n_atoms,
        "n_centers": topology.n_centers,
        "n_harmonics": (table.l_max + 1) ** 2,
        "n_weights": table.n_weights,
        "dim_in": dim_in,
        "dim_out": dim_out,
    }


def _given(
    x: Tensor,
    harmonics: Tensor,
    values: Tensor,
    knot_coordinates: Tensor,
    topology: Topology,
    tangents: Tangents | None,
) -> dict[str, Tensor | None]:
    dx, dy, dt = tangents or (None, None, None)
    return {
        "centers": topology.centers,
        "neighbors": topology.neighbors,
        "order": topology.by_neighbor,
        "x": x,
        "harmonics": harmonics,
        "values": values,
        "knot_coordinates": knot_coordinates,
        "dx": dx,
        "dharmonics": dy,
        "dknot_coordinates": dt,
    }


@cache
def _kernel(table: PathTable, dtype: torch.dtype, kind: str, jvp: bool, *needs_grad: bool) -> build.Function:
    return build.function(ConvolutionKernel(table, SCALARS[dtype], kind, jvp, *needs_grad))


def edge_geometry(vectors: Tensor, l_max: int, scale: float) -> tuple[Tensor, Tensor]:
    """See :class:`equiforce.kernels.backend.EdgeBackend`."""
    y, t = _edges("forward", vectors, l_max, scale, {}, ("y", "t"))
    return y, t


def edge_geometry_backward(
    vectors: Tensor, g_harmonics: Tensor, g_coordinates: Tensor, l_max: int, scale: float
) -> Tensor:
    """See :class:`equiforce.kernels.backend.EdgeBackend`."""
    return _edges("backward", vectors, l_max, scale, {"gy": g_harmonics, "gt": g_coordinates}, ("gv",))[0]


def edge_geometry_jvp(vectors: Tensor, tangent: Tensor, l_max: int, scale: float) -> tuple[Tensor, Tensor]:
    """See :class:`equiforce.kernels.backend.EdgeBackend`."""
    y, t = _edges("jvp", vectors, l_max, scale, {"dv": tangent}, ("y", "t"))
    return y, t


def edge_geometry_backward_jvp(
    vectors: Tensor, tangent: Tensor, g_harmonics: Tensor, g_coordinates: Tensor, l_max: int, scale: float
) -> Tensor:
    """See :class:`equiforce.kernels.backend.EdgeBackend`."""
    given = {"dv": tangent, "gy": g_harmonics, "gt": g_coordinates}
    return _edges("backward_jvp", vectors, l_max, scale, given, ("gv",))[0]


def _edges(
    kind: str, vectors: Tensor, l_max: int, scale: float, given: dict[str, Tensor | None], made: tuple[str, ...]
) -> list[Tensor]:
    sizes = {"n_edges": len(vectors), "three": 3, "n_harmonics": (l_max + 1) ** 2}
    function = _edge_kernel(l_max, vectors.dtype, kind)
    return EDGE_ARGUMENTS.call(
        function, vectors.dtype, sizes, {**given, "v": vectors}, dict.fromkeys(made, torch.empty), (scale,)
    )


@cache
def _edge_kernel(l_max: int, dtype: torch.dtype, kind: str) -> build.Function:
    return build.function(EdgeKernel(l_max, SCALARS[dtype], kind))
