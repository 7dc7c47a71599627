"""Refuses atoms from which no simulation and no relaxation can start, before anything large is computed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ase import Atoms, units
from ase.data import covalent_radii
from ase.geometry import wrap_positions
from jaxtyping import Float, Int

from equiforce.calculators.guard import CLOSEST, closest_pair, hottest
from equiforce.calculators.momenta import degrees_of_freedom, prepare_momenta
from equiforce.elements import species_index
from equiforce.errors import InputError
from equiforce.memory import available, format_bytes
from equiforce.neighbors import check_geometry, find_pairs

LIGHTEST, HEAVIEST = 0.1, 10_000.0  # u; 0.1 u is muonium, and no united atom has 10,000 u
FASTEST = 10.0  # Å/fs; a collision cascade begins with an atom of up to a few Å/fs
CUBE = 2.0  # Å
MOST_IN_A_CUBE = 32  # atoms; more than 4 in an Å³ occur in no matter, and would have too many neighbours to be searched
BYTES_OF_A_PAIR = 100  # of the neighbour list, at least


def refuse_unsound(
    atoms: Atoms,
    start: Atoms | str | Path,
    species: Sequence[str],
    *,
    temperature: float | None = None,
    cutoff: float | None = None,
) -> None:
    """Raise InputError if no simulation or relaxation can start from the atoms.

    It is the same for ``equiforce md``, ``relax`` and ``lammps``. What an ensemble needs is checked elsewhere.

    Args:
        atoms: the start structure.
        start: where the atoms come from, for messages.
        species: the chemical symbols of the model.
        temperature: target temperature of the simulation in K; None if velocities have no effect.
        cutoff: that of the neighbour list in Å; None if another program makes the list.

    Raises:
        InputError: there are no atoms, an element is not one of the model, a position, a mass, a speed or the cell is
            impossible, atoms overlap, or the neighbour list does not fit into memory.
    """
    source = "the start structure" if isinstance(start, Atoms) else str(start)
    if len(atoms) == 0:
        raise InputError(f"{source} has no atoms: name a structure with atoms to start from")
    if len(dummies := np.flatnonzero(atoms.numbers == 0)):
        raise InputError(
            f"{source}: atom {dummies[0]} (counted from 0) is a dummy (X) and no element: remove it, or name one"
        )
    species_index(atoms.numbers, species, source)
    cell = np.where(atoms.pbc[:, None], atoms.cell.array, 0.0)
    check_geometry(atoms.positions, cell, atoms.pbc, source)
    _refuse_masses_and_speeds(atoms, source, temperature)
    _refuse_crowds(atoms, wrap_positions(atoms.positions, cell, atoms.pbc), source, cutoff)
    _refuse_overlaps(atoms, source)


def _name(atoms: Atoms, number: int | np.integer) -> str:
    return f"atom {number} ({atoms.symbols[number]}, counted from 0)"


def _refuse_masses_and_speeds(atoms: Atoms, source: str, temperature: float | None) -> None:
    masses, momenta = atoms.get_masses(), atoms.get_momenta()
    # the comparisons are false for NaN
    if len(wrong := np.flatnonzero(~((masses >= LIGHTEST) & (masses <= HEAVIEST)))):
        raise InputError(
            f"{source}: {_name(atoms, wrong[0])} has a mass of {masses[wrong[0]]:g} u, which is not between "
            f"{LIGHTEST:g} and {HEAVIEST:g} u: correct the masses, or leave them out"
        )
    with np.errstate(over="ignore"):
        speeds = np.linalg.norm(momenta / masses[:, None], axis=1) * units.fs
    if temperature is None:
        return
    if len(wrong := np.flatnonzero(~(speeds <= FASTEST))):
        raise InputError(
            f"{source}: {_name(atoms, wrong[0])} moves at {speeds[wrong[0]]:.3g} Å/fs, and the limit is {FASTEST:g} "
            "Å/fs: correct the momenta and their unit, or leave them out"
        )
    if not momenta.any():
        return
    moving = atoms.copy()
    prepare_momenta(moving, 0.0, np.random.default_rng(0))  # draws nothing, and removes the drift
    found = 2 * moving.get_kinetic_energy() / (units.kB * max(1, degrees_of_freedom(moving)))
    if found > (limit := hottest(temperature)):
        fastest = int(speeds.argmax())
        raise InputError(
            f"{source}: the velocities are those of {found:.3g} K, and the limit is {limit:,.0f} K "
            f"({_name(atoms, fastest)} moves at {speeds[fastest]:.3g} Å/fs): correct the momenta and their unit, or "
            "leave them out"
        )


def _refuse_crowds(atoms: Atoms, positions: Float[np.ndarray, "atoms 3"], source: str, cutoff: float | None) -> None:
    """Refuse so many atoms in one place that a search for neighbours would take all memory."""
    cube_of_atom, counts = _cubes(positions, CUBE)
    if counts.max() > MOST_IN_A_CUBE:
        inside = np.flatnonzero(cube_of_atom == counts.argmax())
        raise InputError(
            f"{source}: {len(inside)} atoms lie within a cube of {CUBE:g} Å, among them {_name(atoms, inside[0])} and "
            f"{_name(atoms, inside[1])}: correct the coordinates, and check that they are in Å"
        )
    free = None if cutoff is None else available("cpu")
    if cutoff is None or free is None:
        return
    _, counts = _cubes(positions, cutoff)
    n_pairs = 4 / 3 * np.pi * float((counts * (counts - 1.0)).sum())  # as many as in a sphere of the same density
    if (need := n_pairs * BYTES_OF_A_PAIR) > free:
        raise InputError(
            f"{source}: {len(atoms):,} atoms have about {n_pairs:.1e} pairs within {cutoff:g} Å, whose list alone "
            f"needs {format_bytes(need)} of memory, but {format_bytes(free)} are available: take a smaller system, or "
            "use LAMMPS on several machines"
        )


def _cubes(positions: Float[np.ndarray, "atoms 3"], edge: float) -> tuple[Int[np.ndarray, " atoms"], np.ndarray]:
    """The cube of space in which each atom is, and the number of atoms in each cube."""
    place = np.floor((positions - positions.min(axis=0)) / edge).astype(np.int64)
    numbers = np.ravel_multi_index(tuple(place.T), tuple(place.max(axis=0) + 1))
    _, cube_of_atom, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    return cube_of_atom, counts


def _refuse_overlaps(atoms: Atoms, source: str) -> None:
    radii = torch.from_numpy(covalent_radii[atoms.numbers])
    reach = 2 * CLOSEST * float(radii.max())
    found = find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, reach, source)
    centers, neighbors = torch.from_numpy(found.centers), torch.from_numpy(found.neighbors)
    pair, closeness = closest_pair(radii, centers, neighbors, torch.from_numpy(found.distances))
    if closeness < CLOSEST:
        one, other, distance = found.centers[pair], found.neighbors[pair], found.distances[pair]
        limit = CLOSEST * float(radii[one] + radii[other])
        both = f"{_name(atoms, one)} and {_name(atoms, other) if one != other else 'its own image'}"
        raise InputError(
            f"{source}: {both} are {distance:.2g} Å apart, and the limit is {limit:.2g} Å: is "
            "one a copy, or is the cell or the unit of length wrong?"
        )
