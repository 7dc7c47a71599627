"""What a strictly local model does around each centre, on the CPU, by generated C and the C of ``lookup.c``."""

import ctypes
import math
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from equiforce.kernels.cpu import build
from equiforce.kernels.cpu.codegen.local import ActKernel, CoupleKernel, EnvironmentKernel
from equiforce.kernels.cpu.codegen.lookup import LookupKernel
from equiforce.kernels.cpu.targets import SCALARS
from equiforce.kernels.spec.couplings import CouplingTable

EDGES_OF_A_THREAD = 128  # fewer are not worth waking one
ATOMS_OF_A_THREAD = 16
ROLES = {"rows": 0, "strengths": 1, "table": 2}


class _Arguments(ctypes.Structure):
    """``generate_local.SIGNATURE``."""

    _fields_ = (
        *((name, ctypes.c_long) for name in ("n_parts", "n_rows")),
        *((name, ctypes.c_void_p) for name in ("centers", "a", "b", "c", "d")),
    )


class _Lookup(ctypes.Structure):
    _fields_ = (
        *(
            (name, ctypes.c_long)
            for name in ("role", "order", "n_parts", "n_edges", "n_knots", "n_columns", "n_numbers")
        ),
        *((name, ctypes.c_void_p) for name in ("kinds", "positions", "given", "rows", "table", "strengths")),
    )


def needed_for_environments(l_max: int, channels: int, dtype: torch.dtype) -> list[EnvironmentKernel]:
    """What sums over an atom's edges need."""
    return [EnvironmentKernel(l_max, channels, SCALARS[dtype], r) for r in ("environment", "weights", "harmonics")]


def needed_for_products(
    table: CouplingTable, dtype: torch.dtype, *, of_harmonics: bool
) -> list[CoupleKernel | ActKernel]:
    """What a product needs, of features or of weighted harmonics, for energies and forces and to be trained on them."""
    scalar = SCALARS[dtype]
    couple = [CoupleKernel(table, scalar, result) for result in ("operator", "environment", "weights")]
    results = ("result", "operator", "weights", "harmonics") if of_harmonics else ("result", "operator", "features")
    return [*couple, *(ActKernel(table, scalar, result, of_harmonics) for result in results)]


def needed_for_lookup(dtype: torch.dtype) -> list[LookupKernel]:
    """What reads splines."""
    return [LookupKernel(SCALARS[dtype])]


@cache
def environments_ready(l_max: int, channels: int, dtype: torch.dtype) -> bool:
    """Whether there is all that sums over an atom's edges need; compiles what is missing."""
    return dtype in SCALARS and build.ready(needed_for_environments(l_max, channels, dtype))


@cache
def products_ready(table: CouplingTable, dtype: torch.dtype, of_harmonics: bool) -> bool:
    """Whether there is all that a product needs; compiles what is missing."""
    return dtype in SCALARS and build.ready(needed_for_products(table, dtype, of_harmonics=of_harmonics))


@cache
def lookup_ready(dtype: torch.dtype) -> bool:
    """Whether there is what reads splines; compiles what is missing."""
    return dtype in SCALARS and build.ready(needed_for_lookup(dtype))


def environment(
    result: str,
    first: Tensor,
    second: Tensor,
    centers: Int[Tensor, " edges"] | None,
    n_atoms: int,
    l_max: int,
    channels: int,
) -> Tensor:
    """Of Γ_i = sum_j w_ij Y_ij and its two other derivatives, the one called ``result``.

    Args:
        result: ``environment`` from weights and harmonics, ``weights`` from environment and harmonics, or
            ``harmonics`` from environment and weights.
        first, second: the other two, in this order: environment [atoms, harmonics·channels], weights
            [edges, degrees·channels], harmonics [edges, harmonics].
        centers: of each edge, sorted; None where each edge is an atom of its own.
        n_atoms: how many environments there are.
        l_max: the highest degree.
        channels: of each degree.
    """
    a, b = first.contiguous(), second.contiguous()
    n_edges = n_atoms if centers is None else len(centers)
    degrees = l_max + 1
    if result == "environment":
        out = a.new_zeros(n_atoms, degrees**2 * channels)
    else:
        out = a.new_empty(n_edges, degrees * channels if result == "weights" else degrees**2)
    roles = {"environment": (out, a, b), "weights": (a, out, b), "harmonics": (a, b, out)}[result]
    _run(_environment(l_max, channels, a.dtype, result), _edge_parts(n_edges), n_edges, centers, *roles)
    return out


