import pytest
import torch
from e3nn.o3 import Irreps
from scipy.spatial.transform import Rotation

from equiforce.geometry.irreps import blocks, hidden_irreps, reachable, wigner_3j
from equiforce.geometry.spherical_harmonics import spherical_harmonics


def test_blocks_cover_the_features():
    features = torch.arange(2.0 * (4 + 9 + 10)).reshape(2, -1)
    found = blocks(Irreps("4x0e + 3x1o + 2x2e"))
    assert [(b.name, b.channels, b.l, b.parity) for b in found] == [("0e", 4, 0, 1), ("1o", 3, 1, -1), ("2e", 2, 2, 1)]
    assert found[1].of(features).shape == (2, 3, 3)
    assert torch.equal(torch.cat([b.of(features).flatten(1) for b in found], dim=1), features)


def test_hidden_irreps_of_natural_and_of_both_parities():
    assert hidden_irreps((8, 4, 2), odd=False) == Irreps("8x0e + 4x1o + 2x2e")
    assert hidden_irreps((8, 4), odd=True) == Irreps("8x0e + 8x0o + 4x1o + 4x1e")
    assert hidden_irreps((8, 0, 2), odd=False) == Irreps("8x0e + 2x2e")


def test_scalars_reach_only_natural_parity():
    assert reachable(Irreps("8x0e"), 2, hidden_irreps((8, 8, 8), odd=True)) == Irreps("8x0e + 8x1o + 8x2e")


@pytest.mark.parametrize("degrees", [(1, 1, 0), (1, 1, 1), (1, 2, 3), (2, 2, 2), (3, 2, 4), (4, 4, 3)])
def test_wigner_3j_is_invariant(degrees):
    vectors = torch.randn(3, 3, dtype=torch.float64)
    turned = vectors @ torch.from_numpy(Rotation.random(rng=1).as_matrix())

    def coupled(abc):
        a, b, c = (spherical_harmonics(v[None], l)[0, l**2 :] for v, l in zip(abc, degrees, strict=True))
        return torch.einsum("abc,a,b,c->", wigner_3j(*degrees), a, b, c)

    torch.testing.assert_close(coupled(turned), coupled(vectors), rtol=0, atol=1e-12)
    torch.testing.assert_close(wigner_3j(*degrees).norm().item(), 1.0)
