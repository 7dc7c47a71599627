"""What happens on each atom, on the CPU, by the C of ``nodes.c``."""

import ctypes
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from equiforce.kernels.cpu import build
from equiforce.kernels.cpu.codegen.nodes import NodeKernel
from equiforce.kernels.cpu.targets import SCALARS
from equiforce.kernels.spec.plans import GatePlan, LinearPlan

ATOMS_OF_A_THREAD = 64  # fewer are not worth waking one
KINDS = {"y": 0, "x": 1, "w": 2}


class _Product(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_long) for name in ("rows", "n_in", "n_out", "x", "y", "w")),
        ("scale", ctypes.c_double),
    )


class _Mix(ctypes.Structure):
    _fields_ = (
        *((n, ctypes.c_long) for n in ("kind", "n_parts", "n_atoms", "n_species", "n_blocks", "n_weights")),
        *((n, ctypes.c_long) for n in ("dim_x", "dim_y")),
        *((n, ctypes.c_void_p) for n in ("blocks", "species", "x", "w", "y")),
    )


class _Part(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_long) for name in ("kind", "rows", "channels", "x", "y", "gate"))


class _Gate(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_long) for name in ("order", "n_parts", "n_atoms", "n_blocks", "dim_x", "dim_y")),
        *((name, ctypes.c_double) for name in ("silu", "tanh")),
        *((name, ctypes.c_void_p) for name in ("blocks", "x", "g", "dx", "y", "gx", "dg")),
    )


def needed(dtype: torch.dtype) -> list[NodeKernel]:
    """What atoms need."""
    return [NodeKernel(SCALARS[dtype], kind) for kind in ("mix", "gate")]


@cache
def ready(dtype: torch.dtype) -> bool:
    """Whether there is all that atoms need; compiles what is missing."""
    return dtype in SCALARS and build.ready(needed(dtype))


@cache
def _kernel(dtype: torch.dtype, kind: str) -> build.Function:
    return build.function(NodeKernel(SCALARS[dtype], kind))


def mix(result: str, first: Tensor, second: Tensor, species: Int[Tensor, " atoms"] | None, plan: LinearPlan) -> Tensor:
    """Of y_i = x_i W(species_i), and its two other derivatives, the one called ``result``.

    Args:
        result: ``y`` from x and w, ``x`` from w and y, or ``w`` from x and y.
        first, second: the other two, x [atoms, inputs], w [species, weights], y [atoms, outputs], in this order.
        species: of each atom; None where there is one.
        plan: which blocks are multiplied.
    """
    role, (a, b) = KINDS[result], (first.contiguous(), second.contiguous())
    n_atoms = (b if result == "x" else a).shape[0]
    n_parts, (dim_x, dim_y) = _n_parts(n_atoms), plan.dims
    shape = {
        "y": (n_atoms, dim_y),
        "x": (n_atoms, dim_x),
        "w": (n_parts, plan.n_species, plan.n_weights),
    }[result]
    filled = result == "w" or len(plan.products) < len(plan.irreps_out if result == "y" else plan.irreps_in)
    out = a.new_zeros(shape) if filled else a.new_empty(shape)
    x, w, y = {"y": (a, b, out), "x": (out, a, b), "w": (a, out, b)}[result]
    arguments = _Mix(
        kind=role,
        n_parts=n_parts,
        n_atoms=n_atoms,
        n_species=plan.n_species,
        n_blocks=len(plan.products),
        n_weights=plan.n_weights,
        dim_x=dim_x,
        dim_y=dim_y,
        blocks=_products(plan),
        species=None if species is None else species.contiguous().data_ptr(),
        x=x.data_ptr(),
        w=w.data_ptr(),
        y=y.data_ptr(),
    )
    _kernel(a.dtype, "mix")(ctypes.byref(arguments))
    return out[0] if result == "w" else out


def gate(x: Float[Tensor, "atoms inputs"], plan: GatePlan, silu: float, tanh: float) -> Float[Tensor, "atoms outputs"]:
    """The gate, with activations scaled by ``silu`` and ``tanh``."""
    y = x.new_empty(x.shape[0], plan.dims[1])
    _run_gate(0, plan, silu, tanh, x, y=y)
    return y


def gate_gradient(x: Tensor, g: Tensor, plan: GatePlan, silu: float, tanh: float) -> Tensor:
    """The gradient of x, from that of the gate's result."""
    gx = torch.empty_like(x)
    _run_gate(1, plan, silu, tanh, x, g=g, gx=gx)
    return gx


def gate_curvature(x: Tensor, g: Tensor, dx: Tensor, plan: GatePlan, silu: float, tanh: float) -> tuple[Tensor, Tensor]:
    """The gradients with respect to x and g of <dx, gate_gradient>."""
    gx, dg = torch.empty_like(x), torch.empty_like(g)
    _run_gate(2, plan, silu, tanh, x, g=g, dx=dx, gx=gx, dg=dg)
    return gx, dg


def _run_gate(order: int, plan: GatePlan, silu: float, tanh: float, x: Tensor, **others: Tensor) -> None:
    n_atoms = x.shape[0]
    kept = {name: tensor.contiguous() for name, tensor in (("x", x), *others.items())}
    arguments = _Gate(
        order=order,
        n_parts=_n_parts(n_atoms),
        n_atoms=n_atoms,
        n_blocks=len(plan.parts),
        dim_x=plan.dims[0],
        dim_y=plan.dims[1],
        silu=silu,
        tanh=tanh,
        blocks=_parts(plan),
        **{name: tensor.data_ptr() for name, tensor in kept.items()},
    )
    _kernel(x.dtype, "gate")(ctypes.byref(arguments))


def _n_parts(n_atoms: int) -> int:
    return max(1, min(torch.get_num_threads(), n_atoms // ATOMS_OF_A_THREAD))


@cache
def _products(plan: LinearPlan) -> int:
    described = [
        _Product(2 * a.l + 1, a.channels, b.channels, a.start, b.start, weight, scale)
        for a, b, weight, scale in plan.products
    ]
    return _address((_Product * len(described))(*described))


@cache
def _parts(plan: GatePlan) -> int:
    described = [
        _Part(2 if b.l else int(b.parity < 0), 2 * a.l + 1, a.channels, a.start, b.start, gate)
        for a, b, gate in plan.parts
    ]
    # even scalars of the input that are no gates are as many as those of the output
    for part, (_, b, _) in zip(described, plan.parts, strict=True):
        part.channels = b.channels
    return _address((_Part * len(described))(*described))


_kept: list[ctypes.Array] = []


def _address(array: ctypes.Array) -> int:
    _kept.append(array)  # what C points to must not be collected
    return ctypes.addressof(array)
