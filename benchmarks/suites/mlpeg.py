"""Imports the code of ml-peg without its list of models, none of which is used here."""

import sys
from types import ModuleType
from typing import Any

from ase.calculators.calculator import Calculator

NAME = "judged"


class Model:
    """A model as ml-peg's calculations expect one."""

    def __init__(self, calculator: Calculator) -> None:
        self.calculator = calculator

    def get_calculator(self, **_: Any) -> Calculator:
        """Return the calculator; the precision that ml-peg asks for is that of the model file."""
        return self.calculator


def prepare() -> None:
    """Make ``ml_peg.calcs`` importable offline.

    ml-peg builds every model of its list when a calculation is imported, and its module of models imports mlipx, which
    needs a workflow engine. Its own switches leave only the mock model, and an empty module stands for mlipx.
    """
    for name in ("mlipx", "mlipx.nodes", "mlipx.nodes.generic_ase"):
        sys.modules.setdefault(name, ModuleType(name))
    sys.modules["mlipx"].GenericASECalculator = type("GenericASECalculator", (), {})  # type: ignore[attr-defined]
    sys.modules["mlipx.nodes.generic_ase"].Device = str  # type: ignore[attr-defined]
    import ml_peg.models

    ml_peg.models.run_mock = ml_peg.models.mock_only = True
