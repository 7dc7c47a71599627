"""Draws figures of training runs, model errors and learning curves; no other module uses matplotlib."""

import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from equiforce.errors import InputError
from equiforce.evaluate import Metric
from equiforce.graph import Prediction
from equiforce.quantities import QUANTITIES, ParityPanel, Quantity, by_rank, join_words
from equiforce.storage.whole import write_bytes
from equiforce.structure import Structure
from equiforce.terminal import shortened
from equiforce.training.trackers import rows_of

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

# Okabe and Ito (2008); colour-blind readers can distinguish these
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MORE_COLORS = (*COLORS, "#882255", "#808080", "#999933")  # with three of Tol's colours, for many curves
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
LONGEST = 40  # characters of a name in a figure
MANY_POINTS = 5_000  # more points would hide one another, so their density is drawn
STYLE: "dict[RcKeyType, Any]" = {
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
    """The numbers of one panel, in the unit of its axes, and the group of each number."""

    reference: np.ndarray
    predicted: np.ndarray
    groups: np.ndarray


def parity_plot(path: str | Path, structures: Sequence[Structure], predictions: Sequence[Prediction]) -> None:
    """Draw predictions against reference values as a PNG, with a panel for each quantity that has labels.

    Groups (``config_type``) have different colours. More than ``MANY_POINTS`` points are drawn as a density.

    Args:
        path: the file to write.
        structures: the structures, with labels.
        predictions: the predictions for the structures, in the same order.

    Raises:
        InputError: no structure has a label.
    """
    clouds = [(quantity.panel, _cloud(structures, predictions, quantity)) for quantity in QUANTITIES]
    panels = [(panel, cloud) for panel, cloud in clouds if cloud is not None]
    if not panels:
        absent = join_words(quantity.some for quantity in QUANTITIES)
        raise InputError(f"there is nothing to compare: no structure has {absent}")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6 * len(panels), 4.8), layout="constrained")
        for axes, (panel, cloud) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            _draw_parity(axes, panel, cloud)
        _save(figure, path, bbox_inches="tight")  # square panels may stick out of the layout


def _cloud(structures: Sequence[Structure], predictions: Sequence[Prediction], quantity: Quantity) -> _Cloud | None:
    panel = quantity.panel

    def numbers(value: float | np.ndarray, structure: Structure) -> np.ndarray:
        scaled = panel.factor * np.ravel(value)
        return scaled / len(structure) if panel.measure.per_atom else scaled

    known = [
        (numbers(label, structure), numbers(values.numpy(), structure), structure.group)
        for structure, prediction in zip(structures, predictions, strict=True)
        if (label := structure.label(quantity)) is not None and (values := prediction.of(quantity)) is not None
    ]
    if not known:
        return None
    references, predicted, groups = zip(*known, strict=True)
    reference = np.concatenate(references)
    origin = reference.mean() if panel.from_mean else 0.0
    sizes = [len(one) for one in references]
    return _Cloud(
        reference - origin, np.concatenate(predicted) - origin, np.repeat(np.array(groups, dtype=object), sizes)
    )


def _draw_parity(axes: Axes, panel: ParityPanel, cloud: _Cloud) -> None:
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
        points: list[Artist] = []
        for index, name in enumerate(names):
            chosen = cloud.groups == name
            points.append(axes.scatter(
                cloud.reference[chosen], cloud.predicted[chosen], s=12, alpha=0.6, linewidths=0,
                color=COLORS[index % len(COLORS)], label=shortened(name or "no group", LONGEST), zorder=2,
            ))  # fmt: skip
        if 1 < len(names) <= len(COLORS):
            legend = axes.legend(handles=points, loc="upper left", markerscale=1.8, handletextpad=0.2, fontsize=9)
            _as_it_is(legend)
    metric = Metric.of([cloud.predicted - cloud.reference], 1.0)
    assert metric is not None
    factor, unit = panel.measure.factor / panel.factor, panel.measure.unit
    mae, rmse = (f"{factor * value:.3g} {unit}" for value in (metric.mae, metric.rmse))
    axes.set_title(f"{panel.title}\nMAE {mae}   RMSE {rmse}")
    labels = {"xlabel": f"reference ({panel.unit})", "ylabel": f"predicted ({panel.unit})"}
    axes.set(xlim=limits, ylim=limits, box_aspect=1, **labels)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))


def _as_it_is(legend: Legend) -> None:
    """Let names in a legend stand as they are: dollars in them are not formulas."""
    for text in (*legend.get_texts(), legend.get_title()):
        text.set_parse_math(False)


def _save(figure: Figure, path: str | Path, **options: Any) -> None:
    """Write a figure whole or not at all; a box stands for a character that the font lacks, and names may overlap."""
    image = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font|constrained_layout not applied", UserWarning)
        figure.savefig(image, format=Path(path).suffix[1:] or None, dpi=160, **options)
    write_bytes(path, image.getvalue())


class _Curve(NamedTuple):
    column: str  # of the training log
    title: str
    unit: str
    label: str


def _panels() -> list[list[_Curve]]:
    """Return the curves of each panel of a training plot."""
    errors = [
        [
            _Curve(quantity.column(metric.lower()), f"Validation: {quantity.name}", quantity.logged.unit, metric)
            for metric in ("MAE", "RMSE")
        ]
        for quantity in by_rank()
    ]
    rate = _Curve("learning_rate", "Learning rate", "", "learning rate")
    return [[_Curve("loss", "Training loss", "", "loss")], *errors, [rate]]


