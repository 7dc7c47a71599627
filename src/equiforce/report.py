"""Figures of a training run and of a model's errors. The only home of matplotlib."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from equiforce.errors import InputError
from equiforce.evaluate import GPA, Metric
from equiforce.graph import Prediction, Structure

# Okabe and Ito (2008): told apart by colour-blind readers too
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MANY_POINTS = 5_000  # beyond these, points hide one another and their density is drawn
STYLE = {
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


class _Cloud(NamedTuple):
    """What one panel compares, in the unit of its axes; ``groups`` holds the group of each number."""

    reference: np.ndarray
    predicted: np.ndarray
    groups: np.ndarray


def parity_plot(path: str | Path, structures: Sequence[Structure], predictions: Sequence[Prediction]) -> None:
    """Prediction against reference as a PNG: energy per atom (from its mean), forces and, if any, stress.

    Colours tell groups (``config_type``) apart; more than ``MANY_POINTS`` points are shown as a density.

    Raises:
        InputError: no structure has a label.
    """
    panels = [
        (title, unit, cloud)
        for title, unit, cloud in (
            ("Energy per atom, relative to the mean", "meV/atom", _energies(structures, predictions)),
            ("Force components", "eV/Å", _cloud(structures, predictions, "forces", 1.0)),
            ("Stress components", "GPa", _cloud(structures, predictions, "stress", GPA)),
        )
        if cloud is not None
    ]
    if not panels:
        raise InputError("there is nothing to compare: no structure has an energy, forces or a stress")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6 * len(panels), 4.8), layout="constrained")
        for axes, (title, unit, cloud) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            _draw_parity(axes, title, unit, cloud)
        figure.savefig(path, dpi=160, bbox_inches="tight")  # square panels may stick out of the layout


def _energies(structures: Sequence[Structure], predictions: Sequence[Prediction]) -> _Cloud | None:
    pairs = [(s, p) for s, p in zip(structures, predictions, strict=True) if s.energy is not None]
    if not pairs:
        return None
    reference = np.array([1000 * structure.energy / len(structure) for structure, _ in pairs])
    predicted = np.array([1000 * prediction.energy.item() / len(structure) for structure, prediction in pairs])
    groups = np.array([structure.group for structure, _ in pairs])
    return _Cloud(reference - reference.mean(), predicted - reference.mean(), groups)


def _cloud(
    structures: Sequence[Structure], predictions: Sequence[Prediction], name: str, scale: float
) -> _Cloud | None:
    triples = [
        (scale * np.ravel(getattr(structure, name)), scale * np.ravel(getattr(prediction, name)), structure.group)
        for structure, prediction in zip(structures, predictions, strict=True)
        if getattr(structure, name) is not None and getattr(prediction, name) is not None
    ]
    if not triples:
        return None
    groups = np.repeat([group for *_, group in triples], [len(reference) for reference, *_ in triples])
    return _Cloud(np.concatenate([r for r, *_ in triples]), np.concatenate([p for _, p, _ in triples]), groups)


def _draw_parity(axes: Axes, title: str, unit: str, cloud: _Cloud) -> None:
    everything = np.concatenate([cloud.reference, cloud.predicted])
    margin = 0.04 * (np.ptp(everything) or 1.0)
    limits = (everything.min() - margin, everything.max() + margin)
    axes.plot(limits, limits, color="#888888", linewidth=1, zorder=1)
    names = sorted(set(cloud.groups))
    if len(cloud.reference) > MANY_POINTS:
        density = axes.hexbin(
            cloud.reference, cloud.predicted, gridsize=90, extent=(*limits, *limits), bins="log", mincnt=1,
            cmap="viridis", linewidths=0.1, zorder=2,
        )  # fmt: skip
        axes.figure.colorbar(density, ax=axes, fraction=0.046, pad=0.03, label="points per bin")
    else:
        for index, name in enumerate(names):
            chosen = cloud.groups == name
            axes.scatter(
                cloud.reference[chosen], cloud.predicted[chosen], s=12, alpha=0.6, linewidths=0,
                color=COLORS[index % len(COLORS)], label=name or "no group", zorder=2,
            )  # fmt: skip
        if 1 < len(names) <= len(COLORS):
            axes.legend(loc="upper left", markerscale=1.8, handletextpad=0.2, fontsize=9)
    metric = Metric.of([cloud.predicted - cloud.reference], 1.0)
    axes.set_title(f"{title}\nMAE {_shown(metric.mae, unit)}   RMSE {_shown(metric.rmse, unit)}")
    axes.set(xlim=limits, ylim=limits, box_aspect=1, xlabel=f"reference ({unit})", ylabel=f"predicted ({unit})")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))


def _shown(value: float, unit: str) -> str:
    return f"{1000 * value:.3g} meV/Å" if unit == "eV/Å" else f"{value:.3g} {unit}"


class _Curve(NamedTuple):
    column: str  # of the training log
    title: str
    unit: str
    label: str


# One panel each; a panel without a value is left out.
_PANELS = (
    (_Curve("loss", "Training loss", "", "loss"),),
    (
        _Curve("forces_mae_meV_per_A", "Validation: forces", "meV/Å", "MAE"),
        _Curve("forces_rmse_meV_per_A", "Validation: forces", "meV/Å", "RMSE"),
    ),
    (
        _Curve("energy_mae_meV_per_atom", "Validation: energy", "meV/atom", "MAE"),
        _Curve("energy_rmse_meV_per_atom", "Validation: energy", "meV/atom", "RMSE"),
    ),
    (
        _Curve("stress_mae_meV_per_A3", "Validation: stress", "meV/Å³", "MAE"),
        _Curve("stress_rmse_meV_per_A3", "Validation: stress", "meV/Å³", "RMSE"),
    ),
    (_Curve("learning_rate", "Learning rate", "", "learning rate"),),
)


def training_plot(path: str | Path, log_csv: str | Path) -> None:
    """Loss, validation errors and learning rate against the step as a PNG, from the log that training writes.

    Raises:
        InputError: the log is missing, or has no row yet.
    """
    rows = _read_log(Path(log_csv))
    steps = _column(rows, "step")
    panels = [panel for panel in _PANELS if any(np.isfinite(_column(rows, curve.column)).any() for curve in panel)]
    n_columns = 2 if len(panels) in (2, 4) else min(len(panels), 3)
    n_rows = -(-len(panels) // n_columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.4 * n_columns, 3.4 * n_rows), layout="constrained")
        grid = figure.subplots(n_rows, n_columns, squeeze=False).flatten()
        for axes, panel in zip(grid, panels, strict=False):
            for curve, color in zip(panel, COLORS, strict=False):
                _draw_curve(axes, curve, color, steps, _column(rows, curve.column))
            axes.set(xlabel="step", ylabel=panel[0].unit, yscale="log", title=panel[0].title)
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            if len(panel) > 1:
                axes.legend()
        for axes in grid[len(panels) :]:
            axes.remove()
        figure.savefig(path, dpi=160)


def _draw_curve(axes: Axes, curve: _Curve, color: str, steps: np.ndarray, values: np.ndarray) -> None:
    known = np.isfinite(values) & (values > 0)  # a logarithm has no room for others
    if not known.any():
        return
    steps, values = steps[known], values[known]
    best, label = int(values.argmin()), curve.label
    if curve.unit:
        label = f"{curve.label}, best {values[best]:.3g} at step {steps[best]:g}"
        axes.plot(steps[best], values[best], "o", color=color, markersize=5)
    axes.plot(steps, values, color=color, linewidth=1.6, label=label, marker="." if len(values) < 20 else "")


def _read_log(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        raise InputError(f"there is no training log at {path}: name the folder of a training run")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise InputError(f"{path} has no row yet: wait until the first validation is done")
    return rows


def _column(rows: list[dict[str, str]], name: str) -> np.ndarray:
    """A column as numbers; an empty or absent value is NaN, which leaves a gap."""
    return np.array([float(row.get(name) or "nan") for row in rows])
