import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

import equiforce
from equiforce.errors import InputError

SMALL = {"l_max": 1, "n_layers": 2, "channels": 4, "cutoff": 3.5}


def energy(**options):
    atoms = molecule("H2O")
    atoms.calc = equiforce.untrained(["H", "O"], **{**SMALL, **options})
    return atoms.get_potential_energy()


def test_the_seed_decides_the_weights_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert energy(seed=1) == energy(seed=1) != energy(seed=2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "options", [{"zbl": True}, {"l_max": 0}, {"mean_neighbors": 3.0}, {"channels": [4, 2]}], ids=str
)
def test_options_have_an_effect(options):
    assert energy(**options) != energy()


def test_precision():
    assert equiforce.untrained(["H"], **SMALL).potential.dtype == torch.float32
    assert energy(dtype="float64") == pytest.approx(energy(), abs=1e-4)


def test_it_is_a_calculator_of_energy_forces_and_stress():
    atoms = bulk("Cu", cubic=True)
    atoms.calc = equiforce.untrained(["Cu"], **SMALL)
    atoms.rattle(0.1, seed=0)
    assert atoms.get_forces().shape == (4, 3)
    assert np.abs(atoms.get_stress()).max() > 0
    assert not any(p.requires_grad for p in atoms.calc.potential.parameters())


def test_default_messages_are_scaled_by_a_typical_density():
    typical = 0.1 * 4 / 3 * np.pi * 3.5**3
    assert equiforce.untrained(["H"], **SMALL).potential.model.config.mean_neighbors == pytest.approx(typical)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kind": "nequipp"}, "there is no model of kind 'nequipp'"),
        ({"dtype": "float16"}, "weights cannot be of dtype 'float16'"),
        ({"channels": [4]}, "model.channels lists 1 numbers"),
    ],
)
def test_what_cannot_be_is_said(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        energy(**options)


def test_an_element_without_weights_is_named():
    atoms = molecule("CH4")
    atoms.calc = equiforce.untrained(["H", "O"], **SMALL)
    with pytest.raises(InputError, match="element C that the model does not know"):
        atoms.get_potential_energy()
