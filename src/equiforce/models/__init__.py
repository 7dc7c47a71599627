"""The models by name. A new one is added here, and nowhere else."""

from typing import Any

from torch import nn

from equiforce.models.allegro import Allegro, AllegroConfig
from equiforce.models.nequip import NequIP, NequIPConfig

MODELS: dict[str, tuple[type, type[nn.Module]]] = {
    "nequip": (NequIPConfig, NequIP),
    "allegro": (AllegroConfig, Allegro),
}
# for a start, chosen on several sets of data (docs/accuracy.md); what is given beside them goes before them
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "nequip": {
        "small": {"l_max": 1, "channels": 32, "n_layers": 3},
        "standard": {},
        "accurate": {"channels": 64, "n_layers": 5},
    },
    "allegro": {
        "small": {"scalar_channels": 32, "latent_width": 32, "tensor_channels": 16},
        "standard": {},
        "accurate": {"l_max": 3, "tensor_channels": 64},
    },
}


def kind_of(model: nn.Module) -> str:
    """The name under which the class of ``model`` is known."""
    return next(kind for kind, (_, cls) in MODELS.items() if type(model) is cls)
