"""``equiforce md``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from equiforce.calculators.md.options import MDOptions
from equiforce.cli.arguments import INTERRUPTED, AnyOther, Device, with_flags, with_sets
from equiforce.cli.output import AsJson, messages, print_object
from equiforce.errors import InputError
from equiforce.options import in_section
from equiforce.terminal import say, show


@with_flags(MDOptions)
def md(
    flags: dict[str, Any],
    model: Annotated[Path | None, typer.Argument(help="A run folder, or a model file such as RUN/model.eqf.")] = None,
    start: Annotated[
        Path | None, typer.Argument(help="The start structure; the last one of a file with several.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A new folder; md-NAME by default.")] = None,
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="A YAML file of options, such as md.yaml of an earlier run.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Continue the run in this folder exactly; --steps is then the total of the whole run."),
    ] = None,
    sets: AnyOther = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in the folder.")] = False,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Run molecular dynamics with a model, or continue a run."""
    from equiforce.calculators.md.run import resume_md, run_md
    from equiforce.calculators.md.state import read_state
    from equiforce.option_values import read_options
    from equiforce.yaml_files import load_yaml

    console = messages(as_json)
    values = (in_section(load_yaml(config), "md") if config is not None else {}) | with_sets(flags, sets, "md")
    if resume is not None:
        if start is not None or output is not None or overwrite:
            raise InputError(
                "--resume continues a run in its own folder from its own state: leave out the start structure, -o and "
                "--overwrite"
            )
        # checked together with the options of the run, on which their meaning depends
        checked = read_options(MDOptions, read_state(resume).header["options"] | values, "md")
        again = {name: getattr(checked, name) for name in values}
        summary = resume_md(resume, model, options=again, device=device, console=console)
    else:
        if model is None or start is None:
            raise InputError("name a model file and a start structure: equiforce md MODEL STRUCTURE --steps 1000")
        options = read_options(MDOptions, values, "md")
        folder = output or Path(f"md-{start.stem}")
        summary = run_md(model, start, options, folder, overwrite=overwrite, device=device, console=console)
    show(console, summary.table())
    if as_json:
        print_object(summary.as_dict())
    if summary.interrupted:
        say(console, f"interrupted and saved; continue with: equiforce md --resume {summary.folder}")
        raise typer.Exit(INTERRUPTED)
