"""A simulation that leaves the training data says so, once for each kind."""

import json
from io import StringIO

import numpy as np
import pytest
from ase.build import molecule
from rich.console import Console

import equiforce
from equiforce import model_file
from equiforce.calculators.ase import Calculator
from equiforce.calculators.watch import Watch, read_ranges
from equiforce.coverage import Ranges
from equiforce.structure import Structure

RANGES = Ranges(
    cutoff=4.0,
    distances={"H-O": [(0.88, 1.1)], "H-H": [(1.3, 1.7)]},
    neighbors=(2, 2),
    largest_force=100.0,
    volume_per_atom=None,
)


@pytest.fixture
def water():
    atoms = molecule("H2O")
    atoms.calc = Calculator(equiforce.untrained(["H", "O"], l_max=0, channels=4, n_layers=1, cutoff=4.0).potential)
    atoms.get_forces()
    return atoms


def stretched(atoms, factor):
    atoms.positions[1] = atoms.positions[0] + factor * (atoms.positions[1] - atoms.positions[0])
    atoms.get_forces()


def test_a_bond_that_breaks_is_said_once(water):
    watch = Watch(water, RANGES)
    assert watch.look(water, 0) == []
    stretched(water, 1.4)
    assert watch.look(water, 5) == [
        "the bond between atom 0 (O) and atom 1 (H) is 1.36 Å long, and the data have 0.88 to 1.10 Å"
    ]
    assert watch.look(water, 10) == []
    assert watch.first["bond H-O"][0] == 5
    assert (watch.n_looks, watch.n_outside) == (3, 2)
    assert watch.began() == ", after it left the training data at step 5"


def test_a_start_with_a_broken_bond_is_said_once(water):
    gap = Ranges(**{**RANGES.to_dict(), "distances": {"H-O": [(0.88, 1.1), (1.9, 4.0)], "H-H": [(1.3, 4.0)]}})
    sound = Watch(water, gap)
    stretched(water, 1.6)
    watch = Watch(water, gap)
    assert watch.look(water, 0) == [
        "atom 0 (O) and atom 1 (H) are 1.55 Å apart, and the data have no H-O between 1.10 and 1.90 Å"
    ]
    assert watch.look(water, 5) == []
    (sentence,) = sound.look(water, 5)  # of the same bond, which was whole at the start
    assert sentence.startswith("the bond between atom 0 (O) and atom 1 (H) is 1.55 Å long")


def test_a_broken_bond_is_seen_beyond_the_cutoff(water):
    watch = Watch(water, RANGES)
    stretched(water, 6.0)
    assert any("is 5.81 Å long" in sentence for sentence in watch.look(water, 5))


def test_data_with_broken_bonds_hold_no_bond(water):
    reactive = Ranges(**{**RANGES.to_dict(), "distances": {"H-O": [(0.88, 4.0)], "H-H": [(1.3, 4.0)]}})
    watch = Watch(water, reactive)
    stretched(water, 2.0)
    assert watch.look(water, 5) == []


def test_a_bond_through_a_periodic_face_is_followed(water):
    water.set_cell([9, 9, 9])
    water.pbc = True
    water.positions[1:] += [0, 9, 0]
    water.get_forces()
    watch = Watch(water, RANGES)
    assert watch.look(water, 0) == []
    water.positions[1] += [0, 0.5, 0]
    water.get_forces()
    assert "the bond between atom 0 (O) and atom 1 (H)" in watch.look(water, 5)[0]


def test_what_was_found_is_kept(water):
    watch, other = Watch(water, RANGES), Watch(water, RANGES)
    stretched(water, 1.4)
    watch.look(water, 5)
    other.restore(json.loads(json.dumps(watch.to_dict())))
    assert other.to_dict() == watch.to_dict()
    assert other.look(water, 10) == []


def test_without_ranges_nothing_is_said(water):
    watch = Watch(water, None)
    water.positions[1] += np.array([0, 3.0, 0])
    assert watch.look(water, 0) == []
    assert watch.began() == ""


def test_a_model_file_without_ranges_is_said(water, tmp_path):
    console = Console(file=StringIO(), width=300)
    model_file.save(tmp_path / "old.eqf", water.calc.potential, [Structure.from_ase(molecule("H2O"))])
    assert read_ranges(tmp_path / "old.eqf", console) is None
    assert console.file.getvalue().startswith(f"note: {tmp_path / 'old.eqf'} does not say which distances")
    assert read_ranges(water.calc.potential, console) is None
    assert console.file.getvalue().count("note:") == 1
