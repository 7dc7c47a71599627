from dataclasses import replace

import numpy as np
import torch

from equiforce.graph import batch, batch_labels
from tests.systems import atom, crystal, ethanol, graph_of


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


def test_labels_know_what_is_absent():
    one = replace(ethanol(), energy=-1.0)
    other = replace(crystal(), forces=np.ones((2, 3)), stress=np.eye(3))
    labels = batch_labels([one, other])
    assert labels.energy.tolist() == [-1.0, 0.0]
    assert labels.has_energy.tolist() == [True, False]
    assert labels.forces.shape == (11, 3)
    assert labels.forces[:9].abs().sum() == 0
    assert labels.has_stress.tolist() == [False, True]
    assert torch.equal(labels.stress[1], torch.eye(3, dtype=torch.float64))
    nothing = batch_labels([ethanol()])
    assert nothing[:3] == (None, None, None)
