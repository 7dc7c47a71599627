"""Writes a LAMMPS input and its data file for a model, a structure and the options of a simulation."""

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from unicodedata import category

import numpy as np
from jaxtyping import Int

from equiforce.calculators.lammps.names import QUOTES
from equiforce.calculators.lammps.system import System, data_lines, system_of
from equiforce.calculators.md.options import MDOptions
from equiforce.calculators.md.start import hold_fixed, read_start, refuse_unfit
from equiforce.calculators.soundness import refuse_unsound
from equiforce.data.write import refuse_file
from equiforce.errors import InputError
from equiforce.model_file import cautions_of, path_of, read_header
from equiforce.options import default_of
from equiforce.storage.whole import write_together
from equiforce.terminal import one_line

USED_BY = {  # the ensembles that use an option, for options that not all ensembles use
    "friction": ("langevin",),
    "tdamp": ("bussi", "npt"),
    "pressure": ("npt",),
    "pdamp": ("npt",),
    "coupling": (),
    "save_every": (),
    "stop_on_escape": (),
    "max_memory": (),
}
ENSEMBLES = {
    "nve": "constant energy (nve)",
    "langevin": "constant temperature by friction and random forces (langevin)",
    "bussi": "constant temperature by stochastic rescaling of velocities (bussi)",
    "npt": "constant temperature and pressure (npt)",
}
INPUT_SUFFIXES = (".lammps", ".lmp", ".in", ".inp", ".txt")
FS_PER_PS = 1000.0
BAR_PER_GPA = 1e4
LARGEST_SEED = 400_000_000  # LAMMPS allows up to 900,000,000, and a continued run adds its first step to the seed
FRAMES_PER_RESTART = 10


@dataclass(frozen=True, kw_only=True)
class LammpsInput:
    """The files that were written, and the system in them."""

    input: Path
    data: Path
    system: System
    remarks: tuple[str, ...]  # what the user should know about the start structure

    def summary(self) -> str:
        """The text for the terminal: the start, the files, their contents, and the command that runs them."""
        system, folder = self.system, self.input.parent
        change_folder = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
        periodic = f"periodic in {', '.join(system.periodic)}" if system.periodic else "not periodic"
        velocities = "velocities drawn by LAMMPS" if system.velocities is None else "velocities of the structure"
        fixed = f", {len(system.fixed)} of them fixed" if len(system.fixed) else ""
        atoms = f"{len(system.types)} atoms{fixed}, types {' '.join(system.symbols)}"
        return "".join(f"{remark}\n" for remark in self.remarks) + (
            f"written: {one_line(self.input)} and {one_line(self.data)} ({atoms}, {periodic}, {velocities})\n"
            f"run it: {change_folder}mpirun -np 2 lmp -in {shlex.quote(self.input.name)}"
        )


def prepare(
    model: str | Path, start: str | Path, output: str | Path, options: MDOptions, *, overwrite: bool = False
) -> LammpsInput:
    """Write a LAMMPS input and, beside it, the data file that it reads.

    A start with momenta keeps them; otherwise LAMMPS draws velocities. Atoms in a ``FixAtoms`` constraint do not move.
    The axes are rotated to LAMMPS' convention, and the lattice stays the same.

    Args:
        model: the path of a model file or of a run folder; only its header is read.
        start: a file that ASE reads; its last frame is taken.
        output: the path of the input; the data file lies beside it and is named after it.
        options: the options of the simulation.
        overwrite: whether existing files may be replaced.

    Returns:
        The paths of the files, and the system in them.

    Raises:
        InputError: a file cannot be read or exists already, the model does not know an element, the ensemble or an
            option does not fit, or LAMMPS cannot represent the structure.
    """
    model, start, output = path_of(model), Path(start), Path(output)
    _refuse_unused(options)
    described = read_header(model)["potential"]
    species, cautions = described["species"], cautions_of(described)
    atoms, remarks = read_start(start)
    refuse_unsound(atoms, start, species, temperature=options.temperature)
    hold_fixed(atoms, options.fixed)
    refuse_unfit(atoms, options)
    system = system_of(atoms, species, str(start), rotates=options.ensemble == "langevin")
    files = _Files(output, model)
    files.refuse_taken(start, overwrite)
    texts = {files.data: data_lines(system, start.name), output: _input_lines(system, options, files)}
    # names of files are written as the system has them, which is UTF-8 as a rule
    write_together({path: os.fsencode("\n".join(lines) + "\n") for path, lines in texts.items()})
    return LammpsInput(input=output, data=files.data, system=system, remarks=(*cautions, *remarks))


