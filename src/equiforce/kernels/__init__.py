"""The operations of which models consist. Each operation has one signature and several implementations.

==============  ==========================================================================================
``spec/``       what an operation computes: path tables, coupling tables, and plans of linear maps and gates
``reference/``  the definition of each operation in plain torch, which is differentiable to any order
``backend.py``  the functions of a fast implementation (Protocols)
``cpu/``        generated C: ``cpu/codegen`` writes it, ``build.py`` compiles it, ``launch.py`` calls it
``gpu/``        generated Triton: ``gpu/codegen`` writes it
``autograd.py`` differentiable functions made from an implementation
``dispatch.py`` the choice of the implementation
``order.py``    edges sorted by centre
``cache.py``    the folder of compiled kernels
==============  ==========================================================================================
"""

from functools import partial, reduce

import torch
from jaxtyping import Float, Int
from torch import Tensor

from equiforce.errors import InputError
from equiforce.graph import AtomicGraph, Topology
from equiforce.kernels import autograd
from equiforce.kernels.backend import LocalBackend
from equiforce.kernels.cpu import convolution as cpu_convolution
from equiforce.kernels.cpu import local as cpu_local
from equiforce.kernels.cpu import nodes as cpu_nodes
from equiforce.kernels.cpu import pairs as cpu_pairs
from equiforce.kernels.dispatch import Backend, Chosen, choose, describe, fused, gpu_convolution, gpu_local, using
from equiforce.kernels.order import require_sorted, sorted_by_center, sorted_edges
from equiforce.kernels.reference import convolution as reference
from equiforce.kernels.reference import local as reference_local
from equiforce.kernels.spec.couplings import CouplingTable
from equiforce.kernels.spec.paths import PathTable, Radial
from equiforce.kernels.spec.plans import GatePlan, LinearPlan

FEWEST_ROWS = 4  # of a spline table: every edge reads four rows


def pair_vectors(graph: AtomicGraph, backend: Backend = "auto") -> Float[Tensor, "edges 3"]:
    """Compute r_ij = r_j + S·cell − r_i of each edge, in Å.

    The result is differentiable if torch records gradients and the positions or the cells require grad.

    Args:
        graph: positions, cells and edges.
        backend: as in :func:`convolve`.
    """
    sorted_edges(graph)  # checks indices that were changed in place
    recorded = torch.is_grad_enabled() and (graph.positions.requires_grad or graph.cell.requires_grad)
    if recorded or choose(backend, graph.positions, cpu_pairs.ready) != "cpu":
        return graph.edge_vectors()
    return cpu_pairs.vectors(graph)


def pair_gradient(
    edge_gradients: Float[Tensor, "edges 3"], topology: Topology, backend: Backend = "auto"
) -> Float[Tensor, "atoms 3"]:
    """Compute dE/dr_i = sum_j dE/dr_ji - sum_j dE/dr_ij in eV/Å; r_ij points from centre i to neighbour j.

    Args:
        edge_gradients: dE/dr_ij of each edge, in eV/Å.
        topology: the atoms of each edge.
        backend: as in :func:`convolve`.
    """
    fast = edge_gradients.dtype == torch.float64 and choose(backend, edge_gradients, cpu_pairs.ready) == "cpu"
    if fast and sorted_edges(topology)[1] is None:
        return autograd.pair_gradient(edge_gradients, topology, cpu_pairs)
    return reference.pair_gradient(edge_gradients, topology)


def edge_geometry(
    vectors: Float[Tensor, "edges 3"], l_max: int, scale: float = 1.0, backend: Backend = "auto"
) -> tuple[Float[Tensor, "edges harmonics"], Float[Tensor, " edges"]]:
    """Compute the spherical harmonics Y(r_ij) of each edge and its knot coordinate, ``scale`` times its length.

    Args:
        vectors: r_ij in Å; none may have length zero.
        l_max: the highest degree; there are (l_max+1)² harmonics, as in :mod:`equiforce.geometry.spherical_harmonics`.
        scale: in 1/Å; the number of knots per Å, or 1 to obtain lengths in Å.
        backend: as in :func:`convolve`.
    """
    if choose(backend, vectors, lambda: cpu_convolution.edges_ready(l_max, vectors.dtype)) == "cpu":
        return autograd.edge_geometry(vectors, l_max, scale, cpu_convolution)
    return reference.edge_geometry(vectors, l_max, scale)