def training_plot(path: str | Path, log_csv: str | Path) -> None:
    """Draw loss, validation errors and learning rate against the step as a PNG.

    Args:
        path: the file to write.
        log_csv: the log of a training run.

    Raises:
        InputError: the log is missing, or has no row yet.
    """
    rows = _read_log(Path(log_csv))
    steps = _column(rows, "step")
    panels = [panel for panel in _panels() if any(np.isfinite(_column(rows, curve.column)).any() for curve in panel)]
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
        _save(figure, path)


def _draw_curve(axes: Axes, curve: _Curve, color: str, steps: np.ndarray, values: np.ndarray) -> None:
    known = np.isfinite(values) & (values > 0)  # the axis is logarithmic
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
    rows = list(rows_of(path))
    if not rows:
        raise InputError(f"{path} has no row yet: wait for the first validation")
    return rows


def _column(rows: list[dict[str, str]], name: str) -> np.ndarray:
    """Return a column as numbers; an empty or absent value is NaN."""
    return np.array([float(row.get(name) or "nan") for row in rows])


class ModelCurve(NamedTuple):
    """The runs of one model, and their power law if there is one."""

    label: str
    sizes: Sequence[int]  # [run] training structures
    errors: Sequence[float]  # [run]
    law: tuple[float, float] | None = None  # prefactor and exponent


def learning_curve_plot(
    paths: Sequence[str | Path], curves: Sequence[ModelCurve], *, title: str, error: str, legend: str = ""
) -> None:
    """Draw errors against the number of training structures, both logarithmic, and write a file for each path.

    Solid lines join the means over seeds, bands range from the lowest to the highest seed, and thin dashed lines are
    power laws. The legend lists models by their error at the largest size.

    Args:
        paths: files to write; the suffix (.png, .svg, .pdf) gives the format.
        curves: one for each model, in the order of their colours; models without a run are left out.
        title: title of the figure.
        error: label of the vertical axis, with its unit.
        legend: title of the legend.

    Raises:
        InputError: no model has a run.
    """
    drawn = [(index, curve) for index, curve in enumerate(curves) if len(curve.sizes)]
    if not drawn:
        raise InputError("there is no learning curve to draw: no run is done yet")
    sizes = sorted({int(size) for _, curve in drawn for size in curve.sizes})
    # makes the SVG file reproducible, and its text searchable
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": "equiforce", "svg.fonttype": "none"}):
        figure = Figure(figsize=(10, 5.4), layout="constrained")
        axes = figure.subplots()
        axes.set(xscale="log", yscale="log", xlabel="training structures", ylabel=error)
        axes.set_title(shortened(title, 2 * LONGEST), loc="left", fontsize=13, parse_math=False)
        ends = [_draw_model(axes, index, curve) for index, curve in drawn]
        _label_sizes(axes, sizes)
        _label_errors(axes)
        handles: list[Artist] = [handle for _, handle in sorted(ends, key=lambda end: -end[0])]
        if any(curve.law for _, curve in drawn):
            handles.append(Line2D([], [], color="#777777", linewidth=0.9, dashes=(5, 3), label="power law"))
        if any(len(curve.sizes) > len(set(curve.sizes)) for _, curve in drawn):
            handles.append(Patch(color="#777777", alpha=0.25, linewidth=0, label="lowest to highest seed"))
        names = figure.legend(handles=handles, loc="outside right upper", title=legend, alignment="left", fontsize=10)
        _as_it_is(names)
        for path in paths:
            metadata = {"Date": None} if Path(path).suffix == ".svg" else None
            _save(figure, path, metadata=metadata)


def _draw_model(axes: Axes, index: int, curve: ModelCurve) -> tuple[float, Line2D]:
    """Draw a model, and return its mean error at its largest size and its line for the legend."""
    errors, sizes = np.asarray(curve.errors, dtype=float), np.unique(curve.sizes)
    of_size = [errors[np.asarray(curve.sizes) == size] for size in sizes]
    color, marker = MORE_COLORS[index % len(MORE_COLORS)], MARKERS[index % len(MARKERS)]
    means = [values.mean() for values in of_size]
    axes.fill_between(
        sizes, [v.min() for v in of_size], [v.max() for v in of_size], color=color, alpha=0.18, linewidth=0
    )
    (line,) = axes.plot(
        sizes, means, color=color, marker=marker, markersize=6.5, markeredgecolor="white", markeredgewidth=0.7,
        linewidth=1.9, label=shortened(curve.label, LONGEST), zorder=3,
    )  # fmt: skip
    if curve.law is not None:
        prefactor, exponent = curve.law
        axes.plot(sizes, prefactor * sizes.astype(float) ** exponent, color=color, linewidth=0.9, dashes=(5, 3))
    return means[-1], line


def _label_sizes(axes: Axes, sizes: Sequence[int]) -> None:
    """Set ticks at the sizes, and leave out labels that would touch the one before."""
    shown: list[int] = []
    nearest = (sizes[-1] / sizes[0]) ** 0.06
    for size in sizes:
        if not shown or size > nearest * shown[-1]:
            shown.append(size)
    axes.xaxis.set(major_locator=FixedLocator(sizes), minor_locator=NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:.0f}" if round(size) in shown else ""))


def _label_errors(axes: Axes) -> None:
    """Set labels at 1, 2 and 5 times each power of ten, or at more digits if the axis spans less than a factor of 5."""
    low, high = axes.get_ylim()
    digits = (1, 2, 5) if high / low > 5 else (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
    axes.yaxis.set_major_locator(LogLocator(subs=digits))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set(minor_locator=LogLocator(subs=range(1, 10)), minor_formatter=NullFormatter())
