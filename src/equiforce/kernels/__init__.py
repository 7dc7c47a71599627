"""Each operation has several implementations and one signature."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from types import ModuleType
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor

from equiforce.errors import InputError
from equiforce.graph import AtomicGraph, Topology
from equiforce.kernels import autograd
from equiforce.kernels.cpu import build
from equiforce.kernels.cpu import convolution as cpu
from equiforce.kernels.cpu import local as cpu_local
from equiforce.kernels.cpu import nodes as cpu_nodes
from equiforce.kernels.cpu import pairs as cpu_pairs
from equiforce.kernels.reference import convolution as reference
from equiforce.kernels.reference import local as reference_local
from equiforce.kernels.spec.couplings import CouplingTable
from equiforce.kernels.spec.paths import PathTable, Radial
from equiforce.kernels.spec.plans import GatePlan, LinearPlan

Backend = Literal["auto", "reference", "cpu", "gpu"]
_preferred: ContextVar[Backend] = ContextVar("preferred", default="auto")


def pair_vectors(graph: AtomicGraph, backend: Backend = "auto") -> Float[Tensor, "edges 3"]:
    """r_ij = r_j + S·cell − r_i of each edge, in Å.

    Where torch records gradients and the positions or cells require grad, the result is differentiable.

    Args:
        graph: positions, cells and edges.
        backend: as in :func:`convolve`.
    """
    recorded = torch.is_grad_enabled() and (graph.positions.requires_grad or graph.cell.requires_grad)
    if recorded or _choose(backend, graph.positions, cpu_pairs.ready) is reference:
        return graph.edge_vectors()
    return cpu_pairs.vectors(graph)


def pair_gradient(
    edge_gradients: Float[Tensor, "edges 3"], topology: Topology, backend: Backend = "auto"
) -> Float[Tensor, "atoms 3"]:
    """dE/dr_i = sum_j dE/dr_ji - sum_j dE/dr_ij, for r_ij points from centre i to neighbour j.

    Args:
        edge_gradients: dE/dr_ij of each edge, in eV/Å.
        topology: says between which atoms the edges are.
        backend: as in :func:`convolve`.
    """
    chosen = _choose(backend, edge_gradients, cpu_pairs.ready)
    if chosen is reference or _sorted(topology)[1] is not None:
        return reference.pair_gradient(edge_gradients, topology)
    return autograd.pair_gradient(edge_gradients, topology, cpu_pairs)


def edges(
    vectors: Float[Tensor, "edges 3"], l_max: int, scale: float = 1.0, backend: Backend = "auto"
) -> tuple[Float[Tensor, "edges harmonics"], Float[Tensor, " edges"]]:
    """Spherical harmonics of each vector's direction, and ``scale`` times its length.

    Args:
        vectors: of any length but zero, in Å.
        l_max: the highest degree; there are (l_max+1)² harmonics, as in :mod:`equiforce.geometry.spherical_harmonics`.
        scale: in 1/Å; the number of knots in an Å gives positions along a spline.
        backend: as in :func:`convolve`.
    """
    chosen = _choose(backend, vectors, lambda: cpu.edges_ready(l_max, vectors.dtype))
    return autograd.edges(vectors, l_max, scale, chosen) if chosen is cpu else reference.edges(vectors, l_max, scale)


def halo_exchange(x: Float[Tensor, "centers features"], topology: Topology) -> Float[Tensor, "atoms features"]:
    """Features of all atoms, from those of all but the ghosts; who has no ghosts of its own may have to give some."""
    return x if topology.halo is None else autograd.halo_exchange(x, topology.halo)


def convolve(
    x: Float[Tensor, "atoms features"],
    harmonics: Float[Tensor, "edges harmonics"],
    radial: Radial,
    topology: Topology,
    table: PathTable,
    backend: Backend = "auto",
) -> Float[Tensor, "centers messages"]:
    """m_i = sum_j R(r_ij) (Y(r_ij) x x_j), the convolution of NequIP (arXiv 2101.03164, equation 7).

    Args:
        x: features of each atom, irreps ``table.irreps_in``.
        harmonics: Y_lm of each edge, (l_max+1)² columns.
        radial: R of each edge, ``table.n_weights`` columns.
        topology: says which edges end at which centre, in any order.
        table: the paths of the product.
        backend: ``auto`` takes the fastest that serves these tensors, unless :func:`using` says otherwise; radial
            weights without positions are always the reference's.

    Returns:
        The sum over the neighbours of each atom that is no ghost, irreps ``table.irreps_out``.
    """
    x = x.to(harmonics.dtype)
    training = radial.values.requires_grad
    spline = radial.positions is not None
    chosen = _choose(backend, x, lambda: cpu.ready(table, x.dtype, training), in_triton=True) if spline else reference
    if chosen is reference:
        return reference.convolve(x, harmonics, Radial(radial.values.to(x.dtype), radial.positions), topology, table)
    topology, order = _sorted(topology)
    if order is not None:
        harmonics, radial = harmonics[order], Radial(radial.values, radial.positions[order])
    return autograd.convolve(x, harmonics, radial, topology, table, chosen)


def mix(
    x: Float[Tensor, "atoms inputs"],
    weights: Float[Tensor, "species weights"],
    species: Int[Tensor, " atoms"] | None,
    plan: LinearPlan,
    backend: Backend = "auto",
) -> Float[Tensor, "atoms outputs"]:
    """y_i = x_i W(species_i), irrep by irrep.

    Args:
        x: features of each atom, irreps ``plan.irreps_in``.
        weights: ``plan.n_weights`` of each species.
        species: of each atom; None where there is one set of weights.
        plan: which blocks are multiplied.
        backend: as in :func:`convolve`.
    """
    if torch.is_autocast_enabled(x.device.type):  # these are what lower precision is for
        return reference.mix(x, weights, species, plan)
    chosen = _choose(backend, x, lambda: cpu_nodes.ready(x.dtype))
    if chosen is reference:
        return reference.mix(x, weights, species, plan)
    return autograd.mix(x, weights, species, plan, cpu_nodes)


def gate(
    x: Float[Tensor, "atoms inputs"], plan: GatePlan, silu: float, tanh: float, backend: Backend = "auto"
) -> Float[Tensor, "atoms outputs"]:
    """SiLU of even scalars, tanh of odd ones, and other irreps times the SiLU of their gates (equation 11).

    Args:
        x: features of each atom, irreps ``plan.irreps_in``.
        plan: which scalars gate what.
        silu, tanh: factors of the activations.
        backend: as in :func:`convolve`.
    """
    chosen = _choose(backend, x, lambda: cpu_nodes.ready(x.dtype))
    if chosen is reference:
        return reference.gate(x, plan, silu, tanh)
    return autograd.gate(x, plan, (silu, tanh), cpu_nodes)


def weighted_harmonics(
    weights: Float[Tensor, "edges degrees_channels"],
    harmonics: Float[Tensor, "edges harmonics"],
    backend: Backend = "auto",
) -> Float[Tensor, "edges features"]:
    """V_ij = w_ij Y_ij, degree by degree: a tensor for each channel (arXiv 2204.05249).

    Args:
        weights: a row of channels for each degree.
        harmonics: Y_lm of each edge, (l_max+1)² columns.
        backend: as in :func:`convolve`.
    """
    return _environment(weights, harmonics, None, len(weights), backend)


def environment(
    weights: Float[Tensor, "edges degrees_channels"],
    harmonics: Float[Tensor, "edges harmonics"],
    topology: Topology,
    backend: Backend = "auto",
) -> Float[Tensor, "centers environment"]:
    """Γ_i = sum_j w_ij Y_ij, what surrounds each atom, once an atom (arXiv 2204.05249).

    Args:
        weights: a row of channels for each degree.
        harmonics: Y_lm of each edge, (l_max+1)² columns.
        topology: says which edges end at which centre, sorted by it.
        backend: as in :func:`convolve`.

    Returns:
        A row of channels for each harmonic.
    """
    return _environment(weights, harmonics, topology.centers, topology.n_centers, backend)


def _environment(weights: Tensor, harmonics: Tensor, centers: Tensor | None, n_atoms: int, backend: Backend) -> Tensor:
    l_max = round(harmonics.shape[1] ** 0.5) - 1
    channels = weights.shape[1] // (l_max + 1)
    ready = partial(cpu_local.environments_ready, l_max, channels, weights.dtype)
    chosen = _choose(backend, weights, ready, in_triton=True)
    if chosen is not reference:
        return autograd.environment(weights, harmonics, centers, n_atoms, l_max, _local(chosen))
    if centers is None:
        return reference_local.weighted_harmonics(weights, harmonics)
    return reference_local.environment(weights, harmonics, centers, n_atoms)


def tensor_product(
    features: Float[Tensor, "edges features"],
    environments: Float[Tensor, "atoms environment"],
    weights: Float[Tensor, "paths channels"],
    topology: Topology,
    table: CouplingTable,
    backend: Backend = "auto",
) -> Float[Tensor, "edges results"]:
    """V_ij x Γ_i, the product of each edge with what surrounds its centre (arXiv 2204.05249).

    Args:
        features: of each edge, irreps ``table.irreps_in``.
        environments: of each atom, as :func:`environment` gives them.
        weights: of each path and channel.
        topology: says which edges end at which centre, sorted by it.
        table: the paths of the product.
        backend: as in :func:`convolve`.

    Returns:
        Features of each edge, irreps ``table.irreps_out``.
    """
    ready = partial(cpu_local.products_ready, table, features.dtype, of_harmonics=False)
    chosen = _choose(backend, features, ready, in_triton=True)
    if chosen is reference:
        return reference_local.tensor_product(features, environments, weights, topology.centers, table)
    return autograd.tensor_product(features, environments, weights, topology.centers, table, _local(chosen))


def tensor_product_of_harmonics(
    of_harmonics: Float[Tensor, "edges degrees_channels"],
    harmonics: Float[Tensor, "edges harmonics"],
    environments: Float[Tensor, "atoms environment"],
    weights: Float[Tensor, "paths channels"],
    topology: Topology,
    table: CouplingTable,
    backend: Backend = "auto",
) -> Float[Tensor, "edges results"]:
    """:func:`tensor_product` of :func:`weighted_harmonics`, which on a CPU are not written out.

    Args:
        of_harmonics, harmonics: as in :func:`weighted_harmonics`.
        environments, weights, topology, table, backend: as in :func:`tensor_product`.
    """
    ready = partial(cpu_local.products_ready, table, harmonics.dtype, of_harmonics=True)
    if _choose(backend, harmonics, ready, in_triton=True) is cpu:
        given = (of_harmonics, harmonics, environments, weights, topology.centers, table)
        return autograd.tensor_product_of_harmonics(*given, cpu_local)
    features = weighted_harmonics(of_harmonics, harmonics, backend)
    return tensor_product(features, environments, weights, topology, table, backend)


def leading(x: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The first ``n`` columns, and all of them: what to write where both are needed."""
    return autograd.leading(x, n)


