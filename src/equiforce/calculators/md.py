"""Molecular dynamics in one call: ensembles, trajectory, thermo table, and a stop when the simulation goes wrong."""

import time
from array import array
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import ase.io
import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixCom
from ase.io.formats import UnknownFileTypeError
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.nose_hoover_chain import IsotropicMTKNPT
from ase.md.verlet import VelocityVerlet
from rich.console import Console
from rich.table import Table

from equiforce.calculators.ase import Calculator
from equiforce.calculators.guard import Guard
from equiforce.calculators.md_output import LAST, NS_PER_DAY, THERMO, TRAJECTORY, Output, Thermo
from equiforce.calculators.momenta import degrees_of_freedom, prepare_momenta
from equiforce.errors import InputError
from equiforce.options import option
from equiforce.potential import Potential
from equiforce.threads import fastest_threads

Integrator = VelocityVerlet | Langevin | Bussi | IsotropicMTKNPT


@dataclass(frozen=True, kw_only=True)
class MDOptions:
    """The options of a molecular dynamics run."""

    ensemble: Literal["nve", "langevin", "bussi", "npt"] = option(
        "langevin",
        "langevin thermalises every mode, even of a single molecule; bussi (stochastic rescaling) hardly disturbs the "
        "dynamics; nve shows whether energy is conserved; npt (isotropic Martyna-Tobias-Klein) finds the density",
    )
    temperature: float = option(
        300.0,
        "room temperature; nve only sets the initial velocities, and about half of their energy becomes potential "
        "energy",
        unit="K",
        ge=0.0,
    )
    pressure: float = option(0.0, "1 bar is 0.0001 GPa, which a condensed phase does not notice; npt only", unit="GPa")
    timestep: float = option(
        0.5,
        "bonds of hydrogen oscillate in 10 fs and need 20 steps each time; 1 to 2 fs suffice without hydrogen",
        unit="fs",
        gt=0.0,
    )
    steps: int = option(10_000, "5 ps at 0.5 fs: long enough to see whether a potential is stable", ge=0)
    friction: float = option(
        5.0,
        "thermalises within 0.2 ps; use 0.1 to 1 where time correlations matter; langevin only",
        unit="1/ps",
        gt=0.0,
    )
    tdamp: float = option(100.0, "the usual relaxation time of a thermostat; bussi and npt only", unit="fs", gt=0.0)
    pdamp: float = option(1000.0, "ten times slower than the thermostat; npt only", unit="fs", gt=0.0)
    trajectory_every: int = option(100, "frames 50 fs apart at 0.5 fs are nearly independent", unit="steps", ge=1)
    thermo_every: int = option(100, "one line for every frame of the trajectory", unit="steps", ge=1)
    seed: int = option(0, "the same seed repeats a run; change it for independent runs", ge=0)
    skin: float = option(0.5, "the neighbour list stays valid for tens of steps at room temperature", unit="Å", ge=0.0)
    stop_on_escape: bool = option(
        True, "an atom that has lost all neighbours mostly means a broken potential; turn it off to study evaporation"
    )
    max_memory: float | None = option(
        None,
        "the memory that is free at the start; a system that needs more is computed in chunks, slowly",
        unit="GB",
        gt=0.0,
    )


@dataclass(frozen=True, kw_only=True)
class MDSummary:
    """The summary of a molecular dynamics run."""

    n_steps: int
    n_atoms: int
    time_ps: float
    mean_temperature: float  # K, over the steps after the first 20 %
    drift: float | None  # of the total energy, meV/atom/ps; None for all ensembles but nve
    steps_per_second: float
    ns_per_day: float
    n_neighbor_builds: int
    interrupted: bool
    folder: Path

    def table(self) -> Table:
        """The summary as a table with units, for the terminal."""
        table = Table(title="interrupted" if self.interrupted else "finished", show_header=False)
        table.add_row("simulated", f"{self.n_steps} steps, {self.time_ps:.4g} ps, {self.n_atoms} atoms")
        table.add_row("mean temperature after the first 20 %", f"{self.mean_temperature:.1f} K")
        if self.drift is not None:
            table.add_row("drift of the total energy", f"{self.drift:.3g} meV/atom/ps")
        table.add_row("speed", f"{self.steps_per_second:.1f} steps/s, {self.ns_per_day:.3g} ns/day")
        table.add_row("neighbour lists built", str(self.n_neighbor_builds))
        table.add_row("written", ", ".join(str(self.folder / name) for name in (TRAJECTORY, THERMO, LAST)))
        return table


