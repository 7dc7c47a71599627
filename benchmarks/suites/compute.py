"""Runs one suite with one model, in the environment of the suites: reads a job as a JSON line, answers with another.

The job has ``suite``, ``quick``, ``elements``, ``picoseconds``, ``python`` (the interpreter of the model's program) and
``worker`` (the job of its worker). The answer has ``scores``, ``values``, ``versions``, ``calls`` and ``seconds``, or
``skipped``. It goes to the file descriptor that is the only argument, because suites print.
"""

import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import combustion
import crystals
import diatomics
import extensivity
import iron
import locality
from ase.calculators.calculator import Calculator
from remote import RemoteCalculator
from scores import NotApplicableError, Outcome, Task

SUITES: dict[str, Callable[[Calculator, Task], Outcome]] = {
    "diatomics": diatomics.run,
    "extensivity": extensivity.run,
    "locality": locality.run,
    "iron": iron.run,
    "combustion": combustion.run,
    "relaxation": crystals.relaxation,
    "eos": crystals.eos,
    "elasticity": crystals.elasticity,
    "phonons": crystals.phonons,
}
PACKAGES = ("ml-peg", "mlip-arena", "matcalc", "ase", "phonopy", "pymatgen")


def judge(job: dict[str, Any], calculator: RemoteCalculator) -> dict[str, Any]:
    """Run the suite of a job."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # libraries write files beside the process
        task = Task(job["quick"], frozenset(job["elements"]), folder, job["picoseconds"])
        try:
            outcome = SUITES[job["suite"]](calculator, task)
        except NotApplicableError as reason:
            return {"skipped": str(reason)}
        finally:
            os.chdir("/")
    versions = calculator.versions | {name: version(name) for name in PACKAGES}
    spent = {"calls": calculator.n_calls[0], "seconds": round(time.perf_counter() - began, 1)}
    return {"scores": outcome.scores, "values": outcome.values, "versions": versions} | spent


def main() -> None:
    """Do the job."""
    warnings.simplefilter("ignore")  # of failed fits and deprecated names; what fails is counted
    job = json.loads(sys.stdin.readline())
    calculator = RemoteCalculator(job["python"], job["worker"])
    answer = judge(job, calculator)
    calculator.close()
    with os.fdopen(int(sys.argv[1]), "w") as answers:
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
