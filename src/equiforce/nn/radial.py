"""Functions of the distance: radial bases, their envelopes, and the radial network."""

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from equiforce.nn.knots import Knots
from equiforce.nn.mlp import ScalarMLP

Module = TypeVar("Module", bound=nn.Module)


def envelope(lengths: Float[Tensor, " edges"], cutoff: float, p: int) -> Float[Tensor, " edges"]:
    """Compute u(r), which falls from 1 at r = 0 to 0 at the cutoff (arXiv 2003.03123, equation 8).

    u has two continuous derivatives and is zero beyond the cutoff. At the cutoff u is of third order in the distance to
    it for every ``p``.

    Args:
        lengths: distances in Å [edges].
        cutoff: in Å.
        p: order of 1 - u at r = 0.

    Returns:
        u of each distance [edges].
    """
    x = (lengths / cutoff).clamp(max=1.0)
    a, b, c = (p + 1) * (p + 2) / 2, p * (p + 2), p * (p + 1) / 2
    return 1 - x**p * (a - x * (b - c * x))


def xplor(lengths: Float[Tensor, " edges"], cutoff: float, on: float) -> Float[Tensor, " edges"]:
    """Compute the switching function of X-PLOR, which is 1 up to ``on`` and falls to 0 at the cutoff.

    Its first derivative is continuous; its second derivative jumps at both ends (the energy functions of X-PLOR 3.1,
    Brünger (1992)).

    Args:
        lengths: distances in Å [edges].
        cutoff: in Å.
        on: in Å, where the function begins to fall.

    Returns:
        The function of each distance [edges].
    """
    a, b = on**2, cutoff**2
    x = lengths.square().clamp(a, b)
    return (b - x).square() * (b + 2 * x - 3 * a) / (b - a) ** 3


class BesselBasis(nn.Module):
    """sin(k_n r)/r times the envelope, with k_n = nπ/r_c (arXiv 2003.03123, equation 7), scaled to unit mean square.

    The mean square is taken over distances from 0 to the cutoff. The radial network then starts from inputs of the size
    that its initialisation assumes.

    Args:
        n_basis: number of functions.
        cutoff: r_c in Å.
        p: order of the envelope, see :func:`envelope`.
        trainable: whether training changes the k_n.
        on: the envelope is :func:`xplor` from here on, in Å; None: it is :func:`envelope`.
    """

    scale: Tensor

    def __init__(self, n_basis: int, cutoff: float, p: int, *, trainable: bool, on: float | None = None):
        super().__init__()
        self.cutoff, self.p, self.on = cutoff, p, on
        roots = math.pi * torch.arange(1, n_basis + 1)
        self.roots = nn.Parameter(roots, requires_grad=trainable)
        grid = torch.linspace(0, 1, 2001, dtype=torch.float64)[1:]
        waves = torch.sin(torch.outer(grid, roots.double())) / grid.unsqueeze(1)
        mean_square = (self._envelope(grid).unsqueeze(1) * waves).square().mean()
        self.register_buffer("scale", mean_square.rsqrt().to(torch.get_default_dtype()))

    def forward(self, lengths: Float[Tensor, " edges"]) -> Float[Tensor, "edges basis"]:
        """Compute the basis functions [edges, n_basis] of distances in Å [edges]."""
        x = (lengths / self.cutoff).unsqueeze(1)
        waves = self.roots * torch.sinc(self.roots * x / math.pi)  # sin(k x) / x, also at 0
        return waves * (self.scale * self._envelope(x.squeeze(1))).unsqueeze(1)

    def _envelope(self, x: Float[Tensor, " edges"]) -> Float[Tensor, " edges"]:
        return envelope(x, 1.0, self.p) if self.on is None else xplor(x, 1.0, self.on / self.cutoff)


