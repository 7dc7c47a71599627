"""``equiforce distill``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from equiforce.cli.arguments import INTERRUPTED, Overwrite, Sets, TrainingDevice, given, with_flags, with_sets
from equiforce.cli.output import AsJson, messages, print_object
from equiforce.distillation.options import DistillOptions
from equiforce.terminal import say


@with_flags(DistillOptions)
def distill(
    flags: dict[str, Any],
    teacher: Annotated[Path, typer.Argument(help="The large model: a model file, or a run folder.")],
    structures: Annotated[list[str], typer.Option(help="A file of start structures; may be repeated.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The model file of the student, such as small.eqf.")],
    folder: Annotated[
        Path | None, typer.Option(help="Folder of everything else, where a repeated command goes on; distill-NAME.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Kind of the student: nequip (the default) or allegro.")] = None,
    preset: Annotated[str | None, typer.Option(help="Its preset: small (the default), standard or accurate.")] = None,
    time: Annotated[
        str | None,
        typer.Option(
            help="Train the student for this wall time, shared by the first training and the rounds: 10m, 1h30m."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="A YAML file of its training's options.")
    ] = None,
    sets: Sets = None,
    overwrite: Overwrite = False,
    device: TrainingDevice = None,
    as_json: AsJson = False,
) -> None:
    """Teach a small, fast potential what a large one says, from start structures alone, and compare the two."""
    import torch

    from equiforce.distillation.work import distill as run
    from equiforce.option_values import read_options

    console = messages(as_json)
    options = read_options(DistillOptions, flags, "distill")
    training = with_sets(given("model", kind=kind, preset=preset) | given("training", time=time), sets)
    report = run(
        teacher,
        structures,
        output,
        options,
        folder=folder,
        config=config,
        training=training,
        overwrite=overwrite,
        device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
        console=console,
    )
    if report is None:
        say(console, "interrupted and saved; the same command goes on")
        raise typer.Exit(INTERRUPTED)
    if as_json:
        print_object(report.as_dict())
