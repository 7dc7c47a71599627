"""``equiforce config``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from equiforce.cli.arguments import Sets, parsed


def config(
    file: Annotated[Path | None, typer.Argument(help="A YAML file to check and complete.")] = None,
    sets: Sets = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print a JSON schema for editors.")] = False,
) -> None:
    """Print every option with its default, its unit and its reason, or a JSON schema of the options."""
    from equiforce.config import json_schema, load_config, to_yaml

    if schema:
        print(json.dumps(json_schema(), indent=1, ensure_ascii=False))
    else:
        print(to_yaml(load_config(file, parsed(sets))), end="")
