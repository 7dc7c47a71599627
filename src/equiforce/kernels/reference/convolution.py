"""The definition of the operations in plain torch, differentiable to any order."""

from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from equiforce.geometry.irreps import Block, blocks
from equiforce.geometry.spherical_harmonics import spherical_harmonics
from equiforce.graph import Topology
from equiforce.kernels.spec.paths import Path, PathTable, Radial
from equiforce.kernels.spec.plans import GatePlan, LinearPlan


class StackedPaths(NamedTuple):
    """The paths from one block of the features, stacked: every component of every result is a row."""

    source: Block
    weights: slice  # columns of the radial weights
    components: tuple[int, ...]  # number of rows of each path
    path_of_row: Int[Tensor, " rows"]
    coupling: Float[Tensor, "harmonics rows*m1"]  # coefficient of each harmonic in the map from m1 to a row


class StackedTable(NamedTuple):
    """A path table arranged for a few large matrix products."""

    stacks: tuple[StackedPaths, ...]
    order: tuple[tuple[int, ...], ...]  # the paths to each target, numbered as they lie in the stacks


def convolve(
    x: Float[Tensor, "atoms features"],
    harmonics: Float[Tensor, "edges harmonics"],
    radial: Radial,
    topology: Topology,
    table: PathTable,
) -> Float[Tensor, "centers messages"]:
    """Compute sum_j R(r_ij) (Y(r_ij) ⊗ x_j) for every centre i; see :func:`equiforce.kernels.convolve`."""
    stacks, order = _stacked(table, x.dtype, x.device)
    weights = weights_on_edges(radial)
    sent = x.index_select(0, topology.neighbors)
    results: list[Tensor] = []
    for source, columns, components, path_of_row, coupling in stacks:
        maps = (harmonics @ coupling).unflatten(1, (len(path_of_row), 2 * source.l + 1))
        products = torch.bmm(maps, source.of(sent))
        scale = weights[:, columns].unflatten(1, (len(components), source.channels)).index_select(1, path_of_row)
        total = products.new_zeros(topology.n_centers, *products.shape[1:])
        results += total.index_add(0, topology.centers, products * scale).split(components, dim=1)
    return torch.cat([torch.cat([results[path] for path in paths], dim=2).flatten(1) for paths in order], dim=1)


def pair_gradient(edge_gradients: Float[Tensor, "edges 3"], topology: Topology) -> Float[Tensor, "atoms 3"]:
    """Compute dE/dr_i = sum_j dE/dr_ji - sum_j dE/dr_ij."""
    total = edge_gradients.new_zeros(topology.n_atoms, 3)
    return total.index_add(0, topology.neighbors, edge_gradients).index_add(
        0, topology.centers, edge_gradients, alpha=-1
    )


def edge_geometry(
    vectors: Float[Tensor, "edges 3"], l_max: int, scale: float
) -> tuple[Float[Tensor, "edges harmonics"], Float[Tensor, " edges"]]:
    """Compute Y of each vector's direction, and ``scale`` times its length."""
    return spherical_harmonics(vectors, l_max), scale * vectors.norm(dim=1)


def linear(
    x: Float[Tensor, "atoms inputs"],
    weights: Float[Tensor, "species weights"],
    species: Int[Tensor, " atoms"] | None,
    plan: LinearPlan,
) -> Float[Tensor, "atoms outputs"]:
    """Compute x_i W(species_i), irrep by irrep."""
    of_target = {matrix.target: matrix for matrix in plan.matrices}
    results = []
    for target in blocks(plan.irreps_out):
        if (matrix := of_target.get(target)) is None:
            results.append(x.new_zeros(x.shape[0], target.stop - target.start))
            continue
        n_in, n_out = matrix.source.channels, target.channels
        of_species = matrix.scale * weights[:, matrix.weight : matrix.weight + n_in * n_out]
        result = matrix.source.of(x) @ of_species.unflatten(1, (n_in, n_out)).transpose(0, 1).flatten(1)
        if species is not None:
            index = species.view(-1, 1, 1, 1).expand(-1, result.shape[1], 1, n_out)
            result = result.unflatten(2, (plan.n_species, n_out)).gather(2, index)
        results.append(result.flatten(1))
    return torch.cat(results, dim=1)


def gate(x: Float[Tensor, "atoms inputs"], plan: GatePlan, silu: float, tanh: float) -> Float[Tensor, "atoms outputs"]:
    """Compute the gate; ``silu`` and ``tanh`` are factors of the activations."""
    gated = []
    for source, target, gates in plan.parts:
        values = source.of(x)[..., : target.channels]
        if target.l:
            values = silu * torch.nn.functional.silu(x[:, gates : gates + target.channels]).unsqueeze(1) * values
        elif target.parity > 0:
            values = silu * torch.nn.functional.silu(values)
        else:
            values = tanh * torch.tanh(values)
        gated.append(values.flatten(1))
    return torch.cat(gated, dim=1)


def weights_on_edges(radial: Radial) -> Float[Tensor, "edges weights"]:
    """Compute the radial weights of each edge."""
    if radial.knot_coordinates is None:
        return radial.values
    first_row, basis = cubic_basis(radial.knot_coordinates, radial.values.shape[0])
    rows = radial.values[first_row.unsqueeze(1) + torch.arange(4, device=first_row.device)]
    return torch.einsum("eb,ebw->ew", basis, rows)


def cubic_basis(
    knot_coordinates: Float[Tensor, " edges"], n_rows: int
) -> tuple[Int[Tensor, " edges"], Float[Tensor, "edges 4"]]:
    """Compute the index of the first of the four B-splines that are not zero on each edge, and all four values."""
    first_row = knot_coordinates.detach().floor().clamp(0, n_rows - 4)
    u = (knot_coordinates - first_row).clamp(max=1.0)
    v = 1 - u
    basis = torch.stack([v**3, 3 * u**3 - 6 * u**2 + 4, 3 * v**3 - 6 * v**2 + 4, u**3], dim=1) / 6
    return first_row.long(), basis


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # the result is cached for training too, which cannot use inference tensors
def _stacked(table: PathTable, dtype: torch.dtype, device: torch.device) -> StackedTable:
    by_source: dict[Block, list[Path]] = {}
    for path in table.paths:
        by_source.setdefault(path.source, []).append(path)
    stacks = tuple(_stack(paths, table.l_max, dtype, device) for paths in by_source.values())
    number = {path.weight: index for index, path in enumerate(table.paths)}
    order = tuple(
        tuple(number[p.weight] for p in sorted(table.paths, key=lambda p: p.channel) if p.target == target)
        for target in blocks(table.irreps_out)
    )
    return StackedTable(stacks, order)


def _stack(paths: list[Path], l_max: int, dtype: torch.dtype, device: torch.device) -> StackedPaths:
    source, components = paths[0].source, tuple(2 * path.target.l + 1 for path in paths)
    coupling = torch.zeros((l_max + 1) ** 2, sum(components), 2 * source.l + 1, dtype=torch.float64)
    row = 0
    for path, n_rows in zip(paths, components, strict=True):
        for m1, m2, m3, value in path.coupling:
            coupling[path.l2**2 + m2, row + m3, m1] = value
        row += n_rows
    return StackedPaths(
        source=source,
        weights=slice(paths[0].weight, paths[0].weight + len(paths) * source.channels),
        components=components,
        path_of_row=torch.repeat_interleave(torch.tensor(components)).to(device),
        coupling=coupling.flatten(1).to(device=device, dtype=dtype),
    )
