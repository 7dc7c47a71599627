"""``equiforce import``."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from equiforce.cli.arguments import Overwrite
from equiforce.cli.flags import Command
from equiforce.cli.output import AsJson, messages, print_object
from equiforce.errors import InputError
from equiforce.terminal import note, say

ELEMENTS = "--elements"
SYMBOL = re.compile(r"[A-Z][a-z]?", re.ASCII)  # what looks like one, so that a wrong one is named as such
FEWEST_KNOTS, MANY_KNOTS, MOST_KNOTS = 64, 256, 1024
FEW = f"with {{}} knots forces differ by 0.001 eV/Å and more from those of the source: {MANY_KNOTS} are enough"


class ImportCommand(Command):
    """A command whose ``--elements`` takes all symbols that follow it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As in the base class, after the symbols have become one value."""
        return super().parse_args(ctx, joined(args))


def joined(args: list[str]) -> list[str]:
    """The arguments with the chemical symbols after ``--elements`` as one argument."""
    if ELEMENTS not in args:
        return args
    first = args.index(ELEMENTS) + 1
    last = next((i for i in range(first, len(args)) if SYMBOL.fullmatch(args[i]) is None), len(args))
    return [*args[:first], *([" ".join(args[first:last])] if last > first else []), *args[last:]]


def refuse_few_knots(knots: int | None) -> None:
    """Raise InputError for a number of knots with which energies and forces would be wrong, or that is too large."""
    if knots and not FEWEST_KNOTS <= knots <= MOST_KNOTS:
        raise InputError(
            f"--knots {knots} is not possible: give {FEWEST_KNOTS} to {MOST_KNOTS}, or 0 for the exact radial functions"
        )


def import_(
    source: Annotated[
        str, typer.Argument(help="A file (.nqx, .pth, .ckpt, .nequip.zip), or a name such as nequix-mp-1.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The model file to write, such as model.eqf.")],
    elements: Annotated[
        str | None, typer.Option(metavar="SYMBOLS", help="The elements to keep, such as Li P S; all by default.")
    ] = None,
    knots: Annotated[
        int | None, typer.Option(help="Knots of the splines of the radial functions; 0 for none: exact and slow.")
    ] = None,
    modal: Annotated[
        str | None, typer.Option(help="The level of theory of a SevenNet model that has several, such as PBE.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32 or float64, of the weights.")] = "float32",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Import a potential that others trained with Nequix, SevenNet, nequip or nequip-allegro, as a model file."""
    from equiforce import foundation
    from equiforce.model_file import DTYPES, save

    console = messages(as_json)
    if output.exists() and not overwrite:
        raise InputError(f"{output} exists already: choose another name, or replace it with --overwrite")
    if output.exists() and output.resolve() == foundation.path_of(source).resolve():
        raise InputError(f"{output} is the file that is imported: name another output")
    if dtype not in DTYPES:
        raise InputError(f"weights cannot be of dtype {dtype!r}: choose {' or '.join(DTYPES)}")
    refuse_few_knots(knots)
    chosen = None if elements is None else elements.replace(",", " ").split()
    n_knots = foundation.N_KNOTS if knots is None else knots or None
    potential, origin = foundation.import_potential(source, chosen, n_knots=n_knots, modal=modal)
    potential.to(DTYPES[dtype])
    save(output, potential, [], {"source": origin.as_dict()})
    say(
        console, f"{origin.name} of {origin.program}: {potential.model.config}; elements {', '.join(potential.species)}"
    )
    few = [FEW.format(n_knots)] if n_knots is not None and n_knots < MANY_KNOTS else []
    for sentence in (*few, *potential.model.config.cautions):
        note(console, sentence)
    for name, text in (("licence", origin.licence), ("data", origin.data), ("cite", origin.citation)):
        say(console, f"{name}: {text}")
    say(console, f"written: {output}")
    if as_json:
        print_object({"model": output, "elements": potential.species, "source": origin.as_dict()})
