"""The integrators: the cell moves as its coupling allows, and samples what it should."""

import json

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT

from equiforce.calculators.md.integrators import FREE, integrator, projected, restore, variables_of
from equiforce.calculators.md.options import MDOptions
from equiforce.calculators.momenta import prepare_momenta

COUPLINGS = ["isotropic", *FREE]


def copper(coupling: str, repeats: int = 1, **options):
    atoms = bulk("Cu", cubic=True).repeat(repeats)
    atoms.calc = EMT()
    chosen = MDOptions(ensemble="npt", coupling=coupling, timestep=4.0, tdamp=80.0, pdamp=300.0, **options)
    rng = np.random.default_rng(0)
    prepare_momenta(atoms, 300.0, rng)
    return atoms, integrator(atoms, chosen, rng)


def test_a_coupling_keeps_what_it_allows():
    matrix = np.arange(9.0).reshape(3, 3)
    np.testing.assert_array_equal(projected(matrix, "anisotropic"), np.diag([0.0, 4.0, 8.0]))
    np.testing.assert_array_equal(projected(matrix, "semi-isotropic"), np.diag([2.0, 2.0, 8.0]))
    np.testing.assert_array_equal(projected(matrix, "full"), (matrix + matrix.T) / 2)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_energy_is_conserved_and_the_cell_keeps_its_coupling(coupling):
    """A restriction that did not fit the equations of motion would not conserve the extended energy."""
    atoms, dynamics = copper(coupling, pressure=2.0)
    atoms.rattle(0.05, seed=1)
    dynamics._q = atoms.get_positions()
    before, energies = atoms.cell.array.copy(), []
    for _ in range(40):
        dynamics.step()
        energies.append(dynamics.get_conserved_energy())
    assert np.ptp(energies) < 3e-3
    strain = np.linalg.inv(before) @ atoms.cell.array - np.eye(3)
    assert abs(strain[0, 0]) > 1e-3
    off_diagonal = np.abs(strain - np.diag(np.diag(strain))).max()
    assert (off_diagonal > 1e-6) == (coupling == "full")
    assert (abs(strain[0, 0] - strain[1, 1]) > 1e-6) == (coupling in {"anisotropic", "full"})
    assert (abs(strain[0, 0] - strain[2, 2]) > 1e-6) == (coupling != "isotropic")


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_restored_variables_continue_exactly(coupling):
    atoms, dynamics = copper(coupling)
    for _ in range(3):
        dynamics.step()
    variables = json.loads(json.dumps(variables_of(dynamics)))
    other, again = copper(coupling)
    other.set_cell(atoms.cell)
    other.set_positions(atoms.positions)
    other.set_momenta(atoms.get_momenta())
    restore(again, variables)
    for _ in range(3):
        dynamics.step()
        again.step()
    np.testing.assert_array_equal(other.positions, atoms.positions)
    np.testing.assert_array_equal(other.cell.array, atoms.cell.array)


@pytest.mark.slow
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_volume_and_temperature_do_not_depend_on_the_coupling(coupling):
    atoms, dynamics = copper(coupling, repeats=2, pressure=1.0)
    volumes, kinetic, of_cell = [], [], []
    for step in range(1200):
        dynamics.step()
        if step >= 300:
            volumes.append(atoms.get_volume())
            kinetic.append(atoms.get_kinetic_energy())
            if coupling != "isotropic":
                of_cell.append(np.sum(dynamics._p_g**2) / dynamics._barostat.W)
    assert np.mean(volumes) == pytest.approx(373.8, abs=2.5)  # Å³, of 32 atoms at 1 GPa and 300 K
    assert 2 * np.mean(kinetic) / (93 * units.kB) == pytest.approx(300.0, abs=20.0)
    if of_cell:  # equipartition
        assert np.mean(of_cell) / (units.kB * 300.0 * 93 / 96) == pytest.approx(FREE[coupling], rel=0.5)


@pytest.mark.parametrize("wrong", [0.5, [1.0], [[0.0] * 3] * 2, "x", float("nan"), None])
def test_variables_of_another_shape_are_refused(wrong):
    _, dynamics = copper("full")
    variables = variables_of(dynamics)
    with pytest.raises((ValueError, TypeError)):
        restore(dynamics, {**variables, "_p_g": wrong})
    restore(dynamics, variables)
