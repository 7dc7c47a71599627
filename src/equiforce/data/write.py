"""Writes structures and predictions as extended XYZ, the text format that ASE, OVITO and most training codes read."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian
from ase.io.extxyz import write_extxyz
from ase.spacegroup import Spacegroup
from ase.stress import full_3x3_to_voigt_6_stress

from equiforce.data.frames import usual_keys
from equiforce.errors import InputError
from equiforce.graph import Prediction
from equiforce.quantities import QUANTITIES, STRESS, Quantity
from equiforce.storage.whole import write_pieces
from equiforce.structure import Structure

PREDICTED, ERROR = "predicted_", "error_"  # of the keys that a file of predictions has in addition
STATED_UNIT = re.compile(r"((energy|length|position|force|stress|virial)s?[-_ ]?)?units?", re.IGNORECASE)
MOVE_MASK = "move_mask"  # the column of atoms that may move
GEOMETRY = ("lattice", "properties", "pbc", "species", "pos")  # names of the format itself, in lower case


def atoms_from_structure(structure: Structure) -> Atoms:
    """Convert a structure to ASE atoms, with its labels as results of a calculator in eV, eV/Å and eV/Å³.

    The other values of the structure's file become ``info`` and ``arrays``.
    """
    atoms = Atoms(
        numbers=structure.atomic_numbers, positions=structure.positions, cell=structure.cell, pbc=structure.pbc
    )
    if structure.group:
        atoms.info["config_type"] = structure.group
    for key, value in structure.extra.items():
        if key == MOVE_MASK and key in structure.of_atoms:
            atoms.set_constraint(_constraints(np.asarray(value, dtype=bool)))
        elif key in structure.of_atoms:
            atoms.arrays[key] = np.asarray(value)
        else:
            atoms.info[key] = value
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


def _constraints(free: np.ndarray) -> list[FixAtoms | FixCartesian]:
    """The constraints that let each atom move where ``free`` is true: [atoms], or [atoms 3] for its coordinates."""
    if free.ndim == 1:
        return [FixAtoms(mask=~free)]
    return [FixCartesian([atom], ~free[atom]) for atom in np.flatnonzero(~free.all(axis=1))]


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


def refuse_file(folder: Path) -> None:
    """Raise InputError if a folder cannot be made, because a file is in its place or in that of a folder above it."""
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise InputError(f"{place} is a file, not a folder: name another folder with -o")


def write_structures(
    path: str | Path,
    structures: Sequence[Structure],
    predictions: Sequence[Prediction] | None = None,
    headers: Sequence[Mapping[str, float]] | None = None,
) -> list[str]:
    """Write structures with their labels and predictions as extended XYZ.

    Labels have ASE's keys (``energy`` in eV, ``forces`` in eV/Å, ``stress`` in eV/Å³, positive under tension), whatever
    keys and units the structures had in their own file. Predictions have the same keys with the prefix ``predicted_``,
    and ``predicted_energies`` are energies of atoms. All other values keep their keys: numbers, words, and lists and
    matrices of numbers as such, nested values as the text of JSON.

    Args:
        path: the file to write.
        structures: the structures.
        predictions: the prediction of each structure; None writes the labels only.
        headers: further numbers for the header of each structure, such as its errors.

    Returns:
        The keys of the structures that were not written, each with the reason in words.
    """
    left_out: dict[str, str] = {}

    def frames() -> Iterator[str]:
        for number, (structure, prediction) in enumerate(_pairs(structures, predictions)):
            atoms = atoms_from_structure(_kept(structure, left_out))
            _make_plain(atoms, left_out)
            if structure.source:
                atoms.info.setdefault("source", structure.source)
            if prediction is not None:
                _attach_predictions(atoms, prediction)
            if headers is not None:
                atoms.info.update(headers[number])
            yield extxyz(atoms)

    write_pieces(path, frames())
    return [f"{key!r} ({reason})" for key, reason in left_out.items()]


def _pairs(
    structures: Sequence[Structure], predictions: Sequence[Prediction] | None
) -> Iterable[tuple[Structure, Prediction | None]]:
    if predictions is None:
        return ((structure, None) for structure in structures)
    return zip(structures, predictions, strict=True)


def _attach_predictions(atoms: Atoms, prediction: Prediction) -> None:
    atoms.arrays[f"{PREDICTED}energies"] = prediction.energies.cpu().numpy()
    for quantity in QUANTITIES:
        if (values := prediction.of(quantity)) is not None:
            rows = values.cpu().numpy() if quantity.of_atoms else values[0].cpu().numpy().ravel()
            _attach(atoms, quantity, f"{PREDICTED}{quantity.name}", rows if rows.size > 1 else rows.item())


def _kept(structure: Structure, left_out: dict[str, str]) -> Structure:
    """The structure without those other values that would contradict what the file has under standard keys."""
    reasons = {key: why_outdated(str(key)) for key in structure.extra}
    left_out |= {key: reason for key, reason in reasons.items() if reason}
    return replace(structure, extra={key: value for key, value in structure.extra.items() if not reasons[key]})


def why_outdated(key: str) -> str:
    """Why a value of an earlier file would contradict new labels beside it; empty if it would not."""
    labels = {key.lower() for keys in usual_keys().values() for key in keys}
    predicted = tuple(f"{start}{q.name}" for q in QUANTITIES for start in (PREDICTED, ERROR))
    if key.lower() in labels:
        return "it is a label that was not used"
    if STATED_UNIT.fullmatch(key):
        return "everything is written in eV and Å"
    if key.startswith((*predicted, f"{PREDICTED}energies")):
        return "it is of an earlier prediction"
    return "it is a word of the format" if key.lower() in GEOMETRY else ""


def _make_plain(atoms: Atoms, left_out: dict[str, str]) -> None:
    """Convert or remove values that ASE would write as a text with the mark ``_JSON``, or so that it reads others."""
    for key, value in list(atoms.info.items()):
        plain = None if "=" in str(key) else _plain(value)
        del atoms.info[key]
        if plain is None:
            left_out[key] = "it cannot be written in a header" if "=" in str(key) else "it is empty in some frames"
        else:
            atoms.info[str(key)] = plain
    for key, values in list(atoms.arrays.items()):
        rows = values.reshape(len(atoms), -1)
        if rows.dtype.kind in "OSUu":
            rows = rows.astype(np.int64 if rows.dtype.kind == "u" else str)
        fits = rows.dtype.kind in "ifbU" and rows.shape[1] and not re.search(r"[\s:=\"']", str(key))
        if fits and rows.dtype.kind == "U":
            fits = all(re.fullmatch(r"\S+", word) for word in rows.flat)
        if not fits:
            left_out[key] = "it cannot be written as columns of words or numbers"
            del atoms.arrays[key]
        else:
            atoms.arrays[key] = rows if rows.shape[1] > 1 else rows[:, 0]


def _plain(value: Any) -> Any:
    """A number, a word, a list of numbers or a text that ASE's writer leaves as it is; None for nothing at all."""
    if isinstance(value, Spacegroup):
        return value
    if isinstance(value, str):
        # line ends would end the header, and ASE's reader drops single backslashes
        text = re.sub(r"\s", " ", value).replace("\\", "\\\\")
        return text if text.strip() else None
    try:
        numbers = np.asarray(value)
    except ValueError:  # lists of different lengths
        numbers = np.asarray("")
    if value is None or numbers.size == 0:
        return None
    if numbers.dtype.kind == "u":  # which ASE writes as JSON
        numbers = numbers.astype(np.int64)
    if numbers.dtype.kind in "bif":
        return numbers.ravel() if numbers.ndim else numbers.item()
    values = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    nested = isinstance(values, list | tuple | dict)
    return _plain(json.dumps(values, ensure_ascii=False, default=str) if nested else str(values))
