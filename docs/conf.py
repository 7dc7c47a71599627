"""The site that ``make docs`` builds from the Markdown files of the repository and, for the reference, from the code.

The root of the repository is the source, so that links between its files are links of the site, and Sphinx finds dead
ones.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from docutils import nodes
from sphinx.application import Sphinx

import equiforce
from equiforce.calculators.md import MDOptions
from equiforce.calculators.relax_options import RelaxOptions
from equiforce.cli import app as cli
from equiforce.config import SECTIONS
from equiforce.distillation.options import DistillOptions
from equiforce.models import REGISTRY
from equiforce.options import default_of

project, author = "equiforce", "The equiforce developers"
copyright = author  # noqa: A001
version = release = equiforce.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
root_doc = "README"
include_patterns = [
    "*.md",
    "docs/**",
    "studies/README.md",
    "studies/*/README.md",
    "examples/README.md",
    "recipes/README.md",
]
exclude_patterns = [
    "build", "dist", "demo", "runs", ".*", "**/tutorial_runs", "**/universal_runs", "**/.ipynb_checkpoints",
]  # fmt: skip

html_theme = "furo"
html_title = f"equiforce {version}"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
suppress_warnings = ["misc.highlighting_failure"]  # of shell commands that go on over several lines of a notebook
highlight_language = "none"  # of blocks without a language: commands and their output
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]
nb_execution_mode = "off"  # the notebook has its outputs, which a test checks
autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_numpy_docstring = False
copybutton_exclude = ".linenos, .gp, .go"

# the order in which a newcomer may read the pages
NAVIGATION = {
    "Tutorial": ["docs/tutorial/README", "docs/tutorial/tutorial", "docs/tutorial/universal"],
    "Guides": [
        "docs/features",
        "docs/data",
        "docs/accuracy",
        "docs/engines",
        "docs/foundation",
        "docs/fine-tuning",
        "docs/distillation",
        "docs/lammps",
        "docs/studies",
        "docs/models",
        "docs/coming-from-nequip-or-mace",
        "examples/README",
        "recipes/README",
    ],
    "Reference": ["docs/api", "docs/reference", "docs/options", "docs/command-line", "docs/conventions"],
    "Background": ["docs/theory", "docs/architecture", "docs/training", "docs/kernels", "docs/reliability"],
    "Benchmarks": [
        "docs/benchmarks",
        "docs/suites",
        "docs/scaling",
        "studies/README",
        "studies/benchmark/README",
        "studies/water/README",
        "studies/aspirin/README",
        "studies/ethanol/README",
    ],
    "Project": ["CONTRIBUTING", "SECURITY", "CHANGELOG"],
}


def navigation() -> str:
    """The tables of contents, which the start page does not show and the side bar does."""
    trees = [
        "\n".join([f"```{{toctree}}\n:hidden:\n:caption: {caption}\n", *(f"/{page}" for page in pages), "```\n"])
        for caption, pages in NAVIGATION.items()
    ]
    return "\n" + "\n".join(trees)


def options() -> str:
    """Every option of trainings, simulations, relaxations and distillations, with default, unit and reason."""
    classes = {f"model, with kind: {name}": REGISTRY[name].config_class for name in REGISTRY.registered}
    classes |= SECTIONS | {"equiforce md and equiforce lammps": MDOptions, "equiforce relax": RelaxOptions}
    classes["equiforce distill"] = DistillOptions
    return "\n".join(line for heading, cls in classes.items() for line in options_of(heading, cls))


def options_of(heading: str, cls: type) -> Iterator[str]:
    """The table of one section."""
    yield from (f"## {heading}", "", "| option | default | meaning |", "|---|---|---|")
    for entry in dataclasses.fields(cls):
        default, unit = default_of(entry), entry.metadata["unit"]
        value = str(default).lower() if isinstance(default, bool) else "null" if default is None else str(default)
        text = f"{unit}; {entry.metadata['reason']}" if unit else entry.metadata["reason"]
        yield f"| `{entry.name}` | `{value}` | {in_cell(text)} |"
    yield ""


def commands() -> str:
    """Every command with its arguments and flags."""
    return "\n".join(command_lines("equiforce", typer.main.get_command(cli)))


def command_lines(name: str, command: Any) -> Iterator[str]:
    """The section of a command, or those of the commands of a group."""
    if hasattr(command, "commands"):
        for part, below in command.commands.items():
            yield from command_lines(f"{name} {part}", below)
        return
    yield from (f"## {name}", "", command.help, "", "| argument or flag | meaning |", "|---|---|")
    for parameter in command.params:
        flags = [flag for flag in parameter.opts if flag.startswith("-")]
        shown = flags or [parameter.metavar or parameter.name.upper()]
        yield f"| {', '.join(f'`{flag}`' for flag in shown)} | {in_cell(parameter.help)} |"
    yield ""


def api() -> str:
    """The public names with their docstrings."""
    names = [name for name in equiforce.__all__ if not name.startswith("_")]
    return "\n".join(f"## {name}\n\n```{{eval-rst}}\n{directive(name)}\n```\n" for name in names)


def directive(name: str) -> str:
    """The directive that shows the docstring of a public name."""
    kind = "autoclass" if isinstance(getattr(equiforce, name), type) else "autofunction"
    members = "\n   :members:" if kind == "autoclass" else ""
    return f".. {kind}:: equiforce.{name}{members}"


def in_cell(text: str) -> str:
    """Text that may stand in a cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;")


GENERATED = {"docs/options": options, "docs/command-line": commands, "docs/reference": api}


def add_generated(_: Sphinx, page: str, source: list[str]) -> None:
    """Append what is made from the code, and the navigation."""
    if page == root_doc:
        source[0] += navigation()
    elif page in GENERATED:
        source[0] += "\n" + GENERATED[page]()


def finish(site: Sphinx, error: Exception | None) -> None:
    """Write the page index.html, which leads to the start page, and list the links to other sites."""
    if error or site.builder.format != "html":
        return
    folder = Path(site.outdir)
    page = f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={root_doc}.html">'
    (folder / "index.html").write_text(f"{page}<title>equiforce</title>\n", encoding="utf-8")
    links = {
        link["refuri"]
        for name in site.env.found_docs
        for link in site.env.get_doctree(name).findall(nodes.reference)
        if link.get("refuri", "").startswith("http")
    }
    (folder / "external-links.txt").write_text("".join(f"{link}\n" for link in sorted(links)), encoding="utf-8")


def setup(site: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    site.connect("source-read", add_generated)
    site.connect("build-finished", finish)
    return {"parallel_read_safe": True}
