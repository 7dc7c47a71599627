from contextlib import contextmanager

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from equiforce.graph import batch, center_batches
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
    assert whole.volumes().tolist() == [0.0, 0.0, abs(np.linalg.det(crystal().cell))]


def test_edge_vectors_point_from_centre_to_neighbour():
    graph = graph_of(ethanol())
    expected = graph.positions[graph.neighbors] - graph.positions[graph.centers]
    assert torch.equal(graph.edge_vectors(), expected)


def test_strain_deforms_positions_and_cell_alike():
    graph = graph_of(crystal())
    strain = torch.zeros(1, 3, 3, dtype=torch.float64)
    strain[0, 0, 1] = 0.02  # its symmetric part counts
    deformation = torch.eye(3, dtype=torch.float64) + 0.5 * (strain[0] + strain[0].T)
    torch.testing.assert_close(graph.strained(strain).edge_vectors(), graph.edge_vectors() @ deformation)


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


def test_stars_share_out_atoms_and_edges_and_keep_species():
    graph = graph_of(ethanol(), atom("O"), crystal())
    for most in (1, 20, 10_000):
        parts = list(center_batches(graph, 3, most))
        assert [i for p in parts for i in range(graph.n_atoms)[p.atoms]] == list(range(graph.n_atoms))
        assert [e for p in parts for e in range(graph.n_edges)[p.edges]] == list(range(graph.n_edges))
        for part, atoms, edges in parts:
            assert torch.equal(part.species[part.centers], graph.species[graph.centers[edges]])
            assert torch.equal(part.species[part.neighbors], graph.species[graph.neighbors[edges]])
            assert part.n_atoms == atoms.stop - atoms.start + 3
            assert part.sorted_by_center() is None
            assert part.n_edges <= most or atoms.stop - atoms.start == 1


def test_stars_of_atoms_without_edges():
    alone = graph_of(atom(), atom("H"))
    (part,) = center_batches(alone, 3, 5)
    assert part.graph.n_edges == 0
    assert part.graph.species.tolist() == [2, 0, 0, 1, 2]


def test_some_edges_of_a_graph():
    graph = graph_of(ethanol(), crystal())
    kept = torch.arange(graph.n_edges) % 3 == 0
    some = graph.with_edges(kept)
    assert torch.equal(some.centers, graph.centers[kept])
    assert torch.equal(some.neighbors, graph.neighbors[kept])
    assert some.n_atoms == graph.n_atoms
    assert some.sorted_by_center() is None
