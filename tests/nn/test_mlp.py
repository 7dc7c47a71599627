import pytest
import torch

from equiforce.nn.mlp import ScalarMLP, silu, tanh


@pytest.mark.parametrize("activation", [silu, tanh])
def test_activation_has_unit_second_moment(activation):
    torch.manual_seed(0)
    assert activation(torch.randn(1_000_000, dtype=torch.float64)).square().mean().item() == pytest.approx(1, rel=1e-2)


@pytest.mark.parametrize("hidden", [[], [64], [64, 64, 64]])
def test_keeps_variance_and_zero(hidden):
    torch.manual_seed(0)
    mlp = ScalarMLP(32, hidden, 64)
    assert mlp(torch.randn(4000, 32)).square().mean().item() == pytest.approx(1.0, rel=0.25)
    assert not mlp(torch.zeros(1, 32)).any()
    assert [tuple(w.shape) for w in mlp.weights] == list(zip([32, *hidden], [*hidden, 64], strict=True))
