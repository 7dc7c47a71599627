"""A description makes the same potential again; what it asks for is compared before memory is taken."""

import json
from dataclasses import fields

import pytest
import torch

from equiforce.errors import InputError
from equiforce.model_file import DTYPES, build_potential, describe, zbl_entry
from equiforce.model_file.container import Slot
from equiforce.model_file.description import _WithoutMemory, fits, wrong_entry
from equiforce.models import REGISTRY
from tests.systems import potential_of


def slots_of(potential):
    return {name: Slot(value.dtype, tuple(value.shape)) for name, value in potential.state_dict().items()}


MODELS = {
    "nequip": {"l_max": 1, "n_layers": 2, "channels": [4, 2]},
    "residual": {"l_max": 1, "n_layers": 3, "channels": 4, "residual": True, "radial_knots": None},
    "allegro": {"kind": "allegro", "l_max": 1, "tensor_channels": 4, "radial_basis": "spline"},
    "mixing": {"kind": "allegro", "l_max": 1, "tensor_channels": 4, "channel_mixing": True},
}


@pytest.mark.parametrize("zbl", [False, True, {"envelope_p": 4, "pair_cutoffs": False}])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("model", MODELS)
def test_a_description_makes_the_same_shape_again(model, dtype, zbl):
    potential = potential_of(**MODELS[model], dtype=dtype, zbl=zbl)
    description = json.loads(json.dumps(describe(potential)))
    again = build_potential(description)
    assert describe(again) == describe(potential)
    assert slots_of(again) == slots_of(potential)
    assert fits(description, slots_of(potential), dtypes=True)


def test_repulsion_may_end_at_pair_cutoffs():
    description = describe(potential_of(l_max=1, n_layers=2, channels=4, pair_cutoffs={"H-H": 2.0}))
    ends = description | {"zbl": zbl_entry(True, 6, True)}
    assert wrong_entry(ends) is None
    assert build_potential(ends).zbl.stretch is not None
    assert describe(build_potential(ends)) == ends
    everywhere = {**ends, "config": {**ends["config"], "pair_cutoffs": None}}
    with pytest.raises(InputError, match=r"potential\.zbl_pair_cutoffs is true, but there are no model\.pair_cutoffs"):
        build_potential(everywhere)


@pytest.mark.parametrize(
    "entry",
    [
        {}, {"envelope_p": 4}, {"envelope_p": 1, "pair_cutoffs": True}, {"envelope_p": 4.0, "pair_cutoffs": True},
        {"envelope_p": 4, "pair_cutoffs": 1}, {"envelope_p": 4, "pair_cutoffs": True, "more": 1}, None, 1, "true",
    ],
)  # fmt: skip
def test_other_repulsions_are_refused(entry):
    assert wrong_entry(describe(potential_of(l_max=1, n_layers=2, channels=4)) | {"zbl": entry}) == "zbl"


def test_a_default_repulsion_is_described_as_ever():
    assert (zbl_entry(False), zbl_entry(True), zbl_entry(False, 4, True)) == (False, True, False)
    assert zbl_entry(True, 4) == {"envelope_p": 4, "pair_cutoffs": False}


def test_other_tensors_do_not_fit():
    potential = potential_of(l_max=1, n_layers=2, channels=4)
    description, slots = describe(potential), slots_of(potential)
    assert not fits(description, {**slots, "more": Slot(torch.float64, ())}, dtypes=True)
    assert not fits(description, {k: v for k, v in slots.items() if k != "scale"}, dtypes=True)
    other = {**slots, "scale": Slot(torch.float32, (3,))}
    assert not fits(description, other, dtypes=True)
    assert fits(description, other, dtypes=False)
    assert not fits({**description, "zbl": True}, slots, dtypes=True)


def test_a_comparison_draws_no_random_numbers():
    potential = potential_of(l_max=1, n_layers=2, channels=4)
    before = torch.get_rng_state()
    fits(describe(potential), slots_of(potential), dtypes=True)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("nequip", {"channels": 1024, "n_layers": 8, "l_max": 3}),
        ("nequip", {"radial_width": 1024, "radial_depth": 16, "n_layers": 32, "channels": 512}),
        ("allegro", {"tensor_channels": 1024, "latent_width": 1024, "radial_knots": None, "n_layers": 16}),
    ],
)
def test_the_largest_models_are_compared_without_memory(kind, options):
    """They need from 3 to 130 GB."""
    potential = potential_of(l_max=1, n_layers=2, channels=4)
    config = {"mean_neighbors": 8.0, **options}
    assert not fits(describe(potential) | {"kind": kind, "config": config}, slots_of(potential), dtypes=True)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("nequip", {"n_layers": 10**9}),
        ("nequip", {"channels": 10**9}),
        ("nequip", {"channels": [10**9, 1, 1]}),
        ("nequip", {"channels": True}),
        ("nequip", {"channels": "4"}),
        ("nequip", {"channels": [4.0, 4.0, 4.0]}),
        ("nequip", {"l_max": 100}),
        ("nequip", {"l_max": -3}),
        ("nequip", {"l_max": None}),
        ("nequip", {"radial_knots": 10**6}),
        ("nequip", {"cutoff": float("nan")}),
        ("nequip", {"cutoff": 0}),
        ("nequip", {"parity": 1}),
        ("nequip", {"n_bessel": 10**7}),
        ("nequip", {"newest_option": 1}),
        ("allegro", {"tensor_channels": 10**7}),
        ("allegro", {"radial_basis": "fourier"}),
        ("allegro", {"pair_cutoffs": {"H-H": "2"}}),
        ("allegro", {"pair_cutoffs": ["H-H"]}),
        ("allegro", {"pair_cutoffs": {"H-Xx": 2.0}}),
        ("allegro", {"radial_knots": 1024, "tensor_channels": 1024, "scalar_channels": 1024, "l_max": 8}),
        ("nequip", {"radial_knots": 1024, "channels": 1024, "l_max": 6, "n_layers": 8}),
    ],
)
def test_options_out_of_bounds_are_refused(kind, options):
    description = describe(potential_of(l_max=1, n_layers=2, channels=4)) | {"kind": kind, "config": options}
    description["species"] = ["H", "C", "N", "O"]
    with pytest.raises((InputError, TypeError, ValueError)):
        fits(description, {}, dtypes=True)


def test_unknown_kinds_and_dtypes_are_refused():
    description = describe(potential_of(l_max=1, n_layers=2, channels=4))
    with pytest.raises(InputError, match="there is no model of kind 'allegro9'"):
        build_potential(description | {"kind": "allegro9"})
    with pytest.raises(InputError, match="weights cannot be of dtype 'load'"):
        build_potential(description | {"dtype": "load"})


@pytest.mark.parametrize("kind", ["nequip", "allegro"])
def test_every_size_of_a_model_has_an_upper_bound(kind):
    config_class = REGISTRY[kind].config_class
    sizes = [entry for entry in fields(config_class) if type(entry.default) in (int, float)]
    assert len(sizes) >= 8
    assert [entry.name for entry in sizes if "le" not in entry.metadata["bounds"]] == (
        ["channels"] if kind == "nequip" else []  # a number or a list, which the class itself checks
    )


def test_a_tensor_from_a_generator_takes_no_memory_either():
    with _WithoutMemory():
        found = torch.randn(10**6, 10**6, generator=torch.Generator())
    assert found.shape == (10**6, 10**6)
