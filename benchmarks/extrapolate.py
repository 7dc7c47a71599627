"""Extrapolates the time of a step from one and two ranks to many nodes; every assumption is an argument.

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
POSITION_AND_FORCE = 2 * 3 * 8  # bytes per ghost and step: its position and its force
SEARCH = 6 * 8  # bytes per ghost and neighbour search: position, tag, type, mask
SWAPS = 6  # messages of one exchange with all neighbours, if domains are wider than the ghost shell
SYSTEMS = {"HIV capsid": 44e6, "water": 100e6}  # atoms, of arXiv 2304.10061
NODES = (16, 64, 256, 1024, 1280)
PUBLISHED = {("HIV capsid", 1280): 8.73, ("water", 1280): 4.32}  # steps/s on nodes of 4 A100


class Measured(NamedTuple):
    """The measurements on one core."""

    atoms: list[float]  # sizes
    seconds: list[float]  # per step at each size, without exchange
    exchanged: float  # bytes per ghost and step, beyond position and force
    exchanges: int  # number of forward and reverse communications between layers
    per_atom: float  # bytes of memory per atom


def seconds(found: Measured, atoms: float) -> float:
    """Return the seconds of a step on one core, interpolated between the measured sizes or extrapolated beyond them."""
    n, t = found.atoms, found.seconds
    if atoms >= n[-1]:
        return t[-1] * atoms / n[-1]
    if atoms <= n[0]:
        return t[0] - (n[0] - atoms) * (t[1] - t[0]) / (n[1] - n[0])
    return float(np.interp(atoms, n, t))


def ghosts(atoms: float, density: float, reach: float = CUTOFF + SKIN) -> float:
    """Return the number of atoms outside a cube of ``atoms`` atoms that are within reach of it."""
    edge = (atoms / density) ** (1 / 3)
    return density * ((edge + 2 * reach) ** 3 - edge**3)


def measured(entries: list[dict[str, Any]], model: str, structure: str) -> Measured | None:
    """Return the measurements on one rank; memory and bytes are those of the largest size."""
    good = [e for e in entries if (e["model"], e["structure"]) == (model, structure) and "seconds" in e]
    alone = sorted((e for e in good if e["ranks"] == 1), key=lambda e: e["atoms"])
    if len(alone) < 2:
        return None
    small, large = alone[0], alone[-1]
    per_atom = 1e6 * (large["peak_mb"][0] - small["peak_mb"][0]) / max(1, large["atoms"] - small["atoms"])
    # forward and reverse communication for each layer but the first of a preset of three
    exchanges = 4 if large["exchange_bytes"] else 0
    busy = [e["seconds"] - e["exchange_seconds"] for e in alone]
    return Measured([e["atoms"] for e in alone], busy, large["exchange_bytes"] / large["ghosts"], exchanges, per_atom)


def step(found: Measured, atoms: float, nodes: int, density: float, options: argparse.Namespace) -> dict[str, float]:
    """Return the seconds of a step and their parts, the bytes that leave a core, and the memory of a node."""
    per_node, per_core = atoms / nodes, atoms / nodes / options.cores
    ghosts_of_node, ghosts_of_core = ghosts(per_node, density), ghosts(per_core, density)
    ghost_bytes = POSITION_AND_FORCE + SEARCH / PER_SEARCH + found.exchanged
    layers = math.ceil((CUTOFF + SKIN) / (per_core / density) ** (1 / 3))  # of domains within reach
    compute = seconds(found, per_core)
    network = ghosts_of_node * ghost_bytes / (options.bandwidth * GB)
    memory = options.cores * ghosts_of_core * ghost_bytes / (options.memory_bandwidth * GB)
    latency = options.latency * 1e-6 * SWAPS * layers * (2 + found.exchanges)
    node_gb = (per_node * found.per_atom + options.cores * 0.45e9) / GB
    return {
        "compute": compute, "network": network, "memory": memory, "latency": latency,
        "seconds": compute + network + memory + latency, "per_core": per_core, "ghosts": ghosts_of_core / per_core,
        "bytes": ghosts_of_core * ghost_bytes / per_core, "node_gb": node_gb,
    }  # fmt: skip


def check(entries: list[dict[str, Any]]) -> list[str]:
    """Compare the number of ghosts in LAMMPS with that of a cube, on which the extrapolation rests."""
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
    """Write a row for each model, system and number of nodes."""
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
                share = (at["network"] + at["latency"] + at["memory"]) / at["seconds"]
                published, speed = PUBLISHED.get((system, nodes), ""), 1 / at["seconds"]
                rows.append(
                    f"| {model} | {system}, {atoms / 1e6:.0f} M | {nodes:,} | {at['per_core']:,.0f} "
                    f"| {at['ghosts']:.1f} | {at['bytes']:,.0f} | {at['node_gb']:,.0f} "
                    f"| {at['seconds']:.3g} | {100 * share:.0f} % | {speed:.3g} | {0.0864 * speed:.2g} | {published} |"
                )
    return rows


def main() -> None:
    """Write the tables into docs/scaling.md."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("result", nargs="?", type=Path, help="file of benchmarks/ranks.py; the latest by default")
    parser.add_argument("--cores", type=int, default=128, help="cores of a node, with a rank on each")
    parser.add_argument("--bandwidth", type=float, default=25.0, help="network bandwidth of a node, GB/s")
    parser.add_argument("--memory-bandwidth", type=float, default=100.0, help="bandwidth between ranks of a node, GB/s")
    parser.add_argument("--latency", type=float, default=5.0, help="latency of a message, µs")
    options = parser.parse_args()
    path = options.result or max(RESULTS.glob("*-ranks.json"))
    entries = json.loads(path.read_text())["entries"]
    assumed = (
        f"From `{path.name}`. A node has {options.cores} cores with a rank on each. Its bandwidth is "
        f"{options.bandwidth:g} GB/s to other nodes and {options.memory_bandwidth:g} GB/s between its ranks. A message "
        f"takes {options.latency:g} µs. A core is as fast as the measured one."
    )
    text = "\n".join([assumed, "", *table(entries, options), "", *check(entries)])
    replace_between("extrapolation", text, PAGE)
    print(text)


if __name__ == "__main__":
    main()
