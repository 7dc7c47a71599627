"""Structures as they are read."""

import ase.io
import numpy as np
from ase import Atoms

import equiforce


def test_values_that_are_no_labels_stay_with_the_structure(tmp_path):
    atoms = Atoms("OH", [[0, 0, 0], [0, 0, 1]], info={"REF_energy": -1.5, "charge": -1, "id": "mp-7"})
    atoms.set_tags([3, 4])
    ase.io.write(tmp_path / "a.xyz", atoms, format="extxyz")
    (structure,) = equiforce.read(tmp_path / "a.xyz")
    assert structure.energy == -1.5
    assert structure.extra.keys() == {"charge", "id", "tags"}  # not the energy
    assert structure.extra["charge"] == -1
    assert structure.extra["id"] == "mp-7"
    np.testing.assert_array_equal(structure.extra["tags"], [3, 4])
    assert structure.of_atoms == {"tags"}  # forces are no other value, and "id" is one of the structure
    assert equiforce.Structure.from_ase(atoms).extra == {}
