"""Path tables and random tensors that tests of several kernels use."""

from dataclasses import replace

import torch

from equiforce.geometry.irreps import Irreps, hidden_irreps
from equiforce.graph import AtomicGraph
from equiforce.kernels import PathTable, Radial

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
TABLES = {
    "scalars": PathTable(hidden_irreps((5,), odd=False), 0, hidden_irreps((5,), odd=False)),
    "l1": PathTable(hidden_irreps((4, 3), odd=False), 1, hidden_irreps((4, 3), odd=False)),
    "l2": PathTable(hidden_irreps((20, 16, 33), odd=False), 2, hidden_irreps((20, 16, 33), odd=False)),
    "l2-both-parities": PathTable(hidden_irreps((3, 2, 4), odd=True), 2, hidden_irreps((3, 2, 4), odd=True)),
    "l3-without-vectors": PathTable(hidden_irreps((3, 0, 2, 8), odd=False), 3, hidden_irreps((3, 0, 2, 8), odd=False)),
    "from-scalars": PathTable(hidden_irreps((7,), odd=False), 2, hidden_irreps((4, 3, 2), odd=False)),
    "to-scalars": PathTable(hidden_irreps((3, 4, 5), odd=True), 2, hidden_irreps((3,), odd=True)),
    "mixed": PathTable(Irreps("3x1e + 2x0o + 4x2o + 1x0e"), 3, Irreps("2x3o + 1x0e + 5x1o")),
}


def random_graph(n_atoms: int, n_edges: int, seed: int = 0) -> AtomicGraph:
    """Edges between any atoms, sorted by centre; the last third of the atoms are never centres."""
    generator = torch.Generator().manual_seed(seed)
    n_centers = max(1, 2 * n_atoms // 3)
    centers = torch.randint(n_centers, (n_edges,), generator=generator).sort().values
    neighbors = torch.randint(n_atoms, (n_edges,), generator=generator)
    return AtomicGraph(
        positions=torch.zeros(n_atoms, 3, dtype=torch.float64),
        species=torch.arange(n_atoms) % 3,
        cell=torch.zeros(1, 3, 3, dtype=torch.float64),
        structure_of_atom=torch.zeros(n_atoms, dtype=torch.int64),
        centers=centers,
        neighbors=neighbors,
        shifts=torch.zeros(n_edges, 3, dtype=torch.float64),
        by_neighbor=neighbors.argsort(stable=True),
    )


def shuffled(graph: AtomicGraph, order: torch.Tensor) -> AtomicGraph:
    """The same graph with its edges in another order."""
    neighbors = graph.neighbors[order]
    return replace(
        graph,
        centers=graph.centers[order],
        neighbors=neighbors,
        shifts=graph.shifts[order],
        by_neighbor=neighbors.argsort(stable=True),
    )


def random_inputs(table: PathTable, graph: AtomicGraph, dtype: torch.dtype, n_knots: int = 12) -> list[torch.Tensor]:
    """Features, harmonics, spline coefficients and knot_coordinates."""
    torch.manual_seed(1)
    return [
        torch.randn(graph.n_atoms, table.irreps_in.dim, dtype=dtype),
        torch.randn(graph.n_edges, (table.l_max + 1) ** 2, dtype=dtype),
        torch.randn(n_knots + 3, table.n_weights, dtype=dtype),
        n_knots * torch.rand(graph.n_edges, dtype=dtype),
    ]


def derivatives(function, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """The value, its first derivatives, and the second ones along random directions."""
    torch.manual_seed(2)
    inputs = [value.clone().requires_grad_() for value in inputs]
    out = function(*inputs)
    cotangent = torch.randn_like(out).requires_grad_()
    first = torch.autograd.grad(out, inputs, cotangent, create_graph=True)
    directions = [torch.randn_like(value) for value in first]
    second = torch.autograd.grad(first, [cotangent, *inputs], directions)
    return [out.detach(), *(value.detach() for value in first), *second]


def assert_same(actual: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float) -> None:
    """Each close to the other, relative to its largest number."""
    for a, b in zip(actual, expected, strict=True):
        size = b.abs().max().clamp(min=1e-30) if b.numel() else 1.0
        torch.testing.assert_close(a / size, b / size, rtol=0, atol=tolerance)


def convolved(table: PathTable, graph: AtomicGraph, backend: str):
    """``convolve`` as a function of its four tensors."""
    from equiforce.kernels import convolve

    return lambda x, harmonics, values, knot_coordinates: convolve(
        x, harmonics, Radial(values, knot_coordinates), graph, table, backend
    )