def _refuse_unused(options: MDOptions) -> None:
    for entry in fields(options):
        ensembles = USED_BY.get(entry.name, (options.ensemble,))
        if options.ensemble not in ensembles and getattr(options, entry.name) != default_of(entry):
            where = f"unless the ensemble is {' or '.join(ensembles)}" if ensembles else "in LAMMPS"
            raise InputError(f"the option {entry.name} has no effect {where}: leave it out")


class _Files:
    """The paths of the files of a simulation, as LAMMPS reads them when it runs in the folder of its input."""

    def __init__(self, output: Path, model: Path):
        if output.is_dir() or not output.name:
            raise InputError(f"the output {output} is a folder: name a file in it, such as {output / 'in.lammps'}")
        refuse_file(output.parent)
        self.output, self.model = output, model
        stem = output.stem if output.suffix in INPUT_SUFFIXES else output.name
        self.stem = re.sub(r"[^\w.+-]", "_", stem, flags=re.ASCII)  # names in an if command of LAMMPS cannot be quoted
        self.data = output.with_name(f"{self.stem}.data")
        folder = os.path.realpath(output.parent)
        self.model_from_input = os.path.relpath(os.path.join(os.path.realpath(model.parent), model.name), folder)
        for name in (self.model_from_input, output.name):
            if any(character in QUOTES or category(character) == "Cc" for character in name):
                raise InputError(
                    f"LAMMPS cannot read the name {name!r}: rename it without double or typographic quotes and control "
                    "characters"
                )

    def refuse_taken(self, start: Path, overwrite: bool) -> None:
        """Raise InputError if the output would replace a file that must stay."""
        for path in (self.output, self.data):
            if path.exists() and any(source.exists() and path.samefile(source) for source in (start, self.model)):
                raise InputError(f"{path} is the start structure or the model of the simulation: name another output")
            if path.exists() and not overwrite:
                raise InputError(f"{path} exists already: name another output, or add --overwrite")


def _input_lines(system: System, options: MDOptions, files: _Files) -> Iterator[str]:
    command, restart = f"mpirun -np 2 lmp -in {shlex.quote(files.output.name)}", f"{files.stem}.restart"
    seeds = np.random.default_rng(options.seed).integers(1, LARGEST_SEED, size=2).tolist()
    periodic, time = bool(system.pbc.all()), _number(options.steps * options.timestep / FS_PER_PS)
    yield from (
        f"# Molecular dynamics of {system.formula}, written by equiforce.",
        f"# Run it:   {command}",
        f"# Continue: {command} -var restart {restart}.1  (or .2, whichever is newer)",
        f"# Extend:   {command} -var restart {restart}.end -var steps {2 * max(1, options.steps)}",
        "# Units:    time ps, length Angstrom, energy eV, temperature K, pressure bar, mass u",
        "",
        f"variable steps index {options.steps}  # of the whole run; {time} ps",
        f"variable temperature index {_number(options.temperature)}  # K",
        "",
        "units metal",
        "atom_style atomic",
        "newton on",
        f"boundary {' '.join('p' if repeats else 'm' for repeats in system.pbc)}"
        + ("" if periodic else "  # m: not periodic, and the box grows if atoms leave it"),
        "",
        "# A continued run writes a new log and a new trajectory, named after the step where it starts.",
        'if "$(is_defined(variable,restart))" then &',
        f'  "read_restart ${{restart}}" "variable run string {files.stem}.from.$(step)" &',
        f'else "read_data {files.data.name}" "variable run string {files.stem}"',
        "log ${run}.log",
        "",
        "# The potential; atom types 1, 2, ... are these elements",
        "pair_style equiforce",
        f'pair_coeff * * "{files.model_from_input}" {" ".join(system.symbols)}',
        f"neighbor {_number(options.skin)} bin  # Angstrom beyond the cutoff",
        "neigh_modify every 1 delay 0 check yes",
        "",
        "# Atoms that move, degrees of freedom of the temperature, and initial velocities",
        *_start(system, seeds[0]),
        f"# The dynamics: {ENSEMBLES[options.ensemble]}",
        *_integrator(system, options, seeds[1]),
        "",
        "# Output",
        f"thermo {options.thermo_every}",
        "thermo_style custom step time temp pe ke etotal"
        + (" press vol density pxx pyy pzz pxy pxz pyz" if periodic else ""),
        "thermo_modify flush yes format float %-14.10g",
        "",
        f"dump trajectory all custom {options.trajectory_every} ${{run}}.lammpstrj id element xu yu zu vx vy vz",
        f"dump_modify trajectory element {' '.join(system.symbols)} sort id format float %.10g",
        f"restart {FRAMES_PER_RESTART * options.trajectory_every} {restart}.1 {restart}.2",
        "",
        "run ${steps} upto",
        f"write_restart {restart}.end",
    )


