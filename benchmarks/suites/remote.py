"""An ASE calculator that another interpreter computes, so that one suite judges the models of several programs."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes

WORKER = Path(__file__).parents[1] / "workers" / "calculator_worker.py"


class RemoteCalculator(Calculator):
    """Asks a worker for energies (eV), forces (eV/Å) and stresses (eV/Å³).

    Raises:
        CalculationFailed: if the program refuses a structure, with its sentence.
        RuntimeError: if the program has ended.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self, python: str, job: dict[str, Any]) -> None:
        super().__init__()
        reader, writer = os.pipe()
        # one thread, because that is what all programs can be given
        environment = os.environ | {"OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
        self.process = subprocess.Popen(
            [python, WORKER, str(writer)], stdin=subprocess.PIPE, text=True, pass_fds=[writer], env=environment
        )
        os.close(writer)
        self.answers = os.fdopen(reader)
        self.n_calls = [0]  # a list, because suites copy the calculator
        self.versions = self._ask(job | {"structures": None, "timed": False})["versions"]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | tuple[str, ...] = ("energy",),
        system_changes: list[str] = all_changes,
    ) -> None:
        """Fill ``results`` with all that the worker computes."""
        super().calculate(atoms, properties, system_changes)
        atoms = self.atoms
        structure = {"numbers": atoms.numbers, "positions": atoms.positions, "cell": atoms.cell.array, "pbc": atoms.pbc}
        answer = self._ask({name: value.tolist() for name, value in structure.items()})
        self.n_calls[0] += 1
        if "error" in answer:
            raise CalculationFailed(answer["error"])
        answer["free_energy"] = answer["energy"]
        self.results = {name: value for name, value in answer.items() if value is not None}
        for name in ("forces", "stress"):
            if name in self.results:
                self.results[name] = np.array(self.results[name])

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        print(json.dumps(message), file=self.process.stdin, flush=True)
        if not (answer := self.answers.readline()):
            raise RuntimeError(f"{self.process.args[0]} has ended, see above")
        return json.loads(answer)

    def close(self) -> None:
        """Let the worker end."""
        self.process.stdin.close()
        self.process.wait()
