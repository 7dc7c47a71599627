import pytest
import torch

from equiforce.kernels import Radial
from equiforce.kernels.reference.convolution import weights_on_edges
from equiforce.nn.knots import Knots
from equiforce.nn.radial import BesselBasis, RadialNetwork


def splined(network, basis, n_knots, cutoff=4.0):
    """The spline's function of r, and the network's own."""
    knots = Knots(n_knots, cutoff, basis.on)
    table = network.spline(basis(knots.lengths(like=torch.zeros((), dtype=torch.float64))), knots)
    return (lambda r: weights_on_edges(Radial(table, knots.across_seam(r * knots.per_length)))), (
        lambda r: network(basis(r))
    )


def network_from(on):
    torch.manual_seed(0)
    return RadialNetwork(8, 2, 64, 10).double(), BesselBasis(8, 4.0, 6, trainable=True, on=on).double()


@pytest.fixture
def network():
    return network_from(None)


@pytest.mark.parametrize("on", [None, 3.5, 3.3])  # on a knot, and between two
def test_splines_come_closer_with_the_fourth_power_of_the_knots(on):
    r = torch.linspace(0.0, 4.0, 3001, dtype=torch.float64)[:-1]
    errors = []
    for n_knots in (64, 128, 256):
        spline, exact = splined(*network_from(on), n_knots)
        errors.append(((spline(r) - exact(r)).square().mean().sqrt() / exact(r).square().mean().sqrt()).item())
    assert errors[0] / errors[1] > 12
    assert errors[1] / errors[2] > 12
    assert errors[1] < 1e-4


def test_splines_are_smooth_and_vanish_smoothly_at_the_cutoff(network):
    """Value, slope and curvature: equal on both sides of every knot, zero at the cutoff."""
    spline, _ = splined(*network, 16)
    knots = torch.arange(1, 17, dtype=torch.float64) * 4.0 / 16

    def expansion(r):
        r = r.clone().requires_grad_()
        found, value = [], spline(r)[:, 3]
        for _ in range(3):
            found.append(value.detach())
            (value,) = torch.autograd.grad(value.sum(), r, create_graph=True)
        return torch.stack(found)

    below, above = expansion(knots - 1e-9), expansion(knots + 1e-9)
    torch.testing.assert_close(below[:, :-1], above[:, :-1], rtol=0, atol=1e-5 * below.abs().max().item())
    assert below[:, -1].abs().max() < 1e-5 * below.abs().max()
    assert not expansion(torch.tensor([4.0, 5.0], dtype=torch.float64)).any()


def test_two_splines_meet_with_the_same_slope_where_the_second_derivative_jumps():
    on, cutoff = 3.3, 4.0
    spline, exact = splined(*network_from(on), 512)
    places = torch.tensor([on - 1e-9, on + 1e-9, cutoff - 1e-9, cutoff + 1e-9], dtype=torch.float64)

    def derivatives(function):
        r = places.clone().requires_grad_()
        found, value = [], function(r)[:, 3]
        for _ in range(3):
            found.append(value.detach())
            if len(found) < 3:
                (value,) = torch.autograd.grad(value.sum(), r, create_graph=len(found) < 2)
        return torch.stack(found)

    values, slopes, bends = derivatives(spline)
    assert abs(values[1] - values[0]) < 1e-7
    assert abs(slopes[1] - slopes[0]) < 1e-6 * slopes.abs().max()
    torch.testing.assert_close(bends[:3], derivatives(exact)[2, :3], rtol=0.02, atol=0.02 * bends.abs().max().item())
    assert abs(bends[1] - bends[0]) > 0.1 * bends.abs().max()
    assert max(values[2:].abs().max(), slopes[2:].abs().max()) < 1e-6 * bends.abs().max()


def test_samples_and_rows_are_as_many_as_stated():
    for knots in (Knots(16, 5.0), Knots(16, 5.0, 4.5), Knots(8, 5.0, 0.1), Knots(9, 5.0, 4.99)):
        like = torch.zeros((), dtype=torch.float64)
        lengths, matrix = knots.lengths(like), knots.interpolation(like)
        assert len(lengths) == knots.n_samples == matrix.shape[1]
        assert len(matrix) == knots.n_knots + (3 if knots.seam is None else 6)
        assert bool((lengths.diff() > 0).all())
        end = knots.across_seam(torch.tensor([knots.cutoff], dtype=torch.float64) * knots.per_length)
        assert end.item() == pytest.approx(len(matrix) - 3)


def test_splines_are_defined_down_to_zero(network):
    spline, exact = splined(*network, 128)
    r = torch.tensor([0.0, 1e-6, 0.01], dtype=torch.float64)
    torch.testing.assert_close(spline(r), exact(r), rtol=1e-3, atol=1e-3)


def test_gradients_reach_the_network_through_the_spline(network):
    radial, basis = network
    r = torch.rand(200, dtype=torch.float64) * 3 + 0.8
    weights = [*radial.parameters(), basis.roots]
    gradients = []
    for function in splined(radial, basis, 512):
        loss = (function(r).sin()).sum()
        gradients.append(torch.autograd.grad(loss, weights))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * b.abs().max().item())
