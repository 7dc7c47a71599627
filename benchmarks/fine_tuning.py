"""Compares fine-tuning with training from scratch, on the same few frames and for the same time.

    OMP_NUM_THREADS=1 python benchmarks/fine_tuning.py START DATA [DATA ...] --frames 20 50 --time 60s --seeds 0 1 2

START is a file that ``equiforce import`` reads, a model file, or a run folder. Each seed is another choice of frames,
other batches and other random weights. Three models are trained on the frames: the start model, the same network from
random weights, and the default network from random weights. Errors on frames that no model has seen go into
``results/fine-tuning.json`` and into a table of docs/fine-tuning.md; results of earlier calls stay. The time is that of
the processor, so that other programs on the machine give no model fewer steps.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from types import SimpleNamespace
from typing import Any

import ase.io
from machine import commit, machine, today
from report import ROOT, replace_between

import equiforce
from equiforce.elements import symbols_by_number
from equiforce.evaluate import Errors
from equiforce.finetuning.comparison import AFTER, BEFORE, SCRATCH
from equiforce.foundation import FORMATS, import_potential
from equiforce.training import loop

RESULTS = Path(__file__).parent / "results" / "fine-tuning.json"
PAGE = ROOT / "docs" / "fine-tuning.md"
DEFAULT = "default network from scratch"
NAMES = (BEFORE, AFTER, SCRATCH, DEFAULT)
VALIDATION, MOST_TESTED = 20, 100
KEY = ("start", "data", "frames", "time", "seed")


def start_model(source: Path, data: Path, folder: Path) -> Path:
    """The model file from which to start, with the elements of the data."""
    if not any(source.name.endswith(end) for end in FORMATS):
        return source
    elements = {symbol for atoms in ase.io.iread(data) for symbol in symbols_by_number(atoms.numbers)}
    potential, origin = import_potential(source, sorted(elements))
    path = folder / f"{source.stem}-{data.stem}.eqf"
    equiforce.save(path, potential.float(), [], {"source": origin.as_dict()})
    return path


def measure(start: Path, data: Path, frames: int, seed: int, arguments: argparse.Namespace) -> dict[str, Errors]:
    """Train all models for one seed, and return their errors by name."""
    n_frames = sum(1 for _ in ase.io.iread(data))
    options: dict[str, Any] = {
        "split.train": frames,
        "split.validation": VALIDATION,
        "split.test": min(MOST_TESTED, n_frames - frames - VALIDATION),
        "split.seed": seed,
        "split.drop_duplicates": True,
        "training.seed": seed,
        "training.time": arguments.time,
        "training.batch_size": arguments.batch,
    }
    tuning = {"start.model": str(start), "start.from_scratch": True}
    with tempfile.TemporaryDirectory() as folder:
        tuned = equiforce.train(data, Path(folder) / "tuned", options=options | tuning, quiet=True, plots=False)
        usual = equiforce.train(data, Path(folder) / "usual", options=options, quiet=True, plots=False)
    assert tuned.comparison is not None
    assert usual.test is not None
    return {name: tuned.comparison.of("test", name) for name in NAMES[:-1]} | {DEFAULT: usual.test}


def plain(errors: Errors) -> dict[str, float]:
    """The errors of a row: RMSE of forces and MAE of energies."""
    total = errors.total
    return {
        f"{key}_{metric}": round(getattr(one, metric), 4)
        for key, one in total.items()
        if key in ("energy_per_atom", "forces")
        for metric in ("mae", "rmse")
    }


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """A row for each case, with means over seeds; the range of seeds is in brackets."""
    lines = [
        "| start model | data, frames, time | " + " | ".join(NAMES) + " |",
        "|---|---|" + "---|" * len(NAMES),
    ]
    cases = dict.fromkeys(tuple(row[name] for name in KEY[:-1]) for row in results)
    for case in cases:
        rows = [row["errors"] for row in results if tuple(row[name] for name in KEY[:-1]) == case]
        cells = []
        for name in NAMES:
            forces, energies = ([row[name][key] for row in rows] for key in ("forces_rmse", "energy_per_atom_mae"))
            spread = f" [{min(forces):.3g} to {max(forces):.3g}]" if len(rows) > 1 else ""
            cells.append(f"{mean(forces):.3g}{spread}; {mean(energies):.2g}")
        start, data, frames, budget = case
        seeds = f"{len(rows)} seed{'s' if len(rows) > 1 else ''}"
        lines.append(f"| {start} | {data}, {frames}, {budget}; {seeds} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure the cases of the command line, and write all results so far."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("start", type=Path)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, nargs="+", default=[50])
    parser.add_argument("--time", default="60s")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batch", type=int, default=None, help="structures in a batch; 5 by default")
    arguments = parser.parse_args()
    vars(loop)["time"] = SimpleNamespace(monotonic=time.process_time)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for data in arguments.data:
        for frames in arguments.frames:
            for seed in arguments.seeds:
                with tempfile.TemporaryDirectory() as folder:
                    start = start_model(arguments.start, data, Path(folder))
                    errors = measure(start, data, frames, seed, arguments)
                row = dict(zip(KEY, (arguments.start.stem, data.stem, frames, arguments.time, seed), strict=True))
                about = {"batch": arguments.batch, "machine": machine(), "commit": commit(), "date": today()}
                others = [old for old in results if any(old[name] != row[name] for name in KEY)]
                results = [*others, row | {"errors": {name: plain(one) for name, one in errors.items()}} | about]
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")
                print(table([results[-1]]).splitlines()[-1], flush=True)
    replace_between("comparison", table(results), PAGE)


if __name__ == "__main__":
    main()
