"""Radial distribution functions: known values, and differences of known size."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from equiforce.distillation.radial import WIDTH, differences, radial_distributions
from tests.systems import ethanol, structure_of


def test_atoms_without_order_have_one_everywhere():
    rng = np.random.default_rng(0)
    gas = [
        structure_of(Atoms("Ar200", positions=rng.uniform(0, 12, (200, 3)), cell=[12, 12, 12], pbc=True))
        for _ in range(20)
    ]
    centres, found = radial_distributions(gas, 5.0)
    np.testing.assert_allclose(found["Ar-Ar"][centres > 1.5], 1.0, atol=0.12)
    assert found["Ar-Ar"][centres > 1.5].mean() == pytest.approx(1.0, abs=0.02)


def test_a_crystal_has_its_coordination_number():
    cell = structure_of(bulk("Cu", a=3.61, cubic=True))
    centres, found = radial_distributions([cell], 3.0)
    density = 4 / 3.61**3
    edges = np.append(centres - WIDTH / 2, centres[-1] + WIDTH / 2)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    assert (found["Cu-Cu"] * density * shells).sum() == pytest.approx(12)


def test_each_pair_of_elements_has_its_own():
    _, found = radial_distributions([ethanol()], 4.0)
    assert set(found) == {"H-H", "C-H", "H-O", "C-C", "C-O", "O-O"}
    assert not found["O-O"].any()


def test_the_largest_difference_comes_first_and_says_where():
    one = ethanol()
    moved = one.positions.copy()
    oxygen = int(np.flatnonzero(one.atomic_numbers == 8)[0])
    moved[oxygen] += [0.0, 0.0, 0.4]
    found = differences([one], [replace(one, positions=moved)], 4.0)
    assert {d.pair for d in found if d.largest > 0} == {"C-O", "H-O"}
    assert found[0].largest == max(d.largest for d in found)
    assert 0.5 < found[0].distance < 4.0
    assert all(d.largest == 0 for d in differences([one], [one], 4.0))
