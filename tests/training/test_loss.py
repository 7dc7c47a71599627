from dataclasses import replace

import numpy as np
import pytest
import torch

from equiforce.graph import Prediction
from equiforce.labels import Labels, batch_labels
from equiforce.quantities import ENERGY, FORCES, STRESS
from equiforce.training.loss import LossConfig, highest, penalty, terms, weight_at
from tests.systems import crystal, ethanol, graph_of


@pytest.fixture
def case():
    """A molecule with energy and forces, and a crystal with forces and stress."""
    rng = np.random.default_rng(0)
    molecule = replace(ethanol(), energy=-3.0, forces=rng.normal(size=(9, 3)))
    solid = replace(crystal(), forces=rng.normal(size=(2, 3)), stress=np.diag([1.0, 2.0, 3.0]))
    graph = graph_of(molecule, solid)
    zeros = torch.zeros(graph.n_atoms, 3, dtype=torch.float64)
    prediction = Prediction(
        energy=torch.tensor([6.0, 5.0], dtype=torch.float64),
        energies=zeros[:, 0],
        forces=zeros,
        virial=torch.zeros(2, 3, 3, dtype=torch.float64),
        stress=None,
    )
    return molecule, solid, graph, prediction


def test_terms_use_the_labels_that_there_are(case):
    molecule, solid, graph, prediction = case
    found = terms(prediction, batch_labels([molecule, solid]), graph, LossConfig())
    energy, forces, stress = (found[quantity] for quantity in (ENERGY, FORCES, STRESS))
    assert energy.total.item() == pytest.approx(1.0)  # (9 eV / 9 atoms)²
    assert energy.n.item() == 1
    assert forces.total.item() == pytest.approx((molecule.forces**2).sum() + (solid.forces**2).sum())
    assert forces.n.item() == 33
    assert stress.total.item() == pytest.approx(14.0)
    assert stress.n.item() == 9


def test_absent_labels_give_empty_terms(case):
    _, _, graph, prediction = case
    for term in terms(prediction, Labels({}), graph, LossConfig()).values():
        assert (term.total.item(), term.n.item()) == (0.0, 0.0)


def test_penalties():
    residual = torch.tensor([-0.5, 0.005], dtype=torch.float64)
    assert penalty(residual, LossConfig()).tolist() == pytest.approx([0.25, 2.5e-5])
    assert penalty(residual, LossConfig(kind="mae")).tolist() == pytest.approx([0.5, 0.005])
    huber = penalty(residual, LossConfig(kind="huber", huber_delta=0.1))
    assert huber.tolist() == pytest.approx([2 * 0.1 * (0.5 - 0.05), 2.5e-5])


def test_weights_change_during_the_run():
    schedule = [(0.0, 1.0), (0.5, 1.0), (0.75, 9.0)]
    assert [weight_at(schedule, p) for p in (0.0, 0.5, 0.625, 0.75, 1.0)] == pytest.approx([1, 1, 5, 9, 9])
    assert weight_at(2.0, 0.3) == 2.0
    assert (highest(schedule), highest(None), highest(3.0)) == (9.0, 0.0, 3.0)


def test_weights_that_nobody_means_are_refused():
    for weight in (-1.0, 1e10, [], [(1.5, 1.0)], [(-0.1, 1.0)], [(0.0, -1.0)]):
        with pytest.raises(ValueError, match="is not a loss weight: give a number from 0"):
            LossConfig(forces=weight)