def run_md(
    model: str | Path | Potential,
    start: Atoms | str | Path,
    options: MDOptions,
    folder: str | Path,
    *,
    overwrite: bool = False,
    device: str | None = None,
    console: Console | None = None,
) -> MDSummary:
    """Run molecular dynamics and write ``trajectory.xyz``, ``thermo.csv`` and ``last.xyz`` into a folder.

    A start with momenta keeps them, apart from the total momentum, so that ``last.xyz`` continues a run. Otherwise
    momenta are drawn from the Maxwell-Boltzmann distribution, without total momentum and, for a molecule without a
    cell, without rotation. Frames hold energy (eV), forces (eV/Å) and momenta. Ctrl-C ends the run early and cleanly.

    Args:
        model: the path of a model file, or a potential.
        start: atoms, or a file that ASE reads; its last frame is taken.
        options: the options of the simulation.
        folder: the output folder, which is created if it is missing.
        overwrite: whether to replace an earlier run in the folder.
        device: as in :class:`~equiforce.calculators.ase.Calculator`.
        console: shows the progress and the thermo table; None shows nothing.

    Raises:
        InputError: a file cannot be read, the folder holds a run, the ensemble does not fit the atoms, or the
            simulation went wrong (then the trajectory is kept up to there, and ``last.xyz`` is the last good frame).
    """
    folder = Path(folder)
    earlier = [folder / name for name in (TRAJECTORY, THERMO, LAST) if (folder / name).exists()]
    if earlier and not overwrite:
        raise InputError(f"{earlier[0]} exists from an earlier run: name a new folder, or add --overwrite")
    atoms = start.copy() if isinstance(start, Atoms) else read_start(str(start))
    refuse_unfit(atoms, options)
    always_stress = options.ensemble == "npt"
    atoms.calc = Calculator(model, device, options.skin, always_stress, max_memory=options.max_memory)
    console = console or Console(quiet=True)
    console.print(f"memory: {atoms.calc.plan(atoms).describe()}", highlight=False, soft_wrap=True)
    # _Run checks the start before Output writes any file, because the start may be a file of an earlier run there.
    run = _Run(atoms, options)
    title = f"{options.ensemble} {options.temperature:g} K"
    output = Output(folder, title, options.steps, options.timestep, console, run.in_bulk)
    with fastest_threads(partial(atoms.calc.calculate, atoms)), output:
        problem = run.play(output)
    if problem is not None:
        raise InputError(problem)
    return run.summary(folder)


def read_start(path: str) -> Atoms:
    """Read the last frame of a file; raise InputError if ASE cannot read it."""
    try:
        frames = ase.io.read(path)
        return frames if isinstance(frames, Atoms) else frames[-1]
    except (OSError, ValueError, LookupError, UnknownFileTypeError) as error:
        raise InputError(f"no start structure can be read from {path} ({error}): name a file that ASE reads") from error


def refuse_unfit(atoms: Atoms, options: MDOptions) -> None:
    """Raise InputError if the ensemble does not fit the atoms, or if no atom is free to move."""
    if options.ensemble != "nve" and options.temperature <= 0:
        raise InputError(f"the {options.ensemble} ensemble needs a temperature above 0 K, not {options.temperature} K")
    if options.ensemble == "npt" and not (atoms.pbc.all() and atoms.cell.volume > 0):
        raise InputError(
            "the npt ensemble needs a cell that is periodic in all three directions: use langevin or bussi, or give "
            "the start structure a cell"
        )
    if options.ensemble == "npt" and atoms.constraints:
        raise InputError("the npt ensemble cannot hold atoms fixed: remove the constraints of the start structure")
    if atoms.get_number_of_degrees_of_freedom() <= 0:
        raise InputError("no atom of the start structure can move: remove its constraints")


def _dynamics(atoms: Atoms, options: MDOptions, rng: np.random.Generator) -> Integrator:
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
    if options.ensemble == "npt":
        return IsotropicMTKNPT(
            atoms,
            timestep,
            # ASE's thermostat counts 3N momenta, but 3 of them (the drift) are zero.
            temperature_K=temperature * degrees_of_freedom(atoms) / (3 * len(atoms)),
            pressure_au=options.pressure * units.GPa,
            tdamp=tdamp,
            pdamp=options.pdamp * units.fs,
        )
    raise InputError(f"there is no ensemble {options.ensemble!r}: choose nve, langevin, bussi or npt")


