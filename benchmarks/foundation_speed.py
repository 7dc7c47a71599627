"""Times imported universal potentials beside the programs that trained them, in turn, on two cores of a CPU.

    python benchmarks/peers/install.py nequix nequix-torch sevenn mace
    python benchmarks/foundation_speed.py MODEL [MODEL ...] [--beside nequix-torch|mace] [--rounds 5] [--most-atoms N]

With ``--beside`` another program takes the place of the one that trained the potential: Nequix in torch, or, for
scale, MACE with random weights of the size of MACE-MP-0 medium. ``--python`` is an interpreter that has the program.

A call is energy, forces and stress of a structure through an ASE calculator, neighbour list included. Both programs
stay in memory and compute in turn, so that a busy machine slows down both. One is stopped while the other computes. The
first call of each turn is not timed. The script writes a results file for each potential and program, and all of them
into a table of docs/foundation.md.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import ase.io
from ase import Atoms
from ase.build import bulk, molecule
from foundation import PAGE
from machine import commit, machine
from peers.install import python_of
from report import RESULTS, digits, ratio, replace_between, save

from equiforce import model_file
from equiforce.foundation import import_potential, path_of

WORKER = Path(__file__).parent / "workers" / "calculator_worker.py"
THREADS = 2
# what the table calls the programs
NAMES = {
    "nequix": "Nequix, JAX",
    "nequix-torch": "Nequix, torch",
    "sevenn": "SevenNet, torch",
    "mace": "MACE, random weights",
}
BESIDE = ("nequix-torch", "mace")


def cases() -> Iterator[tuple[str, Atoms]]:
    """Yield a salt, an oxide, a metal and a liquid, small and large."""
    for repeats in (2, 5):
        yield f"NaCl, {8 * repeats**3} atoms", bulk("NaCl", "rocksalt", a=5.64, cubic=True).repeat(repeats)
    places = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    perovskite = Atoms("SrTiO3", scaled_positions=places, cell=[3.905] * 3, pbc=True)
    for repeats in (2, 6):
        yield f"SrTiO3, {5 * repeats**3} atoms", perovskite.repeat(repeats)
    for repeats in (2, 6):
        yield f"Cu, {4 * repeats**3} atoms", bulk("Cu", cubic=True).repeat(repeats)
    water = molecule("H2O")
    water.set_cell([3.1] * 3)
    water.pbc = True
    yield "water, 192 atoms", water.repeat(4)


class Worker:
    """A program that waits to be timed."""

    def __init__(self, python: str, program: str, model: Path | None, structures: Path) -> None:
        reader, writer = os.pipe()
        environment = {"OMP_NUM_THREADS": str(THREADS), "JAX_PLATFORMS": "cpu"}
        self.process = subprocess.Popen(
            [python, WORKER, str(writer)], stdin=subprocess.PIPE, text=True, pass_fds=[writer],
            env=os.environ | environment,
        )  # fmt: skip
        os.close(writer)
        self.answers = os.fdopen(reader)
        file = None if model is None else str(model.resolve())
        job = {"program": program, "model": file, "modal": None, "structures": str(structures), "timed": True}
        self.versions = self.ask(json.dumps(job))["versions"]

    def ask(self, line: str) -> dict[str, Any]:
        """Send a line and return the answer; raise RuntimeError if the program has ended.

        Between its turns the program is stopped, because the threads of some programs go on to use the processor.
        """
        self.process.send_signal(signal.SIGCONT)
        print(line, file=self.process.stdin, flush=True)
        if not (answer := self.answers.readline()):
            raise RuntimeError(f"{self.process.args} has ended, see above")
        self.process.send_signal(signal.SIGSTOP)
        return json.loads(answer)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def program_beside(trained_by: str, beside: str | None) -> str:
    """Return the program that is timed beside a potential: the one that trained it, or another."""
    if beside == "nequix-torch" and trained_by != "nequix":
        sys.exit(f"nequix-torch computes potentials of Nequix, and this one is of {trained_by}: leave out --beside")
    return beside or trained_by


def measure(
    name: str, atoms: Atoms, source: Path, beside: str | None, python: str | None, rounds: int
) -> dict[str, Any]:
    """Time both programs in turn."""
    atoms.rattle(0.05, seed=1)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        structures, model = Path(folder) / "case.xyz", Path(folder) / "model.eqf"
        ase.io.write(structures, atoms)
        imported = import_potential(source, sorted(set(atoms.get_chemical_symbols())))
        model_file.save(model, imported.potential.float(), [])
        theirs = program_beside(imported.source.program, beside)
        their_model = None if theirs == "mace" else source
        started = {theirs: (python or str(python_of(theirs)), their_model), "equiforce": (sys.executable, model)}
        workers = {
            program: stack.enter_context(Worker(python, program, file, structures))
            for program, (python, file) in started.items()
        }
        ms: dict[str, list[float]] = {program: [] for program in workers}
        for _ in range(rounds):
            for program, worker in workers.items():
                ms[program].append(worker.ask("go")["ms"])
        peaks = {program: worker.ask("end")["peak_mb"] for program, worker in workers.items()}
        versions = {name: v for worker in workers.values() for name, v in worker.versions.items()}
    return {
        "case": name,
        "atoms": len(atoms),
        "model": imported.source.name,
        "program": theirs,
        "ms": ms,
        "peak_mb": peaks,
        "versions": versions,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Write a row for each structure."""
    lines = [
        "| potential, structure | beside | its time | equiforce | times as long | per atom and core | memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        program = row.get("program", "nequix")
        theirs, ours = row["ms"][program], row["ms"]["equiforce"]
        memory = " / ".join(f"{row['peak_mb'][p]:,.0f}" for p in (program, "equiforce"))
        lines.append(
            f"| {row['model']}, {row['case']} | {NAMES[program]} "
            f"| {digits(median(theirs))} ms | {digits(median(ours))} ms "
            f"| **{ratio(theirs, ours):.0f}** | {THREADS * median(ours) / row['atoms']:.2f} ms | {memory} MB |"
        )
    return "\n".join(lines)


def main() -> None:
    """Time the potential of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="+", type=path_of)
    parser.add_argument("--beside", choices=BESIDE)
    parser.add_argument("--most-atoms", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--python")
    arguments = parser.parse_args()
    for model in arguments.models:
        rows = []
        for name, atoms in cases():
            if len(atoms) <= arguments.most_atoms:
                rows.append(measure(name, atoms, model, arguments.beside, arguments.python, arguments.rounds))
                print(table(rows[-1:]).splitlines()[-1], flush=True)
        beside = f"-beside-{arguments.beside}" if arguments.beside else ""
        file = RESULTS / f"foundation-speed-{rows[0]['model']}{beside}.json"
        save(file, {"machine": machine(), "commit": commit(), "threads": THREADS, "rows": rows})
    # by stem, so that the program that trained a potential comes before those of --beside
    files = sorted(RESULTS.glob("foundation-speed-*.json"), key=lambda file: file.stem)
    everything = [json.loads(file.read_text()) for file in files]
    replace_between("speed", table([row for result in everything for row in result["rows"]]), PAGE)


if __name__ == "__main__":
    main()
