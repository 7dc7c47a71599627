"""``equiforce evaluate``."""

from pathlib import Path
from typing import Annotated

import typer

from equiforce.cli.arguments import (
    DataSets,
    Device,
    EnergyKey,
    EnergyUnit,
    ForcesKey,
    Format,
    LengthUnit,
    Model,
    Overwrite,
    StressKey,
    VirialKey,
    given,
    with_sets,
)
from equiforce.cli.output import AsJson, messages, print_object
from equiforce.errors import InputError
from equiforce.terminal import say, working

MOST_GB = 1e6


def evaluate(
    model: Model,
    data: Annotated[list[str], typer.Argument(help="Structures, with or without labels: any file ASE reads, or .npz.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder of the tables and plots; by default a new one, evaluate-NAME."),
    ] = None,
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    stress_key: StressKey = None,
    virial_key: VirialKey = None,
    energy_unit: EnergyUnit = None,
    length_unit: LengthUnit = None,
    file_format: Format = None,
    sets: DataSets = None,
    max_memory: Annotated[
        float | None,
        typer.Option(help="In GB; a structure that needs more is computed in chunks. By default the free memory."),
    ] = None,
    device: Device = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Predict structures; write predictions, and errors in total, by element and by group where there are labels."""
    from equiforce import model_file
    from equiforce.assessment import assess, name_of, results_folder
    from equiforce.config import load_config
    from equiforce.machine import describe_device
    from equiforce.preparation import print_notes, read_and_report

    flags = given(
        "data",
        energy_key=energy_key,
        forces_key=forces_key,
        stress_key=stress_key,
        virial_key=virial_key,
        energy_unit=energy_unit,
        length_unit=length_unit,
        format=file_format,
    )
    options = with_sets(flags, sets)
    if others := [name for name in options if not name.startswith("data.")]:
        raise InputError(f"{others[0]} is not an option of reading data: write --set data.OPTION=VALUE")
    if max_memory is not None and not 0 < max_memory <= MOST_GB:
        raise InputError(f"--max-memory {max_memory:g} is not a memory: give GB above 0 and at most {MOST_GB:g}")
    reading, name = load_config(None, options).data, name_of(data)
    console = messages(as_json)
    with results_folder(output, name, overwrite=overwrite) as folder:
        potential = model_file.load(model, device or "cpu")
        say(console, f"device: {describe_device(potential.device)}")
        print_notes(potential.model.config.cautions, console)
        with working(console, "reading the data ..."):
            structures = read_and_report(data, reading, console, labels_required=False)
        result = assess(potential, structures, folder, name, console, max_memory)
    names = ", ".join(path.name for path in result.files)
    say(console, f"written into {folder}: {names} (predictions in eV, eV/Å and eV/Å³)")
    if as_json:
        print_object({"folder": folder, "files": result.files, **result.errors.as_dict()})
