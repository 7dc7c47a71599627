"""Maps of features that commute with rotations and reflections."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from equiforce.geometry.irreps import Irreps
from equiforce.kernels import GatePlan, MixPlan, gate, mix
from equiforce.nn.mlp import SILU_GAIN, TANH_GAIN


class Linear(nn.Module):
    """Mixes the channels of each irrep; by Schur's lemma nothing else is linear and equivariant.

    Args:
        irreps_in: of the features.
        irreps_out: of the result; irreps that the features do not have give zero.
        scale: by which the result is multiplied, beside what keeps unit variance.
    """

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, scale: float = 1.0):
        super().__init__()
        self.plan = MixPlan(Irreps(irreps_in), Irreps(irreps_out), scale=scale)
        self.weights = nn.Parameter(torch.randn(1, self.plan.n_weights))

    def forward(self, x: Float[Tensor, "atoms inputs"]) -> Float[Tensor, "atoms outputs"]:
        return mix(x, self.weights, None, self.plan)


class SpeciesLinear(nn.Module):
    """A :class:`Linear` of its own for each species: NequIP's self-connection."""

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, n_species: int):
        super().__init__()
        self.plan = MixPlan(Irreps(irreps_in), Irreps(irreps_out), n_species)
        self.weights = nn.Parameter(torch.randn(n_species, self.plan.n_weights))

    def forward(
        self, x: Float[Tensor, "atoms inputs"], species: Int[Tensor, " atoms"]
    ) -> Float[Tensor, "atoms outputs"]:
        return mix(x, self.weights, species, self.plan)


class Gate(nn.Module):
    """SiLU on even scalars, tanh on odd ones, and each other irrep times the SiLU of a scalar of its own.

    arXiv 2101.03164, equation 11 (after arXiv 1807.02547). The gates are the last of the even scalars of ``irreps_in``.
    """

    def __init__(self, irreps_out: Irreps):
        super().__init__()
        self.plan = GatePlan(Irreps(irreps_out))

    @property
    def irreps_in(self) -> Irreps:
        return self.plan.irreps_in

    @property
    def irreps_out(self) -> Irreps:
        return self.plan.irreps_out

    def forward(self, x: Float[Tensor, "atoms inputs"]) -> Float[Tensor, "atoms outputs"]:
        return gate(x, self.plan, SILU_GAIN, TANH_GAIN)
