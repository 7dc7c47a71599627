"""``equiforce info``, and the versions of the program."""

import platform
from importlib.metadata import version
from typing import Annotated, Any

import typer

from equiforce.cli.arguments import Model
from equiforce.cli.output import FLAG, messages, print_object
from equiforce.errors import InputError
from equiforce.terminal import Table, show


def info(
    model: Model,
    as_json: Annotated[bool, typer.Option(FLAG, help="Print everything in the file as one JSON object.")] = False,
) -> None:
    """Print the contents of a model file: the network, its elements, its data, its errors."""
    from equiforce.model_file import path_of, read_header

    path = path_of(model)
    header = read_header(path)
    if as_json:
        print_object(header)
        return
    table = Table(path, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    try:
        rows = summary(header)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged because 'about' in its header is wrong: train or copy it again; --json shows the header"
        ) from error
    for row in rows:
        table.add_row(*row)
    show(messages(), table)


def _repulsion(entry: bool | dict[str, Any]) -> str:
    """The repulsion of nuclei in words, from its entry in a header."""
    if isinstance(entry, bool):
        return "ZBL" if entry else "none"
    return f"ZBL, envelope p {entry['envelope_p']}{', ends at the pair cutoffs' if entry['pair_cutoffs'] else ''}"


def summary(header: dict[str, Any]) -> list[tuple[str, str]]:
    """The names and values that ``equiforce info`` shows of a model file, from its header."""
    from equiforce.distillation.origin import of_file, of_model_file
    from equiforce.distillation.origin import rows as rows_of_teacher
    from equiforce.model_file import cautions_of, ranges_of

    described, about = header["potential"], header["about"]
    species, config = described["species"], described["config"]
    energies = ", ".join(f"{s} {e:.6f}" for s, e in zip(species, described["atomic_energies"], strict=True))
    scales = ", ".join(f"{s} {e:.4f}" for s, e in zip(species, described["scale"], strict=True))
    rows = [
        ("model", f"{described['kind']}, {described['dtype']}, file format {header['format']}"),
        ("elements", ", ".join(species)),
        ("cutoff", f"{config.get('cutoff')} Å"),
        ("network", ", ".join(f"{name} {value}" for name, value in config.items() if name != "cutoff")),
        *(("caution", sentence) for sentence in cautions_of(described)),
        ("reference energies", f"{energies} eV"),
        ("scale", f"{scales} eV"),
        ("short-range repulsion", _repulsion(described["zbl"])),
        ("units", "; ".join(f"{name} {unit}" for name, unit in header["units"].items())),
    ]
    if start := about.get("start"):
        rows.append(("fine-tuned from", f"{start['name']}, {of_model_file(start['sha256'])}"))
    if source := about.get("source"):
        rows += [
            ("imported", f"{source['name']} of {source['program']}, {of_file(source['sha256'])}"),
            *((name, source[name]) for name in ("licence", "data", "citation")),
        ]
    if teacher := about.get("distilled_from"):
        rows += rows_of_teacher(teacher)
    if (ranges := ranges_of(header, "the model file")) is not None:
        rows += ranges.rows()
    elif source:
        rows.append(("ranges of the data", "not known, so MD cannot say when it leaves them"))
    else:
        rows.append(("ranges of the data", "not in the file, so MD cannot say when it leaves them: train again"))
    if training := about.get("training"):
        took = f"{training['steps']} steps in {training['seconds']:.0f} s"
        rows.append(("training", f"{took}; best at step {training['best_step']}"))
    if test := about.get("test_errors"):
        units = test["units"]
        for name, metric in test["total"].items():
            rows.append((f"test, {name}", f"MAE {metric['mae']:.4g}, RMSE {metric['rmse']:.4g} {units[name]}"))
    if made := about.get("made"):
        rows.append(("made", ", ".join(f"{name} {value}" for name, value in made.items())))
    own = f"sha256 of all else in it {header['checksum']}" if "checksum" in header else "none: an older file format"
    rows.append(("checksum of this file", own))
    return [*rows, ("reference structures", f"{len(header['references'])}, computed again whenever the file is loaded")]


def versions() -> list[str]:
    """The versions of equiforce and of what it computes with, each as a line."""
    from equiforce.kernels import describe

    packages = ", ".join(f"{name} {version(package)}" for name, package in (("torch", "torch"), ("ASE", "ase")))
    return [
        f"equiforce {version('equiforce')}",
        f"Python {platform.python_version()}, {packages}",
        f"kernels: {describe('cpu')}",
    ]
