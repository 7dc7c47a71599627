"""Differentiable functions that call the kernels of a backend."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from equiforce.graph import HaloExchange, Topology
from equiforce.kernels.backend import (
    ConvolutionBackend,
    EdgeBackend,
    HarmonicsBackend,
    LocalBackend,
    NeedsGrad,
    NodeBackend,
    PairBackend,
    Tangents,
)
from equiforce.kernels.spec.couplings import CouplingTable
from equiforce.kernels.spec.paths import PathTable
from equiforce.kernels.spec.plans import GatePlan, LinearPlan


def convolve(
    x: Tensor,
    harmonics: Tensor,
    values: Tensor,
    knot_coordinates: Tensor,
    topology: Topology,
    table: PathTable,
    backend: ConvolutionBackend,
) -> Tensor:
    """Compute sum_j R(r_ij) (Y(r_ij) ⊗ x_j); twice differentiable."""
    return _Convolve.apply(x, harmonics, values, knot_coordinates, topology, table, backend)


def halo_exchange(x: Tensor, halo: HaloExchange) -> Tensor:
    """Return the features of owned atoms and ghosts; differentiable to any order."""
    return _LinearMap.apply(x, halo.forward_comm, halo.reverse_comm)


def pair_gradient(edge_gradients: Tensor, topology: Topology, backend: PairBackend) -> Tensor:
    """Compute dE/dr_i from dE/dr_ij; differentiable to any order."""
    gradient = partial(backend.gradient, topology=topology)
    return _LinearMap.apply(edge_gradients, gradient, partial(backend.differences, topology=topology))


class _LinearMap(torch.autograd.Function):
    """A linear map; the derivative of such a map is its transpose."""

    @staticmethod
    def forward(ctx: Any, x, compute, transpose) -> Tensor:
        ctx.rest = transpose, compute
        return compute(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor):
        return _apply(_LinearMap, g, *ctx.rest), None, None


def edge_geometry(vectors: Tensor, l_max: int, scale: float, backend: EdgeBackend) -> tuple[Tensor, Tensor]:
    """Compute harmonics and knot coordinates of edges; twice differentiable."""
    return _EdgeGeometry.apply(vectors, l_max, scale, backend)


class _EdgeGeometry(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors, l_max, scale, backend) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(vectors)
        ctx.rest = l_max, scale, backend
        return backend.edge_geometry(vectors, l_max, scale)

    @staticmethod
    def backward(ctx: Any, g_harmonics: Tensor, g_coordinates: Tensor):
        (vectors,) = ctx.saved_tensors
        return _apply(_EdgeGeometryBackward, vectors, g_harmonics, g_coordinates, *ctx.rest), None, None, None


class _EdgeGeometryBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors, g_harmonics, g_coordinates, l_max, scale, backend) -> Tensor:
        ctx.save_for_backward(vectors, g_harmonics, g_coordinates)
        ctx.rest = l_max, scale, backend
        return backend.edge_geometry_backward(vectors, g_harmonics, g_coordinates, l_max, scale)

    @staticmethod
    def backward(ctx: Any, tangent: Tensor):
        _refuse_third_derivative()
        vectors, g_harmonics, g_coordinates = ctx.saved_tensors
        l_max, scale, backend = ctx.rest
        for_vectors, *for_gradients = _continues(ctx, 3)
        tangents = backend.edge_geometry_jvp(vectors, tangent, l_max, scale) if any(for_gradients) else (None, None)
        given = (vectors, tangent, g_harmonics, g_coordinates, l_max, scale)
        g_vectors = backend.edge_geometry_backward_jvp(*given) if for_vectors else None
        return g_vectors, *tangents, None, None, None


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x, harmonics, values, knot_coordinates, topology, table, backend) -> Tensor:
        ctx.save_for_backward(x, harmonics, values, knot_coordinates)
        ctx.rest = topology, table, backend
        return backend.convolve_forward(x, harmonics, values, knot_coordinates, topology, table)

    @staticmethod
    def backward(ctx: Any, g: Tensor):
        inputs = ctx.saved_tensors
        x, harmonics, values, knot_coordinates = _continues(ctx, 4)
        needs_grad = NeedsGrad(x, harmonics or knot_coordinates, values)
        gradients = _apply(_ConvolveBackward, g.contiguous(), *inputs, *ctx.rest, needs_grad)
        return *gradients, None, None, None


class _ConvolveBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, g, x, harmonics, values, knot_coordinates, topology, table, backend, needs_grad):
        ctx.save_for_backward(g, x, harmonics, values, knot_coordinates)
        ctx.rest = topology, table, backend
        ctx.set_materialize_grads(False)
        return backend.convolve_backward(g, x, harmonics, values, knot_coordinates, topology, table, needs_grad)

    @staticmethod
    def backward(ctx: Any, dx, dharmonics, dvalues, dcoordinates):
        """Compute the gradients of S = Φ(g, dx, Y, w) + Φ(g, x, dY, w) + Φ(g, x, Y, dw)."""
        _refuse_third_derivative()
        g, x, harmonics, values, knot_coordinates = ctx.saved_tensors
        topology, table, backend = ctx.rest
        for_g, for_x, for_harmonics, for_values, for_coordinates = _continues(ctx, 5)
        needs_grad = NeedsGrad(for_x, for_harmonics or for_coordinates, for_values)
        along = (dx, dharmonics, dcoordinates)
        total: list[Tensor | None] = [None] * 5
        if any(tangent is not None for tangent in along):
            pairs = zip(along, (x, harmonics, knot_coordinates), strict=True)
            tangents = Tangents(*(torch.zeros_like(of) if t is None else t.contiguous() for t, of in pairs))
            if for_g:
                total[0] = backend.convolve_forward(x, harmonics, values, knot_coordinates, topology, table, tangents)
            if any(needs_grad):
                total[1:] = backend.convolve_backward(
                    g, x, harmonics, values, knot_coordinates, topology, table, needs_grad, tangents
                )
        if dvalues is not None:  # Φ is linear in the table, so the tangent replaces the table
            dvalues = dvalues.contiguous()
            if for_g:
                total[0] = _sum(
                    total[0], backend.convolve_forward(x, harmonics, dvalues, knot_coordinates, topology, table)
                )
            if needs_grad.x or needs_grad.geometry:
                others = NeedsGrad(needs_grad.x, needs_grad.geometry, values=False)
                more = backend.convolve_backward(g, x, harmonics, dvalues, knot_coordinates, topology, table, others)
                total[1:] = [_sum(a, b) for a, b in zip(total[1:], more, strict=True)]
        return *total, None, None, None, None


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


def _continues(ctx: Any, n_inputs: int, first: int = 0) -> list[bool]:
    """Whether this backward pass uses the gradient of each of the ``n_inputs`` inputs from position ``first`` on.

    Autograd requests all gradients of a function, even those that this pass does not use: forces do not need gradients
    of weights, and weights do not need gradients of knot coordinates. Only the engine knows which nodes it will visit.

    No tensor may come before ``first``, and only the last input may be None: torch has nodes only for tensors.
    """
    needed = ctx.needs_input_grad[first : first + n_inputs]
    return [
        of_input and (node is None or _will_visit(node))
        for of_input, (node, _) in zip(needed, ctx.next_functions[:n_inputs], strict=True)
    ]


def _will_visit(node: Any) -> bool:
    try:
        return torch._C._will_engine_execute_node(node)
    except (AttributeError, RuntimeError):  # torch lacks the function, or refuses to answer for a leaf of autograd.grad
        return True


def linear(x: Tensor, weights: Tensor, species: Tensor | None, plan: LinearPlan, backend: NodeBackend) -> Tensor:
    """Compute y_i = x_i W(species_i); differentiable to any order."""
    return _form("y", ("x", "w", "y"), partial(backend.linear, species=species, plan=plan), x, weights)


def environment(
    weights: Tensor, harmonics: Tensor, centers: Tensor | None, n_centers: int, l_max: int, backend: LocalBackend
) -> Tensor:
    """Compute Γ_i = sum_j w_ij Y_ij; differentiable to any order."""
    channels = weights.shape[1] // (l_max + 1)
    compute = partial(backend.environment, centers=centers, n_centers=n_centers, l_max=l_max, channels=channels)
    names = ("environment", "weights", "harmonics")
    return _form(names[0], names, compute, weights, harmonics)


def tensor_product(
    features: Tensor,
    environments: Tensor,
    weights: Tensor,
    centers: Tensor,
    table: CouplingTable,
    backend: LocalBackend,
) -> Tensor:
    """Compute V_ij ⊗ Γ_i: the operator of each centre times the features of its edges; differentiable to any order."""
    names = ("result", "operator", "features")
    compute = partial(backend.act, centers=centers, n_centers=environments.shape[0], table=table)
    return _form(names[0], names, compute, _operators(environments, weights, table, backend), features)


def tensor_product_of_harmonics(
    of_harmonics: Tensor,
    harmonics: Tensor,
    environments: Tensor,
    weights: Tensor,
    centers: Tensor,
    table: CouplingTable,
    backend: HarmonicsBackend,
) -> Tensor:
    """Compute the same for V_ij = w_ij Y_ij, without storing V_ij."""
    names = ("result", "operator", "weights", "harmonics")
    compute = partial(backend.act_on_harmonics, centers=centers, n_centers=environments.shape[0], table=table)
    operators = _operators(environments, weights, table, backend)
    return _form(names[0], names, compute, operators, of_harmonics, harmonics)


def _operators(environments: Tensor, weights: Tensor, table: CouplingTable, backend: LocalBackend) -> Tensor:
    names = ("operator", "environment", "weights")
    return _form(names[0], names, partial(backend.couple, table=table), environments, weights)


def _form(result: str, names: tuple[str, ...], compute: Callable[..., Tensor], *given: Tensor) -> Tensor:
    """Call ``_Form.apply``, or, if autograd records nothing, the cheaper ``compute``."""
    if torch.is_grad_enabled() and any(value.requires_grad for value in given):
        return _Form.apply(result, names, compute, *given)
    return compute(result, *given)


class _Form(torch.autograd.Function):
    """The derivative of a multilinear form with respect to one argument, ``result``, as a function of the others.

    The derivatives of such a function are functions of the same kind.
    """

    @staticmethod
    def forward(ctx: Any, result, names, compute, *given) -> Tensor:
        # an input is saved only if another input needs a gradient: inference saves weights but no features
        needed = ctx.needs_input_grad[3 : 3 + len(given)]
        n_needed = sum(needed)
        ctx.save_for_backward(*[value if n_needed > own else None for value, own in zip(given, needed, strict=True)])
        ctx.rest = result, names, compute
        return compute(result, *given)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor):
        result, names, compute = ctx.rest
        given = [name for name in names if name != result]
        known = {**dict(zip(given, ctx.saved_tensors, strict=True)), result: gradient}
        gradients: list[Tensor | None] = []
        for name, goes_on in zip(given, _continues(ctx, len(given), first=3), strict=True):
            rest = [known[other] for other in names if other != name]
            gradients.append(_form(name, names, compute, *rest) if goes_on else None)
        return None, None, None, *gradients


def lookup(values: Tensor, knot_coordinates: Tensor, kinds: Tensor, backend: LocalBackend) -> Tensor:
    """Evaluate splines at knot coordinates; differentiable to any order."""
    return _Lookup.apply(knot_coordinates, values, None, "rows", kinds, tuple(values.shape), 0, backend)


class _Lookup(torch.autograd.Function):
    """One of rows, table and strengths from the two others; the form is sum_e s_e <rows_e, B(t_e) table>.

    The form is linear in all three. Its derivative with respect to the knot coordinates t is the same form with the
    next derivative of the basis B.
    """

    NAMES = ("rows", "table", "strengths")

    @staticmethod
    def forward(ctx: Any, knot_coordinates, first, second, result, kinds, shape, order, backend) -> Tensor:
        ctx.save_for_backward(knot_coordinates, first, second)
        ctx.rest = result, kinds, shape, order, backend
        return backend.lookup(result, first, second, knot_coordinates, kinds, shape, order)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor):
        knot_coordinates, first, second = ctx.saved_tensors
        result, *rest, order, backend = ctx.rest
        given = [name for name in _Lookup.NAMES if name != result]
        known = {given[0]: first, given[1]: second, result: gradient}
        for_coordinates, *for_given = _continues(ctx, 3)
        g_coordinates = None
        if for_coordinates:
            rows, table, strengths = (known[name] for name in _Lookup.NAMES)
            g_coordinates = _apply(_Lookup, knot_coordinates, rows, table, "strengths", *rest, order + 1, backend)
            g_coordinates = g_coordinates if strengths is None else g_coordinates * strengths
        gradients: list[Tensor | None] = []
        for name, goes_on in zip(given, for_given, strict=True):
            pair = (known[other] for other in _Lookup.NAMES if other != name)
            gradients.append(_apply(_Lookup, knot_coordinates, *pair, name, *rest, order, backend) if goes_on else None)
        return g_coordinates, *gradients, None, None, None, None, None


def leading(x: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the first ``n`` columns and all columns; differentiable to any order."""
    return (x, x) if n == x.shape[1] else _Leading.apply(x, n)


