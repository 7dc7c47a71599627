"""Predictions and errors of a potential on structures, written as files and plots."""

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from equiforce.data.write import refuse_file, write_structures
from equiforce.errors import InputError
from equiforce.evaluate import Errors, errors, errors_of, predict
from equiforce.potential import Potential
from equiforce.quantities import QUANTITIES
from equiforce.report import parity_plot, training_plot
from equiforce.storage.folders import drawn, used
from equiforce.storage.whole import together, write_text
from equiforce.structure import Structure
from equiforce.terminal import Console, note, say, show
from equiforce.training.trackers import LOG
from equiforce.worst_frames import print_worst_frames

ERRORS, PARITY, PREDICTIONS = "errors.json", "parity.png", "predictions.xyz"  # after the name of the data and "_"


class Assessment(NamedTuple):
    """The errors of a potential, which are empty without labels, and the files that were written."""

    errors: Errors
    files: list[Path]


def name_of(data: Sequence[str]) -> str:
    """The name of the results on files of data, such as ``test`` for test.xyz, or ``a-and-2-more`` for three files."""
    # a slice as in test.xyz@:10 is not a part of the name
    path = Path(data[0]).parent / Path(data[0]).name.partition("@")[0]
    first = path.stem or path.resolve().name
    return first if len(data) == 1 else f"{first}-and-{len(data) - 1}-more"


@contextmanager
def results_folder(output: Path | None, name: str, *, overwrite: bool) -> Iterator[Path]:
    """Use a folder of results alone, so that none are lost; programs that start together get one each.

    Args:
        output: the folder that the user asked for; None draws ``evaluate-NAME``, or ``evaluate-NAME-2`` and so on if
            there are results in it or another process uses it.
        name: the name of the results.
        overwrite: whether existing results may be replaced.

    Raises:
        InputError: the folder is a file, another process uses it, or it contains results of this name that may not be
            replaced.
    """
    first = f"evaluate-{name}"
    if output is not None:
        refuse_file(output)
    folders = (Path(first if n == 1 else f"{first}-{n}") for n in range(1, 10_000))
    chosen: AbstractContextManager[Path]
    if output is None and not overwrite:
        chosen = drawn(folders, lambda folder: not _results_in(folder, name))
    else:
        chosen = used(output or next(folder for folder in folders if not folder.is_file()))
    with chosen as folder:
        if (found := _results_in(folder, name)) and not overwrite:
            raise InputError(
                f"{found[0]} exists from an earlier evaluation: name another folder with -o, or add --overwrite"
            )
        yield folder


def _results_in(folder: Path, name: str) -> list[Path]:
    return [path for kind in (ERRORS, PARITY, PREDICTIONS) if (path := folder / f"{name}_{kind}").exists()]


def finish(
    potential: Potential, test: Sequence[Structure], folder: Path, console: Console, *, plots: bool
) -> Errors | None:
    """Compute the errors on the test structures; with ``plots``, draw figures and write predictions too."""
    if plots:
        training_plot(folder / "training.png", folder / LOG)
    if not test:
        return None
    return assess(potential, test, folder, "test", console).errors if plots else errors(test, predict(potential, test))


def assess(
    potential: Potential,
    structures: Sequence[Structure],
    folder: Path,
    name: str,
    console: Console,
    max_memory: float | None = None,
) -> Assessment:
    """Compute and print errors, and write them, the predictions and a parity plot into ``folder``.

    Structures without labels count in no error. If none has labels, only predictions are written.

    Args:
        potential: the potential.
        structures: the structures, with or without labels.
        folder: gets ``{name}_predictions.xyz``, ``{name}_parity.png`` and ``{name}_errors.json``, which appear when all
            are complete; the old ones are removed before, so that no results of two evaluations are there together.
        name: the start of the names of the files.
        console: prints the table of errors.
        max_memory: the memory that predictions may take, in GB; None takes what is available.

    Returns:
        The errors of the predictions, and the written files.
    """
    predictions = predict(potential, structures, max_memory=max_memory, console=console)
    result = errors(structures, predictions)
    _print_errors(result, structures, console)
    print_worst_frames(structures, predictions, console)
    files = [folder / f"{name}_{kind}" for kind in (PREDICTIONS, PARITY, ERRORS)]
    each = [errors_of(structure, prediction) for structure, prediction in zip(structures, predictions, strict=True)]
    with together(files[2], files[1]):
        left_out = write_structures(files[0], structures, predictions, each)
        if result.total:
            parity_plot(files[1], structures, predictions)
            write_text(files[2], json.dumps(result.as_dict(), indent=1) + "\n")
    if left_out:
        note(console, f"keys of the data that are not in {files[0].name}: {', '.join(left_out)}")
    return Assessment(result, files if result.total else files[:1])


def _print_errors(result: Errors, structures: Sequence[Structure], console: Console) -> None:
    if not result.total:
        say(console, "no labels: predictions only")
        return
    show(console, result.table())
    bare = sum(all(structure.label(quantity) is None for quantity in QUANTITIES) for structure in structures)
    if bare:
        say(console, f"{bare} of {len(structures)} structures have no labels and count in no error")
