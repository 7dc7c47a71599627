"""Asks the teacher for energies, forces and stresses, and keeps the answers in a file that grows by whole frames."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from equiforce.data.read import ReadOptions, read
from equiforce.data.write import atoms_from_structure, extxyz
from equiforce.errors import InputError
from equiforce.evaluate import predict
from equiforce.graph import Prediction
from equiforce.potential import Potential
from equiforce.quantities import QUANTITIES
from equiforce.storage.append import Growing
from equiforce.structure import Structure
from equiforce.terminal import BarColumn, Console, MofNCompleteColumn, TextColumn, TimeRemainingColumn, bar

AT_ONCE = 16  # structures between two pieces of the file
SAME = 1e-6  # Å; positions in the file have eight decimals


def labelled(
    teacher: Potential, structures: Sequence[Structure], file: Path, what: str, console: Console
) -> list[Structure]:
    """Label structures with the teacher, or the rest of them if the file has some of an earlier call.

    Args:
        teacher: the potential.
        structures: of any kind; their own labels are replaced.
        file: gets the labelled structures; one with other structures is replaced.
        what: what is labelled, for the bar.
        console: shows a bar with the time that is left.

    Returns:
        The structures with the positions and the labels that the file has. A stress is there if the structure has a
        volume.

    Raises:
        InputError: the file cannot be written, or forces of the teacher are not finite.
    """
    done = _already_in(file, structures)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        bar(console, *columns) as progress,
        Growing(file, None if done else 0) as growing,
    ):
        task = progress.add_task("", total=len(structures), completed=len(done))
        for begin in range(len(done), len(structures), AT_ONCE):
            chosen = structures[begin : begin + AT_ONCE]
            answers = [
                with_labels(structure, prediction)
                for structure, prediction in zip(chosen, predict(teacher, chosen), strict=True)
            ]
            growing.append("".join(extxyz(atoms_from_structure(answer)) for answer in answers))
            progress.update(task, completed=begin + len(chosen))
    answered = _already_in(file, structures)
    if len(answered) < len(structures):
        raise InputError(f"{file} was changed while it was written: give the same command again")
    return answered


def with_labels(structure: Structure, prediction: Prediction) -> Structure:
    """The structure with predictions as labels.

    Args:
        structure: the structure.
        prediction: of a potential, for this structure alone.

    Raises:
        InputError: the forces are not finite.
    """
    if prediction.forces is not None and not bool(prediction.forces.isfinite().all()):
        raise InputError(
            f"the teacher gives forces for {structure.source} that are not finite: lower the rattling or the strain of "
            "copies, or check the teacher with equiforce md"
        )
    labels: dict[str, Any] = {}
    for quantity in QUANTITIES:
        values = prediction.of(quantity)
        if values is None:
            labels[quantity.name] = None
        elif quantity.of_atoms:
            labels[quantity.name] = values.cpu().numpy()
        else:
            row = values[0].cpu().numpy()
            labels[quantity.name] = float(row) if row.ndim == 0 else row
    return replace(structure, **labels)


def _already_in(file: Path, structures: Sequence[Structure]) -> list[Structure]:
    """The labelled structures in a file if they are the first ones of these; otherwise none."""
    if not file.exists() or not structures:
        return []
    try:
        found = read(file, ReadOptions(check=False, keep_zeros=True))
    except InputError:  # it is damaged, and is written again
        return []
    if len(found) > len(structures):
        return []
    for answer, structure in zip(found, structures, strict=False):
        if not np.array_equal(answer.atomic_numbers, structure.atomic_numbers):
            return []
        if np.abs(answer.positions - structure.positions).max() > SAME or answer.forces is None:
            return []
    return [
        replace(structure, positions=a.positions, energy=a.energy, forces=a.forces, stress=a.stress)
        for a, structure in zip(found, structures, strict=False)
    ]
