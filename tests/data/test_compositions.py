from dataclasses import replace

import numpy as np
import pytest

from equiforce.data.compositions import alike, two_groups, within_compositions, without
from tests.data_sets import crystals, labelled, molecules


def test_values_of_one_composition_are_compared_beyond_what_follows_from_the_volume():
    copper = [labelled(atoms) for atoms in crystals(12)]
    volumes = np.array([np.linalg.det(s.cell) / len(s) for s in copper])
    varying, compared = within_compositions(copper, np.stack([3 + volumes**2, np.arange(12.0)], axis=1))
    assert compared.all()
    np.testing.assert_allclose(varying[:, 0], 0, atol=1e-9)
    assert np.ptp(varying[:, 1]) > 5
    water = [labelled(atoms) for atoms in molecules(2)]
    assert not within_compositions(water, np.ones((2, 1)))[1].any()


def test_alike_are_structures_of_one_size_and_volume():
    [copper] = [labelled(atoms) for atoms in crystals(1)]
    small = replace(copper, cell=copper.cell * 0.8)
    [water] = [labelled(atoms) for atoms in molecules(1)]
    assert alike([copper, small, copper, water, water]) == [[0, 2], [1], [3, 4]]


def test_values_are_divided_at_their_largest_gap():
    low, high, gap, width = two_groups(np.array([5.0, 1.0, 1.1, 5.2, 100.0]), 2)
    assert (sorted(low), sorted(high)) == ([1, 2], [0, 3, 4])
    assert gap == pytest.approx(3.9)
    assert width == pytest.approx(95.1)


def test_residuals_of_a_fit():
    design = np.stack([np.ones(4), np.ones(4)], axis=1)  # of lower rank
    np.testing.assert_allclose(
        without(design, np.array([[1.0], [2.0], [3.0], [6.0]]))[:, 0], [-2, -1, 0, 3], atol=1e-12
    )