def halo_exchange(x: Float[Tensor, "centers features"], topology: Topology) -> Float[Tensor, "atoms features"]:
    """Return the features of all atoms, ghosts included, given those of the atoms that are not ghosts.

    Every process of a simulation must call this function, even if it has no ghosts, because other processes may need
    the features of its atoms.
    """
    return x if topology.halo is None else autograd.halo_exchange(x, topology.halo)


def convolve(
    x: Float[Tensor, "atoms features"],
    harmonics: Float[Tensor, "edges harmonics"],
    radial: Radial,
    topology: Topology,
    table: PathTable,
    backend: Backend = "auto",
) -> Float[Tensor, "centers messages"]:
    """Compute m_i = sum_j R(r_ij) (Y(r_ij) ⊗ x_j), the convolution of NequIP (arXiv 2101.03164, equation 7).

    Args:
        x: features of each atom, irreps ``table.irreps_in``.
        harmonics: Y_lm of each edge, (l_max+1)² columns.
        radial: R of each edge, ``table.n_weights`` columns.
        topology: the atoms of each edge; edges in any order.
        table: the paths of the product.
        backend: ``auto`` chooses the fastest implementation for these tensors, unless :func:`using` names another one.
            The reference always computes radial weights without knot coordinates, whatever the backend.

    Returns:
        The message of each centre, irreps ``table.irreps_out``.

    Raises:
        InputError: a tensor has the wrong dtype, shape or device, or the backend cannot compute here.
    """
    x, values, coordinates = x.to(harmonics.dtype), radial.values.to(harmonics.dtype), radial.knot_coordinates
    if coordinates is None:
        return reference.convolve(x, harmonics, Radial(values), topology, table)
    _check_spline("convolve", values.shape[0])
    training = radial.values.requires_grad
    chosen = choose(backend, x, lambda: cpu_convolution.ready(table, x.dtype, training), in_triton=True)
    if chosen == "reference":
        return reference.convolve(x, harmonics, Radial(values, coordinates), topology, table)
    topology, order = sorted_edges(topology)
    if order is not None:
        harmonics, coordinates = harmonics[order], coordinates[order]
    implementation = cpu_convolution if chosen == "cpu" else gpu_convolution()
    return autograd.convolve(x, harmonics, values, coordinates, topology, table, implementation)


def linear(
    x: Float[Tensor, "atoms inputs"],
    weights: Float[Tensor, "species weights"],
    species: Int[Tensor, " atoms"] | None,
    plan: LinearPlan,
    backend: Backend = "auto",
) -> Float[Tensor, "atoms outputs"]:
    """Compute y_i = x_i W(species_i), irrep by irrep; Schur's lemma allows no other equivariant linear map.

    Args:
        x: features of each atom, irreps ``plan.irreps_in``.
        weights: one row of ``plan.n_weights`` for each species.
        species: species index of each atom; None if there is one set of weights.
        plan: the matrices and their blocks.
        backend: as in :func:`convolve`.

    Returns:
        The result of each atom, irreps ``plan.irreps_out``.

    Raises:
        InputError: x and weights have different dtypes, weights of several species come without ``species``, or C finds
            a species index that is out of range.
    """
    if species is None and plan.n_species > 1:
        raise InputError(
            f"linear: the plan has matrices for {plan.n_species} species: give the species of each row of x"
        )
    if torch.is_autocast_enabled(x.device.type):  # autocast lowers the precision of torch, not of C
        return reference.linear(x, weights, species, plan)
    if x.dtype is not weights.dtype:
        raise InputError(f"linear: weights are {weights.dtype}, but features are {x.dtype}: convert one of them")
    if choose(backend, x, lambda: cpu_nodes.ready(x.dtype)) == "cpu":
        return autograd.linear(x, weights, species, plan, cpu_nodes)
    return reference.linear(x, weights, species, plan)


def gate(
    x: Float[Tensor, "atoms inputs"], plan: GatePlan, silu: float, tanh: float, backend: Backend = "auto"
) -> Float[Tensor, "atoms outputs"]:
    """Compute SiLU of even scalars, tanh of odd scalars, and other irreps times SiLU of their gates.

    This is the gate of arXiv 2101.03164, equation 11.

    Args:
        x: features of each atom, irreps ``plan.irreps_in``.
        plan: which scalar is the gate of which channel.
        silu, tanh: factors of the two activations.
        backend: as in :func:`convolve`.

    Returns:
        The result of each atom, irreps ``plan.irreps_out``.
    """
    if choose(backend, x, lambda: cpu_nodes.ready(x.dtype)) == "cpu":
        return autograd.gate(x, plan, (silu, tanh), cpu_nodes)
    return reference.gate(x, plan, silu, tanh)


