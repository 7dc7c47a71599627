"""The frames with the largest errors, which a user should look at first."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from equiforce.elements import formula
from equiforce.evaluate import Metrics, errors
from equiforce.graph import Prediction
from equiforce.quantities import Quantity, by_rank
from equiforce.structure import Structure
from equiforce.terminal import Console, Table, show

SHOWN = 5


class Frame(NamedTuple):
    """A structure with its errors."""

    source: str
    composition: str
    group: str
    errors: Metrics


def worst_frames(
    structures: Sequence[Structure], predictions: Sequence[Prediction], n_frames: int = SHOWN
) -> list[Frame]:
    """Find the frames whose predictions have the largest errors.

    They are those with the largest RMSE of the forces. If no frame has forces, energies per atom decide.

    Args:
        structures: the structures, with labels.
        predictions: the prediction for each structure.
        n_frames: the largest number of frames.

    Returns:
        The frames, the worst first; empty without labels.
    """
    frames = [
        Frame(structure.source, formula(structure.atomic_numbers), structure.group, errors([structure], [one]).total)
        for structure, one in zip(structures, predictions, strict=True)
    ]
    for quantity in by_rank():
        key = quantity.logged.key
        if labelled := [frame for frame in frames if key in frame.errors]:
            return sorted(labelled, key=lambda frame: -frame.errors[key].rmse)[:n_frames]
    return []


def print_worst_frames(structures: Sequence[Structure], predictions: Sequence[Prediction], console: Console) -> None:
    """Print the worst frames as a table; a single structure, whose errors are in the other table, is not repeated."""
    if len(structures) > 1 and not console.quiet and (frames := worst_frames(structures, predictions)):
        show(console, table(frames, f"the largest errors among {len(structures)} structures"))


def table(frames: Sequence[Frame], title: str) -> Table:
    """The frames as a table for the terminal, with the unit of each column."""
    found = Table(title)
    found.add_column("frame")
    found.add_column("atoms")
    groups = any(frame.group for frame in frames)
    if groups:
        found.add_column("group")
    shown = [quantity for quantity in by_rank() if any(quantity.logged.key in frame.errors for frame in frames)]
    for quantity in shown:
        found.add_column(f"{quantity.logged.title}\nRMSE, {quantity.logged.unit}", justify="right")
    for source, frame in zip(_short([frame.source for frame in frames]), frames, strict=True):
        group = [frame.group] if groups else []
        found.add_row(source, frame.composition, *group, *(_rmse(frame, quantity) for quantity in shown))
    return found


def _rmse(frame: Frame, quantity: Quantity) -> str:
    metric = frame.errors.get(quantity.logged.key)
    return "-" if metric is None else f"{metric.rmse:.4g}"


def _short(sources: Sequence[str]) -> list[str]:
    """Leave out the folders that all names share."""
    folders = [str(Path(source).parent) for source in sources]
    shared = os.path.commonpath(folders) if len({Path(folder).is_absolute() for folder in folders}) == 1 else ""
    return [os.path.relpath(source, shared) if shared else source for source in sources]
