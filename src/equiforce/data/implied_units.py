"""The unit of energy that the numbers of a file imply: energies beside those of free atoms, and sizes of forces."""

from typing import NamedTuple

import numpy as np

from equiforce.data.frames import Contents
from equiforce.data.units import ENERGY_UNITS
from equiforce.data.values import Keys, Scales, label_of
from equiforce.elements import SYMBOLS
from equiforce.errors import InputError
from equiforce.quantities import ENERGY, FORCES, QUANTITIES

CANDIDATES = ("eV", "kcal/mol", "kJ/mol", "Hartree")
BY_FORCES = ("eV", "kcal/mol", "Hartree")  # kJ/mol and kcal/mol are too near to be told apart by forces
LIGHTEST = {1: 0.5, 2: 2.904, 3: 7.478, 4: 14.667, 5: 24.65}  # Hartree, where the formula of heavier atoms is poor
AGREEMENT = 1.25  # the largest ratio of all-electron energies and those of the free atoms
CLOSE = 1.05  # the same, where the file is of a kind that is usually in eV
SPREAD = 0.1  # of the median; if ratios differ by more, the energies are not all-electron energies
USUAL_FORCES = (0.25, 2.5)  # eV/Å, root mean square in training data
POSSIBLE_FORCES = (0.1, 6.0)
ABSURD = 1e4  # a label that is so many times as large as usual ones says nothing about units
ALLOWED_FORCES = (0.01, 30.0)  # from nearly relaxed structures to collisions


class Evidence(NamedTuple):
    """What the numbers of a file say about its unit of energy."""

    n_labels: int  # the number of energies and forces
    ratio: float | None  # the energies by those of the free atoms in eV, if that is the same number for all frames
    force: float | None  # the root mean square of the forces

    def unit_of_energies(self, agreement: float) -> str | None:
        """The unit in which the energies are about those of the free atoms with all electrons, if there is one."""
        if self.ratio is None or self.ratio <= 0:
            return None
        fits = [u for u in CANDIDATES if 1 / agreement < self.ratio * ENERGY_UNITS[u] < agreement]
        return fits[0] if fits else None

    def force_is(self, unit: str, limits: tuple[float, float]) -> bool:
        """Whether the forces are within limits in eV/Å, if the unit of energy is ``unit``; True without forces."""
        return self.force is None or limits[0] < self.force * ENERGY_UNITS[unit] < limits[1]


def free_atom_energy(atomic_number: int) -> float:
    """Estimate the energy of a free atom with all its electrons in eV, to 2 %.

    Heavier atoms follow the expansion in powers of the cube root of Z by Thomas and Fermi, Scott, and Schwinger
    (doi:10.1103/PhysRevA.24.2353). Relativity would add some per cent beyond silver.
    """
    z = float(atomic_number)
    energy = LIGHTEST.get(atomic_number) or 0.768745 * z ** (7 / 3) - 0.5 * z**2 + 0.2699 * z ** (5 / 3)
    return -energy * ENERGY_UNITS["Hartree"]


def evidence_of(contents: Contents, keys: Keys) -> Evidence:
    """Gather what the labels of a file, in its own units, say about the unit of energy."""
    unscaled = Scales(1.0, dict.fromkeys(QUANTITIES, 1.0), "")
    atomic = np.array([0.0, *map(free_atom_energy, range(1, len(SYMBOLS)))])
    ratios: list[float] = []
    squares: list[float] = []
    n_labels = 0
    for number, frame in enumerate(contents.frames):
        numbers, where = np.asarray(frame.atomic_numbers), contents.frame_name(number)
        energy, forces = (label_of(frame, quantity, keys, where, unscaled) for quantity in (ENERGY, FORCES))
        n_labels += (energy is not None) + (forces is not None)
        if energy and (free := atomic[np.clip(numbers, 0, len(atomic) - 1)].sum()):
            ratios.append(float(energy) / float(free))
        if forces is not None and len(numbers) > 1:
            squares.append(float(np.mean(np.square(forces))))
    ratios, squares = _without_absurd(ratios, ABSURD), _without_absurd(squares, ABSURD**2)
    alike = len(ratios) > 0 and np.ptp(ratios) < SPREAD * abs(np.median(ratios))
    return Evidence(
        n_labels, float(np.median(ratios)) if alike else None, float(np.sqrt(np.mean(squares))) if squares else None
    )


def _without_absurd(values: list[float], times: float) -> list[float]:
    """The values without those that are so many times as large as most of the smaller ones."""
    sizes = np.abs(values)
    if not sizes.any():
        return values
    limit = times * float(np.quantile(sizes[sizes > 0], 0.25))
    return [value for value, size in zip(values, sizes, strict=True) if size <= limit]


def implied_unit(path: str, evidence: Evidence) -> tuple[str, str]:
    """Find the unit of energy of a file that states none.

    Args:
        path: the file, for messages.
        evidence: what its numbers say.

    Returns:
        The unit, and which labels imply it.

    Raises:
        InputError: the numbers do not tell the unit.
    """
    if not evidence.n_labels:
        return "eV", ""
    unknown = f"{path} states no unit of energy"
    if unit := evidence.unit_of_energies(AGREEMENT):
        if not evidence.force_is(unit, ALLOWED_FORCES):
            raise InputError(
                f"{unknown}: its energies have the size of {unit}, but its forces, {evidence.force:.3g} in the root "
                f"mean square, do not: give both, as --energy-unit {unit} --set data.forces_unit=eV/Å"
            )
        if unit == "Hartree" and evidence.force is not None:
            raise InputError(
                f"{unknown}: its energies have the size of Hartree, but its forces may be Hartree/Bohr or Hartree/Å: "
                "give both, as --energy-unit Hartree --set data.forces_unit=Hartree/Bohr"
            )
        return unit, "energies"
    fits = [u for u in BY_FORCES if evidence.force_is(u, POSSIBLE_FORCES)]
    # forces of the size of Hartree may be Hartree/Å or Hartree/Bohr
    if evidence.force is not None and fits in (["eV"], ["kcal/mol"]) and evidence.force_is(fits[0], USUAL_FORCES):
        return fits[0], "forces"
    size = "" if evidence.force is None else f" (forces of {evidence.force:.3g} in the root mean square)"
    raise InputError(
        f"{unknown}, and its numbers do not tell it{size}: add --energy-unit eV, --energy-unit kcal/mol or another unit"
    )


def check_usual_unit(path: str, evidence: Evidence) -> str:
    """Compare the numbers of a file that states no unit, of a kind that is usually in eV and Å, with these units.

    Args:
        path: the file, for messages.
        evidence: what its numbers say.

    Returns:
        A note if the unit is doubtful; otherwise empty.

    Raises:
        InputError: energies and forces both have the sizes of another unit.
    """
    unit = evidence.unit_of_energies(CLOSE)
    if unit in (None, "eV"):
        return ""
    forces = " --set data.forces_unit=Hartree/Bohr" if unit == "Hartree" and evidence.force is not None else ""
    found = (
        f"{path}: the energies have the size of total energies with all electrons in {unit}, not in eV: add "
        f"--energy-unit {unit}{forces}, or --energy-unit eV if they are in eV"
    )
    if (
        evidence.force is not None
        and evidence.force_is(unit, POSSIBLE_FORCES)
        and not evidence.force_is("eV", USUAL_FORCES)
    ):
        raise InputError(found)
    return found