class _Leading(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x, n) -> tuple[Tensor, Tensor]:
        ctx.n = n
        return x[:, :n].contiguous(), x.view_as(x)

    @staticmethod
    def backward(ctx: Any, g_leading: Tensor, g: Tensor):
        total = g.clone()
        total[:, : ctx.n] += g_leading
        return total, None


def gate(x: Tensor, plan: GatePlan, gains: tuple[float, float], backend: NodeBackend) -> Tensor:
    """Compute the gate; twice differentiable."""
    return _Gate.apply(x, plan, gains, backend)


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x, plan, gains, backend) -> Tensor:
        ctx.save_for_backward(x)
        ctx.rest = plan, gains, backend
        return backend.gate(x, plan, *gains)

    @staticmethod
    def backward(ctx: Any, g: Tensor):
        return _apply(_GateBackward, *ctx.saved_tensors, g, *ctx.rest), None, None, None


class _GateBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x, g, plan, gains, backend) -> Tensor:
        ctx.save_for_backward(x, g)
        ctx.rest = plan, gains, backend
        return backend.gate_backward(x, g, plan, *gains)

    @staticmethod
    def backward(ctx: Any, tangent: Tensor):
        _refuse_third_derivative()
        plan, gains, backend = ctx.rest
        return *backend.gate_double_backward(*ctx.saved_tensors, tangent, plan, *gains), None, None, None


def _refuse_third_derivative() -> None:
    """Raise an error if a second derivative is recorded; ``once_differentiable`` overlooks it in ``autograd.grad``."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            "the fused kernels have no third derivative: leave out create_graph for the second one, or compute within "
            'equiforce.kernels.using("reference")'
        )


class _Unrecorded:
    """A context for a function whose result is not differentiated; it saves nothing."""

    needs_input_grad = (False,) * 9

    def save_for_backward(self, *_: Tensor | None) -> None: ...

    def set_materialize_grads(self, _: bool) -> None: ...


def _apply(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    """Call ``function.apply``, or, if autograd records nothing, the cheaper ``function.forward``."""
    if torch.is_grad_enabled():
        return function.apply(*arguments)
    return function.forward(_Unrecorded(), *arguments)
