"""equiforce: E(3)-equivariant interatomic potentials, from quantum-mechanical data to molecular dynamics.

The public names are loaded when they are first used, so that ``import equiforce`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from equiforce.calculators.ase import Calculator
    from equiforce.calculators.untrained import untrained
    from equiforce.config import RunConfig, load_config
    from equiforce.data.read import read
    from equiforce.errors import InputError
    from equiforce.evaluate import predict
    from equiforce.graph import AtomicGraph, Prediction, Structure
    from equiforce.labels import Labels
    from equiforce.model_file import load
    from equiforce.potential import Potential
    from equiforce.workflow import train

__version__ = "0.1.0"

_HOMES = {
    "AtomicGraph": "graph",
    "Calculator": "calculators.ase",
    "InputError": "errors",
    "Labels": "labels",
    "Potential": "potential",
    "Prediction": "graph",
    "RunConfig": "config",
    "Structure": "graph",
    "load": "model_file",
    "load_config": "config",
    "predict": "evaluate",
    "read": "data.read",
    "train": "workflow",
    "untrained": "calculators.untrained",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"equiforce has no {name!r}; it has {', '.join(_HOMES)}")
    return getattr(import_module(f"equiforce.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
