"""Models of nequip with random weights give what nequip computes with them; ``make_nequip.py`` wrote both."""

import numpy as np
import pytest
import torch

from equiforce.errors import InputError
from equiforce.foundation import import_potential
from equiforce.foundation.nequip import read_options
from equiforce.foundation.nequip_files import read
from tests.foundation.nequip_models import FOLDER, NAMES, compare, results, rows_of, with_options, with_weights

OURS = [name for name in NAMES if name.startswith("nequip")]
CORE = "model.sole_model.model.func."


@pytest.mark.parametrize("name", OURS)
def test_it_gives_what_nequip_gives(name):
    compare(name, None, energy=1e-8, forces=1e-7, stress=1e-8)


@pytest.mark.parametrize("name", ["nequip-l2.ckpt", "nequip-l1-pairs-zbl.ckpt"])
def test_splines_are_as_good_as_single_precision(name):
    compare(name, 512, energy=1e-7, forces=1e-5, stress=1e-6)


def test_every_variant_is_there():
    assert OURS == [
        "nequip-0.12-no-parity.ckpt", "nequip-0.12.ckpt", "nequip-by-type.ckpt", "nequip-ema.ckpt",
        "nequip-l1-pairs-zbl.ckpt", "nequip-l2.ckpt",
        "nequip-l3.ckpt", "nequip-parity.ckpt", "nequip-scalars.ckpt", "nequip.nequip.zip",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["nequip-by-type.ckpt", "nequip-l1-pairs-zbl.ckpt"])
def test_fewer_elements_change_nothing(name):
    row = rows_of(name)[1]  # of Cu and O
    few = import_potential(FOLDER / name, ["Cu", "O"]).potential
    assert few.species == ["O", "Cu"]
    assert few.model.embed.weight.shape[0] == 2
    whole = import_potential(FOLDER / name).potential
    for one, other in zip(results(few, row), results(whole, row), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


def test_presets_have_the_options_of_nequip(tmp_path):
    options = {"_target_": "nequip.model.PresetNequIPGNNModel", "preset": "m", "num_layers": "gone"}
    gone = dict.fromkeys(["l_max", "num_features", "type_embed_num_features", "radial_mlp_depth", "parity"], "gone")
    path = with_options("nequip-l2.ckpt", tmp_path, **gone, **options, radial_mlp_width=16)
    config = read_options(read(path), None).config
    assert (config.n_layers, config.l_max, config.channels, config.parity) == (4, 2, [128, 64, 32], False)
    assert (config.embedding_channels, config.radial_depth, config.radial_width) == (32, 1, 16)
    with pytest.raises(InputError, match="the option preset is none of S, M, L, XL"):
        import_potential(with_options("nequip-l2.ckpt", tmp_path, **options | {"preset": "tiny"}))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"r_max": "gone"}, "the option r_max is missing"),
        ({"r_max": float("nan")}, "the option r_max is no float"),
        ({"num_layers": True}, "the option num_layers is no int"),
        ({"num_layers": 10**9}, "the options do not fit together"),
        ({"num_layers": 4}, "layer2_convnet.conv.edge_mlp has 12 results, which do not fit"),
        ({"l_max": 10**9}, "num_features"),
        ({"l_max": -1}, "num_features"),
        ({"num_features": [5, 4]}, "num_features"),
        ({"num_features": [5, 4, 0]}, "num_features"),
        ({"num_features": 1000}, "fewer weights"),
        ({"parity": True}, "weights instead of|do not fit"),
        ({"radial_mlp_width": 7}, "instead of"),
        ({"num_bessels": 4}, "instead of"),
        ({"polynomial_cutoff_p": 2.5}, "the option polynomial_cutoff_p is no whole number"),
        ({"polynomial_cutoff_p": 10**6}, "the options do not fit together"),
        ({"type_names": ["O", "H"]}, "instead of|numbers for"),
        ({"type_names": ["O", "H", "C1"]}, "the option type_names has 'C1', which is no element"),
        ({"type_names": ["O", "H", "H"]}, "the option type_names has an element twice"),
        ({"type_names": []}, "the option type_names is no list of elements"),
        ({"avg_num_neighbors": 0.0}, "avg_num_neighbors has no positive number"),
        ({"avg_num_neighbors": {"O": 1.0}}, "avg_num_neighbors has no positive number"),
        ({"convnet_resnet": True}, "the option convnet_resnet is True"),
        ({"convnet_nonlinearity_type": "norm"}, "the option convnet_nonlinearity_type is 'norm'"),
        ({"convnet_nonlinearity_scalars": {"e": "ssp", "o": "tanh"}}, "the option convnet_nonlinearity_scalars"),
        ({"categorical_graph_field_embed": []}, "the option categorical_graph_field_embed"),
        ({"readout_mlp_hidden_layers_depth": 1, "readout_mlp_nonlinearity": "mish"}, "readout_mlp_nonlinearity is 'mi"),
        ({"per_edge_type_cutoff": {"O": 9.0}}, "per_edge_type_cutoff has no length up to r_max for O-O"),
        ({"per_edge_type_cutoff": {"O": 2.0}}, "the cutoffs of the model are not those of its options"),
        ({"r_max": 3.4}, "the cutoffs of the model are not those of its options"),
        ({"pair_potential": {"_target_": "nequip.nn.pair_potential.ZBL"}}, "has a pair potential, or its options"),
        ({"something_new": 1}, "the option something_new is not known"),
        ({"_target_": "nequip.model.FullNequIPGNNModel"}, "only NequIPGNNModel, PresetNequIPGNNModel, AllegroModel"),
        ({"_target_": "builtins.print"}, "only NequIPGNNModel"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused(options, words, tmp_path):
    with pytest.raises(InputError, match=words) as caught:
        import_potential(with_options("nequip-l2.ckpt", tmp_path, **options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop(f"{CORE}layer1_convnet.conv.sc.weight"), "layer1_convnet.conv.sc.weight is missing"),
        (lambda state: state.pop(f"{CORE}edge_norm._rmax_recip"), "stores no edge_norm._rmax_recip"),
        (lambda state: state.update({f"{CORE}other.weight": torch.ones(2)}), "other.weight belong to nothing"),
        (lambda state: state[f"{CORE}layer0_convnet.conv.linear_1.weight"].fill_(torch.nan), "not finite"),
        (lambda state: state.update({"ema.ema_weight_0": torch.ones(3)}), "averaged weights are not those"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused(change, words, tmp_path):
    with pytest.raises(InputError, match=words):
        import_potential(with_weights("nequip-l2.ckpt", tmp_path, change))


def test_a_network_of_an_old_version_that_does_not_know_reflections_is_labelled():
    """Before nequip 0.16, parity: false made such networks."""
    name = "nequip-0.12-no-parity.ckpt"
    compare(name, None, energy=1e-13, forces=1e-12, stress=1e-12)
    potential, row = import_potential(FOLDER / name, n_knots=None).potential, rows_of(name)[0]
    assert not potential.model.config.reflections
    assert "THE ENERGY OF A MIRROR IMAGE IS ANOTHER ONE" in potential.model.config.cautions[0]
    mirrored = row | {"positions": (-np.array(row["positions"])).tolist()}
    assert 1e-5 < abs(results(potential, mirrored)[0] - row["energy"]) < 1


@pytest.mark.parametrize("options", [{"num_layers": 2}, {"l_max": 0}, {"parity": True}])
def test_networks_of_an_old_version_that_know_reflections_are_not(options, tmp_path):
    path = with_options("nequip-0.12-no-parity.ckpt", tmp_path, **options)
    assert read_options(read(path), None).config.reflections
