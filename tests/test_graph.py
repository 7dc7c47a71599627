import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from equiforce.errors import InputError
from equiforce.graph import batch
from tests.systems import atom, crystal, ethanol, graph_of


@contextmanager
def largest_tensor():
    """How many elements the largest tensor has that torch makes meanwhile."""
    sizes = [0]

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            sizes.append(result.numel() if isinstance(result, torch.Tensor) else 0)
            return result

    with Watching():
        yield lambda: max(sizes)


def test_a_batch_is_its_structures_side_by_side():
    parts = [graph_of(s) for s in (ethanol(), atom(), crystal())]
    whole = batch(parts)
    assert (whole.n_atoms, whole.n_structures, whole.n_edges) == (12, 3, sum(g.n_edges for g in parts))
    assert whole.atoms_per_structure().tolist() == [9, 1, 2]
    torch.testing.assert_close(whole.edge_vectors(), torch.cat([g.edge_vectors() for g in parts]))
    assert (whole.centers.diff() >= 0).all()
    assert (whole.neighbors[whole.by_neighbor].diff() >= 0).all()
    np.testing.assert_allclose(whole.volumes(), [0.0, 0.0, abs(np.linalg.det(crystal().cell))], rtol=1e-12)


def test_edge_vectors_point_from_centre_to_neighbour():
    graph = graph_of(ethanol())
    expected = graph.positions[graph.neighbors] - graph.positions[graph.centers]
    assert torch.equal(graph.edge_vectors(), expected)


def test_a_part_keeps_the_edges_and_their_order():
    graph = graph_of(ethanol(), crystal(), atom())
    atoms = torch.arange(graph.n_atoms) % 4 > 0
    edges = atoms[graph.centers] & atoms[graph.neighbors] & (graph.shifts.sum(dim=1) >= 0)
    part = graph.part(atoms, edges)
    assert (part.n_atoms, part.n_edges, part.n_structures) == (int(atoms.sum()), int(edges.sum()), 3)
    assert torch.equal(part.edge_vectors(), graph.edge_vectors()[edges])
    assert torch.equal(part.species[part.neighbors], graph.species[graph.neighbors[edges]])
    assert (part.centers.diff() >= 0).all()
    assert torch.equal(part.by_neighbor, part.neighbors.argsort(stable=True))


def test_a_cell_is_not_written_out_for_each_edge():
    one, several = graph_of(crystal()), graph_of(crystal(), ethanol(), crystal(1))
    for graph in (one, several):
        cell = graph.cell[graph.structure_of_atom[graph.centers]]
        expected = graph.positions[graph.neighbors] - graph.positions[graph.centers]
        expected = expected + torch.einsum("ea,eab->eb", graph.shifts, cell)
        torch.testing.assert_close(graph.edge_vectors(), expected, rtol=0, atol=1e-14)
        with largest_tensor() as seen:
            graph.edge_vectors()
        assert seen() == 3 * graph.n_edges


def test_some_edges_of_a_graph():
    graph = graph_of(ethanol(), crystal())
    kept = torch.arange(graph.n_edges) % 3 == 0
    some = graph.select_edges(kept)
    assert torch.equal(some.centers, graph.centers[kept])
    assert torch.equal(some.neighbors, graph.neighbors[kept])
    assert some.n_atoms == graph.n_atoms
    assert some.sorted_by_center() is None


WRONG_TENSORS = """
import torch
from dataclasses import replace
from equiforce.errors import InputError
from tests.systems import atom, crystal, ethanol, graph_of
graph = graph_of(ethanol(), crystal(), atom())
for name, change in (
    ("positions", lambda t: t.float()),
    ("cell", lambda t: t.float()),
    ("shifts", lambda t: t.long()),
    ("species", lambda t: t.int()),
    ("centers", lambda t: t.int()),
    ("neighbors", lambda t: t.double()),
    ("by_neighbor", lambda t: t.int()),
    ("structure_of_atom", lambda t: t.int()),
    ("positions", lambda t: t[:, :2]),
    ("neighbors", lambda t: t[1:]),
    ("cell", lambda t: t[0]),
    ("centers", lambda t: t - 1),
    ("neighbors", lambda t: t + 12),
    ("by_neighbor", lambda t: t + 1),
    ("structure_of_atom", lambda t: t + 1),
    ("positions", lambda t: t.to("meta")),
):
    try:
        replace(graph, **{name: change(getattr(graph, name))})
        print("taken")
    except InputError as error:
        print(error)
"""


def test_a_graph_that_cannot_be_is_refused_when_it_is_made():
    """In a process of its own, for within the tests jaxtyping would refuse some of them first."""
    n = graph_of(ethanol(), crystal(), atom()).n_edges
    found = subprocess.run([sys.executable, "-c", WRONG_TENSORS], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == [
        "AtomicGraph.positions is float32, but has to be float64: convert it with .to(torch.float64)",
        "AtomicGraph.cell is float32, but has to be float64: convert it with .to(torch.float64)",
        "AtomicGraph.shifts is int64, but has to be float64: convert it with .to(torch.float64)",
        "AtomicGraph.species is int32, but has to be int64: convert it with .to(torch.int64)",
        "AtomicGraph.centers is int32, but has to be int64: convert it with .to(torch.int64)",
        "AtomicGraph.neighbors is float64, but has to be int64: convert it with .to(torch.int64)",
        "AtomicGraph.by_neighbor is int32, but has to be int64: convert it with .to(torch.int64)",
        "AtomicGraph.structure_of_atom is int32, but has to be int64: convert it with .to(torch.int64)",
        "AtomicGraph.positions has the shape [12, 2], but has to have [12, 3]",
        f"AtomicGraph.neighbors has the shape [{n - 1}], but has to have [{n}]",
        "AtomicGraph.cell has the shape [3, 3], but has to have [3, 3, 3]",
        "AtomicGraph.centers holds -1, but there are 12 atoms that may be centres, counted from 0",
        "AtomicGraph.neighbors holds 22, but there are 12 atoms, counted from 0",
        f"AtomicGraph.by_neighbor holds {n}, but there are {n} edges, counted from 0",
        "AtomicGraph.structure_of_atom holds 3, but there are 3 structures, counted from 0",
        "AtomicGraph.positions is on meta, but other tensors are on cpu: move all to one device",
    ]


def test_an_order_that_names_an_edge_twice_is_refused():
    graph = graph_of(ethanol())
    order = graph.by_neighbor.clone()
    order[1] = order[0]
    with pytest.raises(InputError, match="by_neighbor names an edge twice"):
        replace(graph, by_neighbor=order).sorted_by_center()