class _Run:
    """A running simulation: the atoms, the integrator, the guard and the records."""

    def __init__(self, atoms: Atoms, options: MDOptions):
        self.atoms, self.options = atoms, options
        rng = np.random.default_rng(options.seed)
        prepare_momenta(atoms, options.temperature, rng)
        self.fixed = list(atoms.constraints)  # the user's constraints; frames hold these, without an added FixCom
        self.in_bulk = bool(atoms.pbc.all() and atoms.cell.volume > 0)
        self.dynamics = _dynamics(atoms, options, rng)
        self.n_free = degrees_of_freedom(atoms)
        self.temperatures, self.energies = array("d"), array("d")  # K and eV, of each step without a problem
        self.seconds = 0.0
        self.interrupted = False
        atoms.get_forces()
        self.guard = Guard(atoms, options.temperature, options.stop_on_escape)
        problem = self._check()
        if problem is not None:
            raise InputError(
                f"the start structure cannot be simulated because {problem}: relax it, and check that its lengths are "
                "in Å"
            )

    def play(self, output: Output) -> str | None:
        """Run all steps; return a sentence if the simulation went wrong, and None otherwise."""
        problem, last_good = None, self._frame()
        began = time.perf_counter()
        try:
            self._record(0, last_good, output)
            for step in range(1, self.options.steps + 1):
                problem = self._advance()
                if problem is not None:
                    break
                last_good = self._frame()
                self._record(step, last_good, output)
        except KeyboardInterrupt:
            self.interrupted = True
        self.seconds = time.perf_counter() - began
        output.last(last_good)
        return problem and (
            f"the simulation stopped at step {step} ({step * self.options.timestep / 1000:.4g} ps) because {problem}: "
            "try a smaller timestep or a lower temperature, or train on structures like the last frames; the "
            f"trajectory and the last good frame are kept in {output.folder}"
        )

    def _advance(self) -> str | None:
        try:
            self.dynamics.step()
        except InputError as error:  # the neighbour list refuses atoms that coincide or are not at finite positions
            return f"no neighbour list can be built ({error})"
        return self._check()

    def _check(self) -> str | None:
        """Return what is wrong with the present state, or record its temperature and energy and return None."""
        temperature = 2 * self.atoms.get_kinetic_energy() / (units.kB * self.n_free)
        problem = self.guard.problem(self.atoms, temperature)
        if problem is None:
            self.temperatures.append(temperature)
            self.energies.append(self.atoms.get_potential_energy() + self.atoms.get_kinetic_energy())
        return problem

    def _frame(self) -> Atoms:
        """Copy the atoms with energy and forces, because the integrator changes them in place."""
        frame = self.atoms.copy()
        frame.set_constraint(self.fixed)
        results = self.atoms.calc.results
        frame.calc = SinglePointCalculator(frame, energy=results["energy"], forces=results["forces"])
        return frame

    def _record(self, step: int, frame: Atoms, output: Output) -> None:
        if step % self.options.thermo_every == 0:
            output.thermo(self._thermo(step))
        if step % self.options.trajectory_every == 0:
            output.frame(frame)
        output.advanced(step)

    def _thermo(self, step: int) -> Thermo:
        atoms, pressure = self.atoms, None
        if self.in_bulk:
            pressure = -atoms.get_stress(include_ideal_gas=True)[:3].mean() / units.GPa
        return Thermo(
            step=step,
            time_ps=step * self.options.timestep / 1000,
            temperature_K=self.temperatures[-1],
            potential_energy_eV=atoms.get_potential_energy(),
            kinetic_energy_eV=atoms.get_kinetic_energy(),
            total_energy_eV=self.energies[-1],
            largest_force_eV_per_A=float(np.linalg.norm(atoms.get_forces(), axis=1).max()),
            pressure_GPa=pressure,
            volume_A3=atoms.get_volume() if self.in_bulk else None,
        )

    def summary(self, folder: Path) -> MDSummary:
        """Summarise the steps that were made."""
        n_steps, timestep_ps = len(self.energies) - 1, self.options.timestep / 1000
        settled = np.asarray(self.temperatures)[len(self.temperatures) // 5 :]
        drift = None
        if self.options.ensemble == "nve" and n_steps > 1:
            times = timestep_ps * np.arange(n_steps + 1)
            drift = float(np.polyfit(times, 1000 * np.asarray(self.energies), 1)[0] / len(self.atoms))
        speed = n_steps / self.seconds
        return MDSummary(
            n_steps=n_steps,
            n_atoms=len(self.atoms),
            time_ps=n_steps * timestep_ps,
            mean_temperature=float(settled.mean()),
            drift=drift,
            steps_per_second=speed,
            ns_per_day=speed * self.options.timestep * NS_PER_DAY,
            n_neighbor_builds=self.atoms.calc.n_neighbor_builds,
            interrupted=self.interrupted,
            folder=folder,
        )