def _start(system: System, seed: int) -> Iterator[str]:
    """Yield the lines for groups, the degrees of freedom of the temperature, and initial velocities."""
    if len(system.fixed):
        yield f"group fixed id {_ranges(system.fixed + 1)}  # these atoms do not move"
        yield "group mobile subtract all fixed"
        yield "compute mobile_temp mobile temp"
        yield "compute_modify mobile_temp extra/dof 0"
    if system.n_at_rest != 3:
        yield f"compute_modify thermo_temp extra/dof {system.n_at_rest}  # degrees of freedom at rest"
    if system.velocities is None:
        mom, rot = ("yes" if still else "no" for still in (system.without_drift, system.without_rotation))
        yield 'if "!$(is_defined(variable,restart))" then &'
        yield (
            f'  "velocity {_group(system)} create ${{temperature}} {seed} mom {mom} rot {rot} dist gaussian '
            f'temp {_temperature(system)}"'
        )
    else:
        yield "# (the data file holds the velocities)"
    yield ""


def _integrator(system: System, options: MDOptions, seed: int) -> Iterator[str]:
    group, heat = _group(system), "${temperature} ${temperature}"
    tdamp, pdamp = _number(options.tdamp / FS_PER_PS), _number(options.pdamp / FS_PER_PS)
    yield f"timestep {_number(options.timestep / FS_PER_PS)}  # ps"
    if options.ensemble == "npt":
        bar = _number(options.pressure * BAR_PER_GPA)
        yield f"fix integrate {group} npt temp {heat} {tdamp} iso {bar} {bar} {pdamp}  # K, ps, bar, ps"
        thermostat = "integrate"
    else:
        yield f"fix integrate {group} nve"
        thermostat = "thermostat"
    if options.ensemble == "langevin":
        damp, zero = _number(1 / options.friction), " zero yes" if system.without_drift else ""
        yield f"fix thermostat {group} langevin {heat} {damp} $({seed}+step){zero}  # K, ps, seed"
    elif options.ensemble == "bussi":
        yield f"fix thermostat {group} temp/csvr {heat} {tdamp} {seed}  # K, ps, seed"
    if options.ensemble in {"bussi", "npt"} and (system.n_at_rest != 3 or len(system.fixed)):
        yield f"fix_modify {thermostat} temp {_temperature(system)}"


def _group(system: System) -> str:
    return "mobile" if len(system.fixed) else "all"


def _temperature(system: System) -> str:
    return "mobile_temp" if len(system.fixed) else "thermo_temp"


def _number(value: float) -> str:
    return f"{value:.12g}"


def _ranges(numbers: Int[np.ndarray, " numbers"]) -> str:
    """Write sorted numbers as LAMMPS does: 1:4 7 9:12."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return " ".join(f"{run[0]}:{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
