import math

import pytest
import torch
from torch import nn

from equiforce.training.optimizer import EMA, LearningRate, OptimizerConfig, build_optimizer, default_learning_rate


def test_cosine_starts_warm_and_ends_low():
    rate = LearningRate(OptimizerConfig(learning_rate=0.1, warmup_steps=9, final_fraction=0.01))
    assert rate.at(0, 0.0, 1.0) == pytest.approx(0.01)
    assert rate.at(9, 0.0, 1.0) == pytest.approx(0.1)
    assert rate.at(0, 0.04, 1.0) == pytest.approx(0.08, rel=0.01)
    assert rate.at(100, 0.5, 1.0) == pytest.approx(0.1 * 0.505)
    assert rate.at(1000, 1.0, 1.0) == pytest.approx(0.001)


@pytest.mark.parametrize(("passes", "rate"), [(0.0, 0.05), (10.0, 0.05), (37.5, 0.04), (150.0, 0.02), (math.inf, 0.02)])
def test_shorter_runs_get_higher_rates(passes, rate):
    assert default_learning_rate(passes) == pytest.approx(rate)


def test_the_rate_is_fitted_to_the_passes_of_the_whole_run():
    config = OptimizerConfig(warmup_steps=0, schedule="constant")
    assert LearningRate(config).at(100, 0.1, 15.0) == pytest.approx(0.02)
    assert LearningRate(config).at(100, 0.4, 15.0) == pytest.approx(0.04)
    assert LearningRate(config).at(100, 0.4, 3.0) == pytest.approx(0.05)
    assert LearningRate(config).at(0, 0.0, 0.0) == pytest.approx(0.02)  # nothing says how long it will be
    given = OptimizerConfig(learning_rate=0.03, warmup_steps=0, schedule="constant")
    assert LearningRate(given).at(100, 0.4, 3.0) == pytest.approx(0.03)


def test_plateau_lowers_the_rate_and_ends():
    config = OptimizerConfig(
        schedule="plateau", learning_rate=1.0, warmup_steps=0, plateau_patience=2, plateau_factor=0.5, plateau_stop=0.3
    )
    rate = LearningRate(config)
    rates = []
    for loss in [1.0, 0.9, 0.95, 0.95, 0.95, 0.8, 0.9, 0.9, 0.9]:
        rate.validated(loss)
        rates.append(rate.at(100, 0.1, 1.0))
    assert rates == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25]
    assert rate.exhausted
    other = LearningRate(config)
    other.restore(rate.state())
    assert other.at(100, 0.1, 1.0) == 0.25


def test_average_warms_up_and_then_forgets_slowly():
    module = nn.Linear(1, 1, bias=False)
    average = EMA(module, 0.5)
    expected = module.weight.item()
    for n in range(1, 20):
        with torch.no_grad():
            module.weight.fill_(float(n))
        average.update()
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n
    assert average.potential.weight.item() == pytest.approx(expected, rel=1e-5)
    assert not average.potential.weight.requires_grad


def test_without_average_the_weights_themselves_are_kept():
    module = nn.Linear(1, 1)
    assert EMA(module, 0.0).potential is module


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_optimizer_takes_trainable_weights_only(name, kind):
    module = nn.Linear(2, 2)
    module.bias.requires_grad_(False)
    optimizer = build_optimizer(module, OptimizerConfig(name=name, amsgrad=True, learning_rate=0.3))
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["params"] == [module.weight]
    assert optimizer.param_groups[0]["amsgrad"]
    assert math.isclose(optimizer.param_groups[0]["lr"], 0.3)
