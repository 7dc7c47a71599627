"""Figures are drawn of whatever there is, and say so where there is nothing."""

import csv

import numpy as np
import pytest
import torch

from equiforce.errors import InputError
from equiforce.graph import Prediction, Structure
from equiforce.report import parity_plot, training_plot

PNG = b"\x89PNG"
LOG = [
    "epoch",
    "step",
    "seconds",
    "learning_rate",
    "loss",
    "energy_mae_meV_per_atom",
    "energy_rmse_meV_per_atom",
    "forces_mae_meV_per_A",
    "forces_rmse_meV_per_A",
    "stress_mae_meV_per_A3",
    "stress_rmse_meV_per_A3",
]


def pairs(n: int, n_atoms: int = 5, stress: bool = True) -> tuple[list[Structure], list[Prediction]]:
    rng = np.random.default_rng(0)
    structures, predictions = [], []
    for index in range(n):
        forces, tension = rng.normal(size=(n_atoms, 3)), rng.normal(scale=0.02, size=(3, 3))
        structures.append(
            Structure(
                atomic_numbers=np.full(n_atoms, 8),
                positions=rng.normal(size=(n_atoms, 3)),
                cell=4 * np.eye(3),
                pbc=np.full(3, True),
                energy=float(rng.normal(scale=0.3)) - 20.0,
                forces=forces,
                stress=tension if stress else None,
                group=("crystal", "liquid", "surface")[index % 3],
            )
        )
        predictions.append(
            Prediction(
                energy=torch.tensor([structures[-1].energy]) + 0.02 * torch.randn(1).double(),
                energies=torch.zeros(n_atoms).double(),
                forces=torch.as_tensor(forces + rng.normal(scale=0.1, size=forces.shape)),
                virial=None,
                stress=torch.as_tensor(1.05 * tension)[None] if stress else None,
            )
        )
    return structures, predictions


@pytest.mark.parametrize(("n", "n_atoms", "stress"), [(1, 1, False), (30, 5, True), (20, 200, False)])
def test_parity(n, n_atoms, stress, tmp_path):
    parity_plot(tmp_path / "parity.png", *pairs(n, n_atoms, stress))
    assert (tmp_path / "parity.png").read_bytes().startswith(PNG)


def test_parity_of_nothing_is_refused(tmp_path):
    bare = Structure(
        atomic_numbers=np.array([1]), positions=np.zeros((1, 3)), cell=np.zeros((3, 3)), pbc=np.full(3, False)
    )
    with pytest.raises(InputError, match="nothing to compare"):
        parity_plot(tmp_path / "parity.png", [bare], pairs(1)[1])


def write_log(path, n_epochs: int, stress: bool = False) -> None:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(LOG)
        for epoch in range(1, n_epochs + 1):
            size = 1.0 / epoch + 0.02 * np.sin(epoch) ** 2
            errors = [9 * size, 12 * size, 99 * size, 140 * size, *([40 * size, 55 * size] if stress else ["", ""])]
            table.writerow([epoch, 10 * epoch, 2.0 * epoch, 0.005 * 0.98**epoch, size, *errors])


@pytest.mark.parametrize(("n_epochs", "stress"), [(1, False), (60, True), (60, False)])
def test_training(n_epochs, stress, tmp_path):
    write_log(tmp_path / "log.csv", n_epochs, stress)
    training_plot(tmp_path / "training.png", tmp_path / "log.csv")
    assert (tmp_path / "training.png").read_bytes().startswith(PNG)


def test_a_missing_or_empty_log_is_refused(tmp_path):
    with pytest.raises(InputError, match="no training log"):
        training_plot(tmp_path / "training.png", tmp_path / "log.csv")
    write_log(tmp_path / "log.csv", 0)
    with pytest.raises(InputError, match="no row yet"):
        training_plot(tmp_path / "training.png", tmp_path / "log.csv")
