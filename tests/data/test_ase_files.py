"""Everything that ASE knows of a frame is taken, and what it leaves out or invents is said."""

import gzip

import ase.db
import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian
from ase.io import write

from equiforce.data.ase_files import frame_of
from equiforce.data.files import read_files
from equiforce.data.read import ReadOptions, read, read_with_report
from equiforce.errors import InputError

DUMP = """ITEM: TIMESTEP
0
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS pp pp pp
0 5
0 5
0 5
ITEM: ATOMS id element x y z fx fy fz
1 Cu 0 0 0 1 2 3
2 Cu 2 2 2 -1 -2 -3
"""
GPAW = """
  ___ ___ ___ _ _ _
 |   |   |_  | | | |

Positions:
   0 H      0.000000    0.000000    0.000000    ( 0.0000,  0.0000,  0.0000)
   1 H      0.000000    0.000000    0.740000    ( 0.0000,  0.0000,  0.0000)

Unit cell:
           periodic     x           y           z      points  spacing
  1. axis:    no     6.000000    0.000000    0.000000    32     0.1875
  2. axis:    no     0.000000    6.000000    0.000000    32     0.1875
  3. axis:    no     0.000000    0.000000    6.000000    32     0.1875

Energy contributions relative to reference atoms: (reference = 0.0)

Kinetic:         +4.0
Entropy (-ST):   -0.5
Free energy:     -6.75
Extrapolated:    -6.50
"""


def waters(n=4):
    rng = np.random.default_rng(0)
    frames = []
    for number in range(n):
        atoms = molecule("H2O")
        atoms.calc = SinglePointCalculator(atoms, energy=-float(number), forces=rng.normal(size=(3, 3)))
        frames.append(atoms)
    return frames


@pytest.fixture
def database(tmp_path):
    """A database with energies in key_value_pairs, and forces and a dipole in data."""
    with ase.db.connect(tmp_path / "a.db") as db:
        for atoms in waters():
            bare = atoms.copy()
            data = {"forces": atoms.get_forces(), "more": {"dipole": [0.0, 0.0, 1.0]}}
            db.write(bare, data=data, REF_energy=atoms.get_potential_energy(), config_type="cold")
    return tmp_path / "a.db"


def test_labels_in_key_value_pairs_and_data_of_a_database(database):
    structures, report = read_with_report(database)
    for structure, atoms in zip(structures, waters(), strict=True):
        assert structure.energy == atoms.get_potential_energy()
        np.testing.assert_array_equal(structure.forces, atoms.get_forces())
        assert structure.group == "cold"
        assert structure.extra["more.dipole"] == [0.0, 0.0, 1.0]
    assert "energy from 'REF_energy' (4 of 4), forces from 'forces' (4 of 4)" in str(report)
    assert [-s.energy for s in read(f"{database}@::2")] == [0, 2]
    assert [-s.energy for s in read(f"{database}@-1")] == [3]


def test_a_value_that_repeats_a_result_keeps_its_place_in_its_name(tmp_path):
    with ase.db.connect(tmp_path / "a.db") as db:
        db.write(waters(1)[0], data={"energy": 7.0})
    structure = read(tmp_path / "a.db")[0]
    assert structure.energy == 0.0
    assert structure.extra["data.energy"] == 7.0


@pytest.mark.parametrize("name", ["frames.dat", "a.sqlite", "b.json"])
def test_databases_are_known_by_their_content(tmp_path, database, name):
    if name.endswith("json"):
        write(tmp_path / name, waters())
    else:
        (tmp_path / name).write_bytes(database.read_bytes())
    assert [-s.energy for s in read(tmp_path / name)] == [0, 1, 2, 3]


def test_a_compressed_database_names_the_next_step(tmp_path, database):
    (tmp_path / "a.db.gz").write_bytes(gzip.compress(database.read_bytes()))
    with pytest.raises(InputError, match=r"a\.db\.gz is compressed, .* unpack it with gunzip"):
        read(tmp_path / "a.db.gz")


def test_units_that_schnetpack_states(tmp_path):
    kcal = units.kcal / units.mol
    with ase.db.connect(tmp_path / "a.db") as db:
        db.metadata = {
            "_property_unit_dict": {"energy": "kcal/mol", "forces": "kcal/mol/Ang"},
            "_distance_unit": "Ang",
        }
        for atoms in waters():
            forces, energy = atoms.get_forces() / kcal, np.array([atoms.get_potential_energy() / kcal])
            db.write(atoms.copy(), data={"energy": energy, "forces": forces})
    for structure, atoms in zip(read(tmp_path / "a.db"), waters(), strict=True):
        assert structure.energy == pytest.approx(atoms.get_potential_energy())
        np.testing.assert_allclose(structure.forces, atoms.get_forces())
    with ase.db.connect(tmp_path / "a.db") as db:
        db.metadata = {"_property_unit_dict": {"energy": "kcal/mol", "forces": "eV/Ang"}}
    with pytest.raises(InputError, match="'forces_unit' is 'eV/Ang', but equiforce would read another unit"):
        read(tmp_path / "a.db")


