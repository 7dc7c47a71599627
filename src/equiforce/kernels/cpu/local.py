"""The CPU backend of strictly local models, which calls generated C and the C of ``lookup.c``."""

from functools import cache

import torch
from torch import Tensor

from equiforce.kernels.backend import (
    ActArgument,
    ActOnHarmonicsArgument,
    CoupleArgument,
    EnvironmentArgument,
    LookupArgument,
)
from equiforce.kernels.cpu import build
from equiforce.kernels.cpu.codegen.act import ACT, ACT_ON_HARMONICS, ActKernel
from equiforce.kernels.cpu.codegen.local import COUPLE, ENVIRONMENT, CoupleKernel, EnvironmentKernel
from equiforce.kernels.cpu.codegen.lookup import ARGUMENTS as LOOKUP
from equiforce.kernels.cpu.codegen.lookup import RESULTS, LookupKernel
from equiforce.kernels.cpu.launch import Allocate, Arguments
from equiforce.kernels.cpu.targets import SCALARS
from equiforce.kernels.spec.couplings import CouplingTable

# the arguments from which each result is computed; a C struct has different fields for results and inputs
LOOKUP_OTHERS = {
    "rows": ("table", "given_strengths"),
    "table": ("rows", "given_strengths"),
    "strengths": ("rows", "table"),
}


def needed_for_environments(l_max: int, channels: int, dtype: torch.dtype) -> list[EnvironmentKernel]:
    """The kernels of environments."""
    results: tuple[EnvironmentArgument, ...] = ("environment", "weights", "harmonics")
    return [EnvironmentKernel(l_max, channels, SCALARS[dtype], result) for result in results]


def needed_for_products(
    table: CouplingTable, dtype: torch.dtype, *, of_harmonics: bool
) -> list[CoupleKernel | ActKernel]:
    """The kernels of a tensor product of features or of weighted harmonics; training needs no others."""
    scalar = SCALARS[dtype]
    arguments: tuple[CoupleArgument, ...] = ("operator", "environment", "weights")
    results: tuple[ActArgument | ActOnHarmonicsArgument, ...] = ("result", "operator", "features")
    if of_harmonics:
        results = ("result", "operator", "weights", "harmonics")
    couple = [CoupleKernel(table, scalar, result) for result in arguments]
    return [*couple, *(ActKernel(table, scalar, result, of_harmonics) for result in results)]


def needed_for_lookup(dtype: torch.dtype) -> list[LookupKernel]:
    """The kernels that evaluate splines."""
    return [LookupKernel(SCALARS[dtype])]


@cache
def environments_ready(l_max: int, channels: int, dtype: torch.dtype) -> bool:
    """Compile the missing kernels of environments and return whether all can be used."""
    return dtype in SCALARS and build.ready(needed_for_environments(l_max, channels, dtype))


@cache
def products_ready(table: CouplingTable, dtype: torch.dtype, of_harmonics: bool) -> bool:
    """Compile the missing kernels of a tensor product and return whether all can be used."""
    return dtype in SCALARS and build.ready(needed_for_products(table, dtype, of_harmonics=of_harmonics))


@cache
def lookup_ready(dtype: torch.dtype) -> bool:
    """Compile the missing kernels of splines and return whether all can be used."""
    return dtype in SCALARS and build.ready(needed_for_lookup(dtype))


def environment(
    result: EnvironmentArgument,
    first: Tensor,
    second: Tensor,
    centers: Tensor | None,
    n_centers: int,
    l_max: int,
    channels: int,
) -> Tensor:
    """See :class:`equiforce.kernels.backend.LocalBackend`."""
    sizes = {
        "n_edges": n_centers if centers is None else centers.shape[0],
        "n_centers": n_centers,
        "dim_environment": (l_max + 1) ** 2 * channels,
        "dim_weights": (l_max + 1) * channels,
        "n_harmonics": (l_max + 1) ** 2,
    }
    function = _environment(l_max, channels, first.dtype, result)
    made: dict[str, Allocate] = {result: Tensor.new_zeros if result == "environment" else Tensor.new_empty}
    return _call(ENVIRONMENT, function, result, (first, second), centers, sizes, made)


def couple(result: CoupleArgument, first: Tensor, second: Tensor, table: CouplingTable) -> Tensor:
    """See :class:`equiforce.kernels.backend.LocalBackend`."""
    sizes = {
        "n_centers": first.shape[0],
        "dim_operator": len(table.elements) * table.channels,
        "dim_environment": table.dim_environment,
        "n_paths": table.n_paths,
        "channels": table.channels,
    }
    function = _couple(table, first.dtype, result)
    made: dict[str, Allocate] = {result: Tensor.new_zeros if result == "weights" else Tensor.new_empty}
    out = _call(COUPLE, function, result, (first, second), None, sizes, made)
    return out.sum(0) if result == "weights" else out