def lookup(
    values: Float[Tensor, "kinds rows columns"],
    positions: Float[Tensor, " edges"],
    kinds: Int[Tensor, " edges"],
    backend: Backend = "auto",
) -> Float[Tensor, "edges columns"]:
    """The splines of each edge's kind at its position, written out edge by edge.

    Args:
        values: coefficients of cubic B-splines, as in :class:`Radial`, for each kind of edge.
        positions: of each edge, between 0 and rows - 3.
        kinds: which splines an edge reads.
        backend: as in :func:`convolve`.
    """
    chosen = _choose(backend, positions, partial(cpu_local.lookup_ready, positions.dtype), in_triton=True)
    values = values.to(positions.dtype)
    if chosen is reference:
        return reference_local.lookup(values, positions, kinds)
    return autograd.lookup(values, positions, kinds, _local(chosen))


@contextmanager
def using(backend: Backend) -> Iterator[None]:
    """Makes ``auto`` mean this backend for a while: an oracle for tests, and a way round a kernel under suspicion."""
    token = _preferred.set(backend)
    try:
        yield
    finally:
        _preferred.reset(token)


def describe(device: torch.device | str) -> str:
    """Which implementation serves tensors on a device, in words."""
    device = torch.device(device)
    if not fused(device):
        return "plain torch"
    return f"generated C, {build.target().name}" if device.type == "cpu" else "generated Triton"


