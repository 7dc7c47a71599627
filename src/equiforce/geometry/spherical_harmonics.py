"""Real spherical harmonics of any degree by recursion, differentiable to any order."""

import math
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from equiforce.geometry.wigner_3j import wigner_3j


@cache
@torch.inference_mode(False)  # the result is cached for training too, which cannot use inference tensors
def recursion(l: int) -> Float[Tensor, "lower 3 components"]:
    """The float64 coefficients that compute Y_l from Y_{l-1} ⊗ n, scaled so that |Y_l|² = 2l+1 on the unit sphere."""
    coupling = wigner_3j(l - 1, 1, l)
    north = torch.zeros(3, dtype=torch.float64, device="cpu")
    north[1] = 1.0  # the quantisation axis of e3nn is y
    lower = _harmonics(north[None], l - 1)[0, (l - 1) ** 2 :]
    value = torch.einsum("a,b,abc->c", lower, north, coupling)
    scale = math.sqrt(2 * l + 1) / value[l]  # on the axis all components are zero but m = 0, which is positive
    return scale * coupling


@cache
@torch.inference_mode(False)  # the result is cached for training too, which cannot use inference tensors
def _recursion(l: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "products components"]:
    return recursion(l).flatten(0, 1).to(device=device, dtype=dtype)


def _harmonics(unit: Float[Tensor, "vectors 3"], l_max: int) -> Float[Tensor, "vectors harmonics"]:
    degrees = [torch.ones_like(unit[:, :1])]
    for l in range(1, l_max + 1):
        products = (degrees[-1].unsqueeze(2) * unit.unsqueeze(1)).flatten(1)
        degrees.append(products @ _recursion(l, unit.dtype, unit.device))
    return torch.cat(degrees, dim=1)


def spherical_harmonics(vectors: Float[Tensor, "vectors 3"], l_max: int) -> Float[Tensor, "vectors harmonics"]:
    """Compute Y_lm of the directions of vectors with |Y_l|² = 2l+1 (component normalisation; basis and signs of e3nn).

    Args:
        vectors: of any length but zero [vectors, 3].
        l_max: the highest degree.

    Returns:
        The harmonics, ordered by degree [vectors, (l_max+1)²].
    """
    return _harmonics(vectors / vectors.norm(dim=1, keepdim=True), l_max)
