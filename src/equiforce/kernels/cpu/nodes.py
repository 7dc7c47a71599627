"""Linear maps of the features of each atom, and the gate, on the CPU, by the C of ``nodes.c``."""

from functools import cache

import torch
from torch import Tensor

from equiforce.kernels.cpu import build
from equiforce.kernels.cpu.codegen.nodes import BLOCK, GATE, LINEAR, LINEAR_KINDS, PART, PART_KINDS, NodeKernel
from equiforce.kernels.cpu.launch import RecordArray
from equiforce.kernels.cpu.targets import SCALARS
from equiforce.kernels.spec.plans import GatePlan, LinearPlan


def needed(dtype: torch.dtype) -> list[NodeKernel]:
    """The kernels of linear maps and gates."""
    return [NodeKernel(SCALARS[dtype], "linear"), NodeKernel(SCALARS[dtype], "gate")]


@cache
def ready(dtype: torch.dtype) -> bool:
    """Whether the kernels of linear maps and gates can be used; compiles those that are missing."""
    return dtype in SCALARS and build.ready(needed(dtype))


@cache
def _kernel(dtype: torch.dtype, kind: str) -> build.Function:
    return build.function(NodeKernel(SCALARS[dtype], kind))


def linear(result: str, first: Tensor, second: Tensor, species: Tensor | None, plan: LinearPlan) -> Tensor:
    """See :class:`equiforce.kernels.backend.NodeBackend`."""
    dim_x, dim_y = plan.dims
    sizes = {
        "kind": LINEAR_KINDS[result],
        "n_atoms": len(second if result == "x" else first),
        "n_species": plan.n_species,
        "n_blocks": len(plan.products),
        "n_weights": plan.n_weights,
        "dim_x": dim_x,
        "dim_y": dim_y,
    }
    one, other = (name for name in ("x", "w", "y") if name != result)
    # irreps without a counterpart get no product: they have to be zero
    partial = len(plan.products) < len(plan.irreps_out if result == "y" else plan.irreps_in)
    made = {result: torch.zeros if result == "w" or partial else torch.empty}
    given = {"species": species, one: first, other: second}
    function = _kernel(first.dtype, "linear")
    (out,) = LINEAR.call(function, first.dtype, sizes, given, made, records=(_blocks(plan),))
    return out[0] if result == "w" else out


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
    given: dict[str, Tensor],
    made: tuple[str, ...],
) -> list[Tensor]:
    sizes = {
        "order": order,
        "n_atoms": len(x),
        "n_blocks": len(plan.parts),
        "dim_x": plan.dims[0],
        "dim_y": plan.dims[1],
    }
    allocated = dict.fromkeys(made, torch.empty)
    return GATE.call(_kernel(x.dtype, "gate"), x.dtype, sizes, {**given, "x": x}, allocated, gains, (_parts(plan),))


@cache  # C reads the array for as long as the plan is used
def _blocks(plan: LinearPlan) -> RecordArray:
    rows = [
        (2 * a.l + 1, a.channels, b.channels, a.start, b.start, weight, scale) for a, b, weight, scale in plan.products
    ]
    return BLOCK.array(rows)


@cache
def _parts(plan: GatePlan) -> RecordArray:
    rows = []
    for a, b, gates in plan.parts:
        kind = "gated" if b.l else "tanh" if b.parity < 0 else "silu"
        # even scalars of the input that gate nothing are as many as those of the output
        rows.append((PART_KINDS[kind], 2 * a.l + 1, b.channels, a.start, b.start, gates))
    return PART.array(rows)