def fused(device: torch.device | str) -> bool:
    """Whether convolutions on a device write nothing out edge by edge."""
    device = torch.device(device)
    if _preferred.get() == "reference":
        return False
    if device.type == "cpu":
        return cpu.edges_ready(0, torch.float32)
    return device.type == "cuda" and _gpu(torch.zeros(1, device=device), _preferred.get()) is not None


def _choose(backend: Backend, example: Tensor, ready: Callable[[], bool], *, in_triton: bool = False) -> ModuleType:
    """The implementation for tensors like an example; ``in_triton`` says whether there is one for GPUs."""
    wanted = _preferred.get() if backend == "auto" else backend
    if wanted == "reference":
        return reference
    if wanted in ("auto", "cpu") and example.device.type == "cpu" and ready():
        return cpu
    if wanted in ("auto", "gpu") and in_triton and (found := _gpu(example, wanted)) is not None:
        return found
    if wanted != "auto" and in_triton:
        raise InputError(
            f"the kernels of backend {wanted!r} cannot compute {example.dtype} on {example.device} here: choose auto"
        )
    return reference


def _local(chosen: ModuleType) -> ModuleType:
    """What the chosen implementation has for strictly local models."""
    if chosen is cpu:
        return cpu_local
    from equiforce.kernels.gpu import local as gpu_local  # noqa: PLC0415 - an optional backend

    return gpu_local


