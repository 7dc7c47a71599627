from dataclasses import replace

import pytest
import torch

from equiforce.kernels import edge_geometry
from equiforce.kernels.cpu import convolution
from tests.kernels.cases import TABLES, assert_same, convolved, derivatives, random_graph, random_inputs, shuffled


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(("n_atoms", "n_edges"), [(1, 0), (5, 0), (1, 3), (3, 1), (40, 16), (3, 200)])
def test_any_number_of_atoms_and_edges(n_atoms, n_edges):
    table, graph = TABLES["l2"], random_graph(n_atoms, n_edges)
    inputs = random_inputs(table, graph, torch.float64)
    fused, reference = (derivatives(convolved(table, graph, backend), inputs) for backend in ("cpu", "reference"))
    assert_same(fused, reference, 1e-10)


def test_every_row_of_a_result_is_written(monkeypatch, threads):
    """Atoms without edges have zeros too, wherever they stand, though the memory held something else before."""
    monkeypatch.setattr(convolution, "_summed", lambda _: lambda like, *shape: like.new_full(shape, torch.nan))
    table, every = TABLES["l2"], random_graph(90, 3000)
    for used in (range(90), range(20, 40), range(4), range(55, 60), range(0, 90, 7)):
        among = torch.tensor(list(used))
        kept = torch.isin(every.centers, among) & torch.isin(every.neighbors, among)
        neighbors = every.neighbors[kept]
        edges = {"centers": every.centers[kept], "neighbors": neighbors, "shifts": every.shifts[kept]}
        graph = replace(every, **edges, by_neighbor=neighbors.argsort(stable=True))
        assert graph.n_edges
        inputs = random_inputs(table, graph, torch.float64)
        for n in (1, 3):
            threads(n)
            fused, reference = (derivatives(convolved(table, graph, one), inputs) for one in ("cpu", "reference"))
            assert_same(fused, reference, 1e-10)


def test_edges_in_any_order():
    table, graph = TABLES["l2"], random_graph(12, 90)
    order = torch.randperm(graph.n_edges, generator=torch.Generator().manual_seed(3))
    x, harmonics, values, knot_coordinates = random_inputs(table, graph, torch.float64)
    expected = convolved(table, graph, "cpu")(x, harmonics, values, knot_coordinates)
    actual = convolved(table, shuffled(graph, order), "cpu")(x, harmonics[order], values, knot_coordinates[order])
    torch.testing.assert_close(actual, expected)


def test_threads_change_nothing_but_rounding_and_repeat_to_the_bit(threads):
    table, graph = TABLES["l2"], random_graph(60, 2000)
    inputs = random_inputs(table, graph, torch.float64)
    results = []
    for n in (1, 3, 3):
        threads(n)
        results.append(derivatives(convolved(table, graph, "cpu"), inputs))
    assert_same(results[1], results[0], 1e-13)
    assert all(torch.equal(a, b) for a, b in zip(results[1], results[2], strict=True))


def test_ends_of_the_table():
    """On the first knot, on the last, and beyond it: as the reference."""
    table, graph = TABLES["l1"], random_graph(4, 6)
    x, harmonics, values, _ = random_inputs(table, graph, torch.float64)
    values[-3:] = 0
    knot_coordinates = torch.tensor([0.0, 1.0, 11.999999, 12.0, 12.0, 13.0], dtype=torch.float64)
    fused, reference = (
        derivatives(convolved(table, graph, backend), [x, harmonics, values, knot_coordinates])
        for backend in ("cpu", "reference")
    )
    assert_same(fused[:4], reference[:4], 1e-12)


def test_nothing_has_the_size_of_edges_times_channels():
    """A thousand edges an atom cost no more memory than their geometry."""
    table, graph = TABLES["l2"], random_graph(3, 3000)
    x, harmonics, values, knot_coordinates = (v.requires_grad_() for v in random_inputs(table, graph, torch.float32))
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        out = convolved(table, graph, "cpu")(x, harmonics, values, knot_coordinates)
        torch.autograd.grad(out.square().sum(), knot_coordinates, create_graph=True)
    assert max(sizes) <= max(harmonics.numel(), values.numel(), out.numel())


def test_edges_of_no_vectors():
    harmonics, knot_coordinates = edge_geometry(torch.zeros(0, 3), 2, 1.0, "cpu")
    assert harmonics.shape == (0, 9)
    assert knot_coordinates.shape == (0,)
