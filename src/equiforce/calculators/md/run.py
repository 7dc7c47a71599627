"""Molecular dynamics in one call: runs all steps, records them, stops when it goes wrong, and resumes exactly."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from ase import Atoms
from rich.console import Console

from equiforce.calculators.ase import Calculator
from equiforce.calculators.md.options import MDOptions
from equiforce.calculators.md.output import LAST, THERMO, TRAJECTORY, Output
from equiforce.calculators.md.simulation import Simulation
from equiforce.calculators.md.start import constraints_in_words, hold_fixed, read_start, refuse_unfit
from equiforce.calculators.md.state import STATE, fingerprint, read_state
from equiforce.calculators.md.summary import MDSummary
from equiforce.calculators.watch import read_ranges
from equiforce.data.write import refuse_file
from equiforce.errors import InputError
from equiforce.machine import describe_device
from equiforce.potential import Potential
from equiforce.threads import fastest_threads

LARGEST_SEED = 2**31


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

    A start with momenta keeps them, apart from the total momentum. Otherwise momenta are drawn from the
    Maxwell-Boltzmann distribution, without total momentum and, for a molecule without a cell, without rotation. Frames
    hold energy (eV), forces (eV/Å) and momenta. The folder also gets ``md.yaml``, the options with the seed, and
    ``state.npz``, from which :func:`resume_md` continues. Ctrl-C or SIGTERM ends the run after the present step.

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
    refuse_file(folder)
    earlier = [folder / name for name in (TRAJECTORY, THERMO, LAST, STATE) if (folder / name).exists()]
    if earlier and not overwrite:
        raise InputError(
            f"{earlier[0]} exists from an earlier run: continue it with --resume {folder}, name a new folder, or add "
            "--overwrite"
        )
    console = console or Console(quiet=True)
    atoms, remarks = read_start(start)
    hold_fixed(atoms, options.fixed)
    refuse_unfit(atoms, options)
    drawn = options.seed is None
    options = replace(options, seed=secrets.randbelow(LARGEST_SEED)) if drawn else options
    atoms.calc = _calculator(model, device, options)
    _say(console, f"memory: {atoms.calc.plan(atoms).describe()}")
    _say(console, _described(atoms, options, remarks, drawn=drawn))
    # The start is checked before Output writes any file, because it may be a file of an earlier run there.
    run = Simulation(atoms, options, read_ranges(model, console), _name_of(model))
    output = run.output(folder, console)
    for path in earlier:
        path.unlink()
    return _played(run, output)


def resume_md(
    folder: str | Path,
    model: str | Path | Potential | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    device: str | None = None,
    console: Console | None = None,
) -> MDSummary:
    """Continue the run in a folder as if it had never stopped, from the state that was saved last.

    In the same precision on the same machine, the trajectory is the same as that of a run without a stop. Frames after
    the saved state are cut off and computed again.

    Args:
        folder: the folder of the run.
        model: the model of the run; None takes the file from which it was started.
        options: the options that the user gave again. ``steps`` is the number of steps of the whole run and may be
            raised; all others must be those of the run.
        device: as in :class:`~equiforce.calculators.ase.Calculator`; None takes that of the run.
        console: shows the progress and the thermo table; None shows nothing.

    Raises:
        InputError: there is no run in the folder, its files were changed, the model or an option is another one, the
            run has all its steps, or the simulation went wrong.
    """
    folder, console = Path(folder), console or Console(quiet=True)
    state = read_state(folder)
    header = state.header
    if model is None and not header["model"]:
        raise InputError(f"the run in {folder} began with a potential in memory: give the potential or its file")
    wanted = model if model is not None else header["model"]
    kept = _options_of(header, folder, options or {})
    atoms = state.start
    atoms.calc = _calculator(wanted, device or header["device"], kept)
    if fingerprint(atoms.calc.potential) != header["fingerprint"]:
        raise InputError(
            f"{_name_of(wanted) or 'the potential'} is not the model of the run in {folder}: give the file of that "
            f"model, or start a new run from {folder / LAST}"
        )
    if header["step"] >= kept.steps:
        raise InputError(
            f"the run in {folder} has made {header['step']} steps already: give a larger number of steps for the whole "
            f"run, such as --steps {2 * max(1, header['step'])}"
        )
    run = Simulation(atoms, kept, read_ranges(wanted, console), _name_of(wanted))
    run.continue_from(state)
    _say(console, f"device: {describe_device(atoms.calc.potential.device)}")
    _say(console, f"{folder} continues after step {run.step} of {kept.steps}")
    return _played(run, run.output(folder, console, header["sizes"]))


def _calculator(model: str | Path | Potential, device: str | None, options: MDOptions) -> Calculator:
    always_stress = options.ensemble == "npt"
    return Calculator(model, device, options.skin, always_stress, max_memory=options.max_memory)


def _name_of(model: str | Path | Potential) -> str:
    """The absolute path of a model file; empty for a potential."""
    return "" if isinstance(model, Potential) else str(Path(model).resolve())


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _options_of(header: Mapping[str, Any], folder: Path, given: Mapping[str, Any]) -> MDOptions:
    """The options of a run that continues, with a larger number of steps if the user gave one."""
    kept = MDOptions(**{entry.name: header["options"][entry.name] for entry in fields(MDOptions)})
    for name, value in given.items():
        before = getattr(kept, name)
        if name != "steps" and value != before:
            raise InputError(
                f"{name} is {before} in the run in {folder}, and a resume cannot change it to {value}: leave it out, "
                f"or start a new run from {folder / LAST}"
            )
    return replace(kept, steps=given.get("steps", kept.steps))


def _described(atoms: Atoms, options: MDOptions, remarks: Sequence[str], *, drawn: bool) -> str:
    """What is simulated, from where and how, in a few lines."""
    lines = [
        f"device: {describe_device(atoms.calc.potential.device)}",
        f"ensemble: {options.ensemble}, {options.temperature:g} K"
        + (f", {options.pressure:g} GPa, {options.coupling}" if options.ensemble == "npt" else ""),
        f"seed: {options.seed}" + (" (drawn; the same --seed repeats the run)" if drawn else ""),
        f"velocities: {'those of the start' if atoms.get_momenta().any() else 'drawn at the temperature'}",
    ]
    lines += remarks
    if held := constraints_in_words(atoms):
        lines.append(f"held fixed: {held}")
    return "\n".join(lines)


def _played(run: Simulation, output: Output) -> MDSummary:
    with fastest_threads(partial(run.atoms.calc.calculate, run.atoms)), output:
        problem = run.play(output)
    if problem is not None:
        raise InputError(problem)
    return run.summary(output.folder)
