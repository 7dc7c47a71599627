"""Descriptors: the same for the same structure however it is written, and different for others."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk, molecule

from equiforce.distillation.descriptors import N_SHELLS, descriptors
from tests.distillation.small import frames
from tests.systems import ethanol, rattled, structure_of


def test_rotations_orders_and_larger_cells_change_nothing():
    one, other = ethanol(), ethanol(1)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    order = np.random.default_rng(1).permutation(len(one))
    turned = replace(one, positions=(one.positions @ turn)[order], atomic_numbers=one.atomic_numbers[order])
    points = descriptors([one, turned, other], 4.0)
    np.testing.assert_allclose(points[0], points[1], atol=1e-9)
    assert np.linalg.norm(points[0] - points[2]) > 0.1
    cell = bulk("Cu", cubic=True)
    cell.rattle(0.05, seed=0)
    small, large, stretched = (structure_of(a) for a in (cell, cell * (1, 1, 2), bulk("Cu", a=3.7, cubic=True)))
    points = descriptors([small, large, stretched], 4.0)
    np.testing.assert_allclose(points[0], points[1], atol=1e-9)


def test_compositions_may_differ():
    structures = [ethanol(), structure_of(molecule("H2O")), structure_of(molecule("CH4"))]
    points = descriptors(structures, 4.0)
    assert points.shape == (3, 9 * 2 * N_SHELLS + 3)  # three elements
    assert np.isfinite(points).all()
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    assert distances[np.triu_indices(3, 1)].min() > 0.5


def test_forces_tell_apart_what_distances_do_not():
    (one,) = frames(1)
    other = replace(one, forces=3 * one.forces)
    points = descriptors([one, other], 4.0)
    assert np.linalg.norm(points[0] - points[1]) == pytest.approx(2.0, rel=1e-6)  # of a spread of one


def test_one_moved_atom_of_many_is_seen():
    cells = bulk("Cu", cubic=True) * (3, 3, 3)
    moved = cells.copy()
    moved.positions[0] += 0.5
    still = [rattled(cells, seed, 0.02) for seed in range(4)]
    points = descriptors([*still, structure_of(moved)], 4.0)
    among = np.linalg.norm(points[:4, None] - points[None, :4], axis=2).max()
    assert np.linalg.norm(points[4] - points[:4], axis=1).min() > among
