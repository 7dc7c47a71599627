"""Trains the presets of both models on several real data sets for the same time, and compares their errors.

    python benchmarks/presets.py time DATA_FOLDER                  # once, with nothing else running: steps per second
    python benchmarks/presets.py train DATA_FOLDER [--minutes 4]   # continues an earlier run
    python benchmarks/presets.py train DATA_FOLDER --models allegro:n_layers=3,l_max=1

DATA_FOLDER holds the data sets named in ``SETS`` (BOTNet's acetylacetone, deepmd-kit's water, mlearn's silicon and
copper). A run has as many steps as fit into its minutes on one quiet core, so that other programs may run at the same
time. Models are chosen by validation errors, and only the presets are tested. Results: ``results/presets.json`` and
the table in docs/accuracy.md.
"""

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
import yaml
from machine import commit, machine
from report import RESULTS, ROOT, replace_between

import equiforce
from equiforce.config import configured
from equiforce.data.dataset import Batches
from equiforce.models import REGISTRY
from equiforce.neighbors import build_graph
from equiforce.preparation import Prepared, prepare
from equiforce.training.loop import backward
from equiforce.training.optimizer import build_optimizer
from equiforce.training.processes import make_fabric

PATH = RESULTS / "presets.json"
PAGE = ROOT / "docs" / "accuracy.md"
ONE_BOX = {"training.batch_size": 1}
SETS: dict[str, dict[str, Any]] = {
    "acetylacetone": {
        "files": ["acac_train_300K.xyz", "acac_isolated_atoms.xyz"],
        "test": "acac_test_MD_300K.xyz@::3",
        "options": {"split.validation": 50},
    },
    "water": {
        "files": ["water_pbe0ts_train.xyz@:133"],
        "test": "water_pbe0ts_train.xyz@290:320",
        "options": {"split.validation": 13, **ONE_BOX},
    },
    "silicon": {"files": ["mlearn_Si_train.xyz"], "test": "mlearn_Si_test.xyz", "options": {"split.validation": 20}},
    "copper": {
        "files": ["mlearn_Cu_train.xyz"],
        "test": "mlearn_Cu_test.xyz",
        "options": {"split.validation": 20, **ONE_BOX},
    },
}
STEPS = 25  # in a timing
named = [f"{kind}:{preset}" for kind in ("nequip", "allegro") for preset in REGISTRY[kind].presets]


def options_of(name: str, of_set: str, folder: Path) -> dict[str, Any]:
    """Return the options of ``equiforce train`` for a model on a data set."""
    kind, _, rest = name.partition(":")
    data = SETS[of_set]
    options = {"model.kind": kind, "split.test_file": [str(folder / data["test"])], **data["options"]}
    if rest in REGISTRY[kind].presets:
        return options | {"model.preset": rest}
    changes = yaml.safe_load("{" + rest.replace("=", ": ") + "}")
    return options | {key if "." in key else f"model.{key}": value for key, value in changes.items()}


def files_of(of_set: str, folder: Path) -> list[str]:
    """Return the files with training data."""
    return [str(folder / file) for file in SETS[of_set]["files"]]


def prepared(name: str, of_set: str, folder: Path) -> Prepared:
    """Return the untrained potential and its data."""
    from rich.console import Console

    options = options_of(name, of_set, folder) | {"split.train_file": files_of(of_set, folder)}
    return prepare(configured({}, options), Path("nowhere"), resumed=False, console=Console(quiet=True))


