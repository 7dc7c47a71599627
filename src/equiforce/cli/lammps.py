"""``equiforce lammps``."""

from pathlib import Path
from typing import Annotated

import typer

from equiforce.cli.arguments import (
    AnyOther,
    Ensemble,
    Friction,
    Pressure,
    Seed,
    Steps,
    Temperature,
    ThermoEvery,
    Timestep,
    TrajectoryEvery,
    given,
    with_sets,
)
from equiforce.cli.output import AsJson, messages, print_object
from equiforce.errors import InputError
from equiforce.terminal import say, show, working


def lammps(
    model: Annotated[Path | None, typer.Argument(metavar="MODEL", help="A run folder, or a model file.")] = None,
    start: Annotated[
        Path | None,
        typer.Argument(metavar="STRUCTURE", help="The start structure; the last one of a file with several."),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The LAMMPS input; the data file is named after it.")
    ] = Path("in.lammps"),
    temperature: Temperature = None,
    steps: Steps = None,
    timestep: Timestep = None,
    ensemble: Ensemble = None,
    pressure: Pressure = None,
    friction: Friction = None,
    trajectory_every: TrajectoryEvery = None,
    thermo_every: ThermoEvery = None,
    seed: Seed = None,
    sets: AnyOther = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    doctor: Annotated[
        bool, typer.Option("--doctor", help="Check LAMMPS, MPI and the pair style, and run one step.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a LAMMPS input and its data file for a model and a structure, or check the installation."""
    if doctor:
        if start is not None:
            raise InputError(f"--doctor runs the reference structure of the model file and no other: leave out {start}")
        _examine(model, as_json)
        return
    from equiforce.calculators.lammps.prepare import prepare
    from equiforce.calculators.md import MDOptions
    from equiforce.option_values import read_options

    if model is None or start is None:
        raise InputError("name a model file and a start structure: equiforce lammps MODEL STRUCTURE -o in.lammps")
    flags = given(
        temperature=temperature,
        steps=steps,
        timestep=timestep,
        ensemble=ensemble,
        pressure=pressure,
        friction=friction,
        trajectory_every=trajectory_every,
        thermo_every=thermo_every,
        seed=seed,
    )
    options = read_options(MDOptions, with_sets(flags, sets, "lammps"), "lammps")
    prepared = prepare(model, start, output, options, overwrite=overwrite)
    say(messages(as_json), *prepared.summary().split("\n"))
    if as_json:
        print_object({"input": prepared.input, "data": prepared.data, "n_atoms": len(prepared.system.types)})


def _examine(model: Path | None, as_json: bool) -> None:
    from equiforce.calculators.lammps.doctor import examine, table

    console = messages(as_json)
    with working(console, "checking LAMMPS ..."):
        findings = list(examine(model))
    show(console, table(findings))
    if as_json:
        print_object({"ok": findings[-1].ok, "checks": [finding._asdict() for finding in findings]})
    if not findings[-1].ok:
        raise typer.Exit(1)
