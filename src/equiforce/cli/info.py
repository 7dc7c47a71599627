"""``equiforce info``."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from equiforce.cli.arguments import Model


def info(
    model: Model,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything in the file as JSON.")] = False,
) -> None:
    """Print the contents of a model file: the network, its elements, its data, its errors."""
    from equiforce.model_file import read_header, summary

    header = read_header(model)
    if as_json:
        print(json.dumps(header, indent=1))
    else:
        table = Table(title=str(model), show_header=False)
        for row in summary(header):
            table.add_row(*row)
        Console().print(table)
