"""Functions of the distance: Bessel basis, polynomial envelope, the learned radial weights."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from equiforce.kernels.paths import Radial
from equiforce.nn.mlp import ScalarMLP


def envelope(lengths: Float[Tensor, " edges"], cutoff: float, p: int) -> Float[Tensor, " edges"]:
    """u(r): 1 at r = 0 and 0 from the cutoff on, with two continuous derivatives (arXiv 2003.03123, equation 8).

    Args:
        lengths: distances in Å.
        cutoff: in Å.
        p: the order of contact with 1 at r = 0; at the cutoff it is always third order.
    """
    x = (lengths / cutoff).clamp(max=1.0)
    a, b, c = (p + 1) * (p + 2) / 2, p * (p + 2), p * (p + 1) / 2
    return 1 - x**p * (a - x * (b - c * x))


class BesselBasis(nn.Module):
    """sqrt(2/r_c) sin(k_n r)/r times the envelope, k_n = nπ/r_c (arXiv 2003.03123, equation 7), of unit mean square.

    The mean square is over distances from 0 to the cutoff, so that the radial network starts from inputs of the size
    that its initialisation expects.
    """

    def __init__(self, n_basis: int, cutoff: float, p: int, *, trainable: bool):
        super().__init__()
        self.cutoff, self.p = cutoff, p
        roots = math.pi * torch.arange(1, n_basis + 1)
        self.roots = nn.Parameter(roots, requires_grad=trainable)
        grid = torch.linspace(0, 1, 2001, dtype=torch.float64)[1:]
        waves = torch.sin(torch.outer(grid, roots.double())) / grid.unsqueeze(1)
        mean_square = (envelope(grid, 1.0, p).unsqueeze(1) * waves).square().mean()
        self.register_buffer("scale", mean_square.rsqrt().to(torch.get_default_dtype()))

    def forward(self, lengths: Float[Tensor, " edges"]) -> Float[Tensor, "edges basis"]:
        x = (lengths / self.cutoff).unsqueeze(1)
        return torch.sin(self.roots * x) / x * (self.scale * envelope(lengths, self.cutoff, self.p)).unsqueeze(1)


class RadialNetwork(nn.Module):
    """R(r): a perceptron of the radial basis, evaluated on every edge (arXiv 2101.03164, equation 9)."""

    def __init__(self, n_basis: int, depth: int, width: int, n_weights: int):
        super().__init__()
        self.mlp = ScalarMLP(n_basis, [width] * depth, n_weights)

    def forward(self, basis: Float[Tensor, "edges basis"]) -> Radial:
        return Radial(self.mlp(basis))
