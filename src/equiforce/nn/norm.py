"""The layer norm of equivariant features."""

from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from equiforce.geometry.irreps import Irreps, blocks

TINIEST = 1e-12  # keeps the norm of zeros finite; that of Nequix


class RMSNorm(nn.Module):
    """x w / sqrt(m + ε), where m is a mean square over all features of an atom, and each channel has its own w.

    m = sum_b sum_(components, channels) x² / (2l+1)² over the blocks b, divided by its value for features of unit
    variance, which therefore stay as they are. Rotations and reflections leave m unchanged. This is the norm of Nequix
    (arXiv 2508.16067), whose m has another constant factor.

    Features that vanish at the cutoff would not vanish there any more, so that the energy would jump. A layer with this
    norm needs a self-connection, whose features do not vanish.

    Args:
        irreps: irreps of the features.
    """

    def __init__(self, irreps: Irreps):
        super().__init__()
        self.irreps = Irreps(irreps)
        self.weights = nn.Parameter(torch.ones(self.irreps.num_irreps))
        self.epsilon = TINIEST / self.nequix_mean_square

    @property
    def nequix_mean_square(self) -> float:
        """The value of Nequix' m for features of unit variance."""
        return sum(block.channels / (2 * block.l + 1) for block in blocks(self.irreps)) / len(self.irreps)

    def forward(self, x: Float[Tensor, "atoms features"]) -> Float[Tensor, "atoms features"]:
        """Compute the normalised features of features x [atoms, irreps.dim]."""
        mean_square = x.square() @ _shares(self.irreps, x.dtype, x.device)
        factors = self.weights[_channels(self.irreps, x.device)]
        return x * (mean_square + self.epsilon).rsqrt().unsqueeze(1) * factors


# The results are cached for all models. They must not be inference tensors, because training cannot use those.
@cache
@torch.inference_mode(False)
def _shares(irreps: Irreps, dtype: torch.dtype, device: torch.device) -> Float[Tensor, " features"]:
    """The factor of each x² in the mean square; the factors add up to 1."""
    parts = blocks(irreps)
    shares = [torch.full((b.stop - b.start,), 1 / (2 * b.l + 1) ** 2, dtype=torch.float64) for b in parts]
    together = torch.cat(shares)
    return (together / together.sum()).to(device=device, dtype=dtype)


@cache
@torch.inference_mode(False)
def _channels(irreps: Irreps, device: torch.device) -> Int[Tensor, " features"]:
    """The number of each feature's channel, counted over all irreps."""
    channels, first = [], 0
    for block in blocks(irreps):
        channels.append((first + torch.arange(block.channels)).repeat(2 * block.l + 1))
        first += block.channels
    return torch.cat(channels).to(device)
