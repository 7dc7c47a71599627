"""Arguments and options that several commands share, and their conversion to the options of the configuration."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from equiforce.errors import InputError
from equiforce.options import default_of, explain, in_section
from equiforce.terminal import shortened

PANEL = "Options, each with its unit, meaning and default"
LONGEST = 200  # characters of an argument in a message
INTERRUPTED = 130  # the exit status of a program that Ctrl-C stopped

DataSets = Annotated[
    list[str] | None, typer.Option("--set", metavar="data.OPTION=VALUE", help="Any option of the section data.")
]
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
Format = Annotated[str | None, typer.Option("--format", help="Format by its name in ASE; by default found by content.")]
LengthUnit = Annotated[str | None, typer.Option(help="Å, Bohr or nm.")]
Temperature = Annotated[float | None, typer.Option(help="In K.")]
Steps = Annotated[int | None, typer.Option(help="Number of time steps.")]
Timestep = Annotated[float | None, typer.Option(help="In fs.")]
Ensemble = Annotated[str | None, typer.Option(help="nve, nvt (langevin), langevin, bussi or npt.")]
Pressure = Annotated[float | None, typer.Option(help="In GPa, for npt.")]
Friction = Annotated[float | None, typer.Option(help="In 1/ps, for langevin.")]
TrajectoryEvery = Annotated[int | None, typer.Option(help="Steps between frames of the trajectory.")]
ThermoEvery = Annotated[int | None, typer.Option(help="Steps between lines of the thermo table.")]
Seed = Annotated[int | None, typer.Option(help="Random seed of the initial velocities and of the thermostat.")]
AnyOther = Annotated[list[str] | None, typer.Option("--set", metavar="OPTION=VALUE", help="Any other option.")]


def with_flags(cls: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command a flag for each option of a dataclass; the command gets the given ones as the dict ``flags``."""
    hints = get_type_hints(cls)
    added = []
    for entry in fields(cls):
        kinds = {kind for kind in get_args(hints[entry.name]) or (hints[entry.name],) if kind is not type(None)}
        kind: Any = kinds.pop() if kinds in ({int}, {float}, {bool}) else str
        default = default_of(entry)
        text = f"{explain(entry)} (default: {'none' if default in (None, '') else default})"
        annotation = Annotated[kind | None, typer.Option(help=text, rich_help_panel=PANEL, show_default=False)]
        added.append(inspect.Parameter(entry.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**values: Any) -> None:
            flags = {entry.name: values.pop(entry.name) for entry in fields(cls)}
            command(**values, flags={name: value for name, value in flags.items() if value is not None})

        own = [p for p in inspect.signature(command).parameters.values() if p.name != "flags"]
        # typer reads the parameters of a command from these two attributes
        run.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *added)}
        return run

    return decorate


def given(section: str = "", **flags: Any) -> dict[str, Any]:
    """The flags that the user gave, as options of a section of the configuration."""
    prefix = f"{section}." if section else ""
    return {f"{prefix}{name}": value for name, value in flags.items() if value is not None}


def parsed(sets: list[str] | None, flag: str = "--set", example: str = "model.l_max=2") -> dict[str, Any]:
    """The options of all ``--set`` or of another flag, with values as YAML reads them; the last of several counts.

    Raises:
        InputError: one is malformed.
    """
    import yaml

    from equiforce.yaml_files import read_value

    pairs = {}
    for text in sets or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(
                f"{flag} {shortened(text, LONGEST)} has no equals sign: write option=value, for example {example}"
            )
        try:
            pairs[key.strip()] = read_value(value)
        except yaml.YAMLError as error:
            why = f" ({problem})" if (problem := getattr(error, "problem", None)) else ""
            raise InputError(
                f"{flag} {shortened(text, LONGEST)}: the value is not YAML{why}, such as 2, true, [8, 4] or {{H: 1.0}}"
            ) from None
    return pairs


def with_sets(flags: dict[str, Any], sets: list[str] | None, section: str = "") -> dict[str, Any]:
    """The flags and the options of all ``--set``; raises InputError if an option is given in both ways."""
    pairs = in_section(parsed(sets), section)
    if both := [name for name in pairs if name in flags]:
        raise InputError(f"{both[0]} is given twice, by its flag and by --set: leave one of them out")
    return flags | pairs
