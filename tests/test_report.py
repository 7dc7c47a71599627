"""Figures are drawn of whatever there is, and say so where there is nothing."""

import csv
import dataclasses
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from equiforce.errors import InputError
from equiforce.graph import Prediction
from equiforce.report import ModelCurve, learning_curve_plot, parity_plot, training_plot
from equiforce.structure import Structure

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
    "stress_mae_GPa",
    "stress_rmse_GPa",
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


def curve(label: str, sizes, slope: float, n_seeds: int = 3, law: bool = True) -> ModelCurve:
    rng = np.random.default_rng(0)
    runs = [size for size in sizes for _ in range(n_seeds)]
    errors = [900 * size**slope * np.exp(0.05 * rng.normal()) for size in runs]
    return ModelCurve(label, runs, errors, (900.0, slope) if law else None)


def texts(svg) -> str:
    """What can be read in a figure, in one line."""
    return " | ".join(text for text in ElementTree.parse(svg).getroot().itertext() if text.strip())


@pytest.mark.parametrize(
    "curves",
    [
        [curve(f"model {index}", (10, 25, 50, 100, 250, 500, 750, 1000, 1303), -0.05 * index) for index in range(11)],
        [curve("l=1", (10, 30), -0.5, n_seeds=1), curve("l=2", (100,), -0.6, law=False)],
        [curve("one run", (50,), -0.5, n_seeds=1, law=False)],
    ],
)
def test_learning_curve(curves, tmp_path):
    paths = [tmp_path / "forces.png", tmp_path / "forces.svg"]
    learning_curve_plot(paths, curves, title="water: forces", error="MAE (meV/Å)", legend="exponent")
    assert paths[0].read_bytes().startswith(PNG)
    shown = texts(paths[1])
    for text in ("water: forces", "MAE (meV/Å)", "training structures", "exponent", *(c.label for c in curves)):
        assert text in shown


def test_learning_curves_stand_in_the_order_of_their_ends(tmp_path):
    curves = [curve(name, (10, 100), slope) for name, slope in (("best", -0.9), ("worst", -0.2), ("middle", -0.5))]
    learning_curve_plot([tmp_path / "a.svg"], [*curves, ModelCurve("absent", [], [])], title="t", error="e")
    shown = texts(tmp_path / "a.svg")
    assert shown.index("worst") < shown.index("middle") < shown.index("best")
    assert "absent" not in shown
    assert "lowest to highest seed" in shown


def test_sizes_are_labels_unless_they_would_touch(tmp_path):
    learning_curve_plot([tmp_path / "a.svg"], [curve("l=2", (10, 25, 500, 520, 1303), -0.5)], title="t", error="e")
    labels = texts(tmp_path / "a.svg").split(" | ")
    assert all(size in labels for size in ("10", "25", "500", "1303"))
    assert "520" not in labels


def test_a_learning_curve_is_the_same_file_again(tmp_path):
    for name in ("a.svg", "b.svg"):
        learning_curve_plot([tmp_path / name], [curve("l=2", (10, 100), -0.5)], title="t", error="e")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_no_learning_curve_is_refused(tmp_path):
    with pytest.raises(InputError, match="no run is done yet"):
        learning_curve_plot([tmp_path / "a.png"], [ModelCurve("l=2", [], [])], title="t", error="e")


def test_names_in_figures_are_no_formulas(tmp_path):
    """Dollars, a lower line at the start, which matplotlib hides, unknown characters, and a very long name."""
    names = ["$x$", "_hidden", "$\\frac{", "日本 😀", "a\x1bb", "x" * 5000]
    curves = [curve(name, (10, 100), -0.5, n_seeds=1, law=False) for name in names]
    learning_curve_plot([tmp_path / "a.svg", tmp_path / "a.png"], curves, title="$y$ _", error="e", legend="$z$")
    shown = texts(tmp_path / "a.svg")
    for text in ("$x$", "_hidden", "$\\frac{", "日本 😀", "a\\x1bb", "$y$ _", "$z$", "xxx…xxx"):
        assert text in shown
    assert "x" * 100 not in shown
    structures, predictions = pairs(6, 3, stress=False)
    named = [dataclasses.replace(one, group=name) for one, name in zip(structures, names, strict=True)]
    parity_plot(tmp_path / "parity.png", named, predictions)
