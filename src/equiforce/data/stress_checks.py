"""Checks of the order of six stress components and of the size of stresses, against the structures of a file."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from equiforce.data import units
from equiforce.data.frames import VIRIAL
from equiforce.data.stress import ORDERS, in_all_orders, is_sheared
from equiforce.errors import InputError
from equiforce.neighbors import find_pairs
from equiforce.quantities import GPA, STRESS
from equiforce.structure import Structure

LARGE = 0.3  # eV/Å³, 48 GPa; a larger stress is named
DOUBTFUL = 0.6  # eV/Å³; a larger stress is rare in training data
ABSURD = 3.0  # eV/Å³; no training data have a larger stress
SMALLEST = 1e-4  # eV/Å³; a unit in which most stresses are smaller is not proposed

# the fit of a pair potential to the stresses, by which the order of their components is checked
N_FITTED = 60  # frames
CUTOFF = 6.0  # Å
N_RADIAL = 8  # radial functions for each pair of elements
ROWS_PER_FUNCTION = 3  # of the equations that the fit needs at least
EXPLAINED = 0.6  # of the squares of the components, by the fit in the right order
CONTRADICTION = 0.4  # times the error in the assumed order is more than the error in the right one


def order_that_fits(structures: Sequence[Structure], assumed: str) -> str:
    """Find the order of six components in which a pair potential explains the stresses.

    The stress of a pair potential is linear in the potential: it is a sum over pairs, each of which contributes the
    outer product of its vector with itself. Its coefficients are the same for all components, therefore they cannot fit
    components that have changed places.

    Args:
        structures: structures with a stress that was given by six components.
        assumed: the order in which these were read.

    Returns:
        Another order, if the stresses clearly contradict the assumed one; otherwise the assumed one.
    """
    sheared = [s for s in structures if is_sheared(s)]
    chosen = sheared[:: max(1, len(sheared) // N_FITTED)]
    if 5 * len(chosen) < ROWS_PER_FUNCTION * N_RADIAL:
        return assumed
    elements = np.unique(np.concatenate([s.atomic_numbers for s in chosen]))
    if 5 * len(chosen) < ROWS_PER_FUNCTION * N_RADIAL * len(elements) * (len(elements) + 1) // 2:
        elements = elements[:0]  # too few equations to tell elements apart
    functions = np.concatenate([_equations(_pair_stresses(s, elements)) for s in chosen])
    squares = functions.T @ functions
    squares += 1e-6 * np.trace(squares) / len(squares) * np.eye(len(squares))
    unexplained: dict[str, float] = {}
    for order in ORDERS:
        matrices = np.stack([in_all_orders(s.stress, assumed)[order] for s in chosen if s.stress is not None])
        target = np.concatenate([_equations(matrix[..., None])[:, 0] for matrix in matrices])
        residuals = target - functions @ np.linalg.solve(squares, functions.T @ target)
        unexplained[order] = float(residuals @ residuals) / float(target @ target)
    best = min(unexplained, key=lambda order: unexplained[order])
    clear = unexplained[best] < min(1 - EXPLAINED, CONTRADICTION * unexplained[assumed])
    return best if clear else assumed


def _pair_stresses(structure: Structure, elements: np.ndarray) -> Float[np.ndarray, "3 3 functions"]:
    """The stress that each radial function of each pair of elements would give as the force of a pair."""
    pairs = find_pairs(structure.positions, structure.cell, structure.pbc, CUTOFF)
    vectors = structure.positions[pairs.neighbors] - structure.positions[pairs.centers] + pairs.shifts @ structure.cell
    distances = pairs.distances[:, None]
    places = np.linspace(0.25 * CUTOFF, CUTOFF - 0.5, N_RADIAL)
    radial = np.exp(-(((distances - places) / (places[1] - places[0])) ** 2)) * (1 - distances / CUTOFF) ** 2
    if len(elements) > 1:
        ends = np.sort([np.searchsorted(elements, structure.atomic_numbers[i]) for i in pairs[:2]], axis=0)
        first, second = np.triu_indices(len(elements))
        kinds = (ends[0][:, None] == first) & (ends[1][:, None] == second)
        radial = (kinds[:, :, None] * radial[:, None, :]).reshape(len(radial), -1)
    volume = abs(np.linalg.det(structure.cell))
    return np.einsum("ek,ei,ej->ijk", radial / distances, vectors, vectors) / volume


def _equations(stress: Float[np.ndarray, "3 3 functions"]) -> Float[np.ndarray, "5 functions"]:
    """The five components of a stress without its pressure: off-diagonal ones and differences of diagonal ones."""
    shear = [stress[1, 2], stress[0, 2], stress[0, 1]]
    return np.stack([*shear, (stress[0, 0] - stress[1, 1]) / 2, (stress[1, 1] - stress[2, 2]) / 2])


def check_size(structures: Sequence[Structure], key: str, label: str, unit_is_given: bool) -> tuple[str, str]:
    """Compare the stresses of a file with what materials have.

    Args:
        structures: all structures of the file.
        key: the key of the stress or virial, for messages.
        label: ``stress`` or ``virial``.
        unit_is_given: whether the user gave the unit, so that no size is an error.

    Returns:
        A remark about the largest stress, and a note if it is doubtful; empty if there is nothing to say.

    Raises:
        InputError: a stress is absurd.
    """
    stressed = [s for s in structures if s.stress is not None]
    sizes = np.array([np.abs(s.stress).max() for s in stressed if s.stress is not None])
    if not stressed or sizes.max() < LARGE:
        return "", ""
    largest, where = sizes.max(), stressed[int(sizes.argmax())].source
    size = f"{largest * GPA:,.0f} GPa"
    found = f"{where}: {key!r} amounts to {size} if it is in {'eV' if label == VIRIAL else 'eV/Å³'}"
    if largest > ABSURD and not unit_is_given:
        raise InputError(f"{found}, more than training data have: {_proposals(stressed, sizes, key, label)}")
    if not unit_is_given and (largest > DOUBTFUL or np.median(sizes) > LARGE):
        return f"stresses of up to {size}", f"{found}: if that is wrong, {_proposals(stressed, sizes, key, label)}"
    return f"stresses of up to {size}", ""


def _proposals(stressed: Sequence[Structure], sizes: np.ndarray, key: str, label: str) -> str:
    """What the user may do about stresses that are too large."""
    option = "energy_unit=eV" if label == VIRIAL else "stress_unit=eV/Å^3"
    volumes = np.array([abs(np.linalg.det(s.cell)) for s in stressed])
    proposals: list[str] = []
    numbers = sizes * (volumes if label == VIRIAL else 1.0)
    name = f"--stress-key {key} " if label == VIRIAL else ""
    for unit in ("kbar", "GPa"):
        if _usual(converted := numbers * units.stress_in_ev_per_cubic_angstrom(unit)):
            largest = f"then up to {converted.max() * GPA:.3g} GPa"
            proposals.append(f"{name}--set data.stress_unit={unit} ({largest})")
    if label == STRESS.name and _usual(numbers / volumes):
        proposals.append(f"--virial-key {key} if it is a virial in eV")
    given = f"give its unit with {' or '.join(proposals)}" if proposals else "correct it or give its unit"
    return f"{given}, or confirm it with --set data.{option}"


def _usual(sizes: np.ndarray) -> bool:
    return bool(sizes.max() < LARGE and np.median(sizes) > SMALLEST)
