"""Finds energies and forces that no atoms have, such as 1e10 eV, before a single one of them ruins a fit to all others.

The bounds are physical: the energies of free atoms, the repulsion of bare nuclei, and the work that the forces of the
frame can do.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from equiforce.data.compositions import fractions
from equiforce.data.findings import Finding
from equiforce.data.implied_units import free_atom_energy
from equiforce.neighbors import find_pairs
from equiforce.structure import Structure

TIMES_FREE_ATOMS = 1000.0  # an energy beyond so many times that of the free atoms with all electrons is impossible
FEWEST = 10  # structures whose energies are compared
FAR, FAR_WITHOUT_FORCES = 100.0, 1000.0  # eV/atom; the strongest bound matter has about 10
SPREADS = 100.0  # times the usual deviation
MANY = 0.1  # a larger share of energies that are far from the others is another level of theory or another unit
REACH = 10.0  # Å; no force acts over a longer way
LARGE_FORCE = 1e3  # eV/Å; larger forces are compared with the repulsion of nuclei
SEARCH = 5.0  # Å
COULOMB = 14.3996  # eV Å
N_STEPS, LEAST_RESIDUAL = 60, 1e-3  # of the robust fit; eV/atom
SHOWN = 3  # frames that a message names


def impossible_energies(structures: Sequence[Structure]) -> list[int]:
    """Find energies beyond what atoms have, or far from all others without forces that explain it.

    Args:
        structures: the structures.

    Returns:
        The indices of the structures with such an energy.
    """
    known = [i for i, s in enumerate(structures) if s.energy is not None]
    sizes = np.array([TIMES_FREE_ATOMS * _free_atoms(structures[i]) for i in known])
    energies = np.array([structures[i].energy for i in known], dtype=np.float64)
    beyond = np.abs(energies) > sizes
    others = [i for i, b in zip(known, beyond, strict=True) if not b and len(structures[i]) > 1]
    away = deviations([structures[i] for i in others])
    far = [i for i, r in zip(others, away, strict=True) if _is_far(structures[i], float(r), away)]
    if len(far) > max(1, MANY * len(others)):
        far = []
    return sorted([i for i, b in zip(known, beyond, strict=True) if b] + far)


def impossible_forces(structures: Sequence[Structure]) -> list[int]:
    """Find forces that are larger than the repulsion of bare nuclei.

    Args:
        structures: the structures.

    Returns:
        The indices of the structures with such a force.
    """
    found: list[int] = []
    for i, s in enumerate(structures):
        if s.forces is None or not s.forces.size or np.abs(s.forces).max() < LARGE_FORCE:
            continue
        pairs = find_pairs(s.positions, s.cell, s.pbc, SEARCH, s.source)
        z = s.atomic_numbers.astype(np.float64)
        repulsions = COULOMB * z[pairs.centers] * z[pairs.neighbors] / pairs.distances**2
        limit = np.maximum(LARGE_FORCE, np.bincount(pairs.centers, repulsions, len(s)))
        if (np.abs(s.forces).max(axis=1) > limit).any():
            found.append(i)
    return found


def findings(structures: Sequence[Structure]) -> tuple[list[Finding], list[int]]:
    """Find all impossible labels.

    Args:
        structures: the structures, also isolated atoms.

    Returns:
        The findings, and the indices of the structures that they are about.
    """
    energies, forces = impossible_energies(structures), impossible_forces(structures)
    found: list[Finding] = []
    if energies:
        worst = max(energies, key=lambda i: abs(structures[i].energy or 0.0) / len(structures[i]))
        what = (
            f"the energy is {structures[worst].energy:.4g} eV, which is impossible for {len(structures[worst])} atoms"
        )
        found.append(_finding(structures, energies, worst, what))
    if forces:
        worst = max(forces, key=lambda i: np.abs(np.asarray(structures[i].forces)).max())
        largest = np.abs(np.asarray(structures[worst].forces)).max()
        what = f"a force is {largest:.4g} eV/Å, more than the repulsion of the bare nuclei"
        found.append(_finding(structures, forces, worst, what))
    return found, sorted({*energies, *forces})


def deviations(structures: Sequence[Structure]) -> Float[np.ndarray, " structures"]:
    """Compute how far energies are from sums over their elements, in eV/atom; few wrong energies do not matter.

    The sum of the absolute residuals is minimal, by least squares with weights that are found in turn.
    """
    if len(structures) < FEWEST:
        return np.zeros(len(structures))
    design = fractions(structures)
    design = design[:, design.any(axis=0)]
    targets = np.array([s.energy for s in structures]) / np.array([len(s) for s in structures])
    weights = np.ones(len(targets))
    residuals = np.zeros(len(targets))
    for _ in range(N_STEPS):
        solution = np.linalg.lstsq(design * weights[:, None], targets * weights, rcond=1e-10)[0]
        before, residuals = residuals, targets - design @ solution
        if np.abs(residuals).max() < FAR / 2 or np.abs(residuals - before).max() < LEAST_RESIDUAL:
            break
        weights = 1 / np.sqrt(np.maximum(np.abs(residuals), LEAST_RESIDUAL))
    return residuals


def _is_far(structure: Structure, away: float, all_away: np.ndarray) -> bool:
    """Whether an energy is far from the others, and the forces of the structure are too small to have caused it."""
    if abs(away) < max(FAR, SPREADS * float(np.median(np.abs(all_away)))):
        return False
    if structure.forces is None:
        return abs(away) > FAR_WITHOUT_FORCES
    return abs(away) * len(structure) > REACH * float(np.linalg.norm(structure.forces, axis=1).sum())


def _free_atoms(structure: Structure) -> float:
    numbers, counts = np.unique(structure.atomic_numbers, return_counts=True)
    return float(sum(abs(free_atom_energy(int(z))) * n for z, n in zip(numbers, counts, strict=True)))


def _finding(structures: Sequence[Structure], wrong: Sequence[int], worst: int, what: str) -> Finding:
    names = [structures[i].source for i in wrong if i != worst][:SHOWN]
    more = f"; so are {len(wrong) - 1} more of {len(structures)} frames, such as {', '.join(names)}" if names else ""
    return Finding(
        sentence=f"{structures[worst].source}: {what}, so that it would ruin a training{more}: correct the labels or "
        "their unit, or remove such frames",
        sure=True,
    )
