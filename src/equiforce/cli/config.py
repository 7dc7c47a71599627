"""``equiforce config``."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from equiforce.cli.arguments import Sets, parsed
from equiforce.cli.output import FLAG, print_file, print_object


def config(
    file: Annotated[
        Path | None, typer.Argument(help="A YAML file to check and complete; or md, for the options of equiforce md.")
    ] = None,
    sets: Sets = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print a JSON schema for editors.")] = False,
    as_json: Annotated[bool, typer.Option(FLAG, help="Print the values of all options as one JSON object.")] = False,
) -> None:
    """Print every option with its default, its unit and its reason, or a JSON schema of the options."""
    from equiforce.calculators.md.options import MDOptions
    from equiforce.config import json_schema, load_config, to_dict, to_yaml
    from equiforce.option_values import read_options
    from equiforce.options import to_lines

    if file == Path("md"):
        options = read_options(MDOptions, parsed(sets), "md")
        if as_json:
            print_object(asdict(options))
        else:
            print_file(to_lines(options))
    elif schema:
        print_file(json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n")
    elif as_json:
        print_object(to_dict(load_config(file, parsed(sets))))
    else:
        print_file(to_yaml(load_config(file, parsed(sets))))
