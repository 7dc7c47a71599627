from dataclasses import replace

import numpy as np
import pytest

from equiforce.data import force_fit
from equiforce.data.force_fit import fit
from tests.data_sets import crystals, labelled, molecules


@pytest.fixture(scope="module")
def copper():
    return [labelled(atoms) for atoms in crystals(30)]


def test_a_fit_to_forces_finds_energies_and_stresses(copper):
    found = fit(copper)
    assert found.explained > 0.95
    assert {s.source for s in found.structures} == {s.source for s in copper}
    energies = np.array([s.energy for s in found.structures])
    labels, predictions = (np.stack(x) for x in ([s.stress for s in found.structures], found.stresses))
    shears = [array[:, [1, 0, 0], [2, 2, 1]].ravel() for array in (labels, predictions)]
    assert np.corrcoef(*shears)[0, 1] > 0.95
    assert np.polyfit(shears[1], shears[0], 1)[0] == pytest.approx(1, abs=0.2)
    assert np.corrcoef(energies, found.energies)[0, 1] > 0.5


def test_forces_and_virials_are_derivatives_of_the_energy():
    """Of every term, so that a fit to forces says something about energies and stresses."""
    [atoms] = molecules(1, name="CH3CH2OH")
    step, rng = 1e-5, np.random.default_rng(0)
    structure = labelled(atoms)

    def terms(positions):
        return force_fit._terms(
            type(structure)(
                atomic_numbers=structure.atomic_numbers, positions=positions, cell=np.eye(3) * 6.5, pbc=np.full(3, True)
            ),
            [1, 6, 8],
            8,
        )

    found = terms(structure.positions)
    along = rng.normal(size=structure.positions.shape)
    ahead, behind = (terms(structure.positions + sign * step * along).energy for sign in (1, -1))
    np.testing.assert_allclose(-along.ravel() @ found.forces, (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-6)


def test_virials_are_derivatives_with_respect_to_strain(copper):
    structure, step = copper[0], 1e-5
    strain = np.random.default_rng(0).normal(size=(3, 3))
    strain += strain.T

    def strained(amount):
        deformation = np.eye(3) + amount * strain
        return force_fit._terms(
            type(structure)(
                atomic_numbers=structure.atomic_numbers,
                positions=structure.positions @ deformation,
                cell=structure.cell @ deformation,
                pbc=structure.pbc,
            ),
            [29],
            8,
        )

    slopes = (strained(step).energy - strained(-step).energy) / (2 * step)
    np.testing.assert_allclose(np.einsum("ab,abk->k", strain, strained(0.0).virial), slopes, rtol=1e-5, atol=1e-4)


def test_structures_may_have_other_sizes_and_elements(copper):
    mixed = fit([*copper, *(labelled(atoms) for atoms in molecules(30))])
    assert mixed.explained > 0.9
    assert [len(forces) for forces in mixed.forces] == [len(s) for s in mixed.structures]
    assert {stress is None for stress in mixed.stresses} == {True, False}


def test_too_few_forces_are_not_fitted(copper):
    assert fit([]) is None
    assert fit(copper[:1]) is None
    assert fit([labelled(atoms, forces=None) for atoms in molecules(30)]) is None
    still = [labelled(atoms) for atoms in molecules(20)]
    for s in still:
        s.forces[:] = 0.0
    assert fit(still) is None


def test_a_structure_that_no_other_resembles_is_not_counted(copper):
    """Whose forces the fit to the others predicts with any error."""
    close = copper[0].positions.copy()
    close[0] += 0.45 * (close[1] - close[0])
    odd = replace(copper[0], positions=close)
    assert fit([odd, *copper[1:]]).explained > 0.8


def test_forces_on_another_structure(copper):
    found = fit(copper[:20])
    np.testing.assert_allclose(
        found.forces_on(copper[25]), copper[25].forces, atol=0.3 * np.abs(copper[25].forces).max()
    )
