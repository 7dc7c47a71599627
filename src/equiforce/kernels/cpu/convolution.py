"""The CPU backend of convolutions and of the edge geometry, which calls generated C.

``autograd.py`` makes differentiable functions from it. The Protocols in ``backend.py`` define each function.
"""

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from equiforce.graph import Topology
from equiforce.kernels.backend import NeedsGrad, Tangents
from equiforce.kernels.cpu import build
from equiforce.kernels.cpu.codegen.convolution import ARGUMENTS, ConvolutionKernel
from equiforce.kernels.cpu.codegen.edges import ARGUMENTS as EDGE_ARGUMENTS
from equiforce.kernels.cpu.codegen.edges import EdgeKernel, EdgeKind
from equiforce.kernels.cpu.codegen.groups import ConvolutionKind
from equiforce.kernels.cpu.launch import Allocate
from equiforce.kernels.cpu.targets import SCALARS
from equiforce.kernels.spec.paths import PathTable


def needed(table: PathTable, dtype: torch.dtype, training: bool) -> list[ConvolutionKernel]:
    """The kernels of a convolution for energies and forces, and with ``training`` those for the gradient of a loss."""
    scalar = SCALARS[dtype]
    kernels = [
        ConvolutionKernel(table, scalar, "forward"),
        ConvolutionKernel(table, scalar, "backward", geometry=True),
    ]
    if training:
        kernels += [
            ConvolutionKernel(table, scalar, "backward", weights=True),
            ConvolutionKernel(table, scalar, "forward", jvp=True),
            ConvolutionKernel(table, scalar, "backward", jvp=True, weights=True),
        ]
    return kernels


def needed_for_edges(l_max: int, dtype: torch.dtype) -> list[EdgeKernel]:
    """The kernels of the edge geometry for forces and training; Hessians also need ``backward_jvp``."""
    return [EdgeKernel(l_max, SCALARS[dtype], kind) for kind in ("forward", "backward", "jvp")]


@cache
def ready(table: PathTable, dtype: torch.dtype, training: bool) -> bool:
    """Compile the missing kernels of a convolution and return whether all can be used."""
    return dtype in SCALARS and build.ready(needed(table, dtype, training))


@cache
def edges_ready(l_max: int, dtype: torch.dtype) -> bool:
    """Compile the missing kernels of the edge geometry and return whether all can be used."""
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
    made = {"out": _summed(topology)}
    return ARGUMENTS.call(kernel, x, _sizes(topology, values, table), given, made)[0]


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
    # the gradient of x is always computed: the first layer alone does not need it, too little for another kernel
    kernel = _kernel(table, x.dtype, "backward", tangents is not None, geometry, weights)
    given = {**_given(x, harmonics, values, knot_coordinates, topology, tangents), "g": g}
    made = {"gx": _summed(topology)}
    made |= {"gharmonics": Tensor.new_empty, "gknot_coordinates": Tensor.new_empty} if geometry else {}
    made |= {"gvalues": Tensor.new_zeros} if weights else {}
    results = ARGUMENTS.call(kernel, x, _sizes(topology, values, table), given, made)
    gy, gt = results[1:3] if geometry else (None, None)
    return results[0], gy, results[-1][0] if weights else None, gt


def _summed(topology: Topology) -> Allocate:
    """How a sum over edges is allocated: kernels set it to zero, and none is called if there is no edge."""
    return Tensor.new_empty if topology.n_edges else Tensor.new_zeros


def _sizes(topology: Topology, values: Tensor, table: PathTable) -> dict[str, int]:
    return {
        **_widths(table),
        "n_edges": topology.n_edges,
        "n_rows": values.shape[0],
        "n_atoms": topology.n_atoms,
        "n_centers": topology.n_centers,
    }


@cache
def _widths(table: PathTable) -> dict[str, int]:
    dim_in, dim_out = table.dims
    n_harmonics = (table.l_max + 1) ** 2
    return {"n_harmonics": n_harmonics, "n_weights": table.n_weights, "dim_in": dim_in, "dim_out": dim_out}


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
        "by_neighbor": topology.by_neighbor,
        "x": x,
        "harmonics": harmonics,
        "values": values,
        "knot_coordinates": knot_coordinates,
        "dx": dx,
        "dharmonics": dy,
        "dknot_coordinates": dt,
    }


@cache
def _kernel(
    table: PathTable, dtype: torch.dtype, kind: ConvolutionKind, jvp: bool, *needs_grad: bool
) -> build.Function:
    return build.function(ConvolutionKernel(table, SCALARS[dtype], kind, jvp, *needs_grad))


def edge_geometry(vectors: Tensor, l_max: int, scale: float) -> tuple[Tensor, Tensor]:
    """See :class:`equiforce.kernels.backend.EdgeBackend`."""
    y, t = _edges("forward", vectors, l_max, scale, {}, ("harmonics", "knot_coordinates"))
    return y, t


def edge_geometry_backward(
    vectors: Tensor, g_harmonics: Tensor, g_coordinates: Tensor, l_max: int, scale: float
) -> Tensor:
    """See :class:`equiforce.kernels.backend.EdgeBackend`."""
    given = {"gharmonics": g_harmonics, "gknot_coordinates": g_coordinates}
    return _edges("backward", vectors, l_max, scale, given, ("gvectors",))[0]


def edge_geometry_jvp(vectors: Tensor, tangent: Tensor, l_max: int, scale: float) -> tuple[Tensor, Tensor]:
    """See :class:`equiforce.kernels.backend.EdgeBackend`."""
    y, t = _edges("jvp", vectors, l_max, scale, {"dvectors": tangent}, ("harmonics", "knot_coordinates"))
    return y, t


def edge_geometry_backward_jvp(
    vectors: Tensor, tangent: Tensor, g_harmonics: Tensor, g_coordinates: Tensor, l_max: int, scale: float
) -> Tensor:
    """See :class:`equiforce.kernels.backend.EdgeBackend`."""
    given = {"dvectors": tangent, "gharmonics": g_harmonics, "gknot_coordinates": g_coordinates}
    return _edges("backward_jvp", vectors, l_max, scale, given, ("gvectors",))[0]


def _edges(
    kind: EdgeKind, vectors: Tensor, l_max: int, scale: float, given: Mapping[str, Tensor | None], made: tuple[str, ...]
) -> list[Tensor]:
    sizes = {"n_edges": vectors.shape[0], "three": 3, "n_harmonics": (l_max + 1) ** 2}
    function = _edge_kernel(l_max, vectors.dtype, kind)
    return EDGE_ARGUMENTS.call(
        function, vectors, sizes, {**given, "vectors": vectors}, dict.fromkeys(made, Tensor.new_empty), (scale,)
    )


@cache
def _edge_kernel(l_max: int, dtype: torch.dtype, kind: EdgeKind) -> build.Function:
    return build.function(EdgeKernel(l_max, SCALARS[dtype], kind))
