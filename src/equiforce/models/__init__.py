"""The models, by name in ``REGISTRY``.

A model is a class in a file of its own, here or in another package, which ``register`` makes known to training, model
files, calculators, LAMMPS and the command line. ``base.py`` says what it has; docs/models.md shows a complete one.
"""

from equiforce.models.base import Footprint, Model, ModelConfig, Moment
from equiforce.models.nequip import NequIP, NequIPConfig
from equiforce.models.registry import REGISTRY, STANDARD, ModelKind, register

# isort: split
from equiforce.models.allegro import Allegro, AllegroConfig  # after NequIP, in whose order models are listed

__all__ = [
    "REGISTRY",
    "STANDARD",
    "Allegro",
    "AllegroConfig",
    "Footprint",
    "Model",
    "ModelConfig",
    "ModelKind",
    "Moment",
    "NequIP",
    "NequIPConfig",
    "register",
]
