"""The demo of ``make demo``: trains NequIP on DFT data of ethanol, tests it, and runs molecular dynamics.

It does in Python what these commands do:

    equiforce train examples/ethanol/train.xyz -o demo --time 2m
    equiforce evaluate demo/model.eqf examples/ethanol/test_300K.xyz
    equiforce md demo/model.eqf examples/ethanol/test_300K.xyz --temperature 300 --steps 400
"""

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

import equiforce
from equiforce.calculators.md import MDOptions, run_md
from equiforce.data.read import read
from equiforce.evaluate import errors, predict
from equiforce.report import parity_plot

DATA = Path(__file__).parent / "ethanol"
TESTS = {"300 K": "test_300K.xyz", "600 K": "test_600K.xyz"}
OPTIONS = {
    "split.validation": 40,
    "split.test_file": [str(DATA / name) for name in TESTS.values()],
}


def main() -> None:
    """Train, test and simulate, with all output in one folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="take seconds instead of minutes, with large errors")
    parser.add_argument("--output", type=Path, default=Path("demo"))
    arguments = parser.parse_args()
    console = Console()
    shutil.rmtree(arguments.output, ignore_errors=True)

    console.rule("1. train on 300 K frames of ethanol, PBE/def2-SVP")
    time = "15s" if arguments.short else "2m"
    trained = equiforce.train(
        DATA / "train.xyz", arguments.output, options={**OPTIONS, "training.time": time}, console=console
    )

    console.rule("2. test errors at two temperatures")
    potential = equiforce.load(trained.model)
    table = Table()
    for heading in (
        "test set",
        "frames",
        "energy MAE (meV)",
        "per atom (meV/atom)",
        "forces MAE (meV/Å)",
        "RMSE (meV/Å)",
    ):
        table.add_column(heading, justify="right")
    everything, all_predictions = [], []
    for temperature, name in TESTS.items():
        structures = read(DATA / name)
        predictions = predict(potential, structures)
        total = errors(structures, predictions).total
        numbers = (total.energy.mae, total.energy_per_atom.mae, total.forces.mae, total.forces.rmse)
        table.add_row(temperature, str(len(structures)), *(f"{number:.2f}" for number in numbers))
        everything += structures
        all_predictions += predictions
    console.print(table)
    parity_plot(arguments.output / "parity.png", everything, all_predictions)

    console.rule("3. molecular dynamics with the model")
    options = replace(MDOptions(), temperature=300.0, steps=100 if arguments.short else 400)
    summary = run_md(trained.model, DATA / "test_300K.xyz", options, arguments.output / "md", console=console)
    console.print(summary.table())
    console.print(f"model {trained.model}   plot {arguments.output / 'parity.png'}   trajectory {summary.folder}")
    console.rule("next")
    console.print("source .venv/bin/activate    # the shell then finds equiforce")
    console.print("docs/tutorial/README.md      # from a file of data to LAMMPS in fifteen minutes")


if __name__ == "__main__":
    main()
