"""Converts atoms to LAMMPS' axes, atom types and units, and writes them as a LAMMPS data file."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.constraints import FixAtoms
from jaxtyping import Bool, Float, Int

from equiforce.calculators.lammps.masses import check_masses
from equiforce.calculators.momenta import degrees_of_freedom, prepare_momenta
from equiforce.elements import atomic_number, species_index
from equiforce.errors import InputError
from equiforce.neighbors import check_geometry

MARGIN = 5.0  # Å between the atoms and the box along axes that are not periodic; LAMMPS widens the box if atoms leave
PS = 1000 * units.fs
AXES = "xyz"


@dataclass(frozen=True, kw_only=True)
class System:
    """A system of atoms for LAMMPS: lengths in Å, velocities in Å/ps, masses in u."""

    formula: str
    symbols: list[str]  # of atom types 1, 2, ...
    masses: list[float]  # of atom types 1, 2, ...
    types: Int[np.ndarray, " atoms"]
    pbc: Bool[np.ndarray, "3"]
    box: Float[np.ndarray, "3 2"]  # lowest and highest coordinate
    tilts: Float[np.ndarray, "3"]  # xy, xz, yz
    positions: Float[np.ndarray, "atoms 3"]
    velocities: Float[np.ndarray, "atoms 3"] | None  # None: LAMMPS draws them
    fixed: Int[np.ndarray, " fixed"]  # atoms that do not move, counted from 0
    n_at_rest: int  # degrees of freedom without kinetic energy: those of fixed atoms, or of drift and rotation

    @property
    def without_drift(self) -> bool:
        """Whether the centre of mass is at rest: there are several atoms and none is fixed."""
        return self.n_at_rest > 0 and not len(self.fixed)

    @property
    def without_rotation(self) -> bool:
        return self.n_at_rest > 3 and not len(self.fixed)

    @property
    def periodic(self) -> str:
        """The periodic axes, such as ``xy``."""
        return "".join(axis for axis, repeats in zip(AXES, self.pbc, strict=True) if repeats)


def system_of(atoms: Atoms, species: Sequence[str], source: str, *, rotates: bool = False) -> System:
    """Check atoms and convert them to LAMMPS' axes, atom types and units.

    Momenta are kept, without the total momentum. Atoms in a ``FixAtoms`` constraint become fixed atoms.

    Args:
        atoms: the atoms, which may lie outside their cell; the cell may be skewed or left-handed, and its vectors may
            be zero along directions that are not periodic.
        species: the chemical symbols of the model; atom types are numbered in this order.
        source: where the atoms come from, for messages.
        rotates: whether the rotation of a molecule counts as a degree of freedom even if it starts at rest, because
            random forces make it rotate.

    Raises:
        InputError: an element that the model does not know, a flat cell, a constraint other than ``FixAtoms``, or
            masses that differ within an element or are those of another element.
    """
    index = species_index(atoms.numbers, species, source)
    if other := [c for c in atoms.constraints if not isinstance(c, FixAtoms)]:
        raise InputError(
            f"{source}: the constraint {type(other[0]).__name__} cannot be written into a LAMMPS input: remove it, or "
            "fix whole atoms with FixAtoms"
        )
    check_geometry(atoms.positions, np.where(atoms.pbc[:, None], atoms.cell.array, 0.0), atoms.pbc, source)
    present, types = np.unique(index, return_inverse=True)
    symbols = [species[i] for i in present]
    fixed = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *(c.get_indices() for c in atoms.constraints)]))
    masses = [_mass(atoms, symbol, source) for symbol in symbols]
    check_masses(symbols, masses, species, source)
    cell, rotation = into_lammps(atoms.cell.array, atoms.pbc)
    velocities = _velocities(atoms, fixed)
    n_at_rest = 3 * len(fixed) or 3 * len(atoms) - degrees_of_freedom(atoms)
    positions = atoms.positions @ rotation
    around = np.stack([positions.min(axis=0) - MARGIN, positions.max(axis=0) + MARGIN], axis=1)
    return System(
        formula=atoms.get_chemical_formula(),
        symbols=symbols,
        masses=masses,
        types=types + 1,
        pbc=atoms.pbc,
        box=np.where(atoms.pbc[:, None], np.stack([np.zeros(3), np.diag(cell)], axis=1), around),
        tilts=cell[[1, 2, 2], [0, 0, 1]],
        positions=positions,
        velocities=None if velocities is None else velocities @ rotation,
        fixed=fixed,
        n_at_rest=min(n_at_rest, 3) if rotates and not len(fixed) else n_at_rest,
    )


def _mass(atoms: Atoms, symbol: str, source: str) -> float:
    masses = np.unique(atoms.get_masses()[atoms.numbers == atomic_number(symbol)])
    if len(masses) > 1 or not masses[0] > 0:
        raise InputError(
            f"{source}: the masses of {symbol} range from {masses[0]:g} to {masses[-1]:g} u, but the LAMMPS input has "
            "one mass above 0 for each element: give all atoms of an element the same mass"
        )
    return float(masses[0])


def _velocities(atoms: Atoms, fixed: Int[np.ndarray, " fixed"]) -> Float[np.ndarray, "atoms 3"] | None:
    """Velocities in Å/ps without drift, or None if all atoms are at rest; the momenta of the atoms change too."""
    momenta = atoms.get_momenta()
    momenta[fixed] = 0.0
    atoms.set_momenta(momenta, apply_constraint=False)
    if not momenta.any():
        return None
    prepare_momenta(atoms, 0.0, np.random.default_rng(0))  # draws nothing because the atoms have momenta
    return atoms.get_velocities() * PS


def into_lammps(
    cell: Float[np.ndarray, "3 3"], pbc: Bool[np.ndarray, "3"]
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3 3"]]:
    """Compute LAMMPS' cell of the same lattice, and the rotation Q (never a reflection) to its axes: x becomes x Q.

    The cell is lower triangular with a positive diagonal and tilts of at most half the diagonal, as LAMMPS requires. A
    direction that is not periodic gets a vector of length 1 that is perpendicular to the periodic directions.
    """
    cell, n_periodic = np.where(pbc[:, None], cell, 0.0), int(pbc.sum())
    # among the vectors perpendicular to the periodic directions, take those nearest to the Cartesian axes
    normals = np.linalg.svd(cell)[2][n_periodic:]
    left, _, right = np.linalg.svd(np.eye(3)[~pbc] @ normals.T)
    cell[~pbc] = left @ right @ normals
    if np.linalg.det(cell) < 0:  # the opposite of a lattice vector spans the same lattice
        cell[2 if pbc.all() else np.flatnonzero(~pbc)[-1]] *= -1
    q, r = np.linalg.qr(cell.T)
    signs = np.sign(np.diag(r))
    rotation, lower = q * signs, r.T * signs
    for i, j in ((1, 0), (2, 1), (2, 0)):
        if abs(lower[i, j]) > (0.5 + 1e-6) * lower[j, j]:
            lower[i] -= np.round(lower[i, j] / lower[j, j]) * lower[j]
    lower[np.abs(lower) < 1e-9] = 0.0  # Å; LAMMPS would treat a box with tilts of rounding size as triclinic
    return lower, rotation


def data_lines(system: System, source: str) -> Iterator[str]:
    """Yield the lines of the data file of a system; the first line names ``source``."""
    origin = re.sub(r"[^\x20-\x7e]", "_", source)
    yield f"{system.formula} of {origin}, written by equiforce: Angstrom, Angstrom/ps, u; axes rotated for LAMMPS"
    yield from ("", f"{len(system.types)} atoms", f"{len(system.symbols)} atom types", "")
    for axis, (low, high) in zip(AXES, system.box.tolist(), strict=True):
        yield f"{low!r} {high!r} {axis}lo {axis}hi"
    if system.tilts.any():
        yield " ".join(map(repr, system.tilts.tolist())) + " xy xz yz"
    yield from ("", "Masses", "")
    for number, (symbol, mass) in enumerate(zip(system.symbols, system.masses, strict=True), start=1):
        yield f"{number} {mass:.12g} # {symbol}"
    yield from ("", "Atoms # atomic", "")
    atoms = zip(system.types.tolist(), system.positions.tolist(), strict=True)
    for number, (atom_type, (x, y, z)) in enumerate(atoms, start=1):
        yield f"{number} {atom_type} {x:.15g} {y:.15g} {z:.15g}"
    if system.velocities is not None:
        yield from ("", "Velocities", "")
        for number, (x, y, z) in enumerate(system.velocities.tolist(), start=1):
            yield f"{number} {x:.15g} {y:.15g} {z:.15g}"
