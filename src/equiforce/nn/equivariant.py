"""Equivariant maps of features: they commute with rotations and reflections."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from equiforce.geometry.irreps import Irreps, blocks
from equiforce.kernels import GatePlan, LinearPlan, gate, linear
from equiforce.nn.mlp import SILU_GAIN, TANH_GAIN


class Linear(nn.Module):
    """y = x W, one matrix for each irrep; Schur's lemma allows no other equivariant linear map.

    Args:
        irreps_in: irreps of the features x.
        irreps_out: irreps of the result y; an irrep that x does not have gives zeros.
        scale: factor of the result, in addition to the factor that keeps unit variance.
        constants: whether trained constants, at first zero, are added to the even scalars, which must come first in y.
    """

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, scale: float = 1.0, *, constants: bool = False):
        super().__init__()
        self.plan = LinearPlan(Irreps(irreps_in), Irreps(irreps_out), scale=scale)
        self.weights = nn.Parameter(torch.randn(1, self.plan.n_weights))
        self.constants = nn.Parameter(torch.zeros(Irreps(irreps_out).count("0e"))) if constants else None

    def linear_maps(self) -> list[tuple[nn.Parameter, LinearPlan]]:
        return [(self.weights, self.plan)]

    def forward(self, x: Float[Tensor, "atoms inputs"]) -> Float[Tensor, "atoms outputs"]:
        """Compute x W for features x [atoms, irreps_in.dim]; the result is [atoms, irreps_out.dim]."""
        y = linear(x, self.weights, None, self.plan)
        if self.constants is None:
            return y
        return y + functional.pad(self.constants, (0, y.shape[1] - len(self.constants)))


class SpeciesLinear(nn.Module):
    """y = x W(species), a :class:`Linear` with its own weights for each species (arXiv 2101.03164, self-interaction).

    Args:
        irreps_in: irreps of the features x.
        irreps_out: irreps of the result y.
        n_species: number of species.
    """

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, n_species: int):
        super().__init__()
        self.plan = LinearPlan(Irreps(irreps_in), Irreps(irreps_out), n_species)
        self.weights = nn.Parameter(torch.randn(n_species, self.plan.n_weights))

    def linear_maps(self) -> list[tuple[nn.Parameter, LinearPlan]]:
        return [(self.weights, self.plan)]

    def forward(
        self, x: Float[Tensor, "atoms inputs"], species: Int[Tensor, " atoms"]
    ) -> Float[Tensor, "atoms outputs"]:
        """Compute x_i W(species_i) of each atom.

        Args:
            x: features [atoms, irreps_in.dim].
            species: species index of each atom [atoms].

        Returns:
            The result [atoms, irreps_out.dim].

        Raises:
            InputError: a species index is out of range.
        """
        return linear(x, self.weights, species, self.plan)


class Gate(nn.Module):
    """SiLU of even scalars, tanh of odd scalars, and each other irrep times the SiLU of a scalar (its gate).

    arXiv 2101.03164, equation 11 (after arXiv 1807.02547). The gates are the last even scalars of ``irreps_in``.

    Args:
        irreps_out: irreps of the result.
    """

    def __init__(self, irreps_out: Irreps):
        super().__init__()
        self.plan = GatePlan(Irreps(irreps_out))

    @property
    def irreps_in(self) -> Irreps:
        """Irreps of the input: those of the result, and one even scalar for each channel that has a gate."""
        return self.plan.irreps_in

    @property
    def irreps_out(self) -> Irreps:
        return self.plan.irreps_out

    def forward(self, x: Float[Tensor, "atoms inputs"]) -> Float[Tensor, "atoms outputs"]:
        """Compute the gate of features x [atoms, irreps_in.dim]; the result is [atoms, irreps_out.dim]."""
        return gate(x, self.plan, SILU_GAIN, TANH_GAIN)


class PowerSpectrum(nn.Module):
    """SiLU of the even scalars, and the scaled mean square of the components of each tensor: all results are scalars.

    This is the power spectrum of arXiv 1209.3140, equation 36, for each channel by itself. If the components of a
    tensor are independent and normal, the result has the second moment 1, as the result of a gate has.

    Args:
        irreps_in: irreps of the features.
    """

    def __init__(self, irreps_in: Irreps):
        super().__init__()
        self.irreps_in = Irreps(irreps_in)
        self.scalars = GatePlan(Irreps([(self.irreps_in.count("0e"), "0e")]))
        self.tensors = [block for block in blocks(self.irreps_in) if block.l > 0]
        self.irreps_out = Irreps([(self.irreps_in.num_irreps, "0e")])

    def forward(self, x: Float[Tensor, "atoms inputs"]) -> Float[Tensor, "atoms outputs"]:
        """Compute the power spectrum of features x [atoms, irreps_in.dim]; the result is [atoms, channels]."""
        parts = [gate(x[:, : self.scalars.irreps_in.dim], self.scalars, SILU_GAIN, TANH_GAIN)]
        for block in self.tensors:
            factor = 1 / math.sqrt(1 + 2 / (2 * block.l + 1))
            parts.append(factor * block.of(x).square().mean(1))
        return torch.cat(parts, dim=1)
