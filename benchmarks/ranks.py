"""Measures time, memory and halo exchange of a step in LAMMPS for different numbers of atoms and ranks.

python benchmarks/ranks.py                                # both models, water and silicon, 1 and 2 ranks
python benchmarks/ranks.py --models allegro --structures water --atoms 1000000
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from machine import commit, machine, slug, today
from report import RESULTS, ROOT, replace_between, save
from rich.console import Console
from structures import box, make

from equiforce import model_file
from equiforce.calculators.untrained import untrained
from equiforce.data.read import read
from equiforce.models import REGISTRY

WORKER = Path(__file__).parent / "workers" / "lammps_rank.py"
PAGE = ROOT / "docs" / "scaling.md"
BASES = {"water": ("water64", ["H", "O"]), "silicon": ("crystal64", ["Si"])}
CUTOFF, SKIN = 5.0, 0.5  # Å
PER_SEARCH = 10  # steps
LOWEST, HIGHEST = 1, 200  # steps of a run
INPUT = """
units metal
atom_style atomic
read_data base.data
replicate {a} {b} {c}
pair_style equiforce
pair_coeff * * model.eqf {elements}
neighbor {skin} bin
neigh_modify every {per_search} delay 0 check no
velocity all create 300 1 loop geom
timestep 0.0002
fix integrate all nve
compute exchange all pair equiforce
thermo_style custom step etotal c_exchange[1] c_exchange[2]
thermo {steps}
run 1 post no
print "BEFORE $(c_exchange[1]:%.9g) $(c_exchange[2]:%.9g)"
run {steps} pre no
print "AFTER $(c_exchange[1]:%.9g) $(c_exchange[2]:%.9g)"
"""
console = Console()


class FailedError(RuntimeError):
    """LAMMPS failed."""


def prepare(folder: Path, kind: str, structure: str) -> int:
    """Write a model with random weights and the smallest structure, and return its number of atoms."""
    base, elements = BASES[structure]
    atoms = make(base)[0]
    options = {**REGISTRY[kind].presets["small"], "cutoff": CUTOFF}
    potential = untrained(elements, kind=kind, **options).potential
    potential.scale.data.fill_(0.05)  # eV: atoms at 300 K can follow the forces
    ase.io.write(folder / "base.xyz", atoms)
    model_file.save(folder / "model.eqf", potential, read(folder / "base.xyz", labels_required=False), {})
    ase.io.write(folder / "base.data", atoms, format="lammps-data", specorder=elements, masses=True, units="metal")
    return len(atoms)


def run(folder: Path, structure: str, copies: int, ranks: int, steps: int, timeout: float) -> dict[str, Any]:
    """Run LAMMPS for some steps, after one that is not measured, and return what it measures."""
    a, b, c = box(copies)
    elements = " ".join(BASES[structure][1])
    text = INPUT.format(a=a, b=b, c=c, elements=elements, skin=SKIN, per_search=PER_SEARCH, steps=steps)
    (folder / "in.lammps").write_text(text)
    command = [str(Path(sys.executable).with_name("mpirun")), "-np", str(ranks), sys.executable, str(WORKER)]
    command += ["-in", "in.lammps", "-log", "none"]
    environment = {"OMP_NUM_THREADS": "1"}
    try:
        result = subprocess.run(
            ["env", *(f"{k}={v}" for k, v in environment.items()), *command],
            cwd=folder, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise FailedError(f"more than {timeout:.0f} s") from None
    printed = result.stdout + result.stderr
    if result.returncode or "AFTER" not in printed:
        lines = [line for line in printed.splitlines() if "ERROR" in line or "killed" in line.lower()]
        raise FailedError(lines[0] if lines else printed[-300:])
    return numbers(printed, ranks, steps)


def numbers(printed: str, ranks: int, steps: int) -> dict[str, Any]:
    """Read seconds per step and their parts, memory and ghosts from what LAMMPS prints."""
    loop = re.findall(r"Loop time of (\S+) on \d+ procs for (\d+) steps with (\d+) atoms", printed)[-1]
    parts = {
        name.lower(): float(value) / steps
        for name, value in re.findall(r"^(Pair|Neigh|Comm|Modify)\s+\|[^|]+\|\s*(\S+)", printed, re.MULTILINE)
    }
    before, after = (
        np.array(re.search(rf"^{w} (\S+) (\S+)", printed, re.MULTILINE).groups(), float) for w in ("BEFORE", "AFTER")
    )
    exchange_seconds, exchange_bytes = (after - before) / steps / ranks
    ghosts, owned = (float(re.search(rf"{name}:\s+(\S+) ave", printed)[1]) for name in ("Nghost", "Nlocal"))
    return {
        "atoms": int(loop[2]), "ranks": ranks, "steps": steps, "seconds": float(loop[0]) / steps, "parts": parts,
        "exchange_seconds": exchange_seconds, "exchange_bytes": exchange_bytes, "ghosts": ghosts, "owned": owned,
        "peak_mb": [float(mb) for mb in re.findall(r"PEAK (\S+) MB", printed)],
        "neighbors": float(re.search(r"Ave neighs/atom = (\S+)", printed)[1]),
    }  # fmt: skip


def by_size(kind: str, structure: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure systems of growing size on each number of ranks, until one fails."""
    entries = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        n_atoms = prepare(folder, kind, structure)
        for ranks in options.ranks:
            copies, seconds = max(1, options.smallest // n_atoms), 0.02 * options.smallest / 200
            while copies * n_atoms <= options.atoms:
                steps = int(min(HIGHEST, max(LOWEST, options.seconds / seconds)))
                entry = {"model": kind, "structure": structure, "ranks": ranks, "commit": commit()}
                try:
                    entry |= run(folder, structure, copies, ranks, steps, options.timeout)
                except FailedError as error:
                    entries.append(entry | {"atoms": copies * n_atoms, "failed": str(error)})
                    console.print(f"[yellow]{kind} {structure} {copies * n_atoms:,} on {ranks}: {error}")
                    break
                entries.append(entry)
                seconds = options.factor * entry["seconds"]
                share = 100 * entry["exchange_seconds"] / entry["seconds"]
                console.print(
                    f"{kind} {structure} {entry['atoms']:>9,} atoms on {ranks}: {entry['seconds']:.4g} s per step, "
                    f"{1e6 * ranks * entry['seconds'] / entry['atoms']:.0f} µs per atom and core, "
                    f"{sum(entry['peak_mb']):,.0f} MB, exchange {share:.1f} %"
                )
                copies *= options.factor
    return entries


def table(entries: list[dict[str, Any]]) -> list[str]:
    """Write a row for each run."""
    rows = [
        "| model | system | atoms | ranks | s a step | µs an atom, step and core | ghosts for each own atom | exchange "
        "| bytes an atom and step | neighbour list, of time | peak GB, all ranks | kB an atom |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    smallest = {}
    for e in entries:
        start = f"| {e['model']} | {e['structure']} | {e['atoms']:,} | {e['ranks']} "
        if "failed" in e:
            rows.append(f"{start}| {e['failed']} | | | | | | | |")
            continue
        peak = sum(e["peak_mb"])
        first = smallest.setdefault((e["model"], e["structure"], e["ranks"]), peak)
        of_atom = f"{1024 * (peak - first) / e['atoms']:.1f}" if peak > 1.2 * first else ""
        rows.append(
            f"{start}| {e['seconds']:.4g} | {1e6 * e['seconds'] * e['ranks'] / e['atoms']:.0f} "
            f"| {e['ghosts'] / e['owned']:.2f} | {100 * e['exchange_seconds'] / e['seconds']:.1f} % "
            f"| {e['exchange_bytes'] / e['owned']:,.0f} | {100 * e['parts']['neigh'] / e['seconds']:.1f} % "
            f"| {peak / 1024:.2f} | {of_atom} |"
        )
    return rows


def of_many_ranks(entries: list[dict[str, Any]]) -> list[str]:
    """Write the efficiency of several ranks, for the same system and for one that grows with the number of ranks."""
    good = {(e["model"], e["structure"], e["atoms"], e["ranks"]): e for e in entries if "seconds" in e}
    rows = ["| model | system | atoms | ranks | strong scaling | weak scaling |", "|---|---|---|---|---|---|"]
    for (model, structure, atoms, ranks), e in good.items():
        if ranks == 1:
            continue
        alone, smaller = good.get((model, structure, atoms, 1)), good.get((model, structure, atoms // ranks, 1))
        strong = f"{100 * alone['seconds'] / (ranks * e['seconds']):.0f} %" if alone else ""
        weak = f"{100 * smaller['seconds'] / e['seconds']:.0f} %" if smaller else ""
        rows.append(f"| {model} | {structure} | {atoms:,} | {ranks} | {strong} | {weak} |")
    return rows


def main() -> None:
    """Measure, save, and write the tables into docs/scaling.md."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", default=["nequip", "allegro"], choices=["nequip", "allegro"])
    parser.add_argument("--structures", nargs="+", default=["water", "silicon"], choices=list(BASES))
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--smallest", type=int, default=1536, help="atoms of the smallest system")
    parser.add_argument("--atoms", type=int, default=100_000, help="atoms of the largest system")
    parser.add_argument("--factor", type=int, default=2, help="factor from one size to the next")
    parser.add_argument(
        "--seconds", type=float, default=15.0, help="intended time of a run, which has at least one step"
    )
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds after which a run has failed")
    parser.add_argument("--name", default="ranks", help="name of the result; any but ranks leaves the page as it is")
    parser.add_argument("--add", action="store_true", help="add to the results of today on this machine")
    options = parser.parse_args()
    result = {"date": today(), "machine": machine(), "commands": [], "entries": []}
    path = RESULTS / f"{today()}-{slug(result['machine'])}-{options.name}.json"
    if options.add:
        result = json.loads(path.read_text())
    result["commands"].append(f"python {shlex.join(sys.argv)}")
    for kind in options.models:
        for structure in options.structures:
            result["entries"] += by_size(kind, structure, options)
            save(path, result)
    if options.name == "ranks":
        write_page(result)


def write_page(result: dict[str, Any]) -> None:
    """Write the tables and their origin into docs/scaling.md."""
    found, entries = result["machine"], result["entries"]
    words = (
        f"{result['date']}; {found['cpu']}, {found['cores']} cores, {found['memory_gib']} GiB, no GPU; load before the "
        f"run {found['load_before']}; equiforce at {entries[0]['commit']}."
    )
    commands = [f"    {command}" for command in result["commands"]]
    lines = [words, "", *commands, "", *table(entries), "", *of_many_ranks(entries)]
    replace_between("ranks", "\n".join(lines), PAGE)


if __name__ == "__main__":
    main()
