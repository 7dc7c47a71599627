from pathlib import Path

import pytest
import torch

from equiforce.errors import InputError
from equiforce.foundation.sevennet_options import network_of, products
from equiforce.geometry.irreps import Irreps

FOLDER = Path(__file__).parent / "sevennet"


def options_of(name):
    return torch.load(FOLDER / f"{name}.pth", weights_only=True)["config"]


def test_the_network_has_the_options():
    network = network_of(options_of("xplor"))
    assert network.atomic_numbers == (29, 8, 1)
    assert (network.n_layers, network.xplor_on, network.reflections, network.shared) == (3, 3.4, False, True)
    config = network.config(64, False)
    assert (config.channels, config.embedding_channels, config.reflections) == ([6, 4, 3], 5, False)
    parity = network_of(options_of("parity"))
    assert parity.irreps[2] == Irreps("3x0e+3x1o+3x1e+3x2o+3x2e")
    assert parity.irreps[3] == Irreps("3x0o+3x0e+3x1o+3x1e+3x2o+3x2e")
    assert parity.config(None, False).parity
    assert network_of(options_of("modals")).modals == ("R2SCAN", "PBE")
    assert not network_of(options_of("natural")).config(None, False).parity


def test_products_have_the_order_of_e3nn():
    found = products(Irreps("2x0e+3x1o"), Irreps("1x0e+1x1o"), 1, even_only=False)
    assert found == Irreps("5x0e+5x1o+3x1e")
    assert products(Irreps("2x0e+3x1o"), Irreps("1x0e+1x1o"), 0, even_only=True) == Irreps("5x0e")


WRONG = {
    "cutoff": (-1.0, "the option cutoff is -1.0, which equiforce does not know"),
    "lmax": (99, "the option lmax is 99, and equiforce has 0 to 8"),
    "lmax_edge": (1, "the options lmax_edge and lmax_node differ from lmax"),
    "irreps_manual": (["5x0e", "6x0e"], "the option irreps_manual is"),
    "channel": (2.5, "the option channel is 2.5, and equiforce has 1 to 1024"),
    "act_radial": ("ssp", "the option act_radial is ssp: equiforce has no such network"),
    "act_gate": ({"e": "ssp", "o": "tanh"}, "the option act_gate is"),
    "readout_as_fcn": (True, "the option readout_as_fcn is True: equiforce has no such network"),
    "use_bias_in_linear": (True, "the option use_bias_in_linear is True: equiforce has no such network"),
    "weight_nn_hidden_neurons": ([8, 9], "equiforce has equal widths"),
    "self_connection_type": (["linear", "nequip", "linear"], "the option self_connection_type is"),
    "radial_basis": ({"radial_basis_name": "chebyshev"}, "the option radial_basis is"),
    "cutoff_function": ({"cutoff_function_name": "XPLOR"}, "the option cutoff_on is None"),
    "_type_map": ({29: 0, 8: 2}, "the option _type_map is"),
    "version": ("new", "the option version is new"),
    "is_parity": (1, "the option is_parity is 1"),
    "use_modality": (True, "the option _modal_map is {}"),
    "use_magmom": (True, "equiforce does not know the option use_magmom"),
    "_normalize_sph": (False, "the option _normalize_sph is False: equiforce has no such network"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_has_no_counterpart_is_refused(name):
    value, words = WRONG[name]
    options = {**options_of("xplor"), name: value}
    if name == "use_modality":
        options["_modal_map"] = {}
    with pytest.raises(InputError) as found:
        network_of(options)
    assert words in str(found.value)


@pytest.mark.parametrize(
    "irreps",
    [
        ["5x0e", "6x0e+4x1e", "6x0e+3x1e", "6x0e"],  # widths differ
        ["5x0e", "6x0e+4x1o", "6x0e+4x1o", "6x0e"],  # parities without reflections
        ["5x0e", "6x0e+4x3e", "6x0e+4x3e", "6x0e"],  # above lmax
    ],
)
def test_features_without_counterpart_are_refused(irreps):
    network = network_of(options_of("xplor") | {"irreps_manual": irreps})
    with pytest.raises(InputError, match="equiforce has one number of channels for each degree"):
        network.config(64, False)


def test_old_versions_had_growing_harmonics():
    options = options_of("xplor") | {"version": "0.9.1"}
    assert network_of(options).atomic_numbers == (29, 8, 1)
    del options["_normalize_sph"]
    with pytest.raises(InputError, match="as in the SevenNet-0 of May 2024"):
        network_of(options)
    del options["cutoff"]
    with pytest.raises(InputError, match="the options lack cutoff"):
        network_of(options)
