"""Trains the same model with different numbers of knots in its radial functions, and compares the test errors.

    python benchmarks/knots.py DATA_FOLDER [--steps 2000] [--seeds 2] [--knots 16 32 64 128 256 exact]

DATA_FOLDER holds the data sets named in ``SETS`` (BOTNet's acetylacetone, deepmd-kit's water, mlearn's silicon). Runs
end after a number of steps, so other programs may run at the same time. The script writes ``results/knots.json`` after
every run, and continues an earlier one.
"""

import argparse
import json
import tempfile
from pathlib import Path
from statistics import fmean

import torch
from report import replace_between

import equiforce
from equiforce.kernels import Radial
from equiforce.kernels.reference.convolution import weights_on_edges
from equiforce.nn.radial import Knots

RESULTS = Path(__file__).parent / "results" / "knots.json"
SETS = {
    "acetylacetone, 300 K": (["acac_train_300K.xyz", "acac_isolated_atoms.xyz"], "acac_test_MD_300K.xyz@:200", 50),
    "liquid water": (["water_pbe0ts_train.xyz@:120"], "water_pbe0ts_train.xyz@300:320", 10),
    "silicon": (["mlearn_Si_train.xyz"], "mlearn_Si_test.xyz", 20),
}
SHORTER = {"liquid water": 4}  # divides the number of steps, because a step takes that much longer
# with the default rate, batches of one box make the errors of two runs differ by half for any number of knots
CAREFUL = {"training.batch_size": 1, "optimizer.learning_rate": 0.02}


def train(folder: Path, name: str, knots: int | None, steps: int, seed: int) -> dict:
    """Train one model, and return its errors and the distance of its splines from the networks that they replace."""
    files, test, validation = SETS[name]
    steps //= SHORTER.get(name, 1)
    options = {
        "split.test_file": [str(folder / test)],
        "split.validation": validation,
        "training.max_steps": steps,
        "training.seed": seed,
        "model.radial_knots": knots,
        **(CAREFUL if name in SHORTER else {}),
    }
    with tempfile.TemporaryDirectory() as scratch:
        trained = equiforce.train([str(folder / file) for file in files], Path(scratch) / "run", options=options)
        model = equiforce.load(trained.model).model.double()
    total = trained.test.total
    errors = {
        "energy_mae_meV_per_atom": total.energy_per_atom.mae,
        "forces_mae_meV_per_A": total.forces.mae,
        "forces_rmse_meV_per_A": total.forces.rmse,
    }
    described = {"set": name, "knots": knots, "steps": steps, "seed": seed}
    return described | errors | ({} if knots is None else distance(model, knots))


def distance(model: torch.nn.Module, n_knots: int) -> dict:
    """Return the relative rms distance of splines from networks, in value and slope, from 0.7 Å to the cutoff."""
    knots, cutoff = Knots(n_knots, model.config.cutoff), model.config.cutoff
    lengths = torch.linspace(0.7, cutoff, 20_001, dtype=torch.float64)
    h = 1e-5
    off = {"value": 0.0, "slope": 0.0}
    size = {"value": 0.0, "slope": 0.0}
    for layer in model.layers:
        network = layer.convolution.radial
        table = network.spline(
            model.radial_basis(knots.lengths(like=torch.zeros((), dtype=torch.float64))), knots
        ).detach()

        def exact(r: torch.Tensor, network=network) -> torch.Tensor:
            return network(model.radial_basis(r)).detach()

        def spline(r: torch.Tensor, table=table) -> torch.Tensor:
            return weights_on_edges(Radial(table, r * knots.per_length))

        inner = lengths[1:-1]
        pairs = {
            "value": (exact(inner), spline(inner)),
            "slope": (
                (exact(inner + h) - exact(inner - h)) / (2 * h),
                (spline(inner + h) - spline(inner - h)) / (2 * h),
            ),
        }
        for what, (a, b) in pairs.items():
            off[what] += (a - b).square().sum().item()
            size[what] += a.square().sum().item()
    return {f"spline_{what}_error": (off[what] / size[what]) ** 0.5 for what in off}


def table(rows: list[dict]) -> str:
    """Write means over seeds, with a row for each data set and number of knots."""
    lines = [
        "| set | steps | knots | seeds | energy MAE, meV/atom | forces MAE, meV/Å | off in value | off in slope |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in SETS:
        of_set = [row for row in rows if row["set"] == name]
        for knots in sorted({row["knots"] for row in of_set}, key=lambda k: k or 10**9):
            same = [row for row in of_set if row["knots"] == knots]

            def mean(key: str, same=same) -> float:
                return fmean(row[key] for row in same)

            off = (f"{mean(f'spline_{what}_error'):.0e}" if knots else "0" for what in ("value", "slope"))
            lines.append(
                f"| {name} | {same[0]['steps']:,} | {knots or 'every edge'} | {len(same)} "
                f"| {mean('energy_mae_meV_per_atom'):.3f} | {mean('forces_mae_meV_per_A'):.1f} | {' | '.join(off)} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Run what is missing in the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--knots", nargs="*", default=["16", "32", "64", "128", "256"])
    arguments = parser.parse_args()
    RESULTS.parent.mkdir(exist_ok=True)
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for seed in range(arguments.seeds):
        for name in arguments.sets:
            for knots in (None if k == "exact" else int(k) for k in arguments.knots):
                if any((r["set"], r["knots"], r["seed"]) == (name, knots, seed) for r in rows):
                    continue
                rows.append(train(arguments.folder, name, knots, arguments.steps, seed))
                RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
                print(json.dumps(rows[-1]), flush=True)
    replace_between("knots", table(rows))


if __name__ == "__main__":
    main()
