import pytest
import torch

from equiforce.geometry.irreps import Irreps, blocks
from equiforce.nn.norm import RMSNorm

IRREPS = Irreps("6x0e+4x1o+3x2e")


@pytest.fixture
def norm():
    torch.manual_seed(0)
    made = RMSNorm(IRREPS).double()
    with torch.no_grad():
        made.weights.normal_()
    return made


def as_in_nequix(x, weights):
    """The steps of Nequix' own RMSLayerNorm, with the weights that its formula needs."""
    parts, mean_square, first, found = blocks(IRREPS), 0, 0, []
    for part in parts:
        weight = 1 / ((2 * part.l + 1) * len(parts))
        mean_square = mean_square + (weight * part.of(x).square()).sum(1).div(2 * part.l + 1).sum(1)
    for part in parts:
        factors = weights[first : first + part.channels]
        found.append((part.of(x) * factors * (mean_square + 1e-12)[:, None, None] ** -0.5).flatten(1))
        first += part.channels
    return torch.cat(found, 1)


def test_it_is_the_norm_of_nequix(norm):
    x = torch.randn(5, IRREPS.dim, dtype=torch.float64)
    expected = as_in_nequix(x, norm.weights * norm.nequix_mean_square**0.5)
    torch.testing.assert_close(norm(x), expected, rtol=1e-13, atol=1e-13)


def test_features_of_unit_variance_stay_as_they_are():
    x = torch.randn(2000, IRREPS.dim, dtype=torch.float64)
    factors = RMSNorm(IRREPS).double()(x) / x
    assert factors.mean().item() == pytest.approx(1, abs=0.1)


def test_the_result_does_not_depend_on_the_size_of_the_features(norm):
    x = torch.randn(5, IRREPS.dim, dtype=torch.float64)
    torch.testing.assert_close(norm(1e3 * x), norm(x), rtol=1e-10, atol=1e-10)
    assert torch.equal(
        norm(torch.zeros(2, IRREPS.dim, dtype=torch.float64)), torch.zeros(2, IRREPS.dim, dtype=torch.float64)
    )


def test_it_has_two_derivatives(norm):
    x = torch.randn(3, IRREPS.dim, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, x)
    assert torch.autograd.gradgradcheck(norm, x)
