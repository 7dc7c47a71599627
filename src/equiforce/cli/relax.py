"""``equiforce relax``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from equiforce.calculators.relax_options import RelaxOptions
from equiforce.cli.arguments import INTERRUPTED, AnyOther, Device, Model, with_flags, with_sets
from equiforce.cli.output import AsJson, messages, print_object
from equiforce.terminal import NOTE, say, show


@with_flags(RelaxOptions)
def relax(
    flags: dict[str, Any],
    model: Model,
    start: Annotated[Path, typer.Argument(help="The start structure; the last one of a file with several.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A new folder; relax-NAME by default.")] = None,
    sets: AnyOther = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier relaxation.")] = False,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Relax a structure, and its cell with --cell, to a minimum of the energy; exit with 1 if it does not converge."""
    from equiforce.calculators.relax import RELAXED
    from equiforce.calculators.relax import relax as run
    from equiforce.option_values import read_options

    console = messages(as_json)
    options = read_options(RelaxOptions, with_sets(flags, sets, "relax"), "relax")
    folder = output or Path(f"relax-{start.stem}")
    summary = run(model, start, options, folder, overwrite=overwrite, device=device, console=console)
    show(console, summary.table())
    if as_json:
        print_object(summary.as_dict())
    if not summary.converged:
        say(
            console,
            f"not converged to {options.fmax:g} eV/Å after {summary.n_steps} steps: continue from {folder / RELAXED}, "
            "with more --steps if they were used up",
            style=NOTE,
        )
        raise typer.Exit(INTERRUPTED if summary.interrupted else 1)
