"""Tests and times equiforce on a GPU in one command, within ten minutes and without a network.

python benchmarks/gpu.py              # results into benchmarks/results/ and docs/benchmarks.md

First, energies, forces and the gradient of a training loss must be those of the CPU. Then inference, training, the
largest system that fits and the share of the card's memory bandwidth are measured, and last the installed peers.
"""

import argparse
import copy
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any

import torch
from cases import ENVIRONMENTS, HERE, MODELS, SHARED, add_settings, described, message, settings_of
from machine import commit, machine, slug, today
from process import FailedError, Worker
from report import RESULTS, provenance, quartiles, replace_between, save
from rich.console import Console
from structures import SPECIES, make

from equiforce.graph import AtomicGraph, batch
from equiforce.model_file import DTYPES, build_potential
from equiforce.neighbors import build_graph
from equiforce.potential import Potential
from equiforce.structure import Structure

PEERS_NEED = 150  # seconds that must be left to start the peers
COMPARED = ("nequip", "nequip-parity", "allegro")
FIRST_OF_GROWING, GROWTH = 4096, 4  # molecules in the first box, and the factor from one box to the next
TOLERANCE = {"float64": 1e-9, "float32": 1e-4}  # relative to the largest value
COPIED = 2**31  # bytes
REPEATS = 9
PEERS_CASES = (
    *(f"{name}/water512/*" for name in ("nequip", "mace", "allegro")),
    "nequip/*/training_step",
    "mace/acac5/*",
)
console = Console()


def graph_of(name: str) -> AtomicGraph:
    """Return the batch of a named structure, on the CPU."""
    frames = make(name)
    structures = [
        Structure(atomic_numbers=a.numbers, positions=a.positions, cell=a.cell.array, pbc=a.pbc) for a in frames
    ]
    return batch([build_graph(s, SPECIES, SHARED["cutoff"]) for s in structures])


def answers(potential: Potential, graph: AtomicGraph) -> dict[str, torch.Tensor]:
    """Compute what must not depend on the device; the training gradient uses second derivatives of all kernels."""
    potential.eval()
    prediction = potential(graph)
    found = {"energies": prediction.energies, "forces": prediction.forces}
    potential.train()
    prediction = potential(graph)
    loss = prediction.energies.square().mean() + prediction.forces.square().mean()
    weights = [p for p in potential.parameters() if p.requires_grad]
    found["training gradient"] = torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)])
    return {name: value.detach().double().cpu() for name, value in found.items()}


def compare(models: Iterable[str] = COMPARED, dtypes: Iterable[str] = tuple(TOLERANCE)) -> list[dict[str, Any]]:
    """Return the largest differences between GPU and CPU, relative to the largest value."""
    rows = []
    for model in models:
        ours = described("equiforce", model)
        for dtype in dtypes:
            tolerance = TOLERANCE[dtype]
            for name in ("acac5", "water64"):
                torch.manual_seed(0)
                fixed = {"zbl": False, "atomic_energies_trainable": False, "scale_trainable": False}
                config = {"cutoff": SHARED["cutoff"], "mean_neighbors": SHARED["mean_neighbors"]} | ours["model"]
                about = {"kind": ours["kind"], "config": config, "species": SPECIES, "dtype": dtype}
                potential = build_potential(about | fixed)
                graph = graph_of(name)
                on_gpu = copy.deepcopy(potential).to("cuda")
                expected, got = answers(potential, graph), answers(on_gpu, graph.to("cuda"))
                for quantity, value in expected.items():
                    error = float((got[quantity] - value).abs().max() / value.abs().max())
                    row = {"model": model, "dtype": dtype, "structure": name, "quantity": quantity, "error": error}
                    rows.append(row | {"passed": error <= tolerance})
    return rows


def bandwidth() -> float:
    """Measure GB/s of a large copy on the card; reads and writes both count."""
    source = torch.zeros(COPIED, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    times = []
    for _ in range(REPEATS):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        target.copy_(source)
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop))
    return 2 * COPIED / 1e6 / quartiles(times)[1]


def gathered(n_edges: int, model: dict[str, Any], dtype: str) -> float:
    """Return the bytes that the convolutions of one call read if nothing is cached.

    In the forward pass, each layer reads the features of the neighbour of every edge. In the backward pass it reads
    them again, and the gradient at the centre. The first layer has only scalars.
    """
    scalars = model["channels"]
    features = scalars * (model["l_max"] + 1) ** 2 * (2 if model["parity"] else 1)
    inputs = [scalars] + [features] * (model["n_layers"] - 1)
    outputs = [features] * (model["n_layers"] - 1) + [scalars]
    width = DTYPES[dtype].itemsize
    return n_edges * width * sum(2 * i + o for i, o in zip(inputs, outputs, strict=True))


