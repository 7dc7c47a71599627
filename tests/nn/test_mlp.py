import pytest
import torch

from equiforce.nn.mlp import SILU_GAIN, TANH_GAIN, ScalarMLP


@pytest.mark.parametrize(("activation", "gain"), [(torch.nn.functional.silu, SILU_GAIN), (torch.tanh, TANH_GAIN)])
def test_activation_has_unit_second_moment(activation, gain):
    torch.manual_seed(0)
    values = gain * activation(torch.randn(1_000_000, dtype=torch.float64))
    assert values.square().mean().item() == pytest.approx(1, rel=1e-2)


@pytest.mark.parametrize("hidden", [[], [64], [64, 64, 64]])
def test_keeps_variance_and_zero(hidden):
    torch.manual_seed(0)
    mlp = ScalarMLP(32, hidden, 64)
    assert mlp(torch.randn(4000, 32)).square().mean().item() == pytest.approx(1.0, rel=0.25)
    assert not mlp(torch.zeros(1, 32)).any()
    assert [tuple(w.shape) for w in mlp.weights] == list(zip([32, *hidden], [*hidden, 64], strict=True))
