"""Models of nequip-allegro give what that program computes with them; ``make_nequip.py`` wrote both."""

import numpy as np
import pytest
import torch

from equiforce.errors import InputError
from equiforce.foundation import import_potential
from tests.foundation.nequip_models import FOLDER, NAMES, compare, results, rows_of, with_options, with_weights

OURS = [name for name in NAMES if name.startswith("allegro")]
CORE = "model.sole_model.model.func."
BESSEL = {"_target_": "allegro.nn.TwoBodyBesselScalarEmbed", "num_bessels": 5}


@pytest.mark.parametrize("name", OURS)
def test_it_gives_what_nequip_allegro_gives(name):
    compare(name, None, energy=1e-8, forces=1e-7, stress=1e-8)


@pytest.mark.parametrize("name", ["allegro-l2.ckpt", "allegro-pairs-zbl.ckpt"])
def test_splines_are_as_good_as_single_precision(name):
    compare(name, 512, energy=1e-7, forces=1e-5, stress=1e-6)


def test_every_variant_is_there():
    assert OURS == [
        "allegro-ema.ckpt", "allegro-l2.ckpt", "allegro-l3.ckpt", "allegro-no-parity.ckpt", "allegro-one-layer.ckpt",
        "allegro-pairs-zbl.ckpt", "allegro.nequip.zip",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["allegro-l2.ckpt", "allegro-pairs-zbl.ckpt"])
def test_fewer_elements_change_nothing(name):
    row = rows_of(name)[1]  # of Cu and O
    few = import_potential(FOLDER / name, ["Cu", "O"], n_knots=None).potential
    whole = import_potential(FOLDER / name, n_knots=None).potential
    assert few.species == ["O", "Cu"]
    for one, other in zip(results(few, row), results(whole, row), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"l_max": "gone"}, "the option l_max is missing"),
        ({"num_layers": 2}, "instead of|is missing"),
        ({"num_layers": 10**9}, "the options do not fit together"),
        ({"num_scalar_features": 6}, "do not fit|does not fit|instead of"),
        ({"num_tensor_features": 3}, "instead of"),
        ({"scalar_embed_mlp_hidden_layers_depth": 0}, "scalar_embed_mlp_hidden_layers_depth is 0"),
        ({"scalar_embed_mlp_hidden_layers_depth": 1}, "scalar_embed_mlp do not fit the options"),
        ({"allegro_mlp_hidden_layers_depth": 2}, "matrices instead of"),
        ({"readout_mlp_hidden_layers_depth": 0}, "matrices instead of"),
        ({"radial_chemical_embed_dim": 8}, "instead of"),
        ({"parity": False}, "allegro.tps.0.weights is 2 x 34 instead of"),
        ({"tp_path_channel_coupling": False}, "instead of"),
        ({"avg_num_neighbors": {"O": 9.0, "H": 8.0, "Cu": 7.0}}, "avg_num_neighbors has a number for each element"),
        ({"allegro_mlp_nonlinearity": "mish"}, "the option allegro_mlp_nonlinearity is 'mish'"),
        ({"forward_normalize": False}, "the option forward_normalize is False"),
        ({"radial_chemical_embed": {"_target_": "allegro.nn.TwoBodySplineScalarEmbed"}}, "TwoBodySplineScalarEmbed"),
        ({"radial_chemical_embed": BESSEL | {"new": 1}}, "the option radial_chemical_embed.new is not known"),
        ({"something_new": 1}, "the option something_new is not known"),
    ],
)
def test_what_is_not_understood_is_refused(options, words, tmp_path):
    with pytest.raises(InputError, match=words) as caught:
        import_potential(with_options("allegro-l3.ckpt", tmp_path, **options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop(f"{CORE}allegro.tps.1.weights"), "allegro.tps.1.weights is missing"),
        (lambda state: state.update({f"{CORE}other.weight": torch.ones(2)}), "other.weight belong to nothing"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, words, tmp_path):
    with pytest.raises(InputError, match=words):
        import_potential(with_weights("allegro-l2.ckpt", tmp_path, change))


def test_many_elements_are_refused_before_memory_is_taken(tmp_path):
    path = with_options("allegro-l2.ckpt", tmp_path, scalar_embed_mlp_hidden_layers_width=10**9)
    with pytest.raises(InputError, match="the options do not fit together"):
        import_potential(path)
