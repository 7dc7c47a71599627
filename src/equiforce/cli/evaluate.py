"""``equiforce evaluate``."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from equiforce.cli.arguments import (
    Device,
    EnergyKey,
    EnergyUnit,
    ForcesKey,
    LengthUnit,
    Model,
    StressKey,
    VirialKey,
    given,
)


def evaluate(
    model: Model,
    data: Annotated[list[str], typer.Argument(help="Reference data: any file ASE reads, or .npz.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder of the tables and plots; evaluate-NAME by default.")
    ] = None,
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    stress_key: StressKey = None,
    virial_key: VirialKey = None,
    energy_unit: EnergyUnit = None,
    length_unit: LengthUnit = None,
    max_memory: Annotated[
        float | None,
        typer.Option(help="In GB; a structure that needs more is computed in chunks. By default the free memory."),
    ] = None,
    device: Device = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the errors as JSON.")] = False,
) -> None:
    """Compute errors of a model on reference data, in total, by element and by group; write plots and predictions."""
    from equiforce import model_file
    from equiforce.assessment import assess
    from equiforce.config import load_config
    from equiforce.preparation import read_and_report

    flags = given(
        "data",
        energy_key=energy_key,
        forces_key=forces_key,
        stress_key=stress_key,
        virial_key=virial_key,
        energy_unit=energy_unit,
        length_unit=length_unit,
    )
    reading = load_config(None, flags).data
    console = Console(quiet=as_json)
    potential = model_file.load(model, device or "cpu")
    structures = read_and_report(data, reading, console)
    name = Path(data[0].partition("@")[0]).stem
    folder = output or Path(f"evaluate-{name}")
    result = assess(potential, structures, folder, name, console, max_memory)
    if as_json:
        print(json.dumps(result.as_dict(), indent=1))
    else:
        print(f"table, predictions and parity plot: {folder}")
