"""The models by name. A new one is added here, and nowhere else."""

from torch import nn

from equiforce.models.allegro import Allegro, AllegroConfig
from equiforce.models.nequip import NequIP, NequIPConfig

MODELS: dict[str, tuple[type, type[nn.Module]]] = {
    "nequip": (NequIPConfig, NequIP),
    "allegro": (AllegroConfig, Allegro),
}


def kind_of(model: nn.Module) -> str:
    """The name under which the class of ``model`` is known."""
    return next(kind for kind, (_, cls) in MODELS.items() if type(model) is cls)
