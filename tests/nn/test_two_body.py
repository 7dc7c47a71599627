import torch

from equiforce.nn.knots import Knots
from equiforce.nn.radial import StandardBessel
from equiforce.nn.two_body import TwoBody


def two_body(knots: int | None, depth: int = 2) -> TwoBody:
    torch.manual_seed(0)
    table = None if knots is None else Knots(knots, 1.0)
    return TwoBody(StandardBessel(8, trainable=True), 9, 6, table, 4, depth, 32, [5, 7]).double()


def test_each_kind_of_edge_has_functions_of_its_own():
    knot_coordinates, kinds = torch.full((4,), 20.0, dtype=torch.float64), torch.arange(4)
    first, second = two_body(64)(knot_coordinates, kinds)
    assert (first.shape, second.shape) == ((4, 5), (4, 7))
    assert len(torch.unique(first.round(decimals=6), dim=0)) == 4


def test_splines_go_through_the_perceptron_on_the_knots():
    kinds = torch.arange(4).repeat(5)
    lengths = torch.arange(20, dtype=torch.float64) / 64
    for depth in (1, 2):
        for spline, exact in zip(
            two_body(64, depth)(64 * lengths, kinds), two_body(None, depth)(lengths, kinds), strict=True
        ):
            torch.testing.assert_close(spline, exact, rtol=1e-5, atol=1e-5)


def test_everything_vanishes_at_the_cutoff():
    for knots, end in ((32, 32.0), (None, 1.0)):
        knot_coordinates = torch.tensor([end - 1e-6, end, end + 0.1], dtype=torch.float64)
        for values in two_body(knots)(knot_coordinates, torch.zeros(3, dtype=torch.int64)):
            assert values.abs().max() < 1e-13


def test_gradients_reach_every_weight_through_the_splines():
    model = two_body(32)
    knot_coordinates = torch.linspace(1, 30, 40, dtype=torch.float64)
    sum(values.square().sum() for values in model(knot_coordinates, torch.arange(40) % 4)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters() if p.requires_grad)


def test_an_envelope_on_the_basis_fades_too():
    torch.manual_seed(0)
    options = (StandardBessel(8, trainable=False), 9, 6, None, 1, 2, 32, [5])
    model = TwoBody(*options, envelope_on_basis=True).double()
    kinds = torch.zeros(4, dtype=torch.int64)
    (values,) = model(torch.tensor([0.3, 0.999, 1.0, 1.1], dtype=torch.float64), kinds)
    assert values[0].abs().max() > 1e-3
    assert values[1].abs().max() < 1e-6
    assert not values[2:].any()
    torch.manual_seed(0)
    (others,) = TwoBody(*options).double()(torch.tensor([0.3], dtype=torch.float64), kinds[:1])
    assert (others - values[:1]).abs().max() > 1e-6
