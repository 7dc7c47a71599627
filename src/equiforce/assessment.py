"""Predictions and errors of a potential on structures, written as files and plots."""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from equiforce.data.write import write_structures
from equiforce.evaluate import Errors, errors, predict
from equiforce.potential import Potential
from equiforce.report import parity_plot, training_plot
from equiforce.structure import Structure
from equiforce.worst_frames import print_worst_frames


def finish(
    potential: Potential, test: Sequence[Structure], folder: Path, console: Console, *, plots: bool
) -> Errors | None:
    """Compute the errors on the test structures; with ``plots``, draw figures and write predictions too."""
    if plots:
        training_plot(folder / "training.png", folder / "log.csv")
    if not test:
        return None
    return assess(potential, test, folder, "test", console) if plots else errors(test, predict(potential, test))


def assess(
    potential: Potential,
    structures: Sequence[Structure],
    folder: Path,
    name: str,
    console: Console,
    max_memory: float | None = None,
) -> Errors:
    """Compute and print errors, and write them, the predictions and a parity plot into ``folder``.

    Args:
        potential: the potential.
        structures: the structures, with labels.
        folder: gets ``{name}_errors.json``, ``{name}_predictions.xyz`` and ``{name}_parity.png``.
        name: the start of the names of the files.
        console: prints the table of errors.
        max_memory: the memory that predictions may take, in GB; None takes what is available.

    Returns:
        The errors of the predictions.
    """
    predictions = predict(potential, structures, max_memory=max_memory, console=console)
    result = errors(structures, predictions)
    console.print(result.table())
    print_worst_frames(structures, predictions, console)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}_errors.json").write_text(json.dumps(result.as_dict(), indent=1) + "\n")
    write_structures(folder / f"{name}_predictions.xyz", structures, predictions)
    if result.total:
        parity_plot(folder / f"{name}_parity.png", structures, predictions)
    return result