def timing(name: str, of_set: str, folder: Path) -> dict[str, Any]:
    """Measure the milliseconds of a training step, and the microseconds per atom of a step of molecular dynamics.

    Both are processor times, which other programs change by some ten per cent.
    """
    ready = prepared(name, of_set, folder)
    potential, settings = ready.potential, ready.config
    n_weights = sum(p.numel() for p in potential.model.parameters() if p.requires_grad)
    limits = {"batch_size": settings.training.batch_size, "max_edges": settings.training.max_edges}
    batches = Batches(ready.parts.train, potential.species, potential.cutoff, **limits)
    fabric = make_fabric(settings.training)
    optimizer = build_optimizer(potential, settings.optimizer)
    steps, stream = [], (batch for epoch in range(10**6) for batch in batches.epoch(epoch))
    for _ in range(STEPS):
        graph, labels = next(stream)
        began = time.process_time()
        optimizer.zero_grad(set_to_none=False)
        backward(potential, graph, labels, 0.0, settings.loss, fabric)
        optimizer.step()
        steps.append(time.process_time() - began)
    potential.eval().requires_grad_(False)
    largest = max(ready.parts.train, key=len)
    graph, calls = build_graph(largest, potential.species, potential.cutoff), []
    for _ in range(STEPS):
        began = time.process_time()
        potential(graph)
        calls.append(time.process_time() - began)
    return {
        "set": of_set,
        "model": name,
        "step_ms": 1e3 * fmean(sorted(steps[2:])[: -STEPS // 5]),  # not the median, because batches differ in size
        "md_us_per_atom": 1e6 * median(calls[2:]) / graph.n_atoms,
        "weights": n_weights,
        "commit": commit(),
    }


def train(name: str, of_set: str, folder: Path, minutes: float, step_ms: float, seed: int) -> dict[str, Any]:
    """Train one model, and return its validation errors, and its test errors if it is a preset."""
    steps = max(50, round(6e4 * minutes / step_ms))
    options = options_of(name, of_set, folder) | {"training.max_steps": steps, "training.seed": seed}
    with tempfile.TemporaryDirectory() as scratch:
        trained = equiforce.train(files_of(of_set, folder), Path(scratch) / "run", options=options)
        rows = list(csv.DictReader((trained.folder / "log.csv").read_text().splitlines()))
    best = min(rows, key=lambda row: float(row["validation_loss"]))
    total = trained.test.total
    row = {"set": of_set, "model": name, "minutes": minutes, "seed": seed, "steps": steps, "commit": commit()}
    row |= {"validation_loss": float(best["validation_loss"]), "validation_forces": float(best["forces_mae_meV_per_A"])}
    row |= {"validation_energy": float(best["energy_mae_meV_per_atom"])}
    test = {"energy": total.energy_per_atom.mae, "forces": total.forces.mae, "forces_rmse": total.forces.rmse}
    if total.stress is not None:
        test["stress"] = total.stress.mae
    return row | ({"test": test} if name in named else {})


def table(known: dict[str, Any]) -> str:
    """Write means over seeds, with a row for each preset and a column for each data set."""
    sets = [name for name in SETS if any(row["set"] == name for row in known["runs"])]
    head = "| model | weights | " + " | ".join(f"{name}: forces, energy; step; MD" for name in sets) + " |"
    lines = [head, "|---" * (len(sets) + 2) + "|"]
    for model in named:
        cells, n_weights = [], ""
        for of_set in sets:
            runs = [r for r in known["runs"] if (r["set"], r["model"]) == (of_set, model) and "test" in r]
            times = [t for t in known["times"] if (t["set"], t["model"]) == (of_set, model)]
            if not runs or not times:
                cells.append("")
                continue
            forces, energy = (fmean(r["test"][key] for r in runs) for key in ("forces", "energy"))
            n_weights = f"{times[0]['weights']:,}"
            speed = f"{times[0]['step_ms']:.0f} ms; {times[0]['md_us_per_atom']:.0f} µs"
            cells.append(f"**{forces:.1f}**, {energy:.2f}; {speed}")
        lines.append(f"| {model.replace(':', ' ')} | {n_weights} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def parser(about: str, sets: Sequence[str], models: Sequence[str]) -> argparse.ArgumentParser:
    """Return the argument parser of this program, and of others that train many models for the same time."""
    made = argparse.ArgumentParser(description=about.split("\n", maxsplit=1)[0])
    made.add_argument("task", choices=("time", "train", "table"))
    made.add_argument("folder", type=Path)
    made.add_argument("--minutes", type=float, default=4.0)
    made.add_argument("--seeds", nargs="*", type=int, default=[0])
    made.add_argument("--sets", nargs="*", default=list(sets))
    made.add_argument("--models", nargs="*", default=models, help="kind:preset, or kind:option=value,option=value")
    return made


def known(path: Path) -> dict[str, Any]:
    """Read the results in a file."""
    return json.loads(path.read_text()) if path.exists() else {"machine": machine(), "times": [], "runs": []}


def fill(path: Path, chosen: argparse.Namespace) -> None:
    """Measure the times and perform the runs that are missing in a file, and add them."""
    torch.set_num_threads(1)
    RESULTS.mkdir(exist_ok=True)

    def add(part: str, row: dict[str, Any]) -> None:
        now = known(path)  # another process may have written meanwhile
        now[part].append(row)
        path.write_text(json.dumps(now, indent=1) + "\n")
        print(json.dumps(row), flush=True)

    for of_set in chosen.sets if chosen.task != "table" else ():
        for model in chosen.models:
            times = [t for t in known(path)["times"] if (t["set"], t["model"]) == (of_set, model)]
            if not times:
                add("times", timing(model, of_set, chosen.folder))
                times = known(path)["times"][-1:]
            if chosen.task == "time":
                continue
            for seed in chosen.seeds:
                key = (of_set, model, chosen.minutes, seed)
                if not any((r["set"], r["model"], r["minutes"], r["seed"]) == key for r in known(path)["runs"]):
                    step_ms = times[0]["step_ms"]
                    add("runs", train(model, of_set, chosen.folder, chosen.minutes, step_ms, seed))


def main() -> None:
    """Run what is missing in the results."""
    fill(PATH, parser(__doc__, list(SETS), named).parse_args())
    replace_between("presets", table(known(PATH)), PAGE)


if __name__ == "__main__":
    main()
