"""Momenta have the temperature asked for, and nothing drifts or spins."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.constraints import FixAtoms

from equiforce.calculators.momenta import degrees_of_freedom, prepare_momenta

DEGREES = {  # atoms and how many momenta are free once nothing drifts or spins
    "one atom": (Atoms("O"), 3),
    "diatomic": (Atoms("OH", positions=[[0, 0, 0], [0.3, 0.5, 0.7]]), 1),
    "linear": (molecule("CO2"), 4),
    "bent": (molecule("H2O"), 3),
    "ethanol": (molecule("CH3CH2OH"), 21),
    "periodic": (molecule("H2O", cell=[4, 4, 4], pbc=True), 6),
    "held": (Atoms("OH2", positions=np.eye(3), constraint=FixAtoms([0])), 6),
}


@pytest.mark.parametrize("name", DEGREES)
def test_momenta_have_the_temperature_of_their_degrees_of_freedom(name):
    atoms, expected = DEGREES[name]
    atoms = atoms.copy()
    prepare_momenta(atoms, 250.0, np.random.default_rng(0))
    assert degrees_of_freedom(atoms) == expected
    assert 2 * atoms.get_kinetic_energy() / (expected * units.kB) == pytest.approx(250.0)
    if len(atoms) > 1 and not atoms.constraints:
        np.testing.assert_allclose(atoms.get_momenta().sum(axis=0), 0, atol=1e-12)
    if expected < 3 * len(atoms) - 3 and not atoms.pbc.any():
        spin = np.cross(atoms.positions - atoms.get_center_of_mass(), atoms.get_momenta()).sum(axis=0)
        np.testing.assert_allclose(spin, 0, atol=1e-10)


def test_momenta_of_the_start_are_kept_but_for_their_drift():
    atoms = molecule("H2O")
    atoms.set_momenta([[1.0, 0, 0], [0, 0.2, 0], [0, 0, 0.1]])
    relative = atoms.get_velocities() - atoms.get_momenta().sum(axis=0) / atoms.get_masses().sum()
    prepare_momenta(atoms, 300.0, np.random.default_rng(0))
    np.testing.assert_allclose(atoms.get_velocities(), relative, atol=1e-12)
    assert degrees_of_freedom(atoms) == 6  # it spins


def test_zero_kelvin_is_rest():
    atoms = molecule("H2O")
    prepare_momenta(atoms, 0.0, np.random.default_rng(0))
    assert atoms.get_kinetic_energy() == 0
