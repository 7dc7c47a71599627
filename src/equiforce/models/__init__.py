"""The models and their registry, ``REGISTRY``.

A model is a class in its own file, in this package or in another one. The decorator ``register`` makes it known to
training, model files, calculators, LAMMPS and the command line. ``base.py`` defines what a model must have;
docs/models.md shows a complete example.
"""

from typing import NoReturn

from equiforce.models.base import Footprint, Model, ModelConfig, Peak
from equiforce.models.nequip import NequIP, NequIPConfig
from equiforce.models.registry import REGISTRY, RESERVED, STANDARD, ModelKind, register

# isort: split
from equiforce.models.allegro import (
    Allegro,
    AllegroConfig,
)  # after NequIP: models are listed in the order in which they are imported

__all__ = [
    "REGISTRY",
    "RESERVED",
    "STANDARD",
    "Allegro",
    "AllegroConfig",
    "Footprint",
    "Model",
    "ModelConfig",
    "ModelKind",
    "NequIP",
    "NequIPConfig",
    "Peak",
    "register",
]


def __getattr__(name: str) -> NoReturn:
    if name in ("MODELS", "PRESETS"):
        raise AttributeError(
            f"equiforce.models.{name} is a registry now: decorate the class of a model with equiforce.models.register "
            "(docs/models.md)"
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