def measure(model: str, structure: str, task: str, copied: float, options: argparse.Namespace) -> dict[str, Any]:
    """Measure time, memory and rates of one task in a new process."""
    entry = {"model": model, "structure": structure, "task": task, "dtype": options.dtype, "commit": commit()}
    try:
        told = message("equiforce", model, structure, task, settings_of(options))
        worker = Worker("equiforce", told, f"gpu-{model}-{structure}-{task}", options.timeout)
        ms = [worker.go() for _ in range(REPEATS)]
        entry |= worker.ready | {"ms": ms} | worker.end()
    except FailedError as error:
        console.print(f"[yellow]{model}, {structure}, {task}: {error}")
        return entry | {"failed": str(error)}
    middle = quartiles(ms)[1]
    entry["atoms_per_s"] = 1e3 * entry["atoms"] / middle
    if task == "energy_forces" and MODELS[model]["kind"] == "nequip":
        gb_per_s = gathered(entry["edges"], MODELS[model]["model"], options.dtype) / 1e6 / middle
        entry["share_of_bandwidth"] = gb_per_s / copied
    console.print(f"{model}, {structure}, {task}: {middle:,.2f} ms, {entry['atoms_per_s']:,.0f} atoms/s")
    return entry


def growing(copied: float, options: argparse.Namespace, deadline: float) -> list[dict[str, Any]]:
    """Measure boxes of water of growing size, until one does not fit or the time is up."""
    entries: list[dict[str, Any]] = []
    n_molecules = FIRST_OF_GROWING
    while time.monotonic() < deadline and not (entries and "failed" in entries[-1]):
        entries.append(measure("nequip", f"water{n_molecules}", "energy_forces", copied, options))
        n_molecules *= GROWTH
    return entries


def peers(deadline: float) -> None:
    """Compare equiforce with the installed peers, eager and compiled, by ``run.py``."""
    installed = [name for name in ("nequip", "mace", "allegro") if (ENVIRONMENTS / name / "bin" / "python").exists()]
    left = deadline - time.monotonic()
    if not installed or left < PEERS_NEED:
        console.print("the peers are not measured: none is installed here, or the time is up")
        return
    command = [sys.executable, str(HERE / "run.py"), *PEERS_CASES, "--device", "cuda", "--seconds", "5"]
    command += ["--repeats", "9", "--peers", *installed]
    try:
        subprocess.run(command, check=False, timeout=left)
    except subprocess.TimeoutExpired:
        console.print("[yellow]the time was up before all peers were measured")


def table(result: dict[str, Any]) -> list[str]:
    """Write the differences from the CPU, and a row for each measurement."""
    worst = {dtype: max(row["error"] for row in result["compared"] if row["dtype"] == dtype) for dtype in TOLERANCE}
    words = ", ".join(f"{error:.1e} in {dtype}" for dtype, error in worst.items())
    rows = [
        f"Largest difference from the CPU, relative to the largest value: {words}. "
        f"A large copy moves {result['copy_gb_per_s']:,.0f} GB/s.",
        "",
        "| model | structure | task | atoms | median ms | atoms/s | GPU MB | gathered bytes/s over the copy's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for e in result["entries"]:
        start = f"| {e['model']} | {e['structure']} | {e['task']} "
        if "failed" in e:
            rows.append(f"{start}| | {e['failed']} | | | |")
            continue
        share = f"{e['share_of_bandwidth']:.2f}" if "share_of_bandwidth" in e else ""
        rows.append(
            f"{start}| {e['atoms']:,} | {quartiles(e['ms'])[1]:,.2f} | {e['atoms_per_s']:,.0f} "
            f"| {e['gpu_mb']:,.0f} | {share} |"
        )
    return rows


def main() -> None:
    """Compare, measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_settings(parser)
    parser.add_argument("--seconds", type=float, default=540, help="time after which no new measurement starts")
    parser.set_defaults(device="cuda", timeout=120)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("torch finds no GPU here: run this on a machine with a GPU and a CUDA build of torch.")
    deadline = time.monotonic() + options.seconds
    compared = compare()
    if failed := [row for row in compared if not row["passed"]]:
        sys.exit("The results of the GPU differ from those of the CPU:\n" + "\n".join(map(str, failed)))
    copied = bandwidth()
    torch.cuda.empty_cache()
    entries = [
        measure(model, structure, "energy_forces", copied, options)
        for model in COMPARED
        for structure in ("water343", "water3375")
    ]
    entries += [
        measure(model, name, "training_step", copied, options)
        for model in ("nequip", "allegro")
        for name in ("acac5", "water64")
    ]
    entries += growing(copied, options, deadline - PEERS_NEED)
    result = {
        "date": today(),
        "machine": machine(),
        "commands": [shlex.join(["python", "benchmarks/gpu.py", *sys.argv[1:]])],
        "compared": compared,
        "copy_gb_per_s": copied,
        "entries": entries,
    }
    save(RESULTS / f"{today()}-{slug(result['machine'])}-gpu.json", result)
    told = provenance({**result, "entries": [{"commit": e["commit"], "runners": {"": e}} for e in entries]})
    replace_between("gpu", "\n".join([*told, "", *table(result)]))
    peers(deadline)


if __name__ == "__main__":
    main()
