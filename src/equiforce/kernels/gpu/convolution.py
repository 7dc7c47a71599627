"""The convolution and its derivatives on the GPU, by generated Triton: no autograd here, see ``autograd.py``.

Nothing waits for the GPU, and nothing is added atomically: the same input gives the same bits. What depends on the
topology alone is computed once and kept with it, so that under a captured CUDA graph the edges must stay those of the
capture; knot_coordinates and features may change.
"""

from functools import cache
from types import ModuleType
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from equiforce.graph import Topology
from equiforce.kernels.backend import NeedsGrad, Tangents
from equiforce.kernels.gpu.codegen import convolution as codegen
from equiforce.kernels.gpu.launch import check_size, checked, interpreted, load
from equiforce.kernels.gpu.programs import WARP, n_parts
from equiforce.kernels.spec.paths import PathTable

# Not yet tuned. A program of one warp has no barrier, and works on one edge of 32 channels at a time; one of four
# warps works on four edges at once and sums over them at its end. The first is best where there are enough programs to
# keep a GPU busy: an H100 has 132 multiprocessors, each of which holds up to 32 programs.
FILLING = 132 * 32
WARPS_OF_MANY, WARPS_OF_FEW = 1, 4
# Not yet tuned. Edges between two knots are shared out to at most so many programs, each with so many at least: in a
# crystal most edges lie between few knots.
MOST_SLICES, EDGES_OF_A_SLICE = 8, 256


class Indices(NamedTuple):
    """What kernels need to know of a topology, as int32."""

    centers: Int[Tensor, " edges"]
    neighbors: Int[Tensor, " edges"]
    center_starts: Int[Tensor, " atoms+1"]  # the first edge of each centre
    order: Int[Tensor, " edges"]  # by neighbour
    ordered_centers: Int[Tensor, " edges"]
    neighbor_starts: Int[Tensor, " atoms+1"]  # in that order


