"""Labels of a batch say what is known, and residuals are what the loss and the validation share."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from equiforce.graph import Prediction
from equiforce.labels import batch_labels, residual
from equiforce.quantities import ENERGY, FORCES, STRESS
from tests.systems import crystal, ethanol, graph_of

STRESSES = np.diag([1.0, 2.0, 3.0])


def test_labels_know_what_is_absent():
    one = replace(ethanol(), energy=-1.0)
    other = replace(crystal(), forces=np.ones((2, 3)), stress=np.eye(3))
    labels = batch_labels([one, other])
    assert list(labels) == [ENERGY, FORCES, STRESS]
    assert labels[ENERGY].values.tolist() == [-1.0, 0.0]
    assert labels[ENERGY].known.tolist() == [True, False]
    assert labels[FORCES].values.shape == (11, 3)
    assert labels[FORCES].values[:9].abs().sum() == 0
    assert labels.known_rows(FORCES, graph_of(one, other)).tolist() == [False] * 9 + [True] * 2
    assert labels[STRESS].known.tolist() == [False, True]
    assert torch.equal(labels[STRESS].values[1], torch.eye(3, dtype=torch.float64))
    assert not batch_labels([ethanol()])
    assert STRESS not in batch_labels([one])


def test_labels_keep_their_values_on_another_device():
    labels = batch_labels([replace(ethanol(), energy=-1.0)])
    assert torch.equal(labels.to("cpu")[ENERGY].values, labels[ENERGY].values)
    assert labels.to("meta")[ENERGY].known.device.type == "meta"


def test_residuals_are_of_an_atom_of_a_component_and_of_a_volume():
    molecule, solid = replace(ethanol(), energy=-3.0), replace(crystal(), stress=STRESSES)
    graph, labels = graph_of(molecule, solid), batch_labels([molecule, solid])
    zeros = torch.zeros(graph.n_atoms, 3, dtype=torch.float64)
    virial = torch.ones(2, 3, 3, dtype=torch.float64)
    prediction = Prediction(torch.tensor([6.0, 5.0]).double(), zeros[:, 0], None, virial, None)
    assert residual(ENERGY, prediction, labels, graph)[0].item() == pytest.approx(9.0 / 9)
    expected = -1 / graph.volumes()[1].item() - STRESSES
    np.testing.assert_allclose(residual(STRESS, prediction, labels, graph)[1], expected)
    assert residual(STRESS, replace(prediction, virial=None), labels, graph) is None
    forced = batch_labels([replace(molecule, forces=np.full((9, 3), 0.5)), solid])
    assert residual(FORCES, prediction, forced, graph) is None
    np.testing.assert_allclose(residual(FORCES, replace(prediction, forces=zeros), forced, graph)[:9], -0.5)
