import pytest
import torch
from scipy.integrate import quad
from scipy.interpolate import BSpline

from equiforce.nn.radial import (
    BesselBasis,
    ParameterCache,
    RadialNetwork,
    SplineBasis,
    StandardBessel,
    envelope,
    xplor,
)


@pytest.mark.parametrize("p", [2, 6, 48])
def test_envelope_has_two_continuous_derivatives_at_the_cutoff(p):
    at_cutoff = torch.tensor([5.0 - 1e-12], dtype=torch.float64, requires_grad=True)
    value = envelope(at_cutoff, 5.0, p)
    (first,) = torch.autograd.grad(value.sum(), at_cutoff, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), at_cutoff)
    for derivative in (value, first, second):
        assert abs(derivative.item()) < 1e-7
    assert envelope(torch.tensor([0.0, 5.0, 7.0]), 5.0, p).tolist() == [1.0, 0.0, 0.0]


def test_xplor_has_a_continuous_derivative_and_is_one_up_to_its_start():
    r = torch.tensor([1.0, 4.0 - 1e-9, 4.0 + 1e-9, 5.0 - 1e-9, 5.0, 6.0], dtype=torch.float64, requires_grad=True)
    values = xplor(r, 5.0, 4.0)
    assert values.tolist() == pytest.approx([1, 1, 1, 0, 0, 0], abs=1e-12)
    (slopes,) = torch.autograd.grad(values.sum(), r)
    assert slopes.abs().max() < 1e-7
    assert xplor(torch.tensor([4.5]), 5.0, 4.0).item() == pytest.approx((25 - 20.25) ** 2 * (25 + 40.5 - 48) / 9**3)


def test_bessel_is_the_equation_and_has_unit_mean_square():
    basis = BesselBasis(8, 4.0, 6, trainable=False).double()
    r = torch.linspace(0.5, 3.9, 30, dtype=torch.float64)
    bare = torch.sin(3 * torch.pi * r / 4.0) / r * envelope(r, 4.0, 6)
    ratio = basis(r)[:, 2] / bare
    torch.testing.assert_close(ratio, ratio[0].expand_as(ratio), rtol=1e-5, atol=0)

    def square(x):
        return basis(torch.tensor([x], dtype=torch.float64)).square().mean().item()

    assert quad(square, 1e-3, 4.0)[0] / 4.0 == pytest.approx(1.0, rel=0.02)


def test_standard_bessel_functions_have_zero_mean_and_unit_variance_beside_a_constant():
    basis = StandardBessel(8, trainable=False).double()
    x = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    values = basis(x)
    assert values.shape[1] == 9
    assert bool((values[:, 0] == 1).all())
    torch.testing.assert_close(values[:, 1:].mean(0), torch.zeros(8, dtype=torch.float64), rtol=0, atol=1e-2)
    torch.testing.assert_close(values[:, 1:].std(0), torch.ones(8, dtype=torch.float64), rtol=0, atol=1e-2)
    bare = torch.sin(3 * torch.pi * x[1:]) / x[1:]
    slope = (values[1:, 3] - values[-1, 3]) / (bare - bare[-1])
    torch.testing.assert_close(slope[:-1], slope[:1].expand(len(slope) - 1), rtol=1e-3, atol=0)


def test_spline_basis_is_that_of_scipy():
    basis = SplineBasis(9).double()
    x = torch.linspace(0, 1, 101, dtype=torch.float64)
    step = 1 / 6
    expected = torch.stack(
        [
            torch.from_numpy(BSpline.basis_element([step * (k + i) for i in range(5)], False)(x.numpy()))
            for k in range(-3, 6)
        ],
        dim=1,
    ).nan_to_num()
    torch.testing.assert_close(basis(x)[1:-1], basis.scale * expected[1:-1])
    assert basis(x).square().mean().item() == pytest.approx(1.0, rel=0.02)
    torch.testing.assert_close(basis(x).sum(1), basis.scale.expand(101))


def test_only_trainable_roots_are_trained():
    assert [BesselBasis(8, 4.0, 6, trainable=flag).roots.requires_grad for flag in (True, False)] == [True, False]


def test_radial_weights_vanish_at_and_beyond_the_cutoff():
    torch.manual_seed(0)
    basis, network = BesselBasis(8, 4.0, 6, trainable=False), RadialNetwork(8, 2, 16, 10)
    weights = network(basis(torch.tensor([3.0, 4.0, 4.5])))
    assert weights[0].abs().min() > 0
    assert not weights[1:].any()


def test_frozen_tensors_follow_the_weights():
    weight, made = torch.ones(2), []

    def make():
        made.append(1)
        return [2 * weight]

    frozen = ParameterCache()
    assert frozen(make, [weight])[0] is frozen(make, [weight])[0]
    weight.mul_(3)
    assert frozen(make, [weight])[0].tolist() == [6.0, 6.0]
    weight.copy_(torch.zeros(2))
    assert frozen(make, [weight])[0].tolist() == [0.0, 0.0]
    assert len(made) == 3


def test_nothing_is_kept_of_weights_that_are_trained():
    weight, frozen = torch.nn.Parameter(torch.ones(2)), ParameterCache()
    optimizer = torch.optim.Adam([weight], lr=0.5, fused=True)  # whose steps torch does not count as changes
    assert frozen(lambda: [2 * weight], [weight])[0].requires_grad
    with torch.no_grad():
        assert frozen(lambda: [2 * weight], [weight])[0].tolist() == [2.0, 2.0]
        weight.grad = torch.ones(2)
        optimizer.step()
        assert frozen(lambda: [2 * weight], [weight])[0].tolist() == pytest.approx([1.0, 1.0])
