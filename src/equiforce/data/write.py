"""Structures and predictions -> extended XYZ, the text format that ASE, OVITO and every training code read."""

from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import write_extxyz
from ase.stress import full_3x3_to_voigt_6_stress

from equiforce.graph import Prediction, Structure
from equiforce.quantities import QUANTITIES, STRESS, Quantity


def atoms_from_structure(structure: Structure) -> Atoms:
    """The ASE atoms of a structure, its known labels attached as results: eV, eV/Å and eV/Å³."""
    atoms = Atoms(
        numbers=structure.atomic_numbers, positions=structure.positions, cell=structure.cell, pbc=structure.pbc
    )
    if structure.group:
        atoms.info["config_type"] = structure.group
    results: dict[str, float | np.ndarray] = {}
    for quantity in QUANTITIES:
        if (value := structure.label(quantity)) is None:
            continue
        if quantity.name in all_properties:  # what a calculator of ASE may give
            results[quantity.name] = full_3x3_to_voigt_6_stress(value) if quantity is STRESS else value
        else:
            _attach(atoms, quantity, quantity.name, value)
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def _attach(atoms: Atoms, quantity: Quantity, key: str, value: float | np.ndarray) -> None:
    """Adds a value to what the atoms carry: a column for a quantity of atoms, else an entry of the comment line."""
    if quantity.of_atoms:
        atoms.arrays[key] = np.asarray(value)
    else:
        atoms.info[key] = value


def extxyz(atoms: Atoms) -> str:
    """One frame of extended XYZ: energies in eV, lengths in Å, momenta in √(eV·u), as in ASE."""
    frame = StringIO()
    write_extxyz(frame, atoms)
    return frame.getvalue()


def write_structures(
    path: str | Path, structures: Sequence[Structure], predictions: Sequence[Prediction] | None = None
) -> None:
    """Write structures with their labels, and beside them what a potential predicts, as extended XYZ.

    Labels keep ASE's keys (``energy`` in eV, ``forces`` in eV/Å, ``stress`` in eV/Å³, positive under tension);
    predictions, each a :class:`Prediction` of one structure, have the same keys after ``predicted_``, and those of
    each atom's energy, ``predicted_energies``.
    """
    with Path(path).open("w", encoding="utf-8") as file:
        file.writelines(extxyz(atoms) for atoms in _with_predictions(structures, predictions))


def _with_predictions(structures: Sequence[Structure], predictions: Sequence[Prediction] | None) -> Iterator[Atoms]:
    pairs: Iterable[tuple[Structure, Prediction | None]] = zip(
        structures, predictions if predictions is not None else [None] * len(structures), strict=True
    )
    for structure, prediction in pairs:
        atoms = atoms_from_structure(structure)
        if prediction is not None:
            atoms.arrays["predicted_energies"] = prediction.energies.cpu().numpy()
            for quantity in QUANTITIES:
                if (values := prediction.of(quantity)) is not None:
                    rows = values.cpu() if quantity.of_atoms else values[0].cpu()
                    _attach(atoms, quantity, f"predicted_{quantity.name}", rows.numpy() if rows.dim() else rows.item())
        yield atoms
