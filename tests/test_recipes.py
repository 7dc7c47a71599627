from pathlib import Path

import pytest

from equiforce.config import load_config

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_valid(recipe):
    config = load_config(recipe)
    assert config != load_config()


def test_the_paper_s_recipe_is_the_paper_s():
    config = load_config(RECIPES[0].with_name("nequip-paper-md17.yaml"))
    assert (config.model.l_max, config.model.channels, config.model.parity, config.model.cutoff) == (3, 64, True, 4.0)
    assert config.loss.energy == pytest.approx(21**2 / 1000)


def test_the_other_paper_s_recipe_is_that_paper_s():
    config = load_config(RECIPES[0].with_name("allegro-paper-md17.yaml"))
    assert (config.kind, config.model.l_max, config.model.tensor_channels, config.model.cutoff) == (
        "allegro",
        3,
        128,
        7.0,
    )
    assert config.model.residual
    assert config.model.channel_mixing
    assert config.loss.energy == pytest.approx(21**2 / 1000)
