"""Compares imported universal potentials with the programs that trained them, on structures of all kinds.

    python benchmarks/peers/install.py nequix sevenn
    python benchmarks/foundation.py MODEL [MODEL ...] [--modal NAME] [--python PYTHON_WITH_ITS_PROGRAM]

A MODEL is a file or the name of a published potential.

The source's program computes each structure once; equiforce computes it in float64 with the radial networks
themselves, and with the weights and splines that ``equiforce import`` writes. The largest differences go into
``results/foundation.json`` and into a table of docs/foundation.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111, graphene, molecule
from peers.install import python_of
from report import ROOT, replace_between

import equiforce
from equiforce.foundation import N_KNOTS, import_potential, path_of

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "foundation.json"
PAGE = ROOT / "docs" / "foundation.md"
BARS = {"energy": 1e-5, "forces": 1e-4}  # eV/atom and eV/Å, in float32 with splines


def structures() -> Iterator[tuple[str, Atoms]]:
    """Yield at least thirty structures by name; all are rattled, so that no force is zero by symmetry."""
    for seed, (name, atoms) in enumerate([*_crystals(), *_molecules(), *_surfaces(), *_strained()]):
        if len(atoms) > 1:
            atoms.rattle(0.05, seed=seed)
        yield name, atoms


def _crystals() -> Iterator[tuple[str, Atoms]]:
    """Elements of every block of the periodic table."""
    for symbol in ("Li", "Mg", "Al", "Ti", "Fe", "Cu", "Zr", "W", "Pt", "Pb", "Ce", "Eu", "Si", "Ge", "Xe"):
        atoms = bulk(symbol)
        yield symbol, atoms * ((2, 2, 2) if len(atoms) < 3 else (1, 1, 1))
    yield "U", bulk("U", "bcc", a=3.4, cubic=True) * (2, 1, 1)
    yield "NaCl", bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    yield "MgO", bulk("MgO", "rocksalt", a=4.21)
    yield "GaAs", bulk("GaAs", "zincblende", a=5.65, cubic=True)
    yield "CsCl", bulk("CsCl", "cesiumchloride", a=4.12) * (2, 2, 2)
    places = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    yield "SrTiO3", Atoms("SrTiO3", scaled_positions=places, cell=[3.905] * 3, pbc=True) * (2, 2, 1)


def _molecules() -> Iterator[tuple[str, Atoms]]:
    for name in ("H2O", "CH3CH2OH", "C6H6", "SO2", "PH3"):
        atoms = molecule(name)
        atoms.center(vacuum=8.0)
        atoms.pbc = True
        yield name, atoms
    yield "one atom of O", Atoms("O", positions=[[1.0, 1.0, 1.0]], cell=[15.0] * 3, pbc=True)
    yield "N2 without a cell", molecule("N2")


def _surfaces() -> Iterator[tuple[str, Atoms]]:
    slab = fcc111("Pt", (2, 2, 3), vacuum=7.0)
    add_adsorbate(slab, Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.15]]), 1.9, "ontop")
    slab.pbc, slab.info = True, {}
    yield "CO on Pt(111)", slab
    sheet = graphene(size=(3, 3, 1), vacuum=8.0)
    sheet.pbc = True
    yield "graphene", sheet


def _strained() -> Iterator[tuple[str, Atoms]]:
    for name, factor in (("Si, dense", 0.9), ("Si, expanded", 1.25)):
        atoms = bulk("Si", cubic=True)
        atoms.set_cell(factor * atoms.cell.array, scale_atoms=True)
        yield name, atoms


def of_source(program: str, model: Path, modal: str | None, python: Path, file: Path) -> dict[str, Any]:
    """Compute the structures of a file with the program that trained the potential."""
    reader, writer = os.pipe()
    job = {"program": program, "model": str(model.resolve()), "modal": modal, "structures": str(file), "timed": False}
    command = [python, HERE / "workers" / "calculator_worker.py", str(writer)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, pass_fds=[writer])
    os.close(writer)
    print(json.dumps(job), file=process.stdin, flush=True)
    with os.fdopen(reader) as answers:
        answer = answers.read()
    if process.wait():
        sys.exit(f"{program} has ended with an error, see above")
    return json.loads(answer)


def ours(potential: equiforce.Potential, frames: list[Atoms]) -> list[dict[str, Any]]:
    """Compute the structures with an imported potential."""
    calculator, rows = equiforce.Calculator(potential), []
    for atoms in frames:
        copy = atoms.copy()
        copy.calc = calculator
        stress = copy.get_stress() if copy.pbc.all() else None
        rows.append({"energy": copy.get_potential_energy(), "forces": copy.get_forces(), "stress": stress})
    return rows


def differences(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> list[dict[str, float]]:
    """The differences of each structure: energy in eV/atom, the largest ones of forces in eV/Å and stress in eV/Å³."""
    rows = []
    for one, other in zip(found, expected, strict=True):
        row = {"energy": abs(one["energy"] - other["energy"]) / len(other["forces"])}
        row["forces"] = float(np.abs(np.subtract(one["forces"], other["forces"])).max())
        if other["stress"] is not None:
            row["stress"] = float(np.abs(np.subtract(one["stress"], other["stress"])).max())
        rows.append(row)
    return rows


def compare(model: Path, modal: str | None, python: Path | None) -> dict[str, Any]:
    """Compare a potential with its source on all structures."""
    exact = import_potential(model, n_knots=None, modal=modal)
    program = exact.source.program
    names, frames = zip(*structures(), strict=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "structures.xyz"
        ase.io.write(file, frames)
        frames = ase.io.read(file, ":")  # as rounded as those of the source
        expected = of_source(program, model, modal, python or python_of(program), file)
    imported = import_potential(model, modal=modal).potential
    imported.to(torch.float32)
    found = {"exact": ours(exact.potential, frames), "imported": ours(imported, frames)}
    rows = {how: differences(values, expected["rows"]) for how, values in found.items()}
    rows["imported beside exact"] = differences(found["imported"], found["exact"])
    return {
        "model": exact.source.name + (f", {modal}" if modal else ""),
        "versions": expected["versions"],
        "structures": list(names),
        "knots": N_KNOTS,
        "differences": rows,
    }


def table(results: list[dict[str, Any]]) -> str:
    """Write the largest differences of each potential."""
    lines = ["| potential | beside | energy, eV/atom | forces, eV/Å | stress, eV/Å³ |", "|---|---|---|---|---|"]
    titles = {
        "exact": "{program}; float64, no splines",
        "imported": "{program}; as imported: float32, {knots} knots",
        "imported beside exact": "float64 without splines; as imported",
    }
    for result in results:
        program = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
        for how, title in titles.items():
            rows = result["differences"][how]
            largest = (max(row.get(what, 0.0) for row in rows) for what in ("energy", "forces", "stress"))
            described = title.format(program=program, knots=result["knots"])
            lines.append(f"| {result['model']} | {described} | {' | '.join(f'{x:.0e}' for x in largest)} |")
    return "\n".join(lines)


def main() -> None:
    """Compare the potentials of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="+", type=path_of)
    parser.add_argument("--modal")
    parser.add_argument("--python", type=Path)
    arguments = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for model in arguments.models:
        result = compare(model, arguments.modal, arguments.python)
        results = [*(old for old in results if old["model"] != result["model"]), result]
        print(table([result]), flush=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    replace_between("exactness", table(results), PAGE)


if __name__ == "__main__":
    main()
