"""Trains the default model with one option changed at a time, each for the same time, and compares the errors.

    python benchmarks/ablation.py time DATA_FOLDER                # once, with nothing else running: steps per second
    python benchmarks/ablation.py train DATA_FOLDER --minutes 2   # continues an earlier run; other work may run

Each model trains for as many steps as fit into the time. Validation errors are compared, so that defaults can be chosen
from them. The data sets are those of ``presets.py``. Results: ``results/ablation.json`` and the table in
docs/training.md.
"""

import math
from statistics import fmean
from typing import Any

from presets import fill, known, parser
from report import RESULTS, ROOT, replace_between

PATH, PAGE = RESULTS / "ablation.json", ROOT / "docs" / "training.md"
DEFAULT = "nequip:"
VARIANTS = {
    "default": DEFAULT,
    "energy weight 0.1": "nequip:loss.energy=0.1",
    "energy weight 10": "nequip:loss.energy=10.0",
    "energy weight 100": "nequip:loss.energy=100.0",
    "energy weight from 0.1 to 10 in the last third": "nequip:loss.energy=[[0.0,0.1],[0.66,0.1],[0.8,10.0]]",
    "Huber, 0.01": "nequip:loss.kind=huber",
    "absolute errors": "nequip:loss.kind=mae",
    "Adam, learning rate 0.02": "nequip:optimizer.name=adam,optimizer.learning_rate=0.02",
    "Adam, learning rate 0.05": "nequip:optimizer.name=adam,optimizer.learning_rate=0.05",
    "learning rate 0.01": "nequip:optimizer.learning_rate=0.01",
    "learning rate 0.05": "nequip:optimizer.learning_rate=0.05",
    "constant rate, average of weights": "nequip:optimizer.schedule=constant,optimizer.ema_decay=0.999",
    "no average of weights": "nequip:optimizer.ema_decay=0.0",
    "average of weights 0.999": "nequip:optimizer.ema_decay=0.999",
    "gradient clipped at 1": "nequip:optimizer.clip_gradient=1.0",
    "batches of 1": "nequip:training.batch_size=1",
    "batches of 2": "nequip:training.batch_size=2",
    "batches of 10": "nequip:training.batch_size=10",
    "16 channels": "nequip:channels=16",
    "64 channels": "nequip:channels=64",
    "64, 32, 16 channels of l = 0, 1, 2": "nequip:channels=[64,32,16]",
    "2 layers": "nequip:n_layers=2",
    "3 layers": "nequip:n_layers=3",
    "5 layers": "nequip:n_layers=5",
    "l = 1": "nequip:l_max=1",
    "l = 3": "nequip:l_max=3",
    "both parities": "nequip:parity=true",
    "cutoff 4 Å": "nequip:cutoff=4.0",
    "cutoff 6 Å": "nequip:cutoff=6.0",
    "32 knots": "nequip:radial_knots=32",
    "radial network of one layer": "nequip:radial_depth=1",
    "envelope p = 3": "nequip:envelope_p=3",
    "trainable Bessel functions": "nequip:bessel_trainable=true",
    "read-out with a hidden layer": "nequip:readout_depth=1",
}


def table(found: dict[str, Any]) -> str:
    """Write a row for each variant, with the steps and the errors relative to the default for each data set."""
    sets = list(dict.fromkeys(run["set"] for run in found["runs"]))
    lines = ["| changed | " + " | ".join(f"{s}: steps; forces; energy" for s in sets) + " |"]
    lines.append("|---" * (len(sets) + 1) + "|")
    for name, model in VARIANTS.items():
        cells = []
        for of_set in sets:
            own, base = (_runs(found, of_set, m) for m in (model, DEFAULT))
            seeds = sorted(own.keys() & base.keys())
            if not seeds:
                cells.append("")
                continue
            forces, energy = (fmean(own[s][f"validation_{key}"] for s in seeds) for key in ("forces", "energy"))
            ratios = [
                math.exp(fmean(math.log(own[s][f"validation_{k}"] / base[s][f"validation_{k}"]) for s in seeds))
                for k in ("forces", "energy")
            ]
            relative = "" if model == DEFAULT else f" (x{ratios[0]:.2f}, x{ratios[1]:.2f})"
            cells.append(f"{own[seeds[0]]['steps']:,}; {forces:.1f}; {energy:.3f}{relative}")
        if any(cells):
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _runs(found: dict[str, Any], of_set: str, model: str) -> dict[int, dict[str, Any]]:
    return {r["seed"]: r for r in found["runs"] if (r["set"], r["model"]) == (of_set, model)}


def main() -> None:
    """Run what is missing in the results."""
    chosen = parser(__doc__, ["acetylacetone", "water"], list(VARIANTS.values())).parse_args()
    fill(PATH, chosen)
    replace_between("ablation", table(known(PATH)), PAGE)


if __name__ == "__main__":
    main()
