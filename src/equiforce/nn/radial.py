"""Functions of the distance: bases, polynomial envelope, the learned radial weights and their splines."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

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
        waves = self.roots * torch.sinc(self.roots * x / math.pi)  # sin(k x) / x, also at 0
        return waves * (self.scale * envelope(lengths, self.cutoff, self.p)).unsqueeze(1)


class StandardBessel(nn.Module):
    """1, and sin(k_n x)/x with k_n = nπ, each of zero mean and unit variance between x = 0 and 1, the cutoff.

    Without an envelope, which multiplies what is made of them (arXiv 2204.05249, supplementary note 1).
    """

    def __init__(self, n_basis: int, *, trainable: bool):
        super().__init__()
        roots = math.pi * torch.arange(1, n_basis + 1)
        self.roots = nn.Parameter(roots, requires_grad=trainable)
        grid = torch.linspace(0, 1, 4001, dtype=torch.float64)[1:]
        waves = self._waves(grid, roots.double())
        self.register_buffer("mean", waves.mean(0).to(torch.get_default_dtype()))
        self.register_buffer("scale", waves.std(0).reciprocal().to(torch.get_default_dtype()))

    def forward(self, x: Float[Tensor, " edges"]) -> Float[Tensor, "edges basis"]:
        waves = self.scale * (self._waves(x, self.roots) - self.mean)
        return torch.cat([torch.ones_like(waves[:, :1]), waves], dim=1)

    @staticmethod
    def _waves(x: Tensor, roots: Tensor) -> Tensor:
        return roots * torch.sinc(roots * x.unsqueeze(1) / math.pi)  # sin(k x) / x, also at 0


class SplineBasis(nn.Module):
    """Cubic B-splines on equal intervals between 0 and 1, the cutoff: a local basis, of unit mean square.

    Their sum is constant; an envelope multiplies what is made of them.
    """

    def __init__(self, n_functions: int):
        super().__init__()
        self.n_intervals = n_functions - 3
        grid = torch.linspace(0, 1, 4001, dtype=torch.float64)
        self.register_buffer("scale", self._splines(grid).square().mean().rsqrt().to(torch.get_default_dtype()))

    def forward(self, x: Float[Tensor, " edges"]) -> Float[Tensor, "edges basis"]:
        return self.scale * self._splines(x)

    def _splines(self, x: Tensor) -> Tensor:
        coordinates = (self.n_intervals * x).unsqueeze(1)
        away = (coordinates - torch.arange(-1, self.n_intervals + 2, device=x.device)).abs()
        near, far = (1 - away).clamp(min=0), (2 - away).clamp(min=0)
        return (far**3 - 4 * near**3) / 6


@dataclass(frozen=True)
class Knots:
    """The knots of cubic splines through samples of radial functions: K intervals between 0 and the cutoff.

    A function f becomes the spline sum_k c_k B_k(r) with two continuous derivatives that equals f on the knots 0 to
    K-2. Its last three coefficients are zero, so that it and both derivatives vanish at the cutoff. At the first inner
    knot the third derivative is continuous too, which keeps the order of the approximation down to r = 0.

    Args:
        n_knots: K.
        cutoff: in Å, or 1 where distances are given over the cutoff.
    """

    n_knots: int
    cutoff: float

    @property
    def per_length(self) -> float:
        """Knots in a unit of length: what takes a distance to its knot coordinate."""
        return self.n_knots / self.cutoff

    @property
    def n_samples(self) -> int:
        return self.n_knots - 1

    def lengths(self, like: Tensor) -> Float[Tensor, " samples"]:
        """The distances at which functions are sampled, with the dtype and device of ``like``."""
        return _sampled_lengths(self.n_knots, self.cutoff, like.dtype, like.device)

    def interpolation(self, like: Tensor) -> Float[Tensor, "rows samples"]:
        """The matrix that takes samples to coefficients, with the dtype and device of ``like``."""
        return _interpolation(self.n_knots, like.dtype, like.device)


# Both are computed in float64 and rounded once, so that a float64 model has float64 knots, whatever it was before. They
# are kept for all models, so they must not be tensors of torch.inference_mode, which training cannot use.
@cache
@torch.inference_mode(False)
def _sampled_lengths(n_knots: int, cutoff: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    lengths = torch.linspace(0, cutoff, n_knots + 1, dtype=torch.float64)[: n_knots - 1]
    return lengths.to(device=device, dtype=dtype)


@cache
@torch.inference_mode(False)
def _interpolation(n_knots: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The inverse of a banded matrix, which is constant."""
    sampled = torch.zeros(n_knots, n_knots + 3, dtype=torch.float64)
    for knot in range(n_knots - 1):
        sampled[knot, knot : knot + 3] = torch.tensor([1, 4, 1], dtype=torch.float64) / 6
    sampled[-1, :5] = torch.tensor([1, -4, 6, -4, 1], dtype=torch.float64)
    inverse = torch.linalg.inv(sampled[:, :n_knots])[:, : n_knots - 1]
    return torch.cat([inverse, inverse.new_zeros(3, n_knots - 1)]).to(device=device, dtype=dtype)


class RadialNetwork(nn.Module):
    """R(r): a perceptron of the radial basis (arXiv 2101.03164, equation 9)."""

    def __init__(self, n_basis: int, depth: int, width: int, n_weights: int):
        super().__init__()
        self.mlp = ScalarMLP(n_basis, [width] * depth, n_weights)

    def forward(self, basis: Float[Tensor, "rows basis"]) -> Float[Tensor, "rows weights"]:
        return self.mlp(basis)

    def spline(self, basis: Float[Tensor, "samples basis"], knots: Knots) -> Float[Tensor, "rows weights"]:
        """The coefficients of the splines through R, from the radial basis on the knots."""
        hidden = self.mlp.hidden(basis)
        return self.mlp.last(knots.interpolation(hidden) @ hidden)  # interpolation commutes with the last, linear layer


class ParameterCache:
    """Tensors made of weights, made again only when a weight has changed since.

    Weights count as changed when torch counts them so: by every operation on them, but not through ``weight.data``,
    nor by ``torch._foreach_`` on a GPU. Nothing is kept of weights that are to be trained, for torch does not count the
    steps of its fused optimizers.
    """

    def __init__(self) -> None:
        self._state: tuple | None = None
        self._tensors: list[Tensor] = []

    def __call__(self, make: Callable[[], list[Tensor]], weights: Iterable[Tensor]) -> list[Tensor]:
        weights = list(weights)
        if any(weight.requires_grad or weight.is_inference() for weight in weights):
            return make()
        state = tuple((weight.data_ptr(), weight._version, weight.dtype) for weight in weights)
        if state != self._state:
            self._state, self._tensors = state, make()
        return self._tensors
