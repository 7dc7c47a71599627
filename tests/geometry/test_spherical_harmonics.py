import pytest
import torch
from e3nn import o3

from equiforce.geometry.spherical_harmonics import spherical_harmonics


@pytest.mark.parametrize("l_max", [0, 1, 2, 3, 4, 6])
def test_equals_e3nn(l_max):
    vectors = torch.randn(50, 3, dtype=torch.float64)
    expected = o3.spherical_harmonics(list(range(l_max + 1)), vectors, normalize=True, normalization="component")
    torch.testing.assert_close(spherical_harmonics(vectors, l_max), expected, rtol=0, atol=1e-12)


def test_norm_of_each_degree():
    vectors = torch.randn(20, 3, dtype=torch.float64)
    harmonics = spherical_harmonics(vectors, 4)
    for l in range(5):
        norms = harmonics[:, l**2 : (l + 1) ** 2].square().sum(1)
        torch.testing.assert_close(norms, torch.full_like(norms, 2 * l + 1))


def test_is_twice_differentiable():
    vectors = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda v: spherical_harmonics(v, 3), (vectors,))


def test_of_no_vectors():
    assert spherical_harmonics(torch.zeros(0, 3), 2).shape == (0, 9)
