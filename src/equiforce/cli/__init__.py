"""The command line ``equiforce``: train, evaluate, md, lammps, study, info and config.

Each command imports heavy modules in its own function, so that ``equiforce --help`` stays fast.
"""

import sys

import typer
from rich.console import Console

from equiforce.cli import config, evaluate, info, lammps, md, study, train
from equiforce.cli.arguments import INTERRUPTED
from equiforce.cli.flags import Command
from equiforce.errors import DivergedError, InputError

app = typer.Typer(
    help="E(3)-equivariant interatomic potentials: from quantum-mechanical data to molecular dynamics.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (train.train, evaluate.evaluate, md.md, lammps.lammps, info.info, config.config):
    app.command(cls=Command)(command)
app.add_typer(study.app, name="study")


def main() -> None:
    """Run the program ``equiforce``; an InputError, a DivergedError or an OSError is printed as one sentence."""
    try:
        app()
    # an OSError names the file that could not be read or written
    except (InputError, DivergedError, OSError) as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
