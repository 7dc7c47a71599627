"""Shorter cutoffs of ordered pairs of species: distances are stretched, so that each pair ends at the cutoff."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from equiforce.errors import InputError
from equiforce.graph import Topology
from equiforce.models.base import ModelConfig


@dataclass(frozen=True)
class PairCutoffs:
    """The cutoff of each ordered pair of species.

    Args:
        cutoff: of the model in Å.
        ratios: of this cutoff to that of each pair, centre by centre.
        n_species: number of species.
    """

    cutoff: float
    ratios: tuple[float, ...]
    n_species: int

    @classmethod
    def of(cls, config: ModelConfig, species: Sequence[str]) -> "PairCutoffs | None":
        """The pair cutoffs of a model; None if it has none.

        Raises:
            InputError: there is a pair cutoff of an element that the model does not have.
        """
        if config.pair_cutoffs is None:
            return None
        given = dict(config.pair_cutoffs)
        ratios = [config.cutoff / given.pop(f"{a}-{b}", config.cutoff) for a in species for b in species]
        if given:
            raise InputError(
                f"model.pair_cutoffs has {', '.join(given)}, but the elements are {', '.join(species)}: write a pair "
                f"as {species[0]}-{species[-1]}, centre first"
            )
        return cls(config.cutoff, tuple(ratios), len(species))

    def stretch(self, topology: Topology, like: Tensor) -> Float[Tensor, " edges"]:
        """The ratio of each edge, with the dtype and device of ``like``."""
        return _as_tensor(self.ratios, like.dtype, like.device)[kinds_of(topology, self.n_species)]

    def within(
        self, topology: Topology, vectors: Float[Tensor, "edges 3"]
    ) -> tuple[Topology, Float[Tensor, "near 3"], Float[Tensor, " near"]]:
        """Keep the edges that are shorter than their pair cutoff.

        Args:
            topology: the atoms and their neighbours.
            vectors: r_ij of each edge in Å [edges, 3].

        Returns:
            The topology and the vectors of these edges, and the ratio of each.
        """
        stretch = self.stretch(topology, vectors)
        near = vectors.detach().norm(dim=1) * stretch < self.cutoff
        return topology.select_edges(near), vectors[near], stretch[near]


def kinds_of(topology: Topology, n_species: int) -> Int[Tensor, " edges"]:
    """The index of each edge's ordered pair of species, centre first [edges]."""
    return n_species * topology.species[topology.centers] + topology.species[topology.neighbors]


@cache
@torch.inference_mode(False)  # inference tensors could not be used in training
def _as_tensor(ratios: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The ratios, rounded once from float64."""
    return torch.tensor(ratios, dtype=torch.float64).to(device=device, dtype=dtype)