def couple(result: str, first: Tensor, second: Tensor, table: CouplingTable) -> Tensor:
    """Of the operator of each atom and its derivatives, the one called ``result``.

    Args:
        result: ``operator`` from environment and weights, ``environment`` from operator and weights, or ``weights``
            from operator and environment.
        first, second: the other two, in this order: operator [atoms, elements·channels], environment
            [atoms, harmonics·channels], weights [paths, channels].
        table: the paths.
    """
    a, b = first.contiguous(), second.contiguous()
    n_atoms, channels = len(a), table.channels
    n_parts = max(1, min(torch.get_num_threads(), n_atoms // ATOMS_OF_A_THREAD))
    if result == "weights":
        out = a.new_zeros(n_parts, table.n_paths, channels)
    else:
        out = a.new_empty(n_atoms, table.dim_environment if result == "environment" else len(table.elements) * channels)
    roles = {"operator": (out, a, b), "environment": (a, out, b), "weights": (a, b, out)}[result]
    _run(_couple(table, a.dtype, result), n_parts, n_atoms, None, *roles)
    return out.sum(0) if result == "weights" else out


def act(
    result: str, first: Tensor, second: Tensor, centers: Int[Tensor, " edges"], n_atoms: int, table: CouplingTable
) -> Tensor:
    """Of the operators of centres times the features of edges and its derivatives, the one called ``result``.

    Args:
        result: ``result`` from operators and features, ``operator`` from result and features, or ``features`` from
            result and operators.
        first, second: the other two, in this order: result [edges, rows·channels], operator
            [atoms, elements·channels], features [edges, columns·channels].
        centers: of each edge, sorted.
        n_atoms: how many operators there are.
        table: says which elements an operator has.
    """
    a, b = first.contiguous(), second.contiguous()
    n_edges = len(centers)
    if result == "operator":
        out = a.new_zeros(n_atoms, len(table.elements) * table.channels)
    else:
        out = a.new_empty(n_edges, table.dims[result == "result"])
    roles = {"result": (out, a, b), "operator": (a, out, b), "features": (a, b, out)}[result]
    _run(_act(table, a.dtype, result, False), _edge_parts(n_edges), n_edges, centers, *roles)
    return out


def act_on_harmonics(
    result: str,
    first: Tensor,
    second: Tensor,
    third: Tensor,
    centers: Int[Tensor, " edges"],
    n_atoms: int,
    table: CouplingTable,
) -> Tensor:
    """The same for features w Y, one of ``result``, ``operator``, ``weights`` and ``harmonics`` from the other three.

    Args:
        result: which one.
        first, second, third: the others, in this order: result and operator as in :func:`act`, weights
            [edges, degrees·channels], harmonics [edges, harmonics].
        centers, n_atoms, table: as in :func:`act`; the table's ``irreps_in`` are those of the harmonics.
    """
    given = [first.contiguous(), second.contiguous(), third.contiguous()]
    n_edges, names = len(centers), ("result", "operator", "weights", "harmonics")
    columns = {
        "result": table.dims[1],
        "operator": len(table.elements) * table.channels,
        "weights": (table.l_max + 1) * table.channels,
        "harmonics": table.n_components[0],
    }[result]
    made = first.new_zeros(n_atoms, columns) if result == "operator" else first.new_empty(n_edges, columns)
    given.insert(names.index(result), made)
    _run(_act(table, made.dtype, result, True), _edge_parts(n_edges), n_edges, centers, *given)
    return made


def lookup(
    result: str,
    first: Tensor,
    second: Tensor | None,
    positions: Float[Tensor, " edges"],
    kinds: Int[Tensor, " edges"],
    shape: tuple[int, int, int],
    order: int,
) -> Tensor:
    """Of rows_e = s_e B(t_e) table and its derivatives, the one called ``result``.

    Args:
        result: ``rows`` from the table and strengths, ``strengths`` from rows and table, or ``table`` from rows and
            strengths.
        first, second: the other two, in this order: rows [edges, columns], table [kinds, knots, columns], strengths
            [edges], where None means one everywhere.
        positions: of each edge along its spline.
        kinds: which table an edge reads.
        shape: that of the table.
        order: which derivative of the splines' basis B is meant.
    """
    a, b = first.contiguous(), None if second is None else second.contiguous()
    n_edges = len(positions)
    n_parts = max(1, min(torch.get_num_threads(), n_edges // EDGES_OF_A_THREAD))
    if result == "rows":
        out = a.new_empty(n_edges, shape[2])
    else:
        out = a.new_empty(n_edges) if result == "strengths" else a.new_zeros(n_parts, *shape)
    roles = {"rows": (out, a, b, None), "strengths": (a, b, None, out), "table": (a, out, b, None)}
    rows, table, given, strengths = (None if t is None else t.data_ptr() for t in roles[result])
    where, which = positions.contiguous(), kinds.contiguous()
    arguments = _Lookup(
        role=ROLES[result],
        order=order,
        n_parts=n_parts,
        n_edges=n_edges,
        n_knots=shape[1],
        n_columns=shape[2],
        n_numbers=math.prod(shape),
        kinds=which.data_ptr(),
        positions=where.data_ptr(),
        given=given,
        rows=rows,
        table=table,
        strengths=strengths,
    )
    _lookup(a.dtype)(ctypes.byref(arguments))
    return out.sum(0) if result == "table" else out


def _edge_parts(n_edges: int) -> int:
    return max(1, min(torch.get_num_threads(), n_edges // EDGES_OF_A_THREAD))


def _run(kernel: build.Function, n_parts: int, n_rows: int, centers: Tensor | None, *tensors: Tensor) -> None:
    if n_rows == 0:
        return
    sorted_centers = None if centers is None else centers.contiguous()
    arguments = _Arguments(
        n_parts=n_parts,
        n_rows=n_rows,
        centers=None if sorted_centers is None else sorted_centers.data_ptr(),
        **{name: tensor.data_ptr() for name, tensor in zip("abcd", tensors, strict=False)},
    )
    kernel(ctypes.byref(arguments))


@cache
def _environment(l_max: int, channels: int, dtype: torch.dtype, result: str) -> build.Function:
    return build.function(EnvironmentKernel(l_max, channels, SCALARS[dtype], result))


@cache
def _couple(table: CouplingTable, dtype: torch.dtype, result: str) -> build.Function:
    return build.function(CoupleKernel(table, SCALARS[dtype], result))


@cache
def _act(table: CouplingTable, dtype: torch.dtype, result: str, of_harmonics: bool) -> build.Function:
    return build.function(ActKernel(table, SCALARS[dtype], result, of_harmonics))


@cache
def _lookup(dtype: torch.dtype) -> build.Function:
    return build.function(LookupKernel(SCALARS[dtype]))
