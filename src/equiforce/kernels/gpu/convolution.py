"""The GPU backend of convolutions, which calls generated Triton. ``autograd.py`` makes differentiable functions of it.

No function waits for the GPU. There are no atomic additions, so the same input gives the same bits. Indices that depend
on the topology alone are computed once and kept with it. In a captured CUDA graph the edges must therefore stay the
same, while knot coordinates and features may change.
"""

from functools import cache
from types import ModuleType
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from equiforce.checks import version_of
from equiforce.graph import Topology
from equiforce.kernels.backend import NeedsGrad, Tangents
from equiforce.kernels.gpu.codegen import convolution as codegen
from equiforce.kernels.gpu.launch import (
    check_indices,
    check_size,
    checked,
    checked_tensor,
    interpreted,
    load,
)
from equiforce.kernels.gpu.programs import WARP, n_programs
from equiforce.kernels.spec.paths import PathTable

# Not yet tuned. A program with one warp needs no barrier and processes one edge of 32 channels at a time. A program
# with four warps processes four edges at a time and sums over them at its end. One warp is best if there are enough
# programs to fill a GPU: an H100 has 132 multiprocessors, each of which holds up to 32 programs.
FILLING = 132 * 32
WARPS_OF_MANY, WARPS_OF_FEW = 1, 4
# Not yet tuned. The edges between two knots are divided into at most MOST_SLICES slices, each with at least
# EDGES_OF_A_SLICE edges, because most edges of a crystal lie between few knots.
MOST_SLICES, EDGES_OF_A_SLICE = 8, 256


class Indices(NamedTuple):
    """The int32 indices of a topology that kernels read."""

    versions: tuple[int, ...]  # of the topology's centers, neighbors and by_neighbor
    centers: Int[Tensor, " edges"]
    neighbors: Int[Tensor, " edges"]
    center_starts: Int[Tensor, " atoms+1"]  # the first edge of each centre
    order: Int[Tensor, " edges"]  # permutation that sorts edges by neighbour
    ordered_centers: Int[Tensor, " edges"]  # centres in that order
    neighbor_starts: Int[Tensor, " atoms+1"]  # the first edge of each neighbour in that order


class EdgesByKnot(NamedTuple):
    """The edges sorted by the interval of knots in which they lie."""

    version: int  # of the knot coordinates
    n_rows: int
    order: Int[Tensor, " edges"]
    starts: Int[Tensor, " rows+1"]


def convolve_forward(
    x: Float[Tensor, "atoms features"],
    harmonics: Float[Tensor, "edges harmonics"],
    values: Float[Tensor, "rows weights"],
    knot_coordinates: Float[Tensor, " edges"],
    topology: Topology,
    table: PathTable,
    tangents: Tangents | None = None,
) -> Float[Tensor, "centers messages"]:
    """See :class:`equiforce.kernels.backend.ConvolutionBackend`."""
    given = _checked(x, harmonics, values, knot_coordinates, topology, table, tangents)
    n_centers, programs = topology.n_centers, n_programs(table, "forward")
    if not (topology.n_edges and programs):
        return x.new_zeros(n_centers, table.irreps_out.dim)
    out = x.new_empty(n_centers, table.irreps_out.dim)
    edges, n_warps = _edges(topology), _n_warps(n_centers * programs)
    with torch.cuda.device_of(x):
        kernel = _module(table, interpreted()).forward[n_centers, programs]
        kernel(
            *(*given, edges.neighbors, edges.center_starts, out, values.shape[0]),
            LANES=WARP * n_warps,
            JVP=tangents is not None,
            num_warps=n_warps,
        )
    return out


