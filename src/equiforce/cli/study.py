"""The commands ``equiforce study ...``: experiments of many trainings."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equiforce.cli.arguments import INTERRUPTED, parsed
from equiforce.cli.flags import Command
from equiforce.cli.output import AsJson, messages, print_object
from equiforce.terminal import Console, say, show

if TYPE_CHECKING:
    from equiforce.studies.runs import Row
    from equiforce.studies.work import Study

app = typer.Typer(help="Experiments of many trainings: learning curves, published benchmarks.", no_args_is_help=True)

STOPPED = "stopped; the same command continues the study"
STOPPED_WATCHING = (
    "stopped watching; submitted SLURM jobs continue (squeue lists them, scancel ends them); the same command submits "
    "the rest"
)

File = Annotated[Path, typer.Argument(metavar="STUDY", help="A YAML file; the folder studies/ has examples.")]
Data = Annotated[Path | None, typer.Option(help="The folder of the data; by default the folder of the YAML file.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        help="Folder of the results, where a repeated command finds them; by default the YAML file's name.",
    ),
]
Workers = Annotated[int, typer.Option(min=1, max=10_000, help="Number of processes on this machine, or of SLURM jobs.")]
Slurm = Annotated[
    list[str] | None,
    typer.Option(metavar="OPTION=VALUE", help="Run as SLURM jobs with this option: partition=gpu, timeout_min=600."),
]
PageOnly = Annotated[bool, typer.Option("--page", help="Run nothing; write the page and plots of existing results.")]


@app.command("learning-curve", cls=Command)
def learning_curve(
    file: File,
    data: Data = None,
    output: Output = None,
    models: Annotated[list[str] | None, typer.Option("--model", help="Run only this model; may be repeated.")] = None,
    workers: Workers = 1,
    slurm: Slurm = None,
    page: PageOnly = False,
    as_json: AsJson = False,
) -> None:
    """Measure errors against the number of training structures, and fit the exponents of their power laws."""
    from equiforce.studies.learning_curve import load_learning_curve
    from equiforce.studies.page import write_page

    folder, console = output or file.with_suffix(""), messages(as_json)
    with _stoppable(console):
        study = load_learning_curve(file, data or file.parent)
        say(console, *study.summary().split("\n"))
        part = study.only(models) if models else study
        finished = page or _run(part, folder, workers, slurm, console)
        rows, written = _written(study, folder, lambda rows: write_page(study, rows, folder))
        _report(folder, written, rows, console, finished=finished, as_json=as_json)


@app.command(cls=Command)
def benchmark(
    file: File,
    data: Data = None,
    output: Output = None,
    tasks: Annotated[list[str] | None, typer.Option("--task", help="Run only this task; may be repeated.")] = None,
    models: Annotated[
        list[str] | None, typer.Option("--model", help="Run this model instead of the file's; may be repeated.")
    ] = None,
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", help="Run this seed instead of the file's; may be repeated.")
    ] = None,
    workers: Workers = 1,
    slurm: Slurm = None,
    page: PageOnly = False,
    as_json: AsJson = False,
) -> None:
    """Train on published data sets, and print the errors beside the published ones."""
    from equiforce.studies.benchmark import load_benchmark, write_benchmark

    folder, console = output or file.with_suffix(""), messages(as_json)
    with _stoppable(console):
        study = load_benchmark(file, data or file.parent, tasks=tasks, models=models, seeds=seeds)
        say(console, *study.summary().split("\n"))
        finished = page or _run(study, folder, workers, slurm, console)
        rows, written = _written(study, folder, lambda rows: write_benchmark(study, rows, folder))
        for table in study.tables(rows):
            show(console, table)
        _report(folder, written, rows, console, finished=finished, as_json=as_json)


@contextmanager
def _stoppable(console: Console) -> Iterator[None]:
    """Say how to go on after a signal that arrives outside of the runs."""
    try:
        yield
    except KeyboardInterrupt:
        say(console, STOPPED)
        raise typer.Exit(INTERRUPTED) from None


def _run(study: "Study", folder: Path, workers: int, slurm: list[str] | None, console: Console) -> bool:
    """Run the missing trainings; return False if a signal interrupted them."""
    from equiforce.studies.runs import Interrupted
    from equiforce.studies.work import Place, execute

    cluster = "local" if slurm is None else "slurm"
    try:
        execute(study, folder, Place(n_workers=workers, cluster=cluster, parameters=_parameters(slurm or [])), console)
    except Interrupted:
        say(console, STOPPED if slurm is None else STOPPED_WATCHING)
        return False
    return True


def _report(
    folder: Path, written: Sequence[Path], rows: list["Row"], console: Console, *, finished: bool, as_json: bool
) -> None:
    """Print which files were written, and exit if a signal interrupted the study."""
    say(console, f"written: {', '.join(map(str, written))}")
    if as_json:
        print_object({"folder": folder, "finished": finished, "files": list(written), "runs": rows})
    if not finished:
        raise typer.Exit(INTERRUPTED)


def _written(
    study: "Study", folder: Path, write: Callable[[list["Row"]], list[Path]]
) -> tuple[list["Row"], list[Path]]:
    """Write the page with the rows of the table, alone, so that its files belong to the same rows."""
    from equiforce.storage.faults import told
    from equiforce.storage.folders import held
    from equiforce.studies.table import ResultTable
    from equiforce.studies.work import results

    with told(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with held(folder / "page.lock", wait=True):
        rows = results(study, ResultTable(folder, study.id_columns))
        return rows, write(rows)


def _parameters(given: list[str]) -> dict[str, Any]:
    parameters = parsed(given, "--slurm", "partition=gpu")
    return {name if name == "timeout_min" else f"slurm_{name}": value for name, value in parameters.items()}
