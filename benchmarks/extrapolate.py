"""From a step on one and two ranks to many nodes: ghosts, bytes, seconds; every assumption is an argument.

python benchmarks/extrapolate.py                 # from the latest result of benchmarks/ranks.py into docs/scaling.md
python benchmarks/extrapolate.py --cores 64 --bandwidth 12.5
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ranks import CUTOFF, PAGE, PER_SEARCH, SKIN
from report import RESULTS, replace_between

DENSITY = {"water": 3 / 29.9, "silicon": 8 / 5.43**3}  # atoms/Å³
GB = 1e9
POSITION_AND_FORCE = 2 * 3 * 8  # bytes of a ghost in each step: there and back
SEARCH = 6 * 8  # bytes of a ghost in each search: position, tag, type, mask
SWAPS = 6  # messages of one exchange with all neighbours, where domains are wider than the ghost shell
SYSTEMS = {"HIV capsid": 44e6, "water": 100e6}  # atoms, of arXiv 2304.10061
NODES = (16, 64, 256, 1024, 1280)
PUBLISHED = {("HIV capsid", 1280): 8.73, ("water", 1280): 4.32}  # steps/s on nodes of 4 A100


class Measured(NamedTuple):
    """What one core does."""

    atoms: list[float]  # of each size
    seconds: list[float]  # of a step, without exchange
    exchanged: float  # bytes of a ghost and step, beside position and force
    exchanges: int  # between layers, there and back
    per_atom: float  # bytes of memory


def seconds(found: Measured, atoms: float) -> float:
    """Of a step of one core: between the sizes that were measured, or on the line through the two nearest."""
    n, t = found.atoms, found.seconds
    if atoms >= n[-1]:
        return t[-1] * atoms / n[-1]
    if atoms <= n[0]:
        return t[0] - (n[0] - atoms) * (t[1] - t[0]) / (n[1] - n[0])
    return float(np.interp(atoms, n, t))


def ghosts(atoms: float, density: float, reach: float = CUTOFF + SKIN) -> float:
    """Atoms within reach of a cube of so many atoms."""
    edge = (atoms / density) ** (1 / 3)
    return density * ((edge + 2 * reach) ** 3 - edge**3)


def measured(entries: list[dict[str, Any]], model: str, structure: str) -> Measured | None:
    """All sizes on one rank; memory and bytes of the largest."""
    good = [e for e in entries if (e["model"], e["structure"]) == (model, structure) and "seconds" in e]
    alone = sorted((e for e in good if e["ranks"] == 1), key=lambda e: e["atoms"])
    if len(alone) < 2:
        return None
    small, large = alone[0], alone[-1]
    per_atom = 1e6 * (large["peak_mb"][0] - small["peak_mb"][0]) / max(1, large["atoms"] - small["atoms"])
    # 2 (there and back) for each layer but the first of a preset of three
    exchanges = 4 if large["exchange_bytes"] else 0
    busy = [e["seconds"] - e["exchange_seconds"] for e in alone]
    return Measured([e["atoms"] for e in alone], busy, large["exchange_bytes"] / large["ghosts"], exchanges, per_atom)


def step(found: Measured, atoms: float, nodes: int, density: float, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of a step and where they go, bytes that leave a node, memory of a node."""
    of_node, of_core = atoms / nodes, atoms / nodes / options.cores
    outside, outside_core = ghosts(of_node, density), ghosts(of_core, density)
    of_ghost = POSITION_AND_FORCE + SEARCH / PER_SEARCH + found.exchanged
    layers = math.ceil((CUTOFF + SKIN) / (of_core / density) ** (1 / 3))  # of domains within reach
    compute = seconds(found, of_core)
    network = outside * of_ghost / (options.bandwidth * GB)
    memory = options.cores * outside_core * of_ghost / (options.memory_bandwidth * GB)
    latency = options.latency * 1e-6 * SWAPS * layers * (2 + found.exchanges)
    return {
        "compute": compute, "network": network, "memory": memory, "latency": latency,
        "seconds": compute + network + memory + latency, "per_core": of_core, "ghosts": outside_core / of_core,
        "bytes": outside_core * of_ghost / of_core, "node_gb": (of_node * found.per_atom + options.cores * 0.45e9) / GB,
    }  # fmt: skip


def check(entries: list[dict[str, Any]]) -> list[str]:
    """HaloExchange that LAMMPS had, against those of a cube: what the extrapolation rests on."""
    rows = ["| system | atoms of a rank | ranks | ghosts, LAMMPS | ghosts, cube |", "|---|---|---|---|---|"]
    seen = set()
    for e in entries:
        key = (e["structure"], e.get("atoms"), e["ranks"])
        if "ghosts" in e and key not in seen and e["ranks"] == 1:
            seen.add(key)
            predicted = ghosts(e["owned"], DENSITY[e["structure"]])
            rows.append(
                f"| {e['structure']} | {e['owned']:,.0f} | {e['ranks']} | {e['ghosts']:,.0f} | {predicted:,.0f} |"
            )
    return rows


def table(entries: list[dict[str, Any]], options: argparse.Namespace) -> list[str]:
    """A row for each model, system and number of nodes."""
    rows = [
        "| model | system | nodes | atoms a core | ghosts for each own atom | bytes an atom and step | GB a node "
        "| s a step | of which network and latency | steps/s | ns/day at 1 fs | published, nodes of 4 A100 |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for model in ("allegro", "nequip"):
        found = measured(entries, model, "water")
        for system, atoms in SYSTEMS.items() if found else ():
            for nodes in NODES:
                at = step(found, atoms, nodes, DENSITY["water"], options)
                spoken = (at["network"] + at["latency"] + at["memory"]) / at["seconds"]
                published, speed = PUBLISHED.get((system, nodes), ""), 1 / at["seconds"]
                rows.append(
                    f"| {model} | {system}, {atoms / 1e6:.0f} M | {nodes:,} | {at['per_core']:,.0f} "
                    f"| {at['ghosts']:.1f} | {at['bytes']:,.0f} | {at['node_gb']:,.0f} "
                    f"| {at['seconds']:.3g} | {100 * spoken:.0f} % | {speed:.3g} | {0.0864 * speed:.2g} | {published} |"
                )
    return rows


def main() -> None:
    """Writes the tables into docs/scaling.md."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("result", nargs="?", type=Path, help="of benchmarks/ranks.py; the latest if left out")
    parser.add_argument("--cores", type=int, default=128, help="of a node, a rank each")
    parser.add_argument("--bandwidth", type=float, default=25.0, help="of a node's network, GB/s")
    parser.add_argument("--memory-bandwidth", type=float, default=100.0, help="between the ranks of a node, GB/s")
    parser.add_argument("--latency", type=float, default=5.0, help="of a message, µs")
    options = parser.parse_args()
    path = options.result or max(RESULTS.glob("*-ranks.json"))
    entries = json.loads(path.read_text())["entries"]
    assumed = (
        f"From `{path.name}`. A node has {options.cores} cores, a rank each, {options.bandwidth:g} GB/s to others, "
        f"{options.memory_bandwidth:g} GB/s among its ranks; a message takes {options.latency:g} µs; a core "
        "is as fast as the one that was measured."
    )
    text = "\n".join([assumed, "", *table(entries, options), "", *check(entries)])
    replace_between("extrapolation", text, PAGE)
    print(text)


if __name__ == "__main__":
    main()