def test_units_of_runner_and_n2p2_can_be_changed(tmp_path):
    write(tmp_path / "input.data", waters(), format="runnerdata")
    structures, report = read_with_report(tmp_path / "input.data")
    for structure, atoms in zip(structures, waters(), strict=True):
        assert structure.energy == pytest.approx(atoms.get_potential_energy())
        np.testing.assert_allclose(structure.forces, atoms.get_forces(), atol=1e-6)
        np.testing.assert_allclose(structure.positions, atoms.positions, atol=1e-6)
    assert "converted from Hartree, Bohr" in str(report)


def test_nested_values_constraints_and_start_values_of_a_frame():
    atoms = molecule("H2O")
    atoms.info = {"mace": {"energy": -1.0, "node": {"a": 2}}, "id": 7}
    atoms.set_initial_magnetic_moments([1, 0, 0])
    atoms.set_initial_charges([0.5, 0, 0])
    atoms.set_constraint(FixAtoms([1]))
    values = frame_of(atoms).values
    assert values["mace.energy"] == -1.0
    assert values["mace.node.a"] == 2
    assert values["id"] == 7
    assert values["initial_magmoms"].tolist() == [1, 0, 0]
    assert values["initial_charges"].tolist() == [0.5, 0, 0]
    assert values["move_mask"].tolist() == [True, False, True]
    atoms.set_constraint(FixCartesian([0], mask=[True, False, False]))
    assert frame_of(atoms).values["move_mask"].tolist() == [[False, True, True], [True] * 3, [True] * 3]
    assert "move_mask" not in frame_of(molecule("H2O")).values


def test_forces_of_fixed_atoms_are_those_of_the_file(tmp_path):
    atoms = waters(1)[0]
    forces = atoms.get_forces()
    atoms.set_constraint(FixAtoms([0]))
    write(tmp_path / "a.traj", atoms)
    np.testing.assert_array_equal(read(tmp_path / "a.traj")[0].forces, forces)


def test_a_dump_of_lammps_has_no_energy(tmp_path):
    (tmp_path / "a.dump").write_text(DUMP)
    structures, report = read_with_report(tmp_path / "a.dump")
    assert structures[0].energy is None
    np.testing.assert_array_equal(structures[0].forces, [[1, 2, 3], [-1, -2, -3]])
    assert "note: positions are taken in Å and forces in eV/Å" in str(report)


def test_the_free_energy_of_gpaw(tmp_path):
    (tmp_path / "out.txt").write_text(GPAW)
    ((contents,), _) = read_files([tmp_path / "out.txt"])
    assert contents.frames[0].values["energy"] == -6.5
    assert contents.frames[0].values["free_energy"] == -6.75
    assert contents.notes == ()
    (tmp_path / "out.txt").write_text(GPAW + "\nDid not converge!\n")
    ((contents,), _) = read_files([tmp_path / "out.txt"])
    assert contents.notes == ("line 22 says 'Did not converge': remove frames that did not converge",)


@pytest.mark.parametrize("n", [1, 2, 3, 50])
def test_an_unfinished_frame_of_a_trajectory_is_said(tmp_path, n):
    write(tmp_path / "a.traj", waters(n))
    assert "note" not in str(read_with_report(tmp_path / "a.traj")[1])
    with (tmp_path / "a.traj").open("ab") as file:
        file.write(bytes(100))
    structures, report = read_with_report(tmp_path / "a.traj")
    assert len(structures) == n
    if n != 2:  # then the table of frames is the end of the file
        assert "note: the last 100 bytes are an unfinished frame, which is left out" in str(report)


def test_a_trajectory_that_is_cut_off_names_the_part_that_can_be_read(tmp_path):
    write(tmp_path / "a.traj", waters(3))
    (tmp_path / "a.traj").write_bytes((tmp_path / "a.traj").read_bytes()[:-100])
    with pytest.raises(InputError, match=r"frame 2 .*, or read the frames before it with .*a\.traj@:2"):
        read(tmp_path / "a.traj")
    assert len(read(f"{tmp_path / 'a.traj'}@:2")) == 2


@pytest.mark.parametrize("form", ["vasp", "lammps-data", "xsf", "gen", "cif"])
def test_other_formats_of_ase(tmp_path, form):
    """Most are known by their content, and the others by their name or by the option."""
    atoms = bulk("Cu", cubic=True)
    path = tmp_path / "a.structure"
    write(path, atoms, format=form, **({"masses": True} if form == "lammps-data" else {}))
    (structure,) = read(path, ReadOptions(format="gen" if form == "gen" else None), labels_required=False)
    assert structure.atomic_numbers.tolist() == [29] * 4
    np.testing.assert_allclose(structure.cell, atoms.cell, atol=1e-6)
