"""Computes structures with an ASE calculator: reads a job as a JSON line, answers with JSON lines.

The job has ``program`` (nequix, nequix-torch, sevenn, mace or equiforce), ``model`` (its file; null for mace, whose
weights are random), ``modal`` (a level of theory of sevenn, or null), ``structures`` (an extended xyz file) and
``timed``. Without ``timed`` the answer is one line with energies,
forces and stresses. With it, the first structure is computed twice, then again for every line ``go``, which is
answered with the time of a call in ms; ``end`` is answered with the peak memory in MB. If ``structures`` is null, the
versions are answered, and then every line is a structure (``numbers``, ``positions``, ``cell`` and ``pbc``) that is
answered with its energy, forces and stress, or with ``error``. Answers go to the file descriptor that is the only
argument.
"""

import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from statistics import median
from tempfile import TemporaryDirectory
from typing import TextIO

from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import chemical_symbols
from ase.io import read

PACKAGES = {
    "nequix": ("nequix", "jax", "e3nn-jax"),
    "nequix-torch": ("nequix", "torch", "e3nn"),
    "sevenn": ("sevenn", "torch", "e3nn"),
    "mace": ("mace-torch", "torch", "e3nn"),
    "equiforce": ("equiforce", "torch"),
}
# from the log of its training; the mean number of neighbours only scales, and is not known
MACE_MP_0 = {
    "species": [symbol for z, symbol in enumerate(chemical_symbols) if 1 <= z <= 83 or 89 <= z <= 94],
    "cutoff": 6.0,
    "mean_neighbors": 60.0,
    "model": {
        "channels": 128, "hidden_l_max": 1, "l_max": 3, "n_layers": 2, "correlation": 3, "n_bessel": 10,
        "radial_width": 64, "radial_depth": 3,
    },
}  # fmt: skip


def calculator_of(job: dict) -> Calculator:
    """Make the calculator of a job."""
    if job["program"] == "equiforce":
        import equiforce

        return equiforce.Calculator(job["model"])
    if job["program"] == "sevenn":
        from sevenn.calculator import SevenNetCalculator

        return SevenNetCalculator(job["model"], device="cpu", **({"modal": job["modal"]} if job["modal"] else {}))
    if job["program"] == "mace":
        return random_mace()
    from nequix.calculator import NequixCalculator

    if job["program"] == "nequix-torch":
        with TemporaryDirectory() as folder:  # it writes the converted weights beside the file
            copy = shutil.copy(job["model"], folder)
            return NequixCalculator(model_path=copy, backend="torch", use_kernel=False, use_compile=False)
    return NequixCalculator(model_path=job["model"], use_kernel=False)


def random_mace() -> Calculator:
    """Make a MACE of the size of MACE-MP-0 medium with random weights."""
    from mace_worker import settings_of  # before torch, see there
    import torch  # isort: skip
    from mace.calculators import MACECalculator
    from mace.modules import ScaleShiftMACE

    torch.manual_seed(0)
    model = ScaleShiftMACE(**settings_of(MACE_MP_0))
    return MACECalculator(models=model, device="cpu", default_dtype="float32")


def compute(calculator: Calculator, atoms: Atoms, changes: list[str]) -> dict:
    """Compute a structure again, whatever the calculator has kept; the stress only where it exists."""
    calculator.reset()
    calculator.calculate(atoms, ["energy", "forces", *(["stress"] if atoms.pbc.all() else [])], changes)
    return calculator.results


def row_of(found: dict, atoms: Atoms) -> dict:
    """Return results as plain values."""
    has_stress = atoms.pbc.all() and found.get("stress") is not None
    stress = found["stress"].tolist() if has_stress else None
    return {"energy": float(found["energy"]), "forces": found["forces"].tolist(), "stress": stress}


def serve(calculator: Calculator, answers: TextIO) -> None:
    """Compute every structure that comes, until there are no more."""
    before: list[int] = []
    for line in sys.stdin:
        atoms = Atoms(**json.loads(line))
        same = before == atoms.numbers.tolist()  # Nequix keeps what it has compiled for these numbers
        changes = [*([] if same else ["numbers"]), "positions", "cell", "pbc"]
        before = atoms.numbers.tolist()
        try:
            answer = row_of(compute(calculator, atoms, changes), atoms)
        except Exception as error:  # a suite counts what a program cannot compute
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers)


def seconds(call: Callable[[], object]) -> float:
    """Return the median time of calls within about half a second, after one that is not timed.

    The first call after a pause is slower, because caches are cold and memory was given back. Steps of a simulation
    follow one another.
    """
    call()
    times: list[float] = []
    while sum(times) < 0.5:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return median(times)


def main() -> None:
    """Do the job."""
    answers = os.fdopen(int(sys.argv[1]), "w", buffering=1)
    job = json.loads(sys.stdin.readline())
    versions = {name: version(name) for name in PACKAGES[job["program"]]}
    if job["structures"] is None:
        calculator = calculator_of(job)
        print(json.dumps({"versions": versions}), file=answers)
        serve(calculator, answers)
        return
    frames, calculator = read(job["structures"], ":"), calculator_of(job)
    if not job["timed"]:
        rows = [row_of(compute(calculator, atoms, ["numbers"]), atoms) for atoms in frames]
        print(json.dumps({"rows": rows, "versions": versions}), file=answers)
        return
    atoms = frames[0]
    for changes in (["numbers"], ["positions"]):
        compute(calculator, atoms, changes)
    print(json.dumps({"versions": versions}), file=answers)
    for line in sys.stdin:
        if line.strip() == "end":
            break
        print(json.dumps({"ms": 1e3 * seconds(lambda: compute(calculator, atoms, ["positions"]))}), file=answers)
    print(json.dumps({"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}), file=answers)


if __name__ == "__main__":
    main()