def convolve_backward(
    g: Float[Tensor, "centers messages"],
    x: Float[Tensor, "atoms features"],
    harmonics: Float[Tensor, "edges harmonics"],
    values: Float[Tensor, "rows weights"],
    knot_coordinates: Float[Tensor, " edges"],
    topology: Topology,
    table: PathTable,
    needs_grad: NeedsGrad,
    tangents: Tangents | None = None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """See :class:`equiforce.kernels.backend.ConvolutionBackend`.

    A separate kernel computes the gradient of the values, over edges sorted by their knots. It reads x and g a second
    time, but it does not read the spline values and needs no atomic additions, of which there would be 4·n_weights for
    each edge. So its results are exactly reproducible.
    """
    g = checked_tensor("convolve", x, "g", g, (topology.n_centers, table.irreps_out.dim))
    given = _checked(x, harmonics, values, knot_coordinates, topology, table, tangents)
    if not (topology.n_edges and table.paths):
        zeros = [torch.zeros_like(of) for of in (x, harmonics, values, knot_coordinates)]
        needed = (needs_grad.x, needs_grad.geometry, needs_grad.values, needs_grad.geometry)
        gx, gy, gvalues, gt = (zero if yes else None for zero, yes in zip(zeros, needed, strict=True))
        return gx, gy, gvalues, gt
    gx = geometry = gvalues = gy = gt = None
    with torch.cuda.device_of(x):
        if needs_grad.x or needs_grad.geometry:
            gx, geometry = _backward(g, given, topology, table, needs_grad)
        if needs_grad.values:
            gvalues = _values_gradient(g, given, topology, table)
    if geometry is not None:
        gy, gt = geometry[:, :-1], geometry[:, -1]
    return gx, gy, gvalues, gt


def _backward(
    g: Tensor, given: "Given", topology: Topology, table: PathTable, needs_grad: NeedsGrad
) -> tuple[Tensor | None, Tensor | None]:
    """Compute the gradient of x, and those of harmonics and knot coordinates side by side [edges, harmonics + 1]."""
    x, harmonics, values = given.x, given.harmonics, given.values
    n_atoms, programs = x.shape[0], n_programs(table, "backward")
    edges, n_warps = _edges(topology), _n_warps(n_atoms * programs)
    gx = torch.zeros_like(x) if needs_grad.x else None  # zeros, because some features may have no path
    geometry = x.new_empty(programs, topology.n_edges, harmonics.shape[1] + 1) if needs_grad.geometry else None
    _module(table, interpreted()).backward[n_atoms, programs](
        *(g, *given, edges.order, edges.ordered_centers, edges.neighbor_starts),
        *(gx, geometry, topology.n_edges, values.shape[0]),
        LANES=WARP * n_warps,
        JVP=given.dx is not None,
        X=needs_grad.x,
        GEOMETRY=needs_grad.geometry,
        num_warps=n_warps,
    )
    if geometry is not None:
        geometry = geometry[0] if programs == 1 else geometry.sum(0)
    return gx, geometry


def _values_gradient(g: Tensor, given: "Given", topology: Topology, table: PathTable) -> Float[Tensor, "rows weights"]:
    """Compute the gradient of the spline values."""
    x, harmonics, values, knot_coordinates, *tangents = given
    n_rows, programs = values.shape[0], n_programs(table, "knots")
    n_slices = max(1, min(MOST_SLICES, topology.n_edges // (n_rows * EDGES_OF_A_SLICE)))
    edges, knots, n_warps = _edges(topology), _edges_by_knot(knot_coordinates, n_rows), WARPS_OF_FEW
    copies = values.new_empty(4 * n_slices, n_rows, values.shape[1])
    _module(table, interpreted()).knots[n_rows, programs, n_slices](
        *(g, x, harmonics, knot_coordinates, *tangents),
        *(knots.order, edges.centers, edges.neighbors, knots.starts, copies, n_rows),
        LANES=WARP * n_warps,
        JVP=given.dx is not None,
        num_warps=n_warps,
    )
    return copies.sum(0)


class Given(NamedTuple):
    """The inputs of the kernels, checked and contiguous."""

    x: Tensor
    harmonics: Tensor
    values: Tensor
    knot_coordinates: Tensor
    dx: Tensor | None
    dharmonics: Tensor | None
    dknot_coordinates: Tensor | None


def _checked(
    x: Tensor,
    harmonics: Tensor,
    values: Tensor,
    knot_coordinates: Tensor,
    topology: Topology,
    table: PathTable,
    tangents: Tangents | None,
) -> Given:
    """Check all inputs except g; the indices of the topology are read by :func:`_edges`."""
    n_edges = topology.n_edges
    check_size("convolve", max(n_edges, topology.n_atoms))
    indices = {"centers": topology.centers, "neighbors": topology.neighbors, "by_neighbor": topology.by_neighbor}
    check_indices("convolve", x, n_edges, **indices)
    features, of_edges = (topology.n_atoms, table.irreps_in.dim), (n_edges, (table.l_max + 1) ** 2)
    dx, dy, dt = tangents or (None, None, None)
    return Given(
        checked_tensor("convolve", x, "x", x, features),
        checked_tensor("convolve", x, "harmonics", harmonics, of_edges),
        checked_tensor("convolve", x, "values", values, (len(values), table.n_weights)),
        checked_tensor("convolve", x, "knot_coordinates", knot_coordinates, (n_edges,)),
        *checked(
            "convolve",
            x,
            dx=(dx, features),
            dharmonics=(dy, of_edges),
            dknot_coordinates=(dt, (n_edges,)),
        ),
    )


def _n_warps(n_in_all: int) -> int:
    return WARPS_OF_MANY if n_in_all >= FILLING else WARPS_OF_FEW


_edges_of: WeakKeyDictionary[Topology, Indices] = WeakKeyDictionary()
_knots_kept = WeakTensorKeyDictionary()  # knot coordinates: EdgesByKnot


def _edges(topology: Topology) -> Indices:
    """The indices of a topology; they are computed when it is first used, and again when one was changed in place."""
    versions = tuple(map(version_of, (topology.centers, topology.neighbors, topology.by_neighbor)))
    found = _edges_of.get(topology)
    if found is None or found.versions != versions:
        atoms = torch.arange(topology.n_atoms + 1, device=topology.centers.device)
        order = topology.by_neighbor
        found = _edges_of[topology] = Indices(
            versions=versions,
            centers=topology.centers.int(),
            neighbors=topology.neighbors.int(),
            center_starts=torch.searchsorted(topology.centers, atoms, out_int32=True),
            order=order.int(),
            ordered_centers=topology.centers[order].int(),
            neighbor_starts=torch.searchsorted(topology.neighbors[order], atoms, out_int32=True),
        )
    return found


def _edges_by_knot(knot_coordinates: Float[Tensor, " edges"], n_rows: int) -> EdgesByKnot:
    """Sort the edges by knots; the result is cached for the other layers of the same pass."""
    version = version_of(knot_coordinates)
    found = _knots_kept.get(knot_coordinates)
    if found is None or (found.version, found.n_rows) != (version, n_rows):
        rows, order = knot_coordinates.detach().floor().clamp(0, n_rows - 4).int().sort(stable=True)
        starts = torch.searchsorted(rows, torch.arange(n_rows + 1, device=rows.device).int(), out_int32=True)
        found = _knots_kept[knot_coordinates] = EdgesByKnot(version, n_rows, order.int(), starts)
    return found


@cache
def _module(table: PathTable, interpret: bool) -> ModuleType:
    return load(codegen.source(table), interpret)