class StandardBessel(nn.Module):
    """The constant 1, and sin(k_n x)/x with k_n = nπ, of zero mean and unit variance for x from 0 to 1 (the cutoff).

    The basis has no envelope, because the envelope multiplies the output of the two-body network (arXiv 2204.05249,
    supplementary note 1).

    Args:
        n_basis: number of functions beside the constant.
        trainable: whether training changes the k_n.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, n_basis: int, *, trainable: bool):
        super().__init__()
        roots = math.pi * torch.arange(1, n_basis + 1)
        self.roots = nn.Parameter(roots, requires_grad=trainable)
        grid = torch.linspace(0, 1, 4001, dtype=torch.float64)[1:]
        waves = self._waves(grid, roots.double())
        self.register_buffer("mean", waves.mean(0).to(torch.get_default_dtype()))
        self.register_buffer("scale", waves.std(0).reciprocal().to(torch.get_default_dtype()))

    def forward(self, x: Float[Tensor, " edges"]) -> Float[Tensor, "edges basis"]:
        """Compute the basis functions [edges, n_basis + 1] of x = r / r_c [edges]."""
        waves = self.scale * (self._waves(x, self.roots) - self.mean)
        return torch.cat([torch.ones_like(waves[:, :1]), waves], dim=1)

    @staticmethod
    def _waves(x: Tensor, roots: Tensor) -> Tensor:
        return roots * torch.sinc(roots * x.unsqueeze(1) / math.pi)  # sin(k x) / x, also at 0


class SplineBasis(nn.Module):
    """Cubic B-splines on equal intervals from 0 to 1 (the cutoff), of unit mean square: a local basis.

    The sum of the functions is constant. The basis has no envelope, because the envelope multiplies the output of the
    two-body network.

    Args:
        n_functions: number of functions, at least 4.
    """

    scale: Tensor

    def __init__(self, n_functions: int):
        super().__init__()
        self.n_intervals = n_functions - 3
        grid = torch.linspace(0, 1, 4001, dtype=torch.float64)
        self.register_buffer("scale", self._splines(grid).square().mean().rsqrt().to(torch.get_default_dtype()))

    def forward(self, x: Float[Tensor, " edges"]) -> Float[Tensor, "edges basis"]:
        """Compute the basis functions [edges, n_functions] of x = r / r_c [edges]."""
        return self.scale * self._splines(x)

    def _splines(self, x: Tensor) -> Tensor:
        coordinates = (self.n_intervals * x).unsqueeze(1)
        away = (coordinates - torch.arange(-1, self.n_intervals + 2, device=x.device)).abs()
        near, far = (1 - away).clamp(min=0), (2 - away).clamp(min=0)
        return (far**3 - 4 * near**3) / 6


class RadialNetwork(nn.Module):
    """R(r), the radial weights: a perceptron of the radial basis (arXiv 2101.03164, equation 9).

    Args:
        n_basis: number of basis functions.
        depth: number of hidden layers.
        width: width of the hidden layers.
        n_weights: number of radial weights.
    """

    def __init__(self, n_basis: int, depth: int, width: int, n_weights: int):
        super().__init__()
        self.mlp = ScalarMLP(n_basis, [width] * depth, n_weights)

    def forward(self, basis: Float[Tensor, "rows basis"]) -> Float[Tensor, "rows weights"]:
        """Compute the radial weights [rows, n_weights] from the radial basis [rows, n_basis]."""
        weights: Tensor = self.mlp(basis)
        return weights

    def spline(self, basis: Float[Tensor, "samples basis"], knots: Knots) -> Float[Tensor, "rows weights"]:
        """Compute the coefficients of the splines that interpolate R.

        Args:
            basis: the radial basis on the knots [samples, n_basis].
            knots: the knots of the splines.

        Returns:
            The coefficients [rows, n_weights].
        """
        hidden = self.mlp.hidden(basis)
        # interpolation and the last layer are linear, so interpolating the narrower hidden layer costs less
        return self.mlp.last(knots.interpolation(hidden) @ hidden)


def in_double(module: Module) -> Module:
    """A copy of a module with float64 weights; the module itself if it has them already."""
    if all(value.dtype == torch.float64 for value in (*module.parameters(), *module.buffers())):
        return module
    return copy.deepcopy(module).double()


class ParameterCache:
    """A cache of tensors that are computed from weights; it computes them again when a weight has changed.

    A weight has changed if torch's version counter has. Changes through ``weight.data``, and by ``torch._foreach_`` on
    a GPU, do not count. The cache stores nothing for weights that require grad, because the fused optimizers of torch
    do not increment the counter.
    """

    def __init__(self) -> None:
        self._kept: _Kept | None = None  # in one piece, because several threads may compute with the same weights

    def __deepcopy__(self, _: dict[int, Any]) -> "ParameterCache":
        return ParameterCache()

    def __call__(self, make: Callable[[], list[Tensor]], weights: Iterable[Tensor]) -> list[Tensor]:
        weights = list(weights)
        # tensors that are made in inference mode could not be used in autograd later
        if torch.is_inference_mode_enabled() or any(w.requires_grad or w.is_inference() for w in weights):
            return make()
        state = tuple((weight.data_ptr(), weight._version, weight.dtype) for weight in weights)
        kept = self._kept
        if kept is None or state != kept.state:
            kept = self._kept = _Kept(state, [weight.detach() for weight in weights], make())
        return kept.tensors


class _Kept(NamedTuple):
    state: tuple[tuple[int, int, torch.dtype], ...]
    weights: list[Tensor]  # their memory lives on, so that no new weight has the same address
    tensors: list[Tensor]