def _gpu(example: Tensor, wanted: Backend) -> ModuleType | None:
    """The kernels in Triton, where they can compute; on the CPU only by name, for tests in Triton's interpreter."""
    if example.device.type != "cuda" and wanted != "gpu":
        return None
    from equiforce.kernels.gpu import convolution as gpu  # noqa: PLC0415 - an optional backend

    usable = example.dtype in gpu.DTYPES and gpu.available() and (example.is_cuda or gpu.interpreted())
    if not usable and example.is_cuda:
        build.tell_once("equiforce computes with plain torch on the GPU, many times slower: pip install triton")
    return gpu if usable else None


def sorted_by_center(topology: Topology, values: Tensor) -> tuple[Topology, Tensor]:
    """The same edges in the order that kernels want, and something of each edge in that order."""
    topology, order = _sorted(topology)
    return topology, values if order is None else values[order]


_orders: WeakKeyDictionary[Topology, tuple[Topology, Int[Tensor, " edges"]] | None] = WeakKeyDictionary()


def _sorted(topology: Topology) -> tuple[Topology, Int[Tensor, " edges"] | None]:
    """The topology with its edges sorted by centre, and the order that did it; None where they were."""
    if topology not in _orders:
        _orders[topology] = topology.sorted_by_center()
    found = _orders[topology]
    return (topology, None) if found is None else found


__all__ = [
    "Backend",
    "CouplingTable",
    "GatePlan",
    "LinearPlan",
    "PathTable",
    "Radial",
    "convolve",
    "describe",
    "edges",
    "environment",
    "fused",
    "gate",
    "halo_exchange",
    "leading",
    "lookup",
    "mix",
    "pair_gradient",
    "pair_vectors",
    "sorted_by_center",
    "tensor_product",
    "tensor_product_of_harmonics",
    "using",
    "weighted_harmonics",
]
