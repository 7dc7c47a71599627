"""Arguments and options that several commands share, and their conversion to the options of the configuration."""

from pathlib import Path
from typing import Annotated, Any

import typer

from equiforce.errors import InputError

INTERRUPTED = 130  # the exit status of a program that Ctrl-C stopped

Sets = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.OPTION=VALUE", help="Override an option.")]
TrainingDevice = Annotated[str | None, typer.Option("--device", help="cpu or cuda; by default a GPU if there is one.")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; the CPU by default, also if there is a GPU.")]
Model = Annotated[Path, typer.Argument(help="A run folder, or a model file such as RUN/model.eqf.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing results.")]
EnergyKey = Annotated[str | None, typer.Option(help="Key of the energies; by default the usual names are tried.")]
ForcesKey = Annotated[str | None, typer.Option(help="Key of the forces.")]
StressKey = Annotated[str | None, typer.Option(help="Key of the stress (positive under tension).")]
VirialKey = Annotated[str | None, typer.Option(help="Key of the virial, minus the stress times the volume.")]
EnergyUnit = Annotated[str | None, typer.Option(help="eV, kcal/mol, kJ/mol, Hartree, ...")]
LengthUnit = Annotated[str | None, typer.Option(help="Å, Bohr or nm.")]
Temperature = Annotated[float | None, typer.Option(help="In K.")]
Steps = Annotated[int | None, typer.Option(help="Number of time steps.")]
Timestep = Annotated[float | None, typer.Option(help="In fs.")]
Ensemble = Annotated[str | None, typer.Option(help="nve, langevin, bussi or npt.")]
Pressure = Annotated[float | None, typer.Option(help="In GPa, for npt.")]
Friction = Annotated[float | None, typer.Option(help="In 1/ps, for langevin.")]
TrajectoryEvery = Annotated[int | None, typer.Option(help="Steps between frames of the trajectory.")]
ThermoEvery = Annotated[int | None, typer.Option(help="Steps between lines of the thermo table.")]
Seed = Annotated[int | None, typer.Option(help="Random seed of the initial velocities and of the thermostat.")]
AnyOther = Annotated[list[str] | None, typer.Option("--set", metavar="OPTION=VALUE", help="Any other option.")]


def given(section: str = "", **flags: Any) -> dict[str, Any]:
    """The flags that the user gave, as options of a section of the configuration."""
    prefix = f"{section}." if section else ""
    return {f"{prefix}{name}": value for name, value in flags.items() if value is not None}


def parsed(sets: list[str] | None) -> dict[str, Any]:
    """The options of all ``--set``, with their values as YAML reads them; raises InputError if one is malformed."""
    import yaml

    pairs = {}
    for text in sets or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text} has no equals sign: write option=value, for example model.l_max=2")
        try:
            pairs[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(f"--set {text}: the value is not YAML, such as 2, true, [8, 4] or {{H: 1.0}}") from None
    return pairs
