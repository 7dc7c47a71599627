"""Options of a start are refused without one."""

import pytest

from equiforce.config import load_config
from equiforce.errors import InputError
from equiforce.finetuning.options import DEFAULTS
from equiforce.training.optimizer import OptimizerConfig


@pytest.mark.parametrize("option", [{"replay": ["a.xyz"]}, {"freeze": ["radial"]}, {"from_scratch": True}])
def test_without_a_start_model_the_others_change_nothing(option):
    name = next(iter(option))
    with pytest.raises(InputError, match=rf"start\.{name} changes nothing unless start\.model is given"):
        load_config(options={f"start.{name}": option[name]})


def test_a_share_needs_replay():
    with pytest.raises(InputError, match=r"start\.replay_share changes nothing unless start\.replay is given"):
        load_config(options={"start.model": "a.eqf", "start.replay_share": 0.5})
    with pytest.raises(InputError, match=r"start\.replay_share=1 is not allowed"):
        load_config(options={"start.model": "a.eqf", "start.replay": "b.xyz", "start.replay_share": 1})


def test_the_defaults_are_options_with_other_values():
    options = OptimizerConfig(**{name.removeprefix("optimizer."): value for name, value in DEFAULTS.items()})
    assert options.learning_rate == DEFAULTS["optimizer.learning_rate"]
    assert options.learning_rate != OptimizerConfig().learning_rate
