"""equiforce: E(3)-equivariant interatomic potentials, from quantum-mechanical data to molecular dynamics.

``equiforce.__all__`` lists the public names; docs/api.md shows how to use them together. Each name is imported when it
is first used, so that ``import equiforce`` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import equiforce.forks  # before anything is forked

if TYPE_CHECKING:
    from equiforce.calculators.ase import Calculator
    from equiforce.calculators.untrained import untrained
    from equiforce.config import RunConfig, load_config
    from equiforce.data.read import ReadOptions, read
    from equiforce.errors import DivergedError, InputError
    from equiforce.evaluate import predict
    from equiforce.graph import AtomicGraph, Prediction, batch
    from equiforce.labels import Labels
    from equiforce.model_file import load, save
    from equiforce.neighbors import build_graph
    from equiforce.potential import Potential
    from equiforce.structure import Structure
    from equiforce.workflow import train

__version__ = "0.1.0"

_HOMES = {
    "AtomicGraph": "graph",
    "Calculator": "calculators.ase",
    "DivergedError": "errors",
    "InputError": "errors",
    "Labels": "labels",
    "Potential": "potential",
    "Prediction": "graph",
    "ReadOptions": "data.read",
    "RunConfig": "config",
    "Structure": "structure",
    "batch": "graph",
    "build_graph": "neighbors",
    "load": "model_file",
    "load_config": "config",
    "predict": "evaluate",
    "read": "data.read",
    "save": "model_file",
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
