"""Times equiforce and its peers in turn, in one run on one machine.

python benchmarks/peers/install.py                       # once
python benchmarks/run.py                                 # everything
python benchmarks/run.py water64 --peers nequip          # some cases and peers
python benchmarks/run.py nequip/acac/energy_forces --repeats 30 --threads 1

Every program of a case is a warm process. The processes are called in turn, so that a busy machine slows down all.
"""

import argparse
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from cases import RUNNERS, Case, add_settings, chosen, message, settings_of
from machine import commit, machine, slug, today
from process import FailedError, Worker, compile_first
from report import RESULTS, save, write_peers
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from structures import file_of

FEWEST_ROUNDS = 3
COMPILED_FOR = "water8"  # the compiler checks the stress of this structure; a molecule has none
console = Console()


def wanted(runner: str, options: argparse.Namespace) -> bool:
    """Return whether a program takes part in this run; equiforce always does."""
    program = RUNNERS[runner]
    named = runner == "equiforce" or program.package in options.peers or runner in options.peers
    compiled_twice = options.device == "cuda" and program.compile_threads > 1  # threads are the processor's
    return named and not (options.eager and program.compile_threads) and not compiled_twice


def start(case: Case, options: argparse.Namespace, progress: Progress, task: Any) -> tuple[dict, dict]:
    """Start the workers of a case; return those that started, and what is known about all of them."""
    workers: dict[str, Worker] = {}
    known: dict[str, dict[str, Any]] = {}
    settings = settings_of(options)
    for runner, model in case.entries().items():
        if not wanted(runner, options):
            continue
        told = message(runner, model, case.structure, case.task, settings)
        try:
            if RUNNERS[runner].compile_threads:
                progress.update(task, description=f"{case.name}: {runner} compiles, which may take ten minutes")
                compile_first(runner, told | {"structure": str(file_of(COMPILED_FOR))})
            progress.update(task, description=f"{case.name}: {runner} warms up")
            workers[runner] = Worker(runner, told, f"{case.name}-{runner}", options.timeout)
            network = {name: told[name] for name in ("kind", "model", "options", "cutoff", "mean_neighbors")}
            known[runner] = workers[runner].ready | {"settings": network, "ms": []}
        except FailedError as error:
            known[runner] = {"failed": str(error)}
            progress.console.print(f"[yellow]{case.name}: {runner}: {error}")
    return workers, known


def measure(case: Case, options: argparse.Namespace, progress: Progress) -> dict[str, dict[str, Any]]:
    """Call the programs of a case in turn, until the repeats are done or the time is up."""
    task = progress.add_task(case.name, total=options.repeats)
    workers, known = start(case, options, progress, task)
    began = time.perf_counter()

    def lost(runner: str, error: FailedError) -> None:
        known[runner] = {"failed": str(error)}
        workers.pop(runner).kill()
        progress.console.print(f"[yellow]{case.name}: {runner}: {error}")

    for number in range(options.repeats):
        if not workers or (number >= FEWEST_ROUNDS and time.perf_counter() - began > options.seconds):
            break
        for runner, worker in list(workers.items()):
            progress.update(task, description=f"{case.name}: {runner}")
            try:
                known[runner]["ms"].append(round(worker.go(), 4))
            except FailedError as error:
                lost(runner, error)
        progress.advance(task)
    for runner, worker in list(workers.items()):
        try:
            known[runner] |= worker.end()
        except FailedError as error:
            lost(runner, error)
    progress.update(task, description=case.name, total=number + 1, completed=number + 1)
    return known


def merged(path: Path, described: dict[str, Any], command: str) -> dict[str, Any]:
    """Return the results of the same day and machine, to which this run adds."""
    if path.exists():
        result = json.loads(path.read_text())
        result["commands"] = list(dict.fromkeys([*result["commands"], command]))
        return result | {"machine": described}
    return {"date": today(), "machine": described, "commands": [command], "entries": []}


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="names, parts of names between slashes, or patterns; all by default")
    parser.add_argument(
        "--peers", nargs="*", default=["nequip", "mace", "allegro"], help="packages, or runners by name"
    )
    parser.add_argument("--repeats", type=int, default=15, help="number of rounds of a case")
    parser.add_argument(
        "--seconds",
        type=float,
        default=120,
        help=f"time after which a case ends, if it has at least {FEWEST_ROUNDS} rounds",
    )
    parser.add_argument("--eager", action="store_true", help="leave out programs that must be compiled first")
    add_settings(parser)
    parser.add_argument("--list", action="store_true", help="only print the names of the cases")
    parser.add_argument("--no-page", action="store_true", help="leave docs/benchmarks.md as it is")
    return parser.parse_args()


def main() -> None:
    """Measure the chosen cases, and write the results after each."""
    options = arguments()
    cases = chosen(options.cases)
    if not cases:
        sys.exit(f"no case matches {' '.join(options.cases)}: python benchmarks/run.py --list prints all names")
    if options.list:
        print("\n".join(case.name for case in cases))
        return
    described = machine()
    path = RESULTS / f"{today()}-{slug(described)}.json"
    result = merged(path, described, shlex.join(["python", "benchmarks/run.py", *sys.argv[1:]]))
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        for case in cases:
            runners = measure(case, options, progress)
            same = {"case": case.name, "threads": options.threads, "dtype": options.dtype, "device": options.device}
            others = [e for e in result["entries"] if any(e[key] != same[key] for key in same)]
            result["entries"] = [*others, same | {"commit": commit(), "runners": runners}]
            save(path, result)
            if not options.no_page:
                write_peers(result)
    console.print(f"{path.relative_to(RESULTS.parents[1])}" + ("" if options.no_page else " and docs/benchmarks.md"))


if __name__ == "__main__":
    main()
