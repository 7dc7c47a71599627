"""The GPU backend of strictly local models, which calls generated Triton.

``autograd.py`` makes differentiable functions of it. As in ``convolution.py`` no function waits for the GPU and there
are no atomic additions. The first edge of each atom is computed once for each tensor of centres.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from equiforce.checks import version_of
from equiforce.kernels.backend import ActArgument, CoupleArgument, EnvironmentArgument, LookupArgument
from equiforce.kernels.gpu.codegen import lookup as codegen_lookup
from equiforce.kernels.gpu.codegen.local import TritonModule, environments, products, width_of
from equiforce.kernels.gpu.convolution import EDGES_OF_A_SLICE, FILLING, MOST_SLICES, WARPS_OF_FEW, WARPS_OF_MANY
from equiforce.kernels.gpu.launch import (
    check_indices,
    check_size,
    checked,
    checked_tensor,
    interpreted,
    load,
)
from equiforce.kernels.gpu.programs import WARP
from equiforce.kernels.spec.couplings import CouplingTable

# Not yet measured: the largest number of copies of the gradient of the path weights, each a sum over some atoms.
MOST_COPIES = 512
LANES = WARP * WARPS_OF_FEW  # lanes of a program that evaluates splines


class Starts(NamedTuple):
    """The first edge of each atom."""

    version: int  # of the centres
    n_centers: int
    starts: Int[Tensor, " atoms+1"]


def environment(
    result: EnvironmentArgument,
    first: Tensor,
    second: Tensor,
    centers: Int[Tensor, " edges"] | None,
    n_centers: int,
    l_max: int,
    channels: int,
) -> Tensor:
    """See :class:`equiforce.kernels.backend.LocalBackend`."""
    module, n_degrees, n_edges = (
        environments(l_max, channels),
        l_max + 1,
        n_centers if centers is None else len(centers),
    )
    shapes: dict[str, tuple[int, ...]] = {
        "environment": (n_centers, n_degrees**2 * channels),
        "weights": (n_edges, n_degrees * channels),
        "harmonics": (n_edges, n_degrees**2),
    }
    a, b = _others("environment", result, (first, second), shapes)
    if centers is not None:
        check_indices("environment", a, n_edges, centers=centers)
    if result == "environment":
        out = a.new_empty(n_centers, n_degrees**2 * channels)
    elif result == "weights":
        out = a.new_empty(n_edges, n_degrees * channels)
    else:  # a copy for each block of channels
        out = a.new_empty(module.programs[result], n_edges, n_degrees**2)
    roles = {"environment": (out, a, b), "weights": (a, out, b), "harmonics": (a, b, out)}[result]
    if centers is None:
        _by_tile(module, result, _n_tiles(module, n_edges), *roles, None, n_edges)
    else:
        _by_atom(module, result, n_centers, *roles, _starts(centers, n_centers), n_edges)
    return out.sum(0) if result == "harmonics" else out


def couple(result: CoupleArgument, first: Tensor, second: Tensor, table: CouplingTable) -> Tensor:
    """See :class:`equiforce.kernels.backend.LocalBackend`."""
    module, n_centers = products(table), len(first)
    shapes: dict[str, tuple[int, ...]] = {
        "operator": (n_centers, len(table.elements) * table.channels),
        "environment": (n_centers, table.dim_environment),
        "weights": (table.n_paths, table.channels),
    }
    a, b = _others("couple", result, (first, second), shapes)
    n_programs = _n_tiles(module, n_centers)
    if result == "weights":  # each program computes a part of the sum; the parts are added at the end
        n_programs = max(1, min(MOST_COPIES, n_programs))
        out = a.new_empty(n_programs, table.n_paths, table.channels)
    else:
        out = a.new_empty(shapes[result])
    roles = {"operator": (out, a, b), "environment": (a, out, b), "weights": (a, b, out)}[result]
    _by_tile(module, f"couple_{result}", n_programs, *roles, n_centers)
    return out.sum(0) if result == "weights" else out


def act(
    result: ActArgument,
    first: Tensor,
    second: Tensor,
    centers: Int[Tensor, " edges"],
    n_centers: int,
    table: CouplingTable,
) -> Tensor:
    """See :class:`equiforce.kernels.backend.LocalBackend`."""
    shapes: dict[str, tuple[int, ...]] = {
        "result": (len(centers), table.dims[1]),
        "operator": (n_centers, len(table.elements) * table.channels),
        "features": (len(centers), table.dims[0]),
    }
    a, b = _others("act", result, (first, second), shapes)
    check_indices("act", a, len(centers), centers=centers)
    out = a.new_empty(shapes[result])
    roles = {"result": (out, a, b), "operator": (a, out, b), "features": (a, b, out)}[result]
    _by_atom(products(table), f"act_{result}", n_centers, *roles, _starts(centers, n_centers))
    return out


def lookup(
    result: LookupArgument,
    first: Tensor,
    second: Tensor | None,
    knot_coordinates: Float[Tensor, " edges"],
    kinds: Int[Tensor, " edges"],
    shape: tuple[int, int, int],
    order: int,
) -> Tensor:
    """See :class:`equiforce.kernels.backend.LocalBackend`."""
    n = (len(knot_coordinates),)
    a, b = _others("lookup", result, (first, second), {"rows": (*n, shape[2]), "table": shape, "strengths": n})
    knot_coordinates = checked_tensor("lookup", a, "knot_coordinates", knot_coordinates, n)
    check_indices("lookup", a, *n, kinds=kinds)
    kinds = kinds.contiguous()
    if result == "table":
        return _table(a, b, knot_coordinates, kinds, shape, order)
    n_edges, (_, n_rows, n_columns) = len(knot_coordinates), shape
    out = a.new_empty(n_edges, n_columns) if result == "rows" else a.new_empty(n_edges)
    module = load(codegen_lookup.SOURCE, interpreted())
    kernel, roles = (module.lookup_rows, (out, a, b)) if result == "rows" else (module.lookup_strengths, (a, b, out))
    if n_edges:
        width = width_of(n_columns)
        with torch.cuda.device_of(a):
            kernel[-(-n_edges * width // LANES),](
                *(*roles, knot_coordinates, kinds, n_edges, n_rows), **_options(n_columns, order)
            )
    return out


def _others(
    operation: str, result: str, given: tuple[Tensor, Tensor | None], shapes: dict[str, tuple[int, ...]]
) -> tuple[Tensor, Tensor | None]:
    """Check dtype, shape and device of the two arguments of a form that are given."""
    check_size(operation, max(shape[0] for shape in shapes.values()))
    one, other = (name for name in shapes if name != result)
    first, second = given
    (checked_second,) = checked(operation, first, **{other: (second, shapes[other])})
    return checked_tensor(operation, first, one, first, shapes[one]), checked_second


def _table(
    rows: Float[Tensor, "edges columns"],
    strengths: Float[Tensor, " edges"] | None,
    knot_coordinates: Float[Tensor, " edges"],
    kinds: Int[Tensor, " edges"],
    shape: tuple[int, int, int],
    order: int,
) -> Float[Tensor, "kinds rows columns"]:
    """Compute the gradient of a table by a kernel over edges sorted by the rows that they read."""
    n_edges, (n_kinds, n_rows, n_columns) = len(knot_coordinates), shape
    n_all_rows = n_kinds * n_rows
    n_slices = max(1, min(MOST_SLICES, n_edges // (n_all_rows * EDGES_OF_A_SLICE)))
    copies = rows.new_empty(4 * n_slices, *shape)
    edges = _edges_by_row(knot_coordinates, kinds, n_kinds, n_rows)
    kernel = load(codegen_lookup.SOURCE, interpreted()).lookup_table
    with torch.cuda.device_of(rows):
        kernel[n_all_rows, -(-n_columns // width_of(n_columns)), n_slices](
            *(rows, copies, strengths, knot_coordinates, *edges, n_all_rows, n_rows), **_options(n_columns, order)
        )
    return copies.sum(0)


def _options(n_columns: int, order: int) -> dict[str, int]:
    """The size of a tile of edges by columns, and the order of the derivative; derivatives above the third are zero."""
    tile = {"COLUMNS": n_columns, "WIDTH": width_of(n_columns), "ROWS": LANES // width_of(n_columns)}
    return {**tile, "ORDER": min(order, 4), "num_warps": WARPS_OF_FEW}


def _edges_by_row(
    knot_coordinates: Float[Tensor, " edges"], kinds: Int[Tensor, " edges"], n_kinds: int, n_rows: int
) -> tuple[Int[Tensor, " edges"], Int[Tensor, " {n_kinds}*{n_rows}+1"]]:
    """Sort the edges by the first row that they read, and return their permutation and the first edge of each row."""
    rows = kinds * n_rows + knot_coordinates.floor().clamp(0, n_rows - 4).to(kinds.dtype)
    rows, by_row = rows.sort(stable=True)
    all_rows = torch.arange(n_kinds * n_rows + 1, dtype=rows.dtype, device=rows.device)
    return by_row, torch.searchsorted(rows, all_rows, out_int32=True)


def _n_tiles(module: TritonModule, n_rows: int) -> int:
    return -(-n_rows // module.n_rows(WARPS_OF_FEW))


def _by_tile(module: TritonModule, name: str, n_programs: int, *arguments: Tensor | int | None) -> None:
    """Run a kernel over tiles of independent rows."""
    _launch(module, name, n_programs, WARPS_OF_FEW, *arguments)


def _by_atom(module: TritonModule, name: str, n_centers: int, *arguments: Tensor | int | None) -> None:
    """Run a kernel over the edges of each atom."""
    n_warps = WARPS_OF_MANY if n_centers * module.programs[name] >= FILLING else WARPS_OF_FEW
    _launch(module, name, n_centers, n_warps, *arguments)


def _launch(module: TritonModule, name: str, n_programs: int, n_warps: int, *arguments: Tensor | int | None) -> None:
    if n_programs == 0:
        return
    kernel = vars(load(module.text, interpreted()))[name]
    with torch.cuda.device_of(arguments[0]):
        kernel[n_programs, module.programs[name]](*arguments, ROWS=module.n_rows(n_warps), num_warps=n_warps)


_starts_kept = WeakTensorKeyDictionary()  # centers: Starts


def _starts(centers: Int[Tensor, " edges"], n_centers: int) -> Int[Tensor, " {n_centers}+1"]:
    """The first edge of each atom; the result is cached for the other layers and derivatives."""
    version = version_of(centers)
    found = _starts_kept.get(centers)
    if found is None or (found.version, found.n_centers) != (version, n_centers):
        atoms = torch.arange(n_centers + 1, dtype=centers.dtype, device=centers.device)
        starts = torch.searchsorted(centers.contiguous(), atoms, out_int32=True)
        found = _starts_kept[centers] = Starts(version, n_centers, starts)
    return found.starts
