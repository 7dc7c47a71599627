"""Writes structures and predictions as extended XYZ, the text format that ASE, OVITO and most training codes read."""

from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import write_extxyz
from ase.stress import full_3x3_to_voigt_6_stress

from equiforce.graph import Prediction
from equiforce.quantities import QUANTITIES, STRESS, Quantity
from equiforce.structure import Structure


def atoms_from_structure(structure: Structure) -> Atoms:
    """Convert a structure to ASE atoms, with its labels as results of a calculator in eV, eV/Å and eV/Å³."""
    atoms = Atoms(
        numbers=structure.atomic_numbers, positions=structure.positions, cell=structure.cell, pbc=structure.pbc
    )
    if structure.group:
        atoms.info["config_type"] = structure.group
    results: dict[str, float | np.ndarray] = {}
    for quantity in QUANTITIES:
        if (value := structure.label(quantity)) is None:
            continue
        if quantity.name in all_properties:  # ASE accepts only these as results of a calculator
            results[quantity.name] = full_3x3_to_voigt_6_stress(value) if quantity is STRESS else value
        else:
            _attach(atoms, quantity, quantity.name, value)
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def _attach(atoms: Atoms, quantity: Quantity, key: str, value: float | np.ndarray) -> None:
    """Store a value in ASE atoms: as an array for a quantity of atoms, otherwise in ``info``."""
    if quantity.of_atoms:
        atoms.arrays[key] = np.asarray(value)
    else:
        atoms.info[key] = value


def extxyz(atoms: Atoms) -> str:
    """The text of one frame in extended XYZ, with energies in eV, lengths in Å and momenta in √(eV·u), as in ASE."""
    frame = StringIO()
    write_extxyz(frame, atoms)
    return frame.getvalue()


def write_structures(
    path: str | Path, structures: Sequence[Structure], predictions: Sequence[Prediction] | None = None
) -> None:
    """Write structures with their labels and predictions as extended XYZ.

    Labels have ASE's keys (``energy`` in eV, ``forces`` in eV/Å, ``stress`` in eV/Å³, positive under tension).
    Predictions have the same keys with the prefix ``predicted_``, and ``predicted_energies`` are energies of atoms.

    Args:
        path: the file to write.
        structures: the structures.
        predictions: the prediction of each structure; None writes the labels only.
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
