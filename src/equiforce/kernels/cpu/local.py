"""The operations of strictly local models on the CPU, by generated C and the C of ``lookup.c``."""

from functools import cache

import torch
from torch import Tensor

from equiforce.kernels.cpu import build
from equiforce.kernels.cpu.codegen.act import ACT, ACT_ON_HARMONICS, ActKernel
from equiforce.kernels.cpu.codegen.local import COUPLE, ENVIRONMENT, CoupleKernel, EnvironmentKernel
from equiforce.kernels.cpu.codegen.lookup import ARGUMENTS as LOOKUP
from equiforce.kernels.cpu.codegen.lookup import ROLES, LookupKernel
from equiforce.kernels.cpu.launch import Allocate, Arguments
from equiforce.kernels.cpu.targets import SCALARS
from equiforce.kernels.spec.couplings import CouplingTable


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
    centers: Tensor | None,
    n_atoms: int,
    l_max: int,
    channels: int,
) -> Tensor:
    """See :class:`equiforce.kernels.backend.LocalBackend`."""
    sizes = {
        "n_rows": n_atoms if centers is None else len(centers),
        "n_atoms": n_atoms,
        "dim_environment": (l_max + 1) ** 2 * channels,
        "dim_weights": (l_max + 1) * channels,
        "n_harmonics": (l_max + 1) ** 2,
    }
    function = _environment(l_max, channels, first.dtype, result)
    made = {result: torch.zeros if result == "environment" else torch.empty}
    return _call(ENVIRONMENT, function, result, (first, second), centers, sizes, made)


def couple(result: str, first: Tensor, second: Tensor, table: CouplingTable) -> Tensor:
    """See :class:`equiforce.kernels.backend.LocalBackend`."""
    sizes = {
        "n_rows": len(first),
        "dim_operator": len(table.elements) * table.channels,
        "dim_environment": table.dim_environment,
        "n_paths": table.n_paths,
        "channels": table.channels,
    }
    function = _couple(table, first.dtype, result)
    made = {result: torch.zeros if result == "weights" else torch.empty}
    out = _call(COUPLE, function, result, (first, second), None, sizes, made)
    return out.sum(0) if result == "weights" else out


def act(result: str, first: Tensor, second: Tensor, centers: Tensor, n_atoms: int, table: CouplingTable) -> Tensor:
    """See :class:`equiforce.kernels.backend.LocalBackend`."""
    return _act_with(ACT, result, (first, second), centers, n_atoms, table)


def act_on_harmonics(
    result: str, first: Tensor, second: Tensor, third: Tensor, centers: Tensor, n_atoms: int, table: CouplingTable
) -> Tensor:
    """As :func:`act` for features w Y: one of result, operator, weights and harmonics from the other three.

    Args:
        result: the name of the one.
        first, second, third: the others, in this order: result and operator as in :func:`act`, weights
            [edges, degrees·channels], harmonics [edges, harmonics].
        centers, n_atoms, table: as in :func:`act`; the table's ``irreps_in`` are those of the harmonics.
    """
    return _act_with(ACT_ON_HARMONICS, result, (first, second, third), centers, n_atoms, table)


def lookup(
    result: str,
    first: Tensor,
    second: Tensor | None,
    knot_coordinates: Tensor,
    kinds: Tensor,
    shape: tuple[int, int, int],
    order: int,
) -> Tensor:
    """See :class:`equiforce.kernels.backend.LocalBackend`."""
    n_kinds, n_knots, n_columns = shape
    sizes = {
        "role": ROLES[result],
        "order": order,
        "n_edges": len(knot_coordinates),
        "n_kinds": n_kinds,
        "n_knots": n_knots,
        "n_columns": n_columns,
        "n_numbers": n_kinds * n_knots * n_columns,
    }
    one, other = (name for name in ("rows", "table", "given") if name != {"strengths": "given"}.get(result, result))
    given = {"knot_coordinates": knot_coordinates, "kinds": kinds, one: first, other: second}
    made = {result: torch.zeros if result == "table" else torch.empty}
    (out,) = LOOKUP.call(_lookup(first.dtype), first.dtype, sizes, given, made)
    return out.sum(0) if result == "table" else out


def _act_with(
    arguments: Arguments,
    result: str,
    others: tuple[Tensor, ...],
    centers: Tensor,
    n_atoms: int,
    table: CouplingTable,
) -> Tensor:
    of_harmonics = arguments is ACT_ON_HARMONICS
    sizes = {
        "n_rows": len(centers),
        "n_atoms": n_atoms,
        "dim_out": table.dims[1],
        "dim_in": table.dims[0],
        "dim_operator": len(table.elements) * table.channels,
        "dim_weights": (table.l_max + 1) * table.channels,
        "n_harmonics": table.n_components[0],
    }
    function = _act(table, others[0].dtype, result, of_harmonics)
    made = {result: torch.zeros if result == "operator" else torch.empty}
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
    """Runs a form whose arguments are all arrays of the struct but ``centers``, which comes first."""
    names = (array.name for array in arguments.arrays[1:] if array.name != result)
    given: dict[str, Tensor | None] = {"centers": centers, **dict(zip(names, others, strict=True))}
    return arguments.call(function, others[0].dtype, sizes, given, made)[0]


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
