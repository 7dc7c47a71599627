"""Maps of features that commute with rotations and reflections."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from equiforce.geometry.irreps import Irreps, blocks
from equiforce.kernels import GatePlan, LinearPlan, gate, linear
from equiforce.nn.mlp import SILU_GAIN, TANH_GAIN


class Linear(nn.Module):
    """HasLinearMaps the channels of each irrep; by Schur's lemma nothing else is linear and equivariant.

    Args:
        irreps_in: of the features.
        irreps_out: of the result; irreps that the features do not have give zero.
        scale: by which the result is multiplied, beside what keeps unit variance.
    """

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, scale: float = 1.0):
        super().__init__()
        self.plan = LinearPlan(Irreps(irreps_in), Irreps(irreps_out), scale=scale)
        self.weights = nn.Parameter(torch.randn(1, self.plan.n_weights))

    def linear_maps(self) -> list[tuple[nn.Parameter, LinearPlan]]:
        return [(self.weights, self.plan)]

    def forward(self, x: Float[Tensor, "atoms inputs"]) -> Float[Tensor, "atoms outputs"]:
        return linear(x, self.weights, None, self.plan)


class SpeciesLinear(nn.Module):
    """A :class:`Linear` of its own for each species: NequIP's self-connection."""

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, n_species: int):
        super().__init__()
        self.plan = LinearPlan(Irreps(irreps_in), Irreps(irreps_out), n_species)
        self.weights = nn.Parameter(torch.randn(n_species, self.plan.n_weights))

    def linear_maps(self) -> list[tuple[nn.Parameter, LinearPlan]]:
        return [(self.weights, self.plan)]

    def forward(
        self, x: Float[Tensor, "atoms inputs"], species: Int[Tensor, " atoms"]
    ) -> Float[Tensor, "atoms outputs"]:
        return linear(x, self.weights, species, self.plan)


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


class PowerSpectrum(nn.Module):
    """SiLU of the scalars, and the mean squared component of each tensor: nothing else is handed on.

    The power spectrum of arXiv 1209.3140, equation 36, channel by channel; for tensors of independent normal components
    its second moment is 1, as that of a gate's output.
    """

    def __init__(self, irreps_in: Irreps):
        super().__init__()
        self.irreps_in = Irreps(irreps_in)
        self.scalars = GatePlan(Irreps([(self.irreps_in.count("0e"), "0e")]))
        self.tensors = [block for block in blocks(self.irreps_in) if block.l > 0]
        self.irreps_out = Irreps([(self.irreps_in.num_irreps, "0e")])

    def forward(self, x: Float[Tensor, "atoms inputs"]) -> Float[Tensor, "atoms outputs"]:
        parts = [gate(x[:, : self.scalars.irreps_in.dim], self.scalars, SILU_GAIN, TANH_GAIN)]
        for block in self.tensors:
            factor = 1 / math.sqrt(1 + 2 / (2 * block.l + 1))
            parts.append(factor * block.of(x).square().mean(1))
        return torch.cat(parts, dim=1)
