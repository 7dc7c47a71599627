"""What a simulation shows of a potential: energy is conserved, and the list of neighbours does not matter."""

import numpy as np
import pytest
from ase import units
from ase.build import molecule
from ase.md.verlet import VelocityVerlet

from equiforce.calculators.ase import Calculator
from tests.systems import potential_of

POTENTIALS = {
    "nequip": {"l_max": 1, "channels": 4, "n_layers": 2},
    "allegro": {"kind": "allegro", "l_max": 1, "tensor_channels": 4, "scalar_channels": 8, "latent_width": 8},
}


@pytest.fixture(params=POTENTIALS)
def potential(request):
    return potential_of(**POTENTIALS[request.param])


def energies_of_nve(potential, skin, timestep, steps=60):
    atoms = molecule("CH3CH2OH")
    rng = np.random.default_rng(0)
    atoms.set_momenta(rng.normal(size=(9, 3)) * np.sqrt(atoms.get_masses() * 100 * units.kB)[:, None])
    atoms.calc = Calculator(potential, skin=skin)
    dynamics = VelocityVerlet(atoms, timestep * units.fs)
    energies = [atoms.get_total_energy()]
    for _ in range(steps):
        dynamics.run(1)
        energies.append(atoms.get_total_energy())
    return np.array(energies), atoms


def test_nve_conserves_energy_to_second_order_of_the_timestep(potential):
    """Velocity Verlet's error goes with the square of the timestep if, and only if, forces are exact derivatives."""
    coarse = np.abs(np.diff(energies_of_nve(potential, 0.5, 0.5)[0][[0, 10, 20, 30, 40]])).max()
    fine = np.abs(np.diff(energies_of_nve(potential, 0.5, 0.25, 80)[0][[0, 20, 40, 60, 80]])).max()
    assert coarse < 1e-2
    assert fine < 0.4 * coarse


def test_skin_changes_no_number(potential):
    with_skin, atoms = energies_of_nve(potential, 0.6, 0.5)
    without, _ = energies_of_nve(potential, 0.0, 0.5)
    assert with_skin == pytest.approx(without, abs=1e-9)
    assert atoms.calc.n_neighbor_builds < 30
