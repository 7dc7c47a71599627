"""Times two versions of equiforce in turn: this checkout, and a checkout of another commit.

    git worktree add ../before COMMIT
    python benchmarks/versions.py ../before                       # every case of equiforce
    python benchmarks/versions.py ../before allegro --starts 8    # some cases

Both versions run in this environment, each as a warm process of its own, and are called in turn. The processes are
started anew several times, because where the system places a process in memory changes its speed for as long as it
lives. The allocator keeps all memory that it has once had: otherwise it gives some back to the system in some calls and
not in others, and asks for it again, which changes the time of a call by up to a third in either version.

Writes ``results/*-versions.json`` and a table in docs/benchmarks.md.
"""

import argparse
import shlex
import sys
from pathlib import Path
from statistics import median
from typing import Any

from cases import Case, add_settings, chosen, message, settings_of
from machine import commit, machine, slug, today
from process import Worker
from report import OURS, RESULTS, digits, quartiles, ratio, replace_between, save
from rich.console import Console
from rich.progress import track

# glibc: no block of memory is mapped by itself, and none is given back
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**32 - 1), "MALLOC_TRIM_THRESHOLD_": str(2**40)}
console = Console()


def cases_of_equiforce(patterns: list[str]) -> list[Case]:
    """Return the chosen cases in which equiforce runs a model of its own; those of MACE run the NequIP of the first."""
    return [case for case in chosen(patterns) if case.entries()[OURS] == case.about]


def measure(case: Case, checkouts: dict[str, Path], options: argparse.Namespace) -> dict[str, list[list[float]]]:
    """Return the times in ms of each version, as one list for each start of the processes."""
    told = message(OURS, case.about, case.structure, case.task, settings_of(options))
    times: dict[str, list[list[float]]] = {name: [] for name in checkouts}
    for start in range(options.starts):
        # the version that starts first changes, and so does the one that is called first
        order = list(checkouts) if start % 2 == 0 else list(reversed(checkouts))
        workers = {
            name: Worker(OURS, told, f"{case.name}-{name}", options.timeout, KEEP_MEMORY, checkouts[name])
            for name in order
        }
        for name in order:
            times[name].append([])
        for _ in range(options.repeats):
            for name, worker in workers.items():
                times[name][-1].append(round(worker.go(), 4))
        for worker in workers.values():
            worker.end()
    return times


def row(entry: dict[str, Any]) -> str:
    """Write the row of a case: medians, the ratio of the medians of each start, and the ratio of the least times."""
    before, now = entry["before"], entry["now"]
    of_starts = [ratio(a, b) for a, b in zip(now, before, strict=True)]
    low, middle, high = quartiles(of_starts)
    least = min(map(min, now)) / min(map(min, before))
    both = [digits(median(map(median, version))) for version in (before, now)]
    return (
        f"| {entry['case']} | {entry['threads']} | {both[0]} | {both[1]} | **{middle:.3f}** | {low:.3f} to {high:.3f} "
        f"| {least:.3f} | {len(now)} x {len(now[0])} |"
    )


def write_page(result: dict[str, Any]) -> None:
    """Write the table into the page."""
    m, versions = result["machine"], result["commits"]
    rows = [
        f"{result['date']}; {m['cpu']}, {m['cores']} cores, {m['instructions']}; load before the run "
        f"{m['load_before']}. Before: {versions['before']}, now: {versions['now']}.",
        "",
        f"    {result['command']}",
        "",
        "| case | threads | before, ms | now, ms | now over before | quartiles over starts | of least times | rounds |",
        "|---|---|---|---|---|---|---|---|",
        *map(row, result["entries"]),
    ]
    replace_between("versions", "\n".join(rows))


def main() -> None:
    """Measure the chosen cases, and write the results after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="folder with a checkout of the other commit")
    parser.add_argument("cases", nargs="*", help="names, parts of names between slashes, or patterns; all by default")
    parser.add_argument("--starts", type=int, default=5, help="how often the processes are started anew")
    parser.add_argument("--repeats", type=int, default=7, help="number of rounds after each start")
    add_settings(parser)
    parser.add_argument("--no-page", action="store_true", help="leave docs/benchmarks.md as it is")
    options = parser.parse_args()
    checkouts = {"before": options.before.resolve(), "now": Path(__file__).resolve().parents[1]}
    described = machine()
    result: dict[str, Any] = {
        "date": today(),
        "machine": described,
        "command": shlex.join(["python", "benchmarks/versions.py", "BEFORE", *sys.argv[2:]]),
        "commits": {name: commit(checkout) for name, checkout in checkouts.items()},
        "entries": [],
    }
    path = RESULTS / f"{today()}-{slug(described)}-versions.json"
    for case in track(cases_of_equiforce(options.cases), "cases", console=console):
        times = measure(case, checkouts, options)
        result["entries"].append({"case": case.name, "threads": options.threads, **times})
        console.print(row(result["entries"][-1]), soft_wrap=True)
        if not options.no_page:
            save(path, result)
            write_page(result)


if __name__ == "__main__":
    main()