class EdgesByKnot(NamedTuple):
    """Edges in the order of the knots that they lie between."""

    version: int
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
    n_centers, parts = topology.n_centers, n_parts(table, "forward")
    if not (topology.n_edges and parts):
        return x.new_zeros(n_centers, table.irreps_out.dim)
    out = x.new_empty(n_centers, table.irreps_out.dim)
    edges, n_warps = _edges(topology), _n_warps(n_centers * parts)
    x, harmonics, values, knot_coordinates, *along = _checked(
        x, harmonics, values, knot_coordinates, topology, table, tangents
    )
    arguments = (
        x,
        harmonics,
        values,
        knot_coordinates,
        *along,
        edges.neighbors,
        edges.center_starts,
        out,
        values.shape[0],
    )
    with torch.cuda.device_of(x):
        kernel = _module(table, interpreted()).forward[n_centers, parts]
        kernel(*arguments, LANES=WARP * n_warps, JVP=tangents is not None, num_warps=n_warps)
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

    The gradient of the values is a kernel of its own, over edges sorted by their knots: it reads x and g once more, but
    not the table, needs no atomic additions, of which there would be 4·n_weights an edge, and repeats itself exactly.
    """
    if not (topology.n_edges and table.paths):
        zeros = [torch.zeros_like(of) for of in (x, harmonics, values, knot_coordinates)]
        asked = (needs_grad.x, needs_grad.geometry, needs_grad.values, needs_grad.geometry)
        gx, gy, gvalues, gt = (zero if yes else None for zero, yes in zip(zeros, asked, strict=True))
        return gx, gy, gvalues, gt
    (g,) = checked("convolve", x, g=(g, (topology.n_centers, table.irreps_out.dim)))
    x, harmonics, values, knot_coordinates, *along = _checked(
        x, harmonics, values, knot_coordinates, topology, table, tangents
    )
    gx = geometry = gvalues = gy = gt = None
    with torch.cuda.device_of(x):
        if needs_grad.x or needs_grad.geometry:
            gx, geometry = _backward(g, x, harmonics, values, knot_coordinates, topology, table, needs_grad, along)
        if needs_grad.values:
            gvalues = _knots(g, x, harmonics, values, knot_coordinates, topology, table, along)
    if geometry is not None:
        gy, gt = geometry[:, :-1], geometry[:, -1]
    return gx, gy, gvalues, gt


def _backward(
    g, x, harmonics, values, knot_coordinates, topology, table, needs_grad, along
) -> tuple[Tensor | None, Tensor | None]:
    """The gradient of x, and those of harmonics and position side by side [edges, harmonics + 1]."""
    n_atoms, parts = x.shape[0], n_parts(table, "backward")
    edges, n_warps = _edges(topology), _n_warps(n_atoms * parts)
    gx = torch.zeros_like(x) if needs_grad.x else None  # some features may go nowhere
    geometry = x.new_empty(parts, topology.n_edges, harmonics.shape[1] + 1) if needs_grad.geometry else None
    _module(table, interpreted()).backward[n_atoms, parts](
        *(g, x, harmonics, values, knot_coordinates, *along),
        *(edges.order, edges.ordered_centers, edges.neighbor_starts, gx, geometry, topology.n_edges, values.shape[0]),
        LANES=WARP * n_warps,
        JVP=along[0] is not None,
        X=needs_grad.x,
        GEOMETRY=needs_grad.geometry,
        num_warps=n_warps,
    )
    if geometry is not None:
        geometry = geometry[0] if parts == 1 else geometry.sum(0)
    return gx, geometry


def _knots(g, x, harmonics, values, knot_coordinates, topology, table, along) -> Float[Tensor, "rows weights"]:
    """The gradient of the values of the table."""
    n_rows, parts = values.shape[0], n_parts(table, "knots")
    n_slices = max(1, min(MOST_SLICES, topology.n_edges // (n_rows * EDGES_OF_A_SLICE)))
    edges, knots, n_warps = _edges(topology), _knots_of(knot_coordinates, n_rows), WARPS_OF_FEW
    copies = values.new_empty(4 * n_slices, n_rows, values.shape[1])
    _module(table, interpreted()).knots[n_rows, parts, n_slices](
        *(g, x, harmonics, knot_coordinates, *along),
        *(knots.order, edges.centers, edges.neighbors, knots.starts, copies, n_rows),
        LANES=WARP * n_warps,
        JVP=along[0] is not None,
        num_warps=n_warps,
    )
    return copies.sum(0)


def _checked(
    x: Tensor,
    harmonics: Tensor,
    values: Tensor,
    knot_coordinates: Tensor,
    topology: Topology,
    table: PathTable,
    tangents: Tangents | None,
) -> list[Tensor | None]:
    """Features, harmonics, values, knot coordinates and the three tangents, as the kernels read them."""
    n_edges = topology.n_edges
    check_size("convolve", max(n_edges, topology.n_atoms))
    features, of_edges = (topology.n_atoms, table.irreps_in.dim), (n_edges, (table.l_max + 1) ** 2)
    dx, dy, dt = tangents or (None, None, None)
    return checked(
        "convolve",
        x,
        x=(x, features),
        harmonics=(harmonics, of_edges),
        values=(values, (len(values), table.n_weights)),
        knot_coordinates=(knot_coordinates, (n_edges,)),
        dx=(dx, features),
        dharmonics=(dy, of_edges),
        dknot_coordinates=(dt, (n_edges,)),
    )


def _n_warps(n_programs: int) -> int:
    return WARPS_OF_MANY if n_programs >= FILLING else WARPS_OF_FEW


_edges_of: WeakKeyDictionary[Topology, Indices] = WeakKeyDictionary()
_knots_kept = WeakTensorKeyDictionary()  # knot coordinates: EdgesByKnot


def _edges(topology: Topology) -> Indices:
    """The indices of a topology, computed when it is first seen."""
    found = _edges_of.get(topology)
    if found is None:
        atoms = torch.arange(topology.n_atoms + 1, device=topology.centers.device)
        order = topology.by_neighbor
        found = Indices(
            centers=topology.centers.int(),
            neighbors=topology.neighbors.int(),
            center_starts=torch.searchsorted(topology.centers, atoms, out_int32=True),
            order=order.int(),
            ordered_centers=topology.centers[order].int(),
            neighbor_starts=torch.searchsorted(topology.neighbors[order], atoms, out_int32=True),
        )
        _edges_of[topology] = found
    return found


def _knots_of(knot_coordinates: Float[Tensor, " edges"], n_rows: int) -> EdgesByKnot:
    """The order of the edges by knots, kept for the other layers of the same pass."""
    version = 0 if knot_coordinates.is_inference() else knot_coordinates._version
    found = _knots_kept.get(knot_coordinates)
    if found is None or (found.version, found.n_rows) != (version, n_rows):
        rows, order = knot_coordinates.detach().floor().clamp(0, n_rows - 4).int().sort(stable=True)
        starts = torch.searchsorted(rows, torch.arange(n_rows + 1, device=rows.device).int(), out_int32=True)
        found = _knots_kept[knot_coordinates] = EdgesByKnot(version, n_rows, order.int(), starts)
    return found


@cache
def _module(table: PathTable, interpret: bool) -> ModuleType:
    return load(codegen.source(table), interpret)
