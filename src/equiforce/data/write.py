"""Structures and predictions -> extended XYZ, the text format that ASE, OVITO and every training code read."""

from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from pathlib import Path

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import write_extxyz
from ase.stress import full_3x3_to_voigt_6_stress

from equiforce.graph import Prediction, Structure


def atoms_from_structure(structure: Structure) -> Atoms:
    """The ASE atoms of a structure, its known labels attached as results: eV, eV/Å and eV/Å³."""
    atoms = Atoms(
        numbers=structure.atomic_numbers, positions=structure.positions, cell=structure.cell, pbc=structure.pbc
    )
    if structure.group:
        atoms.info["config_type"] = structure.group
    labels = {"energy": structure.energy, "forces": structure.forces}
    if structure.stress is not None:
        labels["stress"] = full_3x3_to_voigt_6_stress(structure.stress)
    known = {name: value for name, value in labels.items() if value is not None}
    if known:
        atoms.calc = SinglePointCalculator(atoms, **known)
    return atoms


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
    predictions, each a :class:`Prediction` of one structure, have the keys ``predicted_energy``,
    ``predicted_energies`` (of each atom), ``predicted_forces`` and, where there is one, ``predicted_stress``.
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
            atoms.info["predicted_energy"] = prediction.energy.item()
            atoms.arrays["predicted_energies"] = prediction.energies.cpu().numpy()
            if prediction.forces is not None:
                atoms.arrays["predicted_forces"] = prediction.forces.cpu().numpy()
            if prediction.stress is not None:
                atoms.info["predicted_stress"] = prediction.stress[0].cpu().numpy()
        yield atoms
