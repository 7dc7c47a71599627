"""Relaxation to a minimum of the energy in one call: atoms, or atoms and cell, with ASE's optimizers."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE, LBFGS

from equiforce.calculators.ase import Calculator
from equiforce.calculators.guard import Guard
from equiforce.calculators.md.start import constraints_in_words, hold_fixed, read_start
from equiforce.calculators.relax_options import RelaxOptions
from equiforce.calculators.soundness import refuse_unsound
from equiforce.calculators.watch import Watch, read_ranges
from equiforce.data.write import extxyz, refuse_file
from equiforce.errors import InputError
from equiforce.machine import describe_device
from equiforce.potential import Potential
from equiforce.signals import StopRequest, stop_requests
from equiforce.storage.append import Growing
from equiforce.storage.faults import going_on_with
from equiforce.storage.folders import used
from equiforce.storage.whole import write_text, write_together
from equiforce.terminal import Console, Table, note, own_console, say

RELAXED, PATH = "relaxed.xyz", "path.xyz"
MASKS = {"anisotropic": [1, 1, 1, 0, 0, 0], "in-plane": [1, 1, 0, 0, 0, 1]}  # of the strains, in Voigt's order
SHOWN_EVERY = 10  # steps between lines on the terminal
SAVED_EVERY = 1.0  # s between structures that are waited for until they are on the disk, which takes milliseconds


@dataclass(frozen=True, kw_only=True)
class RelaxSummary:
    """The end of a relaxation."""

    converged: bool
    interrupted: bool
    n_steps: int
    n_atoms: int
    energy: float  # eV
    lowered_by: float  # eV, below the energy of the start
    largest_force: float  # eV/Å
    pressure: float | None  # GPa; None without a fully periodic cell
    volume: float | None  # Å³
    folder: Path
    departures: Mapping[str, tuple[int, str]]  # from the training data: the first step and a sentence, by kind

    def table(self) -> Table:
        """The summary as a table with units, for the terminal."""
        title = "converged" if self.converged else "interrupted" if self.interrupted else "not converged"
        table = Table(title, show_header=False, title_style="" if self.converged else "yellow")
        table.add_row("steps", f"{self.n_steps}, {self.n_atoms} atoms")
        side = "below" if self.lowered_by >= 0 else "above"  # under pressure the enthalpy falls, the energy may rise
        table.add_row("energy", f"{self.energy:.6f} eV, {abs(self.lowered_by):.6f} eV {side} the start")
        table.add_row("largest force", f"{self.largest_force:.4g} eV/Å")
        if self.volume is not None:
            table.add_row("pressure, volume", f"{self.pressure:.4g} GPa, {self.volume:.4f} Å³")
        for step, sentence in sorted(self.departures.values()):
            where = f"at step {step}" if step else "at the start"
            table.add_row(f"outside of the training data {where}", sentence, style="yellow")
        table.add_row("written", ", ".join(str(self.folder / name) for name in (RELAXED, PATH)))
        return table

    def as_dict(self) -> dict[str, Any]:
        """The summary as plain types for JSON."""
        plain = asdict(self) | {"folder": str(self.folder)}
        plain["departures"] = [
            {"step": step, "what": what, "sentence": sentence} for what, (step, sentence) in self.departures.items()
        ]
        return plain


def relax(
    model: str | Path | Potential,
    start: Atoms | str | Path,
    options: RelaxOptions,
    folder: str | Path,
    *,
    overwrite: bool = False,
    device: str | None = None,
    console: Console | None = None,
) -> RelaxSummary:
    """Relax atoms, or atoms and cell, and write ``relaxed.xyz`` and all steps in ``path.xyz`` into a folder.

    Symmetry that the start has is kept up to rounding, because the forces of an equivariant model have it too. Ctrl-C,
    SIGTERM, SIGHUP or SIGUSR1 ends the relaxation after the present step. After a kill, start from ``relaxed.xyz``.

    Args:
        model: the path of a model file, or a potential.
        start: atoms, or a file that ASE reads; its last frame is taken. Its constraints are kept.
        options: the options of the relaxation.
        folder: the output folder, which is created if it is missing.
        overwrite: whether to replace an earlier relaxation in the folder, which stays until the new one has begun.
        device: as in :class:`~equiforce.calculators.ase.Calculator`.
        console: shows the progress; None shows nothing.

    Raises:
        InputError: a file cannot be read or written, the folder holds a relaxation or another process uses it, the cell
            cannot relax, or the relaxation went wrong (then ``path.xyz`` is kept up to there).
    """
    folder = Path(folder)
    refuse_file(folder)
    with stop_requests() as stop, used(folder):
        if not overwrite and (earlier := [folder / name for name in (RELAXED, PATH) if (folder / name).exists()]):
            raise InputError(
                f"{earlier[0]} exists from an earlier relaxation: name a new folder, or add --overwrite; to go on with "
                f"that relaxation, start from {folder / RELAXED}"
            )
        return _relaxed(model, start, options, folder, device, console or own_console(quiet=True), stop)


def _relaxed(
    model: str | Path | Potential,
    start: Atoms | str | Path,
    options: RelaxOptions,
    folder: Path,
    device: str | None,
    console: Console,
    stop: StopRequest,
) -> RelaxSummary:
    atoms, remarks = read_start(start)
    with_cell = options.cell != "fixed"
    calculator = Calculator(model, device, always_stress=with_cell, max_memory=options.max_memory)
    refuse_unsound(atoms, start, calculator.potential.species, cutoff=calculator.potential.cutoff + calculator.skin)
    if atoms.has("momenta"):
        del atoms.arrays["momenta"]
        remarks = [*remarks, "velocities of the start: left out, because a relaxed structure has none"]
    hold_fixed(atoms, options.fixed)
    _refuse_unfit(atoms, options)
    atoms.calc = calculator
    held = constraints_in_words(atoms)
    lines = [
        f"device: {describe_device(atoms.calc.potential.device)}",
        *remarks,
        *([f"held fixed: {held}"] if held else []),
    ]
    say(console, *lines)
    for sentence in calculator.potential.model.config.cautions:
        note(console, sentence)
    relaxation = _Relaxation(atoms, options, model, console)
    try:
        problem = relaxation.play(folder, stop)
    except InputError:
        if not relaxation.has_files:
            raise
        name = "MODEL" if isinstance(model, Potential) else model
        with going_on_with(f"equiforce relax {name} {folder / RELAXED} (the present structure), with a new folder"):
            raise
    if problem is not None:
        raise InputError(problem)
    return relaxation.summary(folder)


def _refuse_unfit(atoms: Atoms, options: RelaxOptions) -> None:
    needed = 2 if options.cell == "in-plane" else 3
    if options.cell != "fixed" and (atoms.cell.rank < 3 or not atoms.pbc[:needed].all()):
        raise InputError(
            f"cell={options.cell} needs three cell vectors that are periodic in {'x and y' if needed == 2 else 'all'} "
            "directions: leave it out, or give the start structure such a cell"
        )
    if options.cell == "fixed" and atoms.get_number_of_degrees_of_freedom() <= 0:
        raise InputError("no atom of the start structure can move: hold fewer atoms fixed")


class _Relaxation:
    """A running relaxation: the atoms, the optimizer, the guard and the watch."""

    def __init__(self, atoms: Atoms, options: RelaxOptions, model: str | Path | Potential, console: Console):
        self.atoms, self.options, self.console = atoms, options, console
        self.n_steps, self.converged, self.interrupted = 0, False, False
        self.has_files = False  # of this relaxation
        self.first_energy = atoms.get_potential_energy()
        self.guard = Guard(atoms, 0.0, stop_on_escape=True)
        self.watch = Watch(atoms, read_ranges(model, console))
        problem = self.guard.problem(atoms, 0.0)
        if problem is not None:
            raise InputError(f"the start structure cannot be relaxed because {problem}: check that lengths are in Å")
        self.in_bulk = bool(atoms.pbc.all() and atoms.cell.rank == 3)

    def play(self, folder: Path, stop: StopRequest) -> str | None:
        """Make all steps; return a sentence if the relaxation went wrong, and None otherwise."""
        self._line(f"{'step':>6} {'energy':>16} {'max |F|':>10}" + (f" {'pressure':>10}" if self.in_bulk else ""))
        self._line(f"{'':>6} {'eV':>16} {'eV/Å':>10}" + (f" {'GPa':>10}" if self.in_bulk else ""))
        with ExitStack() as stack:
            path: Growing | None = None
            text = saved = ""
            for step, found in enumerate(self._steps()):
                problem = found if isinstance(found, str) else self.guard.problem(self.atoms, 0.0)
                if problem is not None:
                    break
                self.n_steps, self.converged = step, found is True
                self.interrupted = stop.is_set() and not self.converged
                text = self._frame()
                if path is None:  # the files of an earlier relaxation stay until both new ones are complete
                    write_together({folder / RELAXED: text.encode(), folder / PATH: text.encode()})
                    self.has_files = True
                    path, saved, saved_at = stack.enter_context(Growing(folder / PATH)), text, time.perf_counter()
                else:
                    path.append(text)
                    if time.perf_counter() - saved_at > SAVED_EVERY:
                        write_text(folder / RELAXED, text)
                        saved, saved_at = text, time.perf_counter()
                self._show_progress()
                if self.interrupted:
                    break
        if text != saved:
            write_text(folder / RELAXED, text)
        if problem is not None:
            return self._went_wrong(step, problem, folder)
        if self.n_steps % SHOWN_EVERY:
            self._show()
        return None

    def _steps(self) -> Iterator[bool | str]:
        """Make the steps; yield whether each, from the start on, is converged, or why there is no further one."""
        target: Any = self.atoms
        if self.options.cell != "fixed":
            pressure, mask = self.options.pressure * units.GPa, MASKS.get(self.options.cell)
            isotropic = self.options.cell == "isotropic"
            target = FrechetCellFilter(self.atoms, mask, hydrostatic_strain=isotropic, scalar_pressure=pressure)
        optimizer = {"lbfgs": LBFGS, "fire": FIRE}[self.options.optimizer](target, logfile=None)
        try:
            for converged in optimizer.irun(self.options.fmax, self.options.steps):
                yield bool(converged)
        except InputError as error:  # the neighbour list refuses atoms that coincide or are not at finite positions
            yield f"no neighbour list can be built ({error})"

    def _frame(self) -> str:
        frame = self.atoms.copy()
        frame.calc = SinglePointCalculator(frame, **self._results())
        return extxyz(frame)

    def _show_progress(self) -> None:
        for sentence in self.watch.look(self.atoms, self.n_steps):
            note(self.console, f"step {self.n_steps} is outside of the training data: {sentence}")
        if self.n_steps % SHOWN_EVERY == 0:
            self._show()

    def _results(self) -> dict[str, Any]:
        names = ("energy", "forces", "stress")
        return {name: self.atoms.calc.results[name] for name in names if name in self.atoms.calc.results}

    def _show(self) -> None:
        pressure = f" {self._pressure():10.4f}" if self.in_bulk else ""
        energy = self.atoms.get_potential_energy()
        self._line(f"{self.n_steps:6d} {energy:16.6f} {self._largest_force():10.4f}{pressure}")

    def _line(self, text: str) -> None:
        say(self.console, text)

    def _largest_force(self) -> float:
        return float(np.linalg.norm(self.atoms.get_forces(), axis=1).max())

    def _pressure(self) -> float:
        return float(-self.atoms.get_stress()[:3].mean() / units.GPa)

    def _went_wrong(self, step: int, problem: str, folder: Path) -> str:
        return (
            f"the relaxation stopped at step {step} because {problem}{self.watch.began()}: try optimizer=fire, start "
            f"closer to a minimum, or train on structures like the last frames; the path is kept in {folder / PATH}"
        )

    def summary(self, folder: Path) -> RelaxSummary:
        """Summarise the steps that were made."""
        energy = self.atoms.get_potential_energy()
        return RelaxSummary(
            converged=self.converged,
            interrupted=self.interrupted,
            n_steps=self.n_steps,
            n_atoms=len(self.atoms),
            energy=energy,
            lowered_by=self.first_energy - energy,
            largest_force=self._largest_force(),
            pressure=self._pressure() if self.in_bulk else None,
            volume=self.atoms.get_volume() if self.in_bulk else None,
            folder=folder,
            departures=self.watch.first,
        )
