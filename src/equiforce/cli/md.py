"""``equiforce md``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from equiforce.cli.arguments import (
    INTERRUPTED,
    AnyOther,
    Device,
    Ensemble,
    Friction,
    Model,
    Pressure,
    Seed,
    Steps,
    Temperature,
    ThermoEvery,
    Timestep,
    TrajectoryEvery,
    given,
    parsed,
)


def md(
    model: Model,
    start: Annotated[Path, typer.Argument(help="The start structure; the last one of a file with several.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A new folder; md-NAME by default.")] = None,
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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in the folder.")] = False,
    device: Device = None,
) -> None:
    """Run molecular dynamics with a model."""
    from equiforce.calculators.md import MDOptions, run_md
    from equiforce.config import read_options

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
    options = read_options(MDOptions, flags | parsed(sets), "md")
    folder = output or Path(f"md-{start.stem}")
    summary = run_md(model, start, options, folder, overwrite=overwrite, device=device, console=Console())
    Console().print(summary.table())
    if summary.interrupted:
        raise typer.Exit(INTERRUPTED)