def weighted_harmonics(
    weights: Float[Tensor, "edges degrees_channels"],
    harmonics: Float[Tensor, "edges harmonics"],
    backend: Backend = "auto",
) -> Float[Tensor, "edges features"]:
    """Compute V_ij = w_ij Y_ij, one weight for each degree and channel (arXiv 2204.05249, Methods).

    Args:
        weights: w of each edge; a row of channels for each degree.
        harmonics: Y_lm of each edge, (l_max+1)² columns.
        backend: as in :func:`convolve`.

    Returns:
        V of each edge; a row of channels for each harmonic.
    """
    return _environment(weights, harmonics, None, weights.shape[0], backend)


def environment(
    weights: Float[Tensor, "edges degrees_channels"],
    harmonics: Float[Tensor, "edges harmonics"],
    topology: Topology,
    backend: Backend = "auto",
) -> Float[Tensor, "centers environment"]:
    """Compute Γ_i = sum_j w_ij Y_ij, the environment of each centre (arXiv 2204.05249, Methods).

    Args:
        weights: w of each edge; a row of channels for each degree.
        harmonics: Y_lm of each edge, (l_max+1)² columns.
        topology: the atoms of each edge; edges sorted by centre.
        backend: as in :func:`convolve`.

    Returns:
        Γ of each centre; a row of channels for each harmonic.
    """
    require_sorted("environment", topology)
    return _environment(weights, harmonics, topology.centers, topology.n_centers, backend)


def _environment(
    weights: Tensor, harmonics: Tensor, centers: Tensor | None, n_centers: int, backend: Backend
) -> Tensor:
    l_max = round(harmonics.shape[1] ** 0.5) - 1
    channels = weights.shape[1] // (l_max + 1)
    weights, harmonics = _of_one_dtype("environment", weights=weights, harmonics=harmonics)
    ready = partial(cpu_local.environments_ready, l_max, channels, weights.dtype)
    chosen = choose(backend, weights, ready, in_triton=True)
    if chosen != "reference":
        return autograd.environment(weights, harmonics, centers, n_centers, l_max, _local(chosen))
    if centers is None:
        return reference_local.weighted_harmonics(weights, harmonics)
    return reference_local.environment(weights, harmonics, centers, n_centers)


def tensor_product(
    features: Float[Tensor, "edges features"],
    environments: Float[Tensor, "centers environment"],
    weights: Float[Tensor, "paths channels"],
    topology: Topology,
    table: CouplingTable,
    backend: Backend = "auto",
) -> Float[Tensor, "edges results"]:
    """Compute V_ij ⊗ Γ_i, the product of each edge's tensors with the environment of its centre (arXiv 2204.05249).

    Args:
        features: V of each edge, irreps ``table.irreps_in``.
        environments: Γ of each centre, from :func:`environment`.
        weights: weight of each path and channel.
        topology: the atoms of each edge; edges sorted by centre.
        table: the paths of the product.
        backend: as in :func:`convolve`.

    Returns:
        Features of each edge, irreps ``table.irreps_out``.
    """
    require_sorted("tensor_product", topology)
    _check_environments("tensor_product", environments, topology)
    given = {"features": features, "environments": environments, "weights": weights}
    features, environments, weights = _of_one_dtype("tensor_product", **given)
    ready = partial(cpu_local.products_ready, table, features.dtype, of_harmonics=False)
    chosen = choose(backend, features, ready, in_triton=True)
    if chosen == "reference":
        return reference_local.tensor_product(features, environments, weights, topology.centers, table)
    return autograd.tensor_product(features, environments, weights, topology.centers, table, _local(chosen))


