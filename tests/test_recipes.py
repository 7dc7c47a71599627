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
