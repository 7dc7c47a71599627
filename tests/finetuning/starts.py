"""Small start models with random weights."""

import torch

from equiforce.elements import atomic_number
from equiforce.models import REGISTRY
from equiforce.nn.pair import ZBL
from equiforce.potential import Potential
from tests.data_sets import TINY

SPECIES = ["H", "C", "O"]
ENERGIES = {"H": -13.6, "C": -1029.5, "O": -2041.9}
CONFIGS = {
    "nequip": TINY,
    "allegro": {
        "cutoff": 3.5, "l_max": 1, "scalar_channels": 8, "tensor_channels": 4, "latent_width": 8, "radial_width": 8,
        "n_basis": 4,
    },
}  # fmt: skip


def potential_of(kind, species=SPECIES, *, zbl=False, seed=0, **options):
    torch.manual_seed(seed)
    chosen = REGISTRY[kind]
    config = chosen.config_class(**CONFIGS[kind] | {"mean_neighbors": 4.0} | options)
    return (
        Potential(
            chosen.build(config, species).double(),
            species=species,
            cutoff=config.cutoff,
            atomic_energies=[ENERGIES.get(symbol, -1.0) for symbol in species],
            scale=[1.0 + 0.5 * i for i in range(len(species))],
            zbl=ZBL([atomic_number(symbol) for symbol in species], config.cutoff) if zbl else None,
        )
        .eval()
        .requires_grad_(False)
    )
