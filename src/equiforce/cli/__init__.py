"""The command line ``equiforce``: train, import, distill, evaluate, md, relax, lammps, study, info and config.

Each command imports heavy modules in its own function, so that ``equiforce --help`` stays fast.
"""

import sys
from typing import Annotated

import typer

from equiforce.cli import config, distill, evaluate, imports, info, lammps, md, relax, study, train
from equiforce.cli.arguments import INTERRUPTED
from equiforce.cli.flags import Command, Program
from equiforce.cli.output import begin, print_error, print_interruption, print_missing_object
from equiforce.errors import DivergedError, InputError
from equiforce.signals import interruptions

FAILED, WRONG_COMMAND_LINE = 1, 2
ENDS = {
    INTERRUPTED: "stopped by a signal, such as Ctrl-C",
    WRONG_COMMAND_LINE: "wrong command line; see the standard error",
}

app = typer.Typer(
    cls=Program,
    help="E(3)-equivariant interatomic potentials: from quantum-mechanical data to molecular dynamics.",
    epilog="Exit status: 0 success; 1 an error, told in one sentence; 2 a wrong command line; "
    "130 stopped by Ctrl-C, SIGTERM, SIGHUP or SIGUSR1.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    train.train,
    distill.distill,
    evaluate.evaluate,
    md.md,
    relax.relax,
    lammps.lammps,
    info.info,
    config.config,
):
    app.command(cls=Command)(command)
app.command("import", cls=imports.ImportCommand)(imports.import_)
app.add_typer(study.app, name="study")


def _print_versions(asked: bool) -> bool:
    if asked:
        print("\n".join(info.versions()), flush=True)
        raise typer.Exit
    return asked


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_versions, is_eager=True, help="Print the versions and exit.")
    ] = False,
) -> None:
    """Take the options of the program itself."""


def main() -> None:
    """Run the program ``equiforce``; an InputError, a DivergedError or an OSError is printed as one sentence."""
    begin()
    try:
        with interruptions():
            app()
    # an OSError names the file that could not be read or written
    except (InputError, DivergedError, OSError) as error:
        print_error(error)
        sys.exit(FAILED)
    except KeyboardInterrupt:  # outside of a command
        print_interruption()
        print_missing_object(ENDS[INTERRUPTED])
        sys.exit(INTERRUPTED)
    except SystemExit as end:  # typer has said why
        if end.code in ENDS:
            print_missing_object(ENDS[end.code])
        raise
