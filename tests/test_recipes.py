from pathlib import Path

import pytest

from equiforce.config import load_config
from equiforce.model_file import build_potential

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))
# layers, l_max, cutoff, envelope_p, learning rate, batch, frames to train and validate, energy weight at forces 1
PAPERS = {
    "nequip-paper-md17": (5, 3, 4.0, 6, 0.01, 5, 950, 50, 21**2 / 1000),
    "nequip-paper-3bpa": (5, 3, 5.0, 2, 0.01, 5, 450, 50, 1.0),
    "nequip-paper-water": (6, 2, 6.0, 6, 0.005, 1, 133, 50, 192**2 / 1e5),
    "nequip-paper-lips": (6, 2, 5.0, 6, 0.005, 1, 1000, 100, 83**2 / 6889),
    "allegro-paper-md17": (3, 3, 7.0, 6, 0.002, 5, 950, 50, 21**2 / 1000),
    "allegro-paper-3bpa": (3, 3, 5.0, 2, 0.002, 5, 450, 50, 1.0),
}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_valid(recipe):
    config = load_config(recipe)
    assert config != load_config()


@pytest.mark.parametrize("name", PAPERS)
def test_a_paper_s_recipe_is_the_paper_s(name):
    config = load_config(RECIPES[0].with_name(f"{name}.yaml"))
    model, training, part = config.model, config.training, config.split
    shape = (model.n_layers, model.l_max, model.cutoff, model.envelope_p)
    rest = (config.optimizer.learning_rate, training.batch_size, part.train, part.validation, config.loss.energy)
    assert (*shape, *rest) == pytest.approx(PAPERS[name])
    assert model.parity
    assert config.loss.forces == 1.0
    assert (config.optimizer.schedule, config.optimizer.plateau_factor, training.early_stopping) == (
        "plateau",
        0.8,
        1000,
    )
    if config.kind == "nequip":
        assert model.channels == (64 if model.n_layers == 5 else 32)
        assert config.optimizer.amsgrad
        assert model.bessel_trainable == ("3bpa" not in name)
    else:
        assert (model.tensor_channels, model.scalar_channels) == (128, 1024)
        assert model.residual
        assert model.channel_mixing


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_makes_a_potential(recipe):
    """Allegro's networks are too large for a test, and are narrowed."""
    narrow = {"scalar_channels": 8, "tensor_channels": 4, "radial_width": 8}
    config = load_config(recipe)
    changes = {f"model.{name}": value for name, value in narrow.items()} if config.kind == "allegro" else {}
    from dataclasses import asdict

    config = load_config(recipe, changes)
    potential = build_potential(
        {
            "kind": config.kind,
            "config": asdict(config.model) | {"mean_neighbors": 10.0},
            "species": ["H", "O"],
            "dtype": "float32",
            "zbl": False,
            "shift": [0.0, 0.0],
            "scale": [1.0, 1.0],
            "atomic_energies_trainable": config.potential.atomic_energies_trainable,
            "scale_trainable": config.potential.scale_trainable,
        }
    )
    assert sum(p.numel() for p in potential.parameters()) > 0


def test_the_readme_lists_every_recipe():
    text = (RECIPES[0].parent / "README.md").read_text(encoding="utf-8")
    listed = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}
    assert listed == {recipe.name for recipe in RECIPES}