def tensor_product_of_harmonics(
    of_harmonics: Float[Tensor, "edges degrees_channels"],
    harmonics: Float[Tensor, "edges harmonics"],
    environments: Float[Tensor, "centers environment"],
    weights: Float[Tensor, "paths channels"],
    topology: Topology,
    table: CouplingTable,
    backend: Backend = "auto",
) -> Float[Tensor, "edges results"]:
    """Compute :func:`tensor_product` of :func:`weighted_harmonics`; on a CPU V_ij is not stored.

    Args:
        of_harmonics, harmonics: weights and harmonics of :func:`weighted_harmonics`.
        environments, weights, topology, table, backend: as in :func:`tensor_product`.
    """
    require_sorted("tensor_product", topology)
    _check_environments("tensor_product", environments, topology)
    tensors = {"of_harmonics": of_harmonics, "harmonics": harmonics, "environments": environments, "weights": weights}
    of_harmonics, harmonics, environments, weights = _of_one_dtype("tensor_product", **tensors)
    ready = partial(cpu_local.products_ready, table, harmonics.dtype, of_harmonics=True)
    if choose(backend, harmonics, ready, in_triton=True) == "cpu":
        given = (of_harmonics, harmonics, environments, weights, topology.centers, table)
        return autograd.tensor_product_of_harmonics(*given, cpu_local)
    features = weighted_harmonics(of_harmonics, harmonics, backend)
    return tensor_product(features, environments, weights, topology, table, backend)


def leading(x: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the first ``n`` columns and all columns; the backward pass of both is cheaper than that of a slice."""
    return autograd.leading(x, n)


def lookup(
    values: Float[Tensor, "kinds rows columns"],
    knot_coordinates: Float[Tensor, " edges"],
    kinds: Int[Tensor, " edges"],
    backend: Backend = "auto",
) -> Float[Tensor, "edges columns"]:
    """Evaluate the splines of each edge's kind at its knot coordinate.

    Args:
        values: coefficients of cubic B-splines, as in :class:`Radial`, for each kind of edge.
        knot_coordinates: knot coordinate of each edge, between 0 and rows - 3.
        kinds: index of the splines that an edge reads.
        backend: as in :func:`convolve`.

    Raises:
        InputError: the table has fewer than 4 rows, or C finds a kind that is out of range.
    """
    values = values.to(knot_coordinates.dtype)
    _check_spline("lookup", values.shape[1])
    ready = partial(cpu_local.lookup_ready, knot_coordinates.dtype)
    chosen = choose(backend, knot_coordinates, ready, in_triton=True)
    if chosen == "reference":
        return reference_local.lookup(values, knot_coordinates, kinds)
    return autograd.lookup(values, knot_coordinates, kinds, _local(chosen))


def _local(chosen: Chosen) -> LocalBackend:
    return cpu_local if chosen == "cpu" else gpu_local()


def _of_one_dtype(operation: str, **tensors: Tensor) -> list[Tensor]:
    """The tensors if they have one dtype; within autocast, converted to the dtype of the highest precision."""
    values = list(tensors.values())
    if len({value.dtype for value in values}) == 1:
        return values
    if torch.is_autocast_enabled(values[0].device.type):
        highest = reduce(torch.promote_types, (value.dtype for value in values))
        return [value.to(highest) for value in values]
    listed = ", ".join(f"{name} {str(value.dtype).removeprefix('torch.')}" for name, value in tensors.items())
    raise InputError(f"{operation}: the dtypes differ ({listed}): convert the tensors to one dtype")


def _check_spline(operation: str, n_rows: int) -> None:
    if n_rows < FEWEST_ROWS:
        raise InputError(
            f"{operation}: the splines have {n_rows} rows of coefficients, but cubic splines need at least "
            f"{FEWEST_ROWS}: use more knots"
        )


def _check_environments(operation: str, environments: Tensor, topology: Topology) -> None:
    """Raise InputError if there is not one environment for each centre: kernels read that of every centre."""
    if environments.shape[0] != topology.n_centers:
        raise InputError(
            f"{operation}: environments has {environments.shape[0]} rows, but there are {topology.n_centers} centres: "
            "give one row for each centre"
        )


__all__ = [
    "Backend",
    "CouplingTable",
    "GatePlan",
    "LinearPlan",
    "PathTable",
    "Radial",
    "convolve",
    "describe",
    "edge_geometry",
    "environment",
    "fused",
    "gate",
    "halo_exchange",
    "leading",
    "linear",
    "lookup",
    "pair_gradient",
    "pair_vectors",
    "sorted_by_center",
    "tensor_product",
    "tensor_product_of_harmonics",
    "using",
    "weighted_harmonics",
]
