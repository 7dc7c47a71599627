"""Stresses of strained crystals without forces are compared with their energies."""

from dataclasses import replace

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT

from equiforce.data.strained import compare_strained
from tests.data_sets import computed, crystals, labelled


@pytest.fixture(scope="module")
def strained():
    rng = np.random.default_rng(0)
    cells = [bulk("Cu", cubic=True) for _ in range(24)]
    for atoms in cells:
        atoms.set_cell(atoms.cell @ (np.eye(3) + rng.normal(scale=0.02, size=(3, 3))), scale_atoms=True)
    return [labelled(computed(atoms, 0, amount=0.0)) for atoms in cells]


@pytest.fixture(scope="module")
def equation_of_state():
    return [labelled(computed(bulk("Cu", a=a, cubic=True), 0, amount=0.0)) for a in np.linspace(3.4, 3.9, 20)]


def test_right_stresses_agree(strained, equation_of_state):
    assert compare_strained(strained) == []
    assert compare_strained(equation_of_state) == []
    assert compare_strained([replace(s, stress=None) for s in strained]) == []
    assert compare_strained([labelled(atoms) for atoms in crystals(20)]) == []  # not copies of one structure


@pytest.mark.parametrize("kind", ["strained", "equation_of_state"])
def test_the_wrong_sign(kind, request):
    [found] = compare_strained([replace(s, stress=-s.stress) for s in request.getfixturevalue(kind)])
    assert found.sure
    assert found.sentence.endswith("set data.stress_positive_under=compression, or leave it out if it is set")


def test_the_wrong_unit(strained):
    [found] = compare_strained([replace(s, stress=s.stress / units.GPa) for s in strained])
    assert found.sure
    assert "as if they were in GPa: state their unit with data.stress_unit" in found.sentence


def test_the_energies_are_those_of_the_calculator():
    """So that the fixtures above are not zero."""
    atoms = bulk("Cu", a=3.4, cubic=True)
    atoms.calc = EMT()
    assert atoms.get_potential_energy() == labelled(computed(atoms, 0, amount=0.0)).energy != 0
