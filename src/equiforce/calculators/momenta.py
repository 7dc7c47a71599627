"""Draws the momenta of atoms at a temperature, and counts their degrees of freedom."""

import numpy as np
from ase import Atoms, units


def prepare_momenta(atoms: Atoms, temperature: float, rng: np.random.Generator) -> None:
    """Draw momenta for atoms that have none, at exactly this temperature (K), and remove the total momentum.

    Momenta that the atoms already have are kept, apart from the total momentum. The total momentum stays for a single
    atom, which would not move without it, and for constrained atoms, whose total momentum is not conserved.
    """
    drawn = not atoms.get_momenta().any()
    if drawn:
        spread = np.sqrt(atoms.get_masses() * units.kB * temperature)
        atoms.set_momenta(spread[:, None] * rng.standard_normal((len(atoms), 3)))
    if len(atoms) > 1 and not atoms.constraints:
        masses, momenta = atoms.get_masses()[:, None], atoms.get_momenta()
        momenta -= masses * momenta.sum(axis=0) / masses.sum()
        atoms.set_momenta(momenta)
        if drawn and not atoms.pbc.any():
            inertia, angular_momentum = _rotation(atoms)
            spin = np.linalg.pinv(inertia, rcond=1e-6, hermitian=True) @ angular_momentum
            atoms.set_momenta(momenta - masses * np.cross(spin, atoms.positions - atoms.get_center_of_mass()))
    if drawn and temperature > 0:
        kinetic = 2 * atoms.get_kinetic_energy() / (units.kB * degrees_of_freedom(atoms))
        atoms.set_momenta(atoms.get_momenta() * np.sqrt(temperature / kinetic))


def _rotation(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Compute the inertia tensor [3 3] (u Å²) and the angular momentum [3] about the centre of mass."""
    positions = atoms.positions - atoms.get_center_of_mass()
    second = np.einsum("n,na,nb->ab", atoms.get_masses(), positions, positions)
    return np.trace(second) * np.eye(3) - second, np.cross(positions, atoms.get_momenta()).sum(axis=0)


def degrees_of_freedom(atoms: Atoms) -> int:
    """Count the degrees of freedom that hold kinetic energy.

    Constrained atoms and a single atom have 3N minus the constraints. Other systems have 3N minus 3 for the drift,
    which is zero and conserved; a molecule without a cell that does not rotate also lacks its rotations.
    """
    n_free = atoms.get_number_of_degrees_of_freedom()
    if len(atoms) == 1 or atoms.constraints:
        return n_free
    n_free -= 3
    if not atoms.pbc.any():
        inertia, angular_momentum = _rotation(atoms)
        spin_energy = 0.5 * angular_momentum @ np.linalg.pinv(inertia, rcond=1e-6, hermitian=True) @ angular_momentum
        if spin_energy <= 1e-6 * atoms.get_kinetic_energy():
            n_free -= np.linalg.matrix_rank(inertia, tol=1e-6 * np.trace(inertia), hermitian=True)
    return int(n_free)
