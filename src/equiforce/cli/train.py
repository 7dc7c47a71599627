"""``equiforce train``."""

from pathlib import Path
from typing import Annotated

import typer

from equiforce.cli.arguments import (
    INTERRUPTED,
    EnergyKey,
    EnergyUnit,
    ForcesKey,
    Format,
    LengthUnit,
    Sets,
    StressKey,
    TrainingDevice,
    VirialKey,
    given,
    with_sets,
)
from equiforce.cli.output import AsJson, messages, print_object


def train(
    data: Annotated[list[str] | None, typer.Argument(help="Reference data: any file ASE reads, or .npz.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The run folder; runs/NAME by default.")] = None,
    config: Annotated[Path | None, typer.Option("-c", "--config", help="A YAML file of options.")] = None,
    sets: Sets = None,
    time: Annotated[str | None, typer.Option(help="Train for this wall time: 10m, 1h30m, 2d.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training set.")] = None,
    steps: Annotated[int | None, typer.Option(help="Gradient steps.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Continue the run in this folder; DATA only if its data have moved.")
    ] = None,
    resume_if_there: Annotated[
        bool, typer.Option("--resume-if-there", help="Continue the run in -o if there is one, or else start it.")
    ] = False,
    start: Annotated[
        str | None, typer.Option("--from", help="Fine-tune: start from the weights of this model file or run folder.")
    ] = None,
    replay: Annotated[
        list[str] | None,
        typer.Option(help="With --from: structures that the model must not forget, with or without labels."),
    ] = None,
    validation: Annotated[list[str] | None, typer.Option(help="A file of validation structures.")] = None,
    test: Annotated[list[str] | None, typer.Option(help="A file of test structures.")] = None,
    split: Annotated[str | None, typer.Option(help="The split.json of an earlier run.")] = None,
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    stress_key: StressKey = None,
    virial_key: VirialKey = None,
    energy_unit: EnergyUnit = None,
    length_unit: LengthUnit = None,
    file_format: Format = None,
    device: TrainingDevice = None,
    seed: Annotated[int | None, typer.Option(help="Random seed of the weights and of the order of batches.")] = None,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Make repeated runs bit-identical, at some cost in speed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train a potential on quantum-mechanical reference data."""
    from equiforce.workflow import train as run

    flags = (
        given(
            "training",
            time=time,
            max_epochs=epochs,
            max_steps=steps,
            device=device,
            seed=seed,
            deterministic=deterministic or None,
        )
        | given("start", model=start, replay=replay)
        | given("split", validation_file=validation, test_file=test, split_file=split)
        | given(
            "data",
            energy_key=energy_key,
            forces_key=forces_key,
            stress_key=stress_key,
            virial_key=virial_key,
            energy_unit=energy_unit,
            length_unit=length_unit,
            format=file_format,
        )
    )
    options = with_sets(flags, sets)
    trained = run(
        data,
        output,
        config=config,
        options=options,
        resume=resume,
        resume_if_there=resume_if_there,
        console=messages(as_json),
    )
    if as_json:
        print_object(trained.as_dict())
    if trained.outcome.interrupted:
        raise typer.Exit(INTERRUPTED)
