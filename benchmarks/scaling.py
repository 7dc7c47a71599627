"""Measures how time and memory of equiforce grow with the number of atoms and with l_max.

python benchmarks/scaling.py                       # 192 to 100,000 atoms, l_max 0 to 3
python benchmarks/scaling.py --model allegro
python benchmarks/scaling.py --atoms 5000 --l-max 2
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
from cases import SHARED, add_settings, described, message, settings_of
from machine import commit, machine, slug, today
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from process import FailedError, Worker
from report import PAGE, RESULTS, provenance, quartiles, replace_between, save
from rich.console import Console

SMALLEST = 64  # molecules of water
console = Console()


def measure(structure: str, degree: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure time and memory of energy and forces in a new process, or return why this failed."""
    told = message("equiforce", options.model, structure, "energy_forces", settings_of(options))
    told["model"] = {**told["model"], "l_max": degree}
    entry = {"structure": structure, "l_max": degree, "threads": options.threads, "commit": commit()}
    try:
        worker = Worker("equiforce", told, f"scaling-{structure}-{degree}", options.timeout)
        ms = [worker.go() for _ in range(options.repeats)]
        entry |= worker.ready | {"ms": ms} | worker.end()
        console.print(
            f"{entry['atoms']:>8,} atoms, l_max {degree}: {quartiles(ms)[1]:,.1f} ms, {entry['peak_mb']:,.0f} MB"
        )
    except FailedError as error:
        entry["failed"] = str(error)
        console.print(f"[yellow]{structure}, l_max {degree}: {error}")
    return entry


def by_size(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure boxes of water, each twice as large as the one before, until one fails."""
    entries: list[dict[str, Any]] = []
    n_molecules = SMALLEST
    while 3 * n_molecules <= options.atoms and not (entries and "failed" in entries[-1]):
        entries.append(measure(f"water{n_molecules}", options.degree, options))
        n_molecules *= 2
    return entries


def exponent(entries: list[dict[str, Any]], value: str) -> float | None:
    """Return the power of the number of atoms with which a quantity grows, from the slope of the logarithms."""
    good = [e for e in entries if "ms" in e]
    if len(good) < 2:
        return None
    values = [quartiles(e["ms"])[1] if value == "ms" else e[value] for e in good]
    return float(np.polyfit(np.log([e["atoms"] for e in good]), np.log(values), 1)[0])


def table(entries: list[dict[str, Any]]) -> list[str]:
    """Write a row for each measurement."""
    rows = [
        "| atoms | pairs | l_max | median ms | µs per atom | peak MB | kB per atom, model |",
        "|---|---|---|---|---|---|---|",
    ]
    for e in entries:
        if "failed" in e:
            rows.append(f"| {e['structure']} | | {e['l_max']} | {e['failed']} | | | |")
            continue
        ms = quartiles(e["ms"])[1]
        rows.append(
            f"| {e['atoms']:,} | {e['edges']:,} | {e['l_max']} | {ms:,.1f} | {1e3 * ms / e['atoms']:,.0f} "
            f"| {e['peak_mb']:,.0f} | {1024 * e['over_mb'] / e['atoms']:,.0f} |"
        )
    return rows


def plot(sizes: list[dict[str, Any]], degrees: list[dict[str, Any]], path: Path) -> None:
    """Plot time against atoms, memory against atoms, and time against l_max."""
    figure = Figure(figsize=(10.5, 3.2), layout="constrained")
    good = [e for e in sizes if "ms" in e]
    panels = figure.subplots(1, 3)
    atoms = [e["atoms"] for e in good]
    panels[0].loglog(atoms, [quartiles(e["ms"])[1] for e in good], "o-", color="tab:blue")
    panels[0].set(xlabel="atoms", ylabel="energy and forces (ms)")
    panels[1].loglog(atoms, [e["over_mb"] for e in good], "o-", color="tab:orange")
    panels[1].set(xlabel="atoms", ylabel="memory of the model (MB)")
    good = [e for e in degrees if "ms" in e]
    panels[2].semilogy([e["l_max"] for e in good], [quartiles(e["ms"])[1] for e in good], "o-", color="tab:green")
    panels[2].set(xlabel="l_max, 192 atoms", ylabel="energy and forces (ms)", xticks=[e["l_max"] for e in good])
    for panel in panels:
        panel.grid(alpha=0.3)
    for axis in (panels[0].xaxis, panels[0].yaxis, panels[1].xaxis, panels[1].yaxis, panels[2].yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 3), numticks=12))
        axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axis.set_minor_formatter(NullFormatter())
    figure.savefig(path, dpi=130)


def write_page(result: dict[str, Any], marker: str) -> None:
    """Write the table and the plot into docs/benchmarks.md."""
    drawn = PAGE.with_name(f"{marker}.png")
    plot(result["sizes"], result["degrees"], drawn)
    sizes, degrees = result["sizes"], result["degrees"]
    slopes = {name: exponent(sizes, value) for name, value in (("time", "ms"), ("memory of the model", "over_mb"))}
    words = ", ".join(f"{name} with the power {slope:.2f}" for name, slope in slopes.items() if slope is not None)
    told = provenance({**result, "entries": [{"commit": e["commit"], "runners": {"": e}} for e in sizes + degrees]})
    lines = [*told, "", *([f"Growth with the number of atoms, over all boxes: {words}.", ""] if words else [])]
    replace_between(marker, "\n".join([*lines, *table(sizes + degrees), "", f"![{marker}]({drawn.name})"]))


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("nequip", "allegro"), default="nequip")
    parser.add_argument("--atoms", type=int, default=100_000, help="atoms of the largest box")
    parser.add_argument("--degree", type=int, default=2, help="l_max of the boxes of all sizes")
    parser.add_argument("--l-max", type=int, default=3, help="the highest l_max, on 192 atoms")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-page", action="store_true", help="leave docs/ as it is")
    add_settings(parser)
    return parser.parse_args()


def main() -> None:
    """Measure, and write results, table and plot."""
    options = arguments()
    here = machine()
    degrees = [measure(f"water{SMALLEST}", degree, options) for degree in range(options.l_max + 1)]
    result = {
        "date": today(),
        "machine": here,
        "commands": [shlex.join(["python", "benchmarks/scaling.py", *sys.argv[1:]])],
        "settings": {**SHARED, **described("equiforce", options.model)},
        "degrees": degrees,
        "sizes": by_size(options),
    }
    marker = "scaling" if options.model == "nequip" else f"scaling-{options.model}"
    path = RESULTS / f"{today()}-{slug(here)}-{marker}.json"
    save(path, result)
    if not options.no_page:
        write_page(result, marker)
    console.print(f"{path.relative_to(RESULTS.parents[1])}")


if __name__ == "__main__":
    main()
