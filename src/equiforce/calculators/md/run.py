"""Molecular dynamics in one call: runs all steps, records them, stops when it goes wrong, and resumes exactly."""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ase import Atoms

from equiforce.calculators.ase import Calculator
from equiforce.calculators.md.options import MDOptions
from equiforce.calculators.md.output import LAST, THERMO, TRAJECTORY
from equiforce.calculators.md.simulation import OPTIONS, Simulation
from equiforce.calculators.md.start import constraints_in_words, hold_fixed, read_start, refuse_unfit
from equiforce.calculators.md.state import STATE, State, fingerprint, read_state
from equiforce.calculators.md.summary import MDSummary
from equiforce.calculators.soundness import refuse_unsound
from equiforce.calculators.watch import read_ranges
from equiforce.data.write import refuse_file
from equiforce.errors import InputError, UnstableError
from equiforce.machine import describe_device
from equiforce.options import to_lines
from equiforce.potential import Potential
from equiforce.signals import StopRequest, stop_requests
from equiforce.storage.faults import going_on_with
from equiforce.storage.folders import used
from equiforce.terminal import Console, note, own_console, say
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
    on_step: Callable[[int], object] | None = None,
    stop_outside: bool = False,
) -> MDSummary:
    """Run molecular dynamics and write ``trajectory.xyz``, ``thermo.csv`` and ``last.xyz`` into a folder.

    A start with momenta keeps them, apart from the total momentum. Otherwise momenta are drawn from the
    Maxwell-Boltzmann distribution, without total momentum and, for a molecule without a cell, without rotation. Frames
    hold energy (eV), forces (eV/Å) and momenta. The folder also gets ``md.yaml``, the options with the seed, and
    ``state.npz``, from which :func:`resume_md` continues. Ctrl-C, SIGTERM, SIGHUP or SIGUSR1 ends the run after the
    present step, and before the first step if it is still being prepared; it can be resumed in both cases.

    Args:
        model: the path of a model file, or a potential.
        start: atoms, or a file that ASE reads; its last frame is taken.
        options: the options of the simulation.
        folder: the output folder, which is created if it is missing.
        overwrite: whether to replace an earlier run in the folder, which stays until the first state of the new one
            is on the disk.
        device: as in :class:`~equiforce.calculators.ase.Calculator`.
        console: shows the progress and the thermo table; None shows nothing.
        on_step: is called with the number of each step that was made.
        stop_outside: whether the simulation counts as wrong where it leaves the training data that the model file
            tells of, and stops.

    Raises:
        InputError: a file cannot be read or written, the folder holds a run or another process uses it, or the ensemble
            does not fit the atoms.
        UnstableError: the simulation went wrong (then the trajectory is kept up to there, and ``last.xyz`` is the last
            good frame).
    """
    folder, console = Path(folder), console or own_console(quiet=True)
    refuse_file(folder)
    with stop_requests() as stop, used(folder):
        if not overwrite:
            _refuse_earlier(folder)
        atoms, remarks = read_start(start)
        calculator = _calculator(model, device, options)
        reach = calculator.potential.cutoff + options.skin
        refuse_unsound(atoms, start, calculator.potential.species, temperature=options.temperature, cutoff=reach)
        hold_fixed(atoms, options.fixed)
        refuse_unfit(atoms, options)
        drawn = options.seed is None
        options = replace(options, seed=secrets.randbelow(LARGEST_SEED)) if drawn else options
        atoms.calc = calculator
        say(console, f"memory: {atoms.calc.plan(atoms).describe()}")
        say(console, *_described(atoms, options, remarks, drawn=drawn))
        for sentence in calculator.potential.model.config.cautions:
            note(console, sentence)
        ranges = read_ranges(model, console)
        run = Simulation(atoms, options, ranges, _name_of(model), stop_outside=stop_outside)
        return _played(run, folder, {}, console, stop, on_step)


def _refuse_earlier(folder: Path) -> None:
    """Raise InputError if a folder holds a run, which exists as soon as it has a state."""
    earlier = [folder / name for name in (STATE, TRAJECTORY, THERMO, LAST) if (folder / name).exists()]
    if earlier:
        resume = f"continue it with --resume {folder}, " if earlier[0].name == STATE else ""
        raise InputError(f"{earlier[-1]} exists from an earlier run: {resume}name a new folder, or add --overwrite")


