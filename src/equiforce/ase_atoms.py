"""Geometry and labels of an ``ase.Atoms``. This module does not import ASE: graphs and models work without it."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from equiforce.errors import InputError
from equiforce.quantities import QUANTITIES, STRESS

GROUPS = ("config_type", "group")  # the keys of ``info`` that can hold the name of a group
VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])  # for each element of the matrix, its index in xx yy zz yz xz xy


@runtime_checkable
class AseAtoms(Protocol):
    """The attributes of an ``ase.Atoms`` that are used."""

    info: dict[str, Any]

    @property
    def numbers(self) -> Any: ...
    @property
    def positions(self) -> Any: ...
    @property
    def cell(self) -> Any: ...
    @property
    def pbc(self) -> Any: ...
    @property
    def calc(self) -> Any: ...


def geometry_of(atoms: AseAtoms) -> dict[str, Any]:
    """Copy atomic numbers, positions, cell, periodicity and group, under the names of the fields of ``Structure``."""
    if not isinstance(atoms, AseAtoms):
        raise InputError(
            f"{type(atoms).__name__} is not an ase.Atoms: give ASE's atoms, or read a file with equiforce.read"
        )
    return {
        "atomic_numbers": np.array(atoms.numbers, dtype=np.int64),
        "positions": np.array(atoms.positions, dtype=np.float64),
        "cell": np.array(atoms.cell, dtype=np.float64),
        "pbc": np.array(atoms.pbc, dtype=bool),
        "group": group_of(atoms.info),
    }


def group_of(info: dict[str, Any]) -> str:
    """The name of the group of the atoms; empty if they have none."""
    return next((str(info[key]) for key in GROUPS if key in info), "")


def labels_of(atoms: AseAtoms, where: str) -> dict[str, Any]:
    """Take the quantities that the atoms' calculator has computed.

    Args:
        atoms: atoms with or without a calculator.
        where: name of the atoms in messages.

    Raises:
        InputError: a result has the wrong shape, or is not finite.
    """
    results, labels = _results_of(atoms), {}
    has_volume = bool(np.any(atoms.pbc) and np.linalg.det(np.array(atoms.cell)) != 0)
    for quantity in QUANTITIES:
        if quantity.name not in results or (quantity.needs_volume and not has_volume):
            continue
        shape = quantity.rows_of(len(atoms.numbers))
        shapes = [(6,), shape] if quantity is STRESS else [shape]
        values = _numbers(results[quantity.name], quantity.name, shapes, where)
        labels[quantity.name] = full_matrix(values) if values.shape != shape else values if shape else values.item()
    return labels


def full_matrix(voigt: Float[np.ndarray, "6"]) -> Float[np.ndarray, "3 3"]:
    """Make the symmetric matrix from ASE's six components xx, yy, zz, yz, xz, xy."""
    return voigt[VOIGT]


def _results_of(atoms: AseAtoms) -> dict[str, Any]:
    """The results that the calculator has already computed for these atoms; nothing is computed."""
    calculator = atoms.calc
    # A calculator keeps its latest results after the atoms have moved; check_state tells that they are out of date.
    # These are the forces without constraints, because only atoms.get_forces() applies constraints.
    if calculator is None or calculator.check_state(atoms):
        return {}
    return {name: value for name, value in calculator.results.items() if value is not None}


def _numbers(value: Any, name: str, shapes: list[tuple[int, ...]], where: str) -> np.ndarray:
    numbers = np.array(value, dtype=np.float64)
    if numbers.shape not in shapes:
        allowed = " or ".join(map(str, shapes))
        raise InputError(f"{where}: the calculator's {name} has the shape {numbers.shape}, but has to have {allowed}")
    if not np.isfinite(numbers).all():
        raise InputError(f"{where}: the calculator's {name} is not finite: use labels=False to leave labels out")
    return numbers
