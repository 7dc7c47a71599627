"""The CPU backend of linear maps and gates, which calls the C of ``nodes.c``."""

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from equiforce.kernels.backend import LinearArgument
from equiforce.kernels.cpu import build
from equiforce.kernels.cpu.codegen.nodes import (
    ACTIVATIONS,
    BLOCK,
    GATE,
    GATE_BLOCK,
    LINEAR,
    LINEAR_RESULTS,
    NodeKernel,
    NodeKind,
)
from equiforce.kernels.cpu.launch import Allocate, RecordArray
from equiforce.kernels.cpu.targets import SCALARS
from equiforce.kernels.spec.plans import GatePlan, LinearPlan


def needed(dtype: torch.dtype) -> list[NodeKernel]:
    """The kernels of linear maps and gates."""
    return [NodeKernel(SCALARS[dtype], "linear"), NodeKernel(SCALARS[dtype], "gate")]


@cache
def ready(dtype: torch.dtype) -> bool:
    """Compile the missing kernels of linear maps and gates and return whether all can be used."""
    return dtype in SCALARS and build.ready(needed(dtype))


@cache
def _kernel(dtype: torch.dtype, kind: NodeKind) -> build.Function:
    return build.function(NodeKernel(SCALARS[dtype], kind))


def linear(result: LinearArgument, first: Tensor, second: Tensor, species: Tensor | None, plan: LinearPlan) -> Tensor:
    """See :class:`equiforce.kernels.backend.NodeBackend`."""
    shape, blocks, made, (one, other) = _linear(plan, result)
    sizes = {**shape, "n_atoms": (second if result == "x" else first).shape[0]}
    given = {"species": species, one: first, other: second}
    (out,) = LINEAR.call(_kernel(first.dtype, "linear"), first, sizes, given, made, records=blocks)
    return out[0] if result == "w" else out


class _Linear(NamedTuple):
    """The arguments of a call that follow from the plan alone."""

    sizes: dict[str, int]
    blocks: tuple[RecordArray]
    made: dict[str, Allocate]
    given: tuple[str, ...]


@cache
def _linear(plan: LinearPlan, result: str) -> _Linear:
    sizes = {
        "result": LINEAR_RESULTS[result],
        "n_species": plan.n_species,
        "n_blocks": len(plan.matrices),
        "n_weights": plan.n_weights,
        "dim_x": plan.dims[0],
        "dim_y": plan.dims[1],
    }
    rows = [
        (2 * a.l + 1, a.channels, b.channels, a.start, b.start, weight, scale) for a, b, weight, scale in plan.matrices
    ]
    # C writes only to irreps that occur on both sides: the others have to be zero from the start
    partial = len(plan.matrices) < len(plan.irreps_out if result == "y" else plan.irreps_in)
    made: dict[str, Allocate] = {result: Tensor.new_zeros if result == "w" or partial else Tensor.new_empty}
    return _Linear(sizes, (BLOCK.array(rows),), made, tuple(name for name in ("x", "w", "y") if name != result))


def gate(x: Tensor, plan: GatePlan, silu: float, tanh: float) -> Tensor:
    """See :class:`equiforce.kernels.backend.NodeBackend`."""
    return _gate(0, plan, (silu, tanh), x, {}, ("y",))[0]


def gate_backward(x: Tensor, g: Tensor, plan: GatePlan, silu: float, tanh: float) -> Tensor:
    """See :class:`equiforce.kernels.backend.NodeBackend`."""
    return _gate(1, plan, (silu, tanh), x, {"g": g}, ("gx",))[0]


def gate_double_backward(
    x: Tensor, g: Tensor, dx: Tensor, plan: GatePlan, silu: float, tanh: float
) -> tuple[Tensor, Tensor]:
    """See :class:`equiforce.kernels.backend.NodeBackend`."""
    gx, dg = _gate(2, plan, (silu, tanh), x, {"g": g, "dx": dx}, ("gx", "dg"))
    return gx, dg


def _gate(
    order: int,
    plan: GatePlan,
    gains: tuple[float, float],
    x: Tensor,
    given: Mapping[str, Tensor],
    made: tuple[str, ...],
) -> list[Tensor]:
    sizes = {
        "order": order,
        "n_atoms": x.shape[0],
        "n_blocks": len(plan.parts),
        "dim_x": plan.dims[0],
        "dim_y": plan.dims[1],
    }
    allocated = dict.fromkeys(made, Tensor.new_empty)
    return GATE.call(_kernel(x.dtype, "gate"), x, sizes, {**given, "x": x}, allocated, gains, (_parts(plan),))


@cache
def _parts(plan: GatePlan) -> RecordArray:
    rows = []
    for a, b, gates in plan.parts:
        activation = "gated" if b.l else "tanh" if b.parity < 0 else "silu"
        # the block 0e of the input also holds the gates; the output's block b has only the scalars that are no gates
        rows.append((ACTIVATIONS[activation], 2 * a.l + 1, b.channels, a.start, b.start, gates))
    return GATE_BLOCK.array(rows)
