"""``equiforce info``, and the versions of the program."""

import platform
from importlib.metadata import version
from typing import Annotated

import typer
from rich.table import Table

from equiforce.cli.arguments import Model
from equiforce.cli.output import FLAG, messages, print_object


def info(
    model: Model,
    as_json: Annotated[bool, typer.Option(FLAG, help="Print everything in the file as one JSON object.")] = False,
) -> None:
    """Print the contents of a model file: the network, its elements, its data, its errors."""
    from equiforce.model_file import path_of, read_header, summary

    path = path_of(model)
    header = read_header(path)
    if as_json:
        print_object(header)
        return
    table = Table(title=str(path), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in summary(header):
        table.add_row(*row)
    messages().print(table, markup=False)


def versions() -> list[str]:
    """The versions of equiforce and of what it computes with, each as a line."""
    from equiforce.kernels import describe

    packages = ", ".join(f"{name} {version(package)}" for name, package in (("torch", "torch"), ("ASE", "ase")))
    return [
        f"equiforce {version('equiforce')}",
        f"Python {platform.python_version()}, {packages}",
        f"kernels: {describe('cpu')}",
    ]