def resume_md(
    folder: str | Path,
    model: str | Path | Potential | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    device: str | None = None,
    console: Console | None = None,
    on_step: Callable[[int], object] | None = None,
    stop_outside: bool = False,
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
        on_step: is called with the number of each step that was made.
        stop_outside: as in :func:`run_md`.

    Raises:
        InputError: there is no run in the folder, another process uses it, its files were changed, the model or an
            option is another one, or the run has all its steps.
        UnstableError: the simulation went wrong.
    """
    folder, console = Path(folder), console or own_console(quiet=True)
    read_state(folder)  # before anything is written
    with stop_requests() as stop, used(folder):
        run = _resumed(folder, model, options or {}, device, console, stop_outside=stop_outside)
        return _played(run, folder, read_state(folder).header["sizes"], console, stop, on_step)


def _resumed(
    folder: Path,
    model: str | Path | Potential | None,
    options: Mapping[str, Any],
    device: str | None,
    console: Console,
    *,
    stop_outside: bool,
) -> Simulation:
    """The run in a folder, as it was when its state was saved."""
    state = read_state(folder)
    header = state.header
    if model is None and not header["model"]:
        raise InputError(f"the run in {folder} began with a potential in memory: give the potential or its file")
    wanted = model if model is not None else header["model"]
    kept = _options_of(state, folder, options)
    atoms = state.start
    atoms.calc = _calculator(wanted, device or header["device"], kept)
    if fingerprint(atoms.calc.potential) != header["fingerprint"]:
        raise InputError(
            f"{_name_of(wanted) or 'the potential'} is not the model of the run in {folder}: give the file of that "
            f"model, or start a new run from {folder / LAST}"
        )
    if header["step"] >= kept.steps and header["sizes"][THERMO]:
        raise InputError(
            f"the run in {folder} has made {header['step']} steps already: give a larger number of steps for the whole "
            f"run, such as --steps {2 * max(1, header['step'])}"
        )
    run = Simulation(atoms, kept, read_ranges(wanted, console), _name_of(wanted), stop_outside=stop_outside)
    run.continue_from(state, folder)
    say(console, f"device: {describe_device(atoms.calc.potential.device)}")
    for remark in _remarks(folder, state):
        note(console, remark)
    say(console, f"{folder} continues after step {run.step} of {kept.steps}")
    return run


def _remarks(folder: Path, state: State) -> Iterator[str]:
    """What the user should know about the files of a run that continues."""
    if not state.has_checksum:
        yield f"{folder / STATE} is of an earlier version and has no checksum; the next one has"
    path = folder / OPTIONS
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    given, kept = (
        [line.partition("  #")[0] for line in lines.splitlines()] for lines in (text, to_lines(state.options))
    )
    if path.exists() and given != kept:
        missing, other = ([one for one in a if one not in b] for a, b in ((kept, given), (given, kept)))
        yield (
            f"{path} was changed since the run began, which goes on as it was saved: with "
            f"{', '.join(missing) or 'all other options'}" + (f" and not with {', '.join(other)}" if other else "")
        )


def _calculator(model: str | Path | Potential, device: str | None, options: MDOptions) -> Calculator:
    always_stress = options.ensemble == "npt"
    return Calculator(model, device, options.skin, always_stress, max_memory=options.max_memory)


def _name_of(model: str | Path | Potential) -> str:
    """The absolute path of a model file; empty for a potential."""
    return "" if isinstance(model, Potential) else str(Path(model).resolve())


def _options_of(state: State, folder: Path, given: Mapping[str, Any]) -> MDOptions:
    """The options of a run that continues, with a larger number of steps if the user gave one."""
    kept = state.options
    for name, value in given.items():
        before = getattr(kept, name)
        if name != "steps" and value != before:
            raise InputError(
                f"{name} is {before} in the run in {folder}, and a resume cannot change it to {value}: leave it out, "
                f"or start a new run from {folder / LAST}"
            )
    return replace(kept, steps=given.get("steps", kept.steps))


def _described(atoms: Atoms, options: MDOptions, remarks: Sequence[str], *, drawn: bool) -> list[str]:
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
    return lines


def _played(
    run: Simulation,
    folder: Path,
    sizes: Mapping[str, int],
    console: Console,
    stop: StopRequest,
    on_step: Callable[[int], object] | None,
) -> MDSummary:
    """Play a run from its present step to its end, with files of the given sizes."""
    output = run.output(folder, console, sizes)
    output.on_step = on_step
    run.begin(folder, sizes)

    def calculate() -> None:
        if not stop.is_set():
            run.atoms.calc.calculate(run.atoms)

    with going_on_with(f"equiforce md --resume {folder}"), fastest_threads(calculate), output:
        problem = run.play(output, stop)
    if problem is not None:
        raise UnstableError(problem)
    return run.summary(folder)
