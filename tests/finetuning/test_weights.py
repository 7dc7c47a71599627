"""The start model's energies survive a change of its elements; frozen groups are what they say."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from equiforce.elements import atomic_number
from equiforce.errors import InputError
from equiforce.finetuning.weights import adapted, freeze
from equiforce.models import REGISTRY
from equiforce.models.nequip import NequIP
from equiforce.neighbors import build_graph
from equiforce.structure import Structure
from tests.finetuning.starts import SPECIES, potential_of

pytestmark = pytest.mark.usefixtures("plain_torch")
KINDS = ("nequip", "allegro")


def cluster(symbols, seed=0):
    rng = np.random.default_rng(seed)
    return Structure(
        atomic_numbers=np.array([atomic_number(symbol) for symbol in symbols]),
        positions=np.array([[i % 2, i // 2 % 2, i // 4] for i in range(len(symbols))]) * 1.4
        + rng.normal(scale=0.1, size=(len(symbols), 3)),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
    )


def energies(potential, structure):
    return potential(build_graph(structure, potential.species, potential.cutoff), forces=False).energies.detach()


@pytest.mark.parametrize("zbl", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_subset_of_the_elements_has_the_same_energies(kind, zbl):
    start = potential_of(kind, zbl=zbl)
    found = adapted(start, ["H", "O"], "float64")
    assert (found.donors, found.left_out) == ({}, ("C",))
    assert found.potential.species == ["H", "O"]
    structure = cluster("HOHHOOH")
    torch.testing.assert_close(energies(found.potential, structure), energies(start, structure), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_element_starts_as_the_most_similar_one(kind):
    start = potential_of(kind)
    found = adapted(start, ["H", "C", "Si", "S"], "float64")
    assert (found.donors, found.left_out) == ({"Si": "C", "S": "O"}, ("O",))
    new = energies(found.potential, cluster(["H", "Si", "S", "Si", "C", "H", "S"]))
    torch.testing.assert_close(new, energies(start, cluster("HCOCCHO")), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_all_elements_in_another_order_and_precision(kind):
    start = potential_of(kind)
    structure = cluster("HCOCCHO")
    found = adapted(start, ["O", "C", "H"], "float64")
    torch.testing.assert_close(energies(found.potential, structure), energies(start, structure), rtol=0, atol=1e-12)
    single = adapted(start, SPECIES, "float32").potential
    assert single.dtype == torch.float32
    torch.testing.assert_close(energies(single, structure), energies(start, structure), rtol=0, atol=1e-4)


def test_the_repulsion_of_a_new_element_is_its_own():
    start = potential_of("nequip", zbl=True)
    assert adapted(start, ["H", "Si"], "float64").potential.zbl.charges.tolist() == [1.0, 14.0]


@pytest.fixture
def silent(monkeypatch):
    """A potential whose model does not say what its weights belong to."""

    class Silent(NequIP):
        weight_map = None

    kind = replace(REGISTRY["nequip"], name="silent", model_class=Silent)
    monkeypatch.setitem(REGISTRY._kinds, "silent", kind)
    start = potential_of("nequip")
    start.model.__class__ = Silent
    return start


def test_a_model_that_says_nothing_about_its_weights_keeps_its_elements(silent):
    structure = cluster("HCOCCHO")
    same = adapted(silent, SPECIES, "float64").potential
    torch.testing.assert_close(energies(same, structure), energies(silent, structure), rtol=0, atol=1e-12)
    with pytest.raises(InputError, match="'silent' does not say which of its weights belong to elements"):
        adapted(silent, ["H"], "float64")
    with pytest.raises(InputError, match="'silent' does not say which of its weights belong to elements"):
        adapted(silent, ["O", "C", "H"], "float64")
    with pytest.raises(InputError, match=r"start\.freeze needs a model with a method weight_map"):
        freeze(silent.model, ["layers"])
    assert freeze(silent.model, []) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("group", ["embedding", "radial", "layers", "readout"])
def test_a_group_has_weights_and_only_they_are_frozen(kind, group):
    potential = potential_of(kind).requires_grad_()
    frozen = freeze(potential.model, [group])
    assert frozen
    left = {name for name, parameter in potential.model.named_parameters() if parameter.requires_grad}
    assert not left & {*frozen}
    assert left | {*frozen} == {name for name, _ in potential.model.named_parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_is_in_one_group(kind):
    model = potential_of(kind).model
    names = sorted(name for group in model.weight_map().groups.values() for name in group)
    assert names == sorted(name for name, _ in model.named_parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_those_that_change_with_the_number_of_elements(kind):
    """The list of a model is complete: no other tensor has another shape if there is one more element."""
    model = potential_of(kind).model
    larger = type(model)(model.config, [*SPECIES, "S"])
    shapes = {name: tensor.shape for name, tensor in larger.state_dict().items()}
    different = {name for name, tensor in model.state_dict().items() if tensor.shape != shapes[name]}
    assert different == model.weight_map().rows.keys()


def test_refusals_of_groups():
    potential = potential_of("nequip").requires_grad_()
    with pytest.raises(
        InputError, match=r"start\.freeze has lyers: the groups of weights are embedding, radial, layers"
    ):
        freeze(potential.model, ["lyers"])
    with pytest.raises(InputError, match="leaves no weight to train"):
        freeze(potential.model, ["embedding", "radial", "layers", "readout"])
