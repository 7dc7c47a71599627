"""A running simulation: makes the steps, checks and records them, and saves its state."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator

from equiforce.calculators.guard import Guard
from equiforce.calculators.md.averages import Averages
from equiforce.calculators.md.integrators import integrator, restore, variables_of
from equiforce.calculators.md.options import MDOptions
from equiforce.calculators.md.output import NS_PER_DAY, THERMO, TRAJECTORY, Output, Thermo
from equiforce.calculators.md.state import STATE, State, damaged, fingerprint
from equiforce.calculators.md.summary import MDSummary
from equiforce.calculators.momenta import degrees_of_freedom, prepare_momenta
from equiforce.calculators.watch import LOOK_EVERY, Watch
from equiforce.coverage import Ranges
from equiforce.errors import InputError, UnstableError
from equiforce.machine import describe_device
from equiforce.options import to_lines
from equiforce.signals import StopRequest
from equiforce.storage.whole import write_bytes, write_together
from equiforce.terminal import Console

OPTIONS = "md.yaml"


class Simulation:
    """A running simulation: the atoms, the integrator, the guard and the records.

    Args:
        atoms: the start, with its calculator.
        options: of the simulation.
        ranges: those of the training data; None is never left.
        model: the path of the model file; empty for a potential in memory.
        stop_outside: whether to stop where the atoms leave the training data.
    """

    def __init__(
        self, atoms: Atoms, options: MDOptions, ranges: Ranges | None, model: str, *, stop_outside: bool = False
    ):
        self.atoms, self.options, self.model, self.start = atoms, options, model, atoms.copy()
        self.stop_outside = stop_outside
        self.rng = _generator(atoms, options)
        prepare_momenta(atoms, options.temperature, self.rng)
        self.fixed = list(atoms.constraints)  # the user's constraints; frames hold these, without an added FixCom
        self.in_bulk = bool(atoms.pbc.all() and atoms.cell.volume > 0)
        self.with_axes = options.ensemble == "npt" and options.coupling != "isotropic"
        self.dynamics = integrator(atoms, options, self.rng)
        self.n_free = degrees_of_freedom(atoms)
        self.fingerprint = fingerprint(atoms.calc.potential)
        self.step = self.first_step = 0
        self.averages = Averages()
        self.seconds = 0.0
        self.interrupted = self.recorded = False  # recorded: whether the present step is in the files
        atoms.get_forces()
        self.guard = Guard(atoms, options.temperature, options.stop_on_escape)
        self.watch = Watch(atoms, ranges)
        problem = self.guard.problem(atoms, self._temperature())
        if problem is not None:
            raise UnstableError(
                f"the start structure cannot be simulated because {problem}: relax it, and check that its lengths are "
                "in Å"
            )

    def continue_from(self, state: State, folder: Path) -> None:
        """Go from the start, where the guard and the watch have looked, to the state that was saved in a folder.

        Raises:
            InputError: the state is not one of this ensemble.
        """
        header, atoms, listed = state.header, self.atoms, self.start.copy()
        listed.set_constraint()
        listed.positions, listed.cell = state.listed[0], state.listed[1]
        atoms.calc.search_neighbors(listed)
        atoms.set_positions(state.positions, apply_constraint=False)
        atoms.set_momenta(state.momenta, apply_constraint=False)
        atoms.set_cell(state.cell, scale_atoms=False)
        try:
            self.rng.bit_generator.state = header["generator"]
            restore(self.dynamics, header["integrator"])
            self.watch.restore(header["watch"])
            self.averages = Averages.from_dict(header["averages"])
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InputError(damaged(folder)) from error
        self.step = self.first_step = header["step"]
        self.recorded = header["sizes"][THERMO] > 0
        atoms.get_forces()

    def begin(self, folder: Path, sizes: Mapping[str, int]) -> None:
        """Write the state and the options, with which the run exists and can be resumed; its files come after that.

        Args:
            folder: the output folder.
            sizes: those of the trajectory and of the table in bytes; empty for a new run.

        Raises:
            InputError: they cannot be written. An earlier run in the folder is as it was then.
        """
        state = self._state(sizes or {TRAJECTORY: 0, THERMO: 0})
        write_together({folder / STATE: state.to_bytes(), folder / OPTIONS: to_lines(self.options).encode()})

    def output(self, folder: Path, console: Console, sizes: Mapping[str, int] | None = None) -> Output:
        """The files of the run: new ones, or those of the given sizes."""
        title = f"{self.options.ensemble} {self.options.temperature:g} K"
        steps, timestep = self.options.steps, self.options.timestep
        return Output(folder, title, steps, timestep, console, self.in_bulk, with_axes=self.with_axes, sizes=sizes)

    def play(self, output: Output, stop: StopRequest) -> str | None:
        """Run all steps; return a sentence if the simulation went wrong, and None otherwise."""
        problem, last_good = None, self._frame()
        began = saved = time.perf_counter()
        if not self.recorded:
            self._count()
            self._record(last_good, output)
            self._save(last_good, output)
        for step in range(self.step + 1, self.options.steps + 1):
            if stop.is_set():
                self.interrupted = True
                break
            problem = self._advance()
            if problem is not None:
                break
            self.step, last_good = step, self._frame()
            self._count()
            self._record(last_good, output)
            if self.stop_outside and self.watch.first:
                problem = min(self.watch.first.values())[1]
                break
            if time.perf_counter() - saved > 60 * self.options.save_every:
                self._save(last_good, output)
                saved = time.perf_counter()
        self.seconds = time.perf_counter() - began
        if problem is None:
            self._save(last_good, output)
        else:
            output.last(last_good)
        return problem and (
            f"the simulation stopped at step {step} ({step * self.options.timestep / 1000:.4g} ps) because {problem}"
            f"{self.watch.began()}: try a smaller timestep or a lower temperature, or train on structures like the "
            f"last frames; the trajectory and the last good frame are kept in {output.folder}"
        )

    def _advance(self) -> str | None:
        try:
            self.dynamics.step()
        except InputError as error:  # the neighbour list refuses atoms that coincide or are not at finite positions
            return f"no neighbour list can be built ({error})"
        return self.guard.problem(self.atoms, self._temperature())

    def _temperature(self) -> float:
        return float(2 * self.atoms.get_kinetic_energy() / (units.kB * self.n_free))

    def _count(self) -> None:
        energy = self.atoms.get_potential_energy() + self.atoms.get_kinetic_energy()
        self.averages.add(self._temperature(), energy)

    def _frame(self) -> Atoms:
        """Copy the atoms with energy and forces, because the integrator changes them in place."""
        frame = self.atoms.copy()
        frame.set_constraint(self.fixed)
        results = self.atoms.calc.results
        frame.calc = SinglePointCalculator(frame, energy=results["energy"], forces=results["forces"])
        return frame

    def _record(self, frame: Atoms, output: Output) -> None:
        if self.step % LOOK_EVERY == 0:
            for sentence in self.watch.look(self.atoms, self.step):
                where = f"step {self.step} leaves" if self.step else "the start is outside of"
                output.note(f"{where} the training data: {sentence}")
        if self.step % self.options.thermo_every == 0:
            output.thermo(self._thermo())
        if self.step % self.options.trajectory_every == 0:
            output.frame(frame)
        output.advanced(self.step)

    def _save(self, frame: Atoms, output: Output) -> None:
        sizes = output.sizes()
        output.last(frame)  # before the state, so that all files are complete once the state has all steps
        write_bytes(output.folder / STATE, self._state(sizes).to_bytes())

    def _state(self, sizes: Mapping[str, int]) -> State:
        atoms = self.atoms
        header = {
            "step": self.step,
            "options": asdict(self.options),
            "model": self.model,
            "fingerprint": self.fingerprint,
            "device": str(atoms.calc.potential.device),
            "generator": self.rng.bit_generator.state,
            "integrator": variables_of(self.dynamics),
            "averages": self.averages.to_dict(),
            "watch": self.watch.to_dict(),
            "sizes": dict(sizes),
        }
        return State(
            header=header,
            start=self.start,
            positions=atoms.get_positions(),
            momenta=atoms.get_momenta(),
            cell=atoms.cell.array.copy(),
            listed=atoms.calc.searched_at,
        )

    def _thermo(self) -> Thermo:
        atoms, pressure, axes = self.atoms, None, ()
        if self.in_bulk:
            pressures = -atoms.get_stress(include_ideal_gas=True)[:3] / units.GPa
            pressure = pressures.mean()
            axes = (*pressures, *atoms.cell.lengths()) if self.with_axes else ()
        return Thermo(
            step=self.step,
            time_ps=self.step * self.options.timestep / 1000,
            temperature_K=self._temperature(),
            potential_energy_eV=atoms.get_potential_energy(),
            kinetic_energy_eV=atoms.get_kinetic_energy(),
            total_energy_eV=atoms.get_potential_energy() + atoms.get_kinetic_energy(),
            largest_force_eV_per_A=float(np.linalg.norm(atoms.get_forces(), axis=1).max()),
            pressure_GPa=pressure,
            volume_A3=atoms.get_volume() if self.in_bulk else None,
            axes=axes,
        )

    def summary(self, folder: Path) -> MDSummary:
        """Summarise the steps that were made, those before a resume included."""
        timestep_ps, drift = self.options.timestep / 1000, None
        if self.options.ensemble == "nve" and self.step > 1:
            drift = 1000 * self.averages.slope_of_energy() / (timestep_ps * len(self.atoms))
        speed = (self.step - self.first_step) / self.seconds
        assert self.options.seed is not None  # drawn by run_md
        return MDSummary(
            n_steps=self.step,
            n_atoms=len(self.atoms),
            time_ps=self.step * timestep_ps,
            ensemble=self.options.ensemble,
            mean_temperature=self.averages.mean_temperature(),
            drift=drift,
            steps_per_second=speed,
            ns_per_day=speed * self.options.timestep * NS_PER_DAY,
            n_neighbor_builds=self.atoms.calc.n_neighbor_builds,
            interrupted=self.interrupted,
            folder=folder,
            seed=self.options.seed,
            device=describe_device(self.atoms.calc.potential.device),
            departures=self.watch.first,
            outside=self.watch.n_outside / max(1, self.watch.n_looks),
        )


def _generator(atoms: Atoms, options: MDOptions) -> np.random.Generator:
    """The random numbers of a run, which follow from the seed and the start.

    A run that starts from the last structure of another with the same seed would otherwise repeat its noise, and the
    displacements in both would be correlated.
    """
    start = np.concatenate([atoms.get_positions(), atoms.get_momenta(), atoms.cell.array])
    return np.random.default_rng([options.seed or 0, *hashlib.sha256(start.tobytes()).digest()])
