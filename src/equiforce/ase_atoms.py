"""What an ``ase.Atoms`` says of a structure. ASE itself is not imported, so that graphs and models do not need it."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from equiforce.errors import InputError

GROUPS = ("config_type", "group")  # the keys of ``info`` that may name a group
VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])  # places of xx, yy, zz, yz, xz, xy in the matrix


@runtime_checkable
class AseAtoms(Protocol):
    """What is used of an ``ase.Atoms``."""

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
    """Atomic numbers, positions, cell, periodicity and group of atoms: copies, under the names that Structure has."""
    if not isinstance(atoms, AseAtoms):
        raise InputError(f"{type(atoms).__name__} is no ase.Atoms: give ASE's atoms, or read a file by equiforce.read")
    return {
        "atomic_numbers": np.array(atoms.numbers, dtype=np.int64),
        "positions": np.array(atoms.positions, dtype=np.float64),
        "cell": np.array(atoms.cell, dtype=np.float64),
        "pbc": np.array(atoms.pbc, dtype=bool),
        "group": group_of(atoms.info),
    }


def group_of(info: dict[str, Any]) -> str:
    """What errors are grouped by; empty where the atoms have no group."""
    return next((str(info[key]) for key in GROUPS if key in info), "")


def labels_of(atoms: AseAtoms, where: str) -> dict[str, Any]:
    """Energy, forces and stress from the results of the atoms' calculator, those that it has.

    Args:
        atoms: with a calculator, or without one.
        where: what messages call the atoms.

    Raises:
        InputError: a result has the wrong shape, or is not finite.
    """
    results = _results_of(atoms)
    labels: dict[str, Any] = {}
    if "energy" in results:
        labels["energy"] = float(_numbers(results["energy"], "energy", [()], where))
    if "forces" in results:
        labels["forces"] = _numbers(results["forces"], "forces", [(len(atoms.numbers), 3)], where)
    if "stress" in results and np.any(atoms.pbc) and np.linalg.det(np.array(atoms.cell)) != 0:
        stress = _numbers(results["stress"], "stress", [(6,), (3, 3)], where)
        labels["stress"] = full_matrix(stress) if stress.shape == (6,) else stress
    return labels


def full_matrix(voigt: Float[np.ndarray, "6"]) -> Float[np.ndarray, "3 3"]:
    """The symmetric matrix of ASE's six components xx, yy, zz, yz, xz, xy."""
    return voigt[VOIGT]


def _results_of(atoms: AseAtoms) -> dict[str, Any]:
    """What the calculator has computed of these very atoms, read without computing anything."""
    calculator = atoms.calc
    # A calculator keeps its latest results when the atoms move on, and says by check_state that they are outdated.
    # Constraints are applied by atoms.get_forces() alone, so that these are the forces as they were computed.
    if calculator is None or calculator.check_state(atoms):
        return {}
    return {name: value for name, value in calculator.results.items() if value is not None}


def _numbers(value: Any, name: str, shapes: list[tuple[int, ...]], where: str) -> np.ndarray:
    numbers = np.array(value, dtype=np.float64)
    if numbers.shape not in shapes:
        wanted = " or ".join(map(str, shapes))
        raise InputError(f"{where}: the calculator's {name} has the shape {numbers.shape}, and has to have {wanted}")
    if not np.isfinite(numbers).all():
        raise InputError(f"{where}: the calculator's {name} is not finite: leave labels out by labels=False")
    return numbers