def act(
    result: ActArgument, first: Tensor, second: Tensor, centers: Tensor, n_centers: int, table: CouplingTable
) -> Tensor:
    """See :class:`equiforce.kernels.backend.LocalBackend`."""
    return _act_with(ACT, result, (first, second), centers, n_centers, table)


def act_on_harmonics(
    result: ActOnHarmonicsArgument,
    first: Tensor,
    second: Tensor,
    third: Tensor,
    centers: Tensor,
    n_centers: int,
    table: CouplingTable,
) -> Tensor:
    """See :class:`equiforce.kernels.backend.HarmonicsBackend`."""
    return _act_with(ACT_ON_HARMONICS, result, (first, second, third), centers, n_centers, table)


def lookup(
    result: LookupArgument,
    first: Tensor,
    second: Tensor | None,
    knot_coordinates: Tensor,
    kinds: Tensor,
    shape: tuple[int, int, int],
    order: int,
) -> Tensor:
    """See :class:`equiforce.kernels.backend.LocalBackend`."""
    n_kinds, n_rows, n_columns = shape
    sizes = {
        "result": RESULTS[result],
        "order": order,
        "n_edges": knot_coordinates.shape[0],
        "n_kinds": n_kinds,
        "n_rows": n_rows,
        "n_columns": n_columns,
        "n_numbers": n_kinds * n_rows * n_columns,
    }
    one, other = LOOKUP_OTHERS[result]
    given = {"knot_coordinates": knot_coordinates, "kinds": kinds, one: first, other: second}
    made: dict[str, Allocate] = {result: Tensor.new_zeros if result == "table" else Tensor.new_empty}
    (out,) = LOOKUP.call(_lookup(first.dtype), first, sizes, given, made)
    return out.sum(0) if result == "table" else out


def _act_with(
    arguments: Arguments,
    result: ActArgument | ActOnHarmonicsArgument,
    others: tuple[Tensor, ...],
    centers: Tensor,
    n_centers: int,
    table: CouplingTable,
) -> Tensor:
    of_harmonics = arguments is ACT_ON_HARMONICS
    sizes = {
        "n_edges": centers.shape[0],
        "n_centers": n_centers,
        "dim_out": table.dims[1],
        "dim_in": table.dims[0],
        "dim_operator": len(table.elements) * table.channels,
        "dim_weights": (table.l_max + 1) * table.channels,
        "n_harmonics": table.n_components[0],
    }
    function = _act(table, others[0].dtype, result, of_harmonics)
    made: dict[str, Allocate] = {result: Tensor.new_zeros if result == "operator" else Tensor.new_empty}
    return _call(arguments, function, result, others, centers, sizes, made)


def _call(
    arguments: Arguments,
    function: build.Function,
    result: str,
    others: tuple[Tensor, ...],
    centers: Tensor | None,
    sizes: dict[str, int],
    made: dict[str, Allocate],
) -> Tensor:
    """Run a kernel of a form; the arrays of the struct are ``centers`` and the arguments of the form."""
    given: dict[str, Tensor | None] = {"centers": centers}
    given.update(zip(_others(arguments, result), others, strict=True))
    return arguments.call(function, others[0], sizes, given, made)[0]


@cache
def _others(arguments: Arguments, result: str) -> tuple[str, ...]:
    """The names of all arrays except the centres and the result."""
    return tuple(array.name for array in arguments.arrays[1:] if array.name != result)


@cache
def _environment(l_max: int, channels: int, dtype: torch.dtype, result: EnvironmentArgument) -> build.Function:
    return build.function(EnvironmentKernel(l_max, channels, SCALARS[dtype], result))


@cache
def _couple(table: CouplingTable, dtype: torch.dtype, result: CoupleArgument) -> build.Function:
    return build.function(CoupleKernel(table, SCALARS[dtype], result))


@cache
def _act(
    table: CouplingTable, dtype: torch.dtype, result: ActArgument | ActOnHarmonicsArgument, of_harmonics: bool
) -> build.Function:
    return build.function(ActKernel(table, SCALARS[dtype], result, of_harmonics))


@cache
def _lookup(dtype: torch.dtype) -> build.Function:
    return build.function(LookupKernel(SCALARS[dtype]))
