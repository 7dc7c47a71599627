"""What the names of values mean."""

import numpy as np
import pytest

from equiforce.data.names import is_harmless, may_be, may_be_cell, plain

ARRAY = np.ones((4, 3))


@pytest.mark.parametrize(
    "name",
    ["Energy", "TotEnergy", "E", "U0", "toten", "e_0_energy", "xtb_energy", "E-DFT", "energy [Ha]", "DFT.energy"],
)
def test_names_of_energies(name):
    assert may_be("energy", name, [(1.0, 4), (np.float64(2.0), 3)])
    assert not may_be("energy", name, [(ARRAY[0], 3)])
    assert not may_be("energy", name, [("high", 4)])
    assert not may_be("forces", name, [(1.0, 4)])


@pytest.mark.parametrize(
    "name",
    [
        *(
            "formation_energy",
            "kinetic_energy",
            "fermi_energy",
            "e_above_hull",
            "band_gap",
            "energy_unit",
            "charge",
            "spin",
        ),
        *("energy_weight", "adsorption_energy", "energy_per_atom", "predicted_energy", "dihedral_angle", "temperature"),
    ],
)
def test_names_of_other_numbers(name):
    assert not may_be("energy", name, [(1.0, 4)])


@pytest.mark.parametrize("name", ["F", "Forces", "frc", "dft_gradient", "dE/dR", "forces_Ha_Bohr"])
def test_names_of_forces(name):
    assert may_be("forces", name, [(ARRAY, 4)])
    assert not may_be("forces", name, [(ARRAY, 5)])
    assert not may_be("forces", name, [(np.ones(4), 4)])


def test_names_of_other_arrays():
    for name in ("momenta", "velocities", "force_mask", "magmoms", "spin_forces", "dipoles"):
        assert not may_be("forces", name, [(ARRAY, 4)])


def test_names_of_stresses_and_virials():
    for value in (np.ones(6), np.ones(9), np.ones((3, 3))):
        assert may_be("stress", "DFT-Stresses", [(value, 4)])
        assert may_be("virial", "my_virial", [(value, 4)])
        assert not may_be("stress", "cell_polarizability", [(value, 4)])
    assert not may_be("stress", "stresses", [(np.ones((4, 6)), 4)])  # of atoms


def test_a_quantity_without_look_alikes():
    assert not may_be("polarization", "polarization", [(np.ones(3), 4)])


@pytest.mark.parametrize(
    "name", ["cell", "box", "unit_cell", "lattice_vectors", "Cell-Vectors", "simulation_box", "cellpar"]
)
def test_names_of_cells(name):
    assert may_be_cell(name, np.eye(3))
    assert may_be_cell(name, "10 0 0 0 10 0 0 0 10")
    assert may_be_cell(name, [10, 10, 10, 90, 90, 90])
    assert not may_be_cell(name, "cubic")


def test_names_that_contain_a_cell():
    assert not may_be_cell("cell_dipole", np.ones(3))
    assert not may_be_cell("cell_polarizability", np.ones(9))
    assert not may_be_cell("boxer", 1.0)


def test_plain_and_harmless_names():
    assert plain("Potential-Energy (eV)") == "potential_energy_ev"
    assert is_harmless("Config_type")
    assert is_harmless("momenta")
    assert not is_harmless("charge")
