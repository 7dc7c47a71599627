"""``equiforce config``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from equiforce.cli.arguments import Sets, parsed


def config(
    file: Annotated[
        Path | None, typer.Argument(help="A YAML file to check and complete; or md, for the options of equiforce md.")
    ] = None,
    sets: Sets = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print a JSON schema for editors.")] = False,
) -> None:
    """Print every option with its default, its unit and its reason, or a JSON schema of the options."""
    from equiforce.calculators.md.options import MDOptions
    from equiforce.config import json_schema, load_config, read_options, to_yaml
    from equiforce.options import to_lines

    if file == Path("md"):
        print(to_lines(read_options(MDOptions, parsed(sets), "md")), end="")
    elif schema:
        print(json.dumps(json_schema(), indent=1, ensure_ascii=False))
    else:
        print(to_yaml(load_config(file, parsed(sets))), end="")
