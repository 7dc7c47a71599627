"""ASE's integrators for each ensemble, and the variables with which they continue exactly."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.constraints import FixCom
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT
from ase.md.verlet import VelocityVerlet

from equiforce.calculators.md.options import Coupling, MDOptions
from equiforce.calculators.momenta import degrees_of_freedom

Integrator = VelocityVerlet | Langevin | Bussi | IsotropicMTKNPT | MTKNPT
FREE = {"semi-isotropic": 2, "anisotropic": 3, "full": 6}  # the degrees of freedom of a cell that does not rotate


def integrator(atoms: Atoms, options: MDOptions, rng: np.random.Generator) -> Integrator:
    """Make ASE's integrator, and fix the centre of mass of atoms where random forces would move it."""
    timestep, temperature = options.timestep * units.fs, options.temperature
    if options.ensemble == "nve":
        return VelocityVerlet(atoms, timestep)
    if options.ensemble == "langevin":
        if len(atoms) > 1 and not atoms.constraints:
            atoms.set_constraint(FixCom())
        friction = options.friction / (1000 * units.fs)
        return Langevin(atoms, timestep, temperature_K=temperature, friction=friction, fixcm=False, rng=rng)
    tdamp = options.tdamp * units.fs
    if options.ensemble == "bussi":
        bussi = Bussi(atoms, timestep, temperature_K=temperature, taut=tdamp, rng=rng)
        # ASE counts 3N degrees of freedom, also those of drift and rotation, which hold no energy here; with that count
        # the vibrations of a small molecule would become too hot.
        bussi.ndof = degrees_of_freedom(atoms)
        bussi.target_kinetic_energy = 0.5 * bussi.ndof * units.kB * temperature
        return bussi
    arguments: dict[str, Any] = {
        # ASE's thermostat counts 3N momenta, but 3 of them (the drift) are zero.
        "temperature_K": temperature * degrees_of_freedom(atoms) / (3 * len(atoms)),
        "pressure_au": options.pressure * units.GPa,
        "tdamp": tdamp,
        "pdamp": options.pdamp * units.fs,
    }
    if options.coupling == "isotropic":
        return IsotropicMTKNPT(atoms, timestep, **arguments)
    return CoupledMTKNPT(atoms, timestep, options.coupling, **arguments)


class CoupledMTKNPT(MTKNPT):
    """ASE's Martyna-Tobias-Klein dynamics of the whole cell, whose strain rate is restricted to a coupling.

    The momentum of the cell is a symmetric matrix. It is diagonal if the coupling is anisotropic or semi-isotropic, and
    equal along x and y if it is semi-isotropic. Each of these sets of matrices is closed under the equations of motion,
    so the restricted dynamics samples its own constant-pressure ensemble.
    """

    def __init__(self, atoms: Atoms, timestep: float, coupling: Coupling, **arguments: Any):
        super().__init__(atoms, timestep, **arguments)
        self._coupling = coupling
        # ASE counts nine momenta of the cell, also the rotations, which symmetric stress never excites
        self._barostat._R[0] *= FREE[coupling] / self._barostat._cell_dof
        self._barostat._cell_dof = FREE[coupling]

    def _integrate_p_cell(self, delta: float) -> None:
        super()._integrate_p_cell(delta)
        self._p_g = projected(self._p_g, self._coupling)


def projected(matrix: np.ndarray, coupling: Coupling) -> np.ndarray:
    """The part of a matrix [3 3] that changes the cell under a coupling."""
    if coupling == "full":
        return 0.5 * (matrix + matrix.T)
    diagonal = np.diag(matrix).copy()
    if coupling == "semi-isotropic":
        diagonal[:2] = diagonal[:2].mean()
    return np.diag(diagonal)


def variables_of(dynamics: Integrator) -> dict[str, Any]:
    """The variables of an integrator beside positions, momenta and cell, as plain types for JSON."""
    return {name: np.asarray(getattr(owner, name)).tolist() for owner, name in _variables(dynamics)}


def restore(dynamics: Integrator, variables: Mapping[str, Any]) -> None:
    """Continue from variables of :func:`variables_of`; the atoms already have their positions, momenta and cell."""
    for owner, name in _variables(dynamics):
        value = np.array(variables[name], dtype=np.float64)
        if value.shape != np.shape(getattr(owner, name)) or not np.isfinite(value).all():
            raise ValueError(f"{name} is not what it was")
        setattr(owner, name, value if value.shape else float(value))
    if isinstance(dynamics, IsotropicMTKNPT | MTKNPT):
        # these integrators keep their own copies of the state of the atoms
        dynamics._q, dynamics._p = dynamics.atoms.get_positions(), dynamics.atoms.get_momenta()
    if isinstance(dynamics, MTKNPT):
        dynamics._h = np.array(dynamics.atoms.get_cell())


def _variables(dynamics: Integrator) -> Iterator[tuple[Any, str]]:
    if isinstance(dynamics, Bussi):
        yield dynamics, "transferred_energy"
    if isinstance(dynamics, IsotropicMTKNPT | MTKNPT):
        yield from ((dynamics._thermostat, name) for name in ("_eta", "_p_eta"))
        yield from ((dynamics._barostat, name) for name in ("_xi", "_p_xi"))
    if isinstance(dynamics, IsotropicMTKNPT):
        yield from ((dynamics, name) for name in ("_eps", "_p_eps"))
    if isinstance(dynamics, MTKNPT):
        yield dynamics, "_p_g"
