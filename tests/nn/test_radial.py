import pytest
import torch
from scipy.integrate import quad

from equiforce.nn.radial import BesselBasis, RadialNetwork, envelope


@pytest.mark.parametrize("p", [2, 6, 48])
def test_envelope_has_two_continuous_derivatives_at_the_cutoff(p):
    at_cutoff = torch.tensor([5.0 - 1e-12], dtype=torch.float64, requires_grad=True)
    value = envelope(at_cutoff, 5.0, p)
    (first,) = torch.autograd.grad(value.sum(), at_cutoff, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), at_cutoff)
    for derivative in (value, first, second):
        assert abs(derivative.item()) < 1e-7
    assert envelope(torch.tensor([0.0, 5.0, 7.0]), 5.0, p).tolist() == [1.0, 0.0, 0.0]


def test_bessel_is_the_equation_and_has_unit_mean_square():
    basis = BesselBasis(8, 4.0, 6, trainable=False).double()
    r = torch.linspace(0.5, 3.9, 30, dtype=torch.float64)
    bare = torch.sin(3 * torch.pi * r / 4.0) / r * envelope(r, 4.0, 6)
    ratio = basis(r)[:, 2] / bare
    torch.testing.assert_close(ratio, ratio[0].expand_as(ratio), rtol=1e-5, atol=0)

    def square(x):
        return basis(torch.tensor([x], dtype=torch.float64)).square().mean().item()

    assert quad(square, 1e-3, 4.0)[0] / 4.0 == pytest.approx(1.0, rel=0.02)


def test_only_trainable_roots_are_trained():
    assert [BesselBasis(8, 4.0, 6, trainable=flag).roots.requires_grad for flag in (True, False)] == [True, False]


def test_radial_weights_vanish_at_and_beyond_the_cutoff():
    torch.manual_seed(0)
    basis, network = BesselBasis(8, 4.0, 6, trainable=False), RadialNetwork(8, 2, 16, 10)
    weights = network(basis(torch.tensor([3.0, 4.0, 4.5])))
    assert weights[0].abs().min() > 0
    assert not weights[1:].any()
