"""Looks for labels and geometries that cannot be right, before anything is trained on them."""

from collections.abc import Sequence

import numpy as np
from ase.data import covalent_radii

from equiforce.data.against_forces import compare
from equiforce.data.between_files import compare_files, fits_of_files
from equiforce.data.copies import contradiction
from equiforce.data.findings import Finding, settle
from equiforce.data.force_fit import LEAST_FORCE
from equiforce.data.impossible import findings as impossible_labels
from equiforce.data.isolated import is_isolated_atom
from equiforce.data.outliers import energy_levels, energy_outliers, force_outliers
from equiforce.data.states import varying_states
from equiforce.data.strained import compare_strained
from equiforce.neighbors import find_pairs
from equiforce.structure import Structure

MOST_SEARCHED, MOST_SUMMED = 100, 2000  # structures whose distances, and whose total forces, are computed
SEARCH = 6.0  # Å
WIDE, NARROW = 1.45, 0.6  # the smallest distance over the sum of covalent radii; from 0.80 to 1.17 in ordinary data
NOBLE_GASES = (2, 10, 18, 36, 54, 86)
TURNING = 0.05  # the torque over the sum of its terms; below 0.006 in ordinary data
PUSHING = 0.05  # the total force over the sum of the forces; below 0.008 in ordinary data


def check(structures: Sequence[Structure], cutoff: float, *, refuse: bool = True) -> list[str]:
    """Check that the labels and the geometries of structures do not contradict one another, in about a second.

    Args:
        structures: all structures that are read, before copies are left out.
        cutoff: in Å, within which isolated atoms have no neighbour; they are not checked.
        refuse: whether what is surely wrong is an error; otherwise it is a note.

    Returns:
        Notes for the user.

    Raises:
        InputError: labels contradict one another, or the charge or the spin varies at the same composition.
    """
    impossible, indices = impossible_labels(structures)
    # labels that are impossible are the reason of all that the other checks would find
    possible = [s for i, s in enumerate(structures) if i not in set(indices)] if indices else structures
    bound = [s for s in possible if not is_isolated_atom(s, cutoff)]
    findings = list(impossible)
    if (copies := contradiction(bound)) is not None:
        findings.append(Finding(sentence=str(copies), sure=True))
    findings += [*varying_states(bound), *distances(bound), *total_forces(bound)]
    findings += [*energy_outliers(bound), *force_outliers(bound), *energy_levels(bound)]
    findings += compare_strained(bound)
    fits = fits_of_files(bound)
    findings += compare_files(fits)
    findings += [finding for fitted in fits for finding in compare(fitted)]
    return settle(findings, refuse)


def distances(structures: Sequence[Structure]) -> list[Finding]:
    """A finding if atoms are much farther apart, or much closer, than atoms are that form bonds."""
    ratios: list[float] = []
    for s in _some(structures, MOST_SEARCHED):
        if np.isin(s.atomic_numbers, NOBLE_GASES).any():
            continue
        pairs = find_pairs(s.positions, s.cell, s.pbc, SEARCH, s.source)
        if len(pairs.distances):
            radii = covalent_radii[s.atomic_numbers]
            ratios.append(float((pairs.distances / (radii[pairs.centers] + radii[pairs.neighbors])).min()))
    ratio = float(np.median(ratios)) if ratios else 1.0
    if NARROW < ratio < WIDE:
        return []
    unit = (
        "Bohr, in which case set data.length_unit=Bohr" if ratio >= WIDE else "a larger unit, as nm are, than is said"
    )
    return [
        Finding(
            sentence=f"the smallest distances of the structures are {ratio:.2g} times those of covalent bonds: check "
            f"whether the positions are in {unit}",
            sure=False,
        )
    ]


def total_forces(structures: Sequence[Structure]) -> list[Finding]:
    """Findings if forces push or turn structures as a whole, which the forces of a potential never do."""
    turning: list[tuple[float, Structure]] = []
    pushing: list[tuple[float, Structure]] = []
    for s in _some([s for s in structures if s.forces is not None and len(s) > 1], MOST_SUMMED):
        forces = np.asarray(s.forces)
        sizes = np.linalg.norm(forces, axis=1)
        if sizes.mean() < LEAST_FORCE or not sizes.all():  # constraints set the forces of atoms to zero
            continue
        pushing.append((float(np.linalg.norm(forces.sum(axis=0)) / sizes.sum()), s))
        if len(s) > 2 and not s.pbc.any():
            arms = s.positions - s.positions.mean(axis=0)
            largest = float((np.linalg.norm(arms, axis=1) * sizes).sum())
            turning.append((float(np.linalg.norm(np.cross(arms, forces).sum(axis=0))) / largest, s))
    found = []
    for values, limit, what, why in (
        (pushing, PUSHING, "push", "check whether they are forces of all atoms, without external ones"),
        (turning, TURNING, "turn", "check whether forces and positions have the same order of atoms and orientation"),
    ):
        beyond = [(value, s) for value, s in values if value > limit]
        if beyond:
            worst = max(beyond, key=lambda entry: entry[0])
            found.append(
                Finding(
                    sentence=f"the forces of {len(beyond)} of {len(values)} structures {what} them as a whole, which "
                    f"forces of a potential never do, most of all {worst[1].source}: {why}",
                    sure=False,
                )
            )
            break  # forces that push also turn
    return found


def _some(structures: Sequence[Structure], most: int) -> list[Structure]:
    """At most so many of the structures, spread evenly."""
    chosen = np.unique(np.linspace(0, len(structures) - 1, min(len(structures), most)).astype(int))
    return [structures[i] for i in chosen]
