"""A pair potential: each atom has the sum of learned functions of the distances to its neighbours."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from equiforce.graph import Topology
from equiforce.models import Footprint, ModelConfig, Peak, register
from equiforce.options import option


@dataclass(frozen=True, kw_only=True)
class PairConfig(ModelConfig):
    """The options of a pair potential."""

    cutoff: float = option(4.0, "pairs matter little beyond it", unit="Å", gt=0, le=50)
    n_basis: int = option(8, "cosines of the distance, enough for one well", ge=1)
    width: int = option(32, "hidden features of the network of the distance", ge=1)
    mean_neighbors: float | None = option(None, "sums are divided by its root; measured on the data", gt=0)


@register(
    "pair",
    PairConfig,
    reason="pairs alone: to see what angles and many-body terms bring",
    presets={"standard": {}, "small": {"n_basis": 4, "width": 16}},
)
class Pair(nn.Module):
    """E_i = sum_j (1 - x_ij²)³ f_ab(x_ij) / sqrt<N>, where x_ij = r_ij / r_c and each pair of species has its own f."""

    n_hops = 1  # an atom's energy depends on its own edges alone

    def __init__(self, config: PairConfig, species: Sequence[str]):
        super().__init__()
        self.config, self.n_species = config, len(species)
        self.register_buffer("frequencies", math.pi * torch.arange(config.n_basis), persistent=False)
        self.network = nn.Sequential(
            nn.Linear(config.n_basis, config.width), nn.SiLU(), nn.Linear(config.width, self.n_species**2)
        )

    def forward(self, topology: Topology, vectors: Tensor) -> Tensor:
        """The energy of each atom, from r_ij of each edge in Å."""
        x = vectors.norm(dim=1) / self.config.cutoff
        basis = torch.cos(x.unsqueeze(1) * self.frequencies)
        pairs = self.n_species * topology.species[topology.centers] + topology.species[topology.neighbors]
        learned = self.network(basis).gather(1, pairs.unsqueeze(1)).squeeze(1)
        energies = (1 - x**2) ** 3 * learned / math.sqrt(self.config.mean_neighbors or 1.0)
        return energies.new_zeros(topology.n_centers).index_add(0, topology.centers, energies)

    def footprint(self, *, training: bool) -> Footprint:
        """All is on edges: what the network computes, and in training its derivatives; the factor is measured."""
        numbers = self.config.n_basis + 3 * self.config.width + self.n_species**2
        per_edge_at_once = self.network[0].weight.itemsize * numbers * (3.5 if training else 1.0)
        return Footprint((Peak(per_atom=0.0, per_edge=0.0),), per_edge_at_once=per_edge_at_once)

    def needed_kernels(self, dtype: torch.dtype, *, training: bool) -> list:
        """None: all is plain torch."""
        return []
