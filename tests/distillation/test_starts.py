"""Start structures: what is read and refused, time steps, strains and disturbed copies."""

from dataclasses import replace

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111, molecule
from ase.constraints import FixAtoms

from equiforce.data.read import ReadOptions, read
from equiforce.distillation.options import DistillOptions
from equiforce.distillation.starts import bare, disturbed, read_starts, strained, time_step
from equiforce.errors import InputError
from equiforce.terminal import own_console
from tests.data_sets import crystals, write
from tests.distillation.small import copper
from tests.systems import ethanol, slab, structure_of

CONSOLE = own_console(quiet=True)


def test_copies_and_isolated_atoms_are_left_out(tmp_path, capsys):
    cells = crystals(2)
    file = write(tmp_path / "start.xyz", [*cells, cells[0], Atoms("Cu", cell=[30, 30, 30], pbc=True)])
    starts = read_starts([file], ["Cu"], 4.0, ReadOptions(), own_console())
    assert [start.source for start in starts] == [f"{file}, frame {n}" for n in (0, 1)]
    assert starts[0].forces is not None
    printed = capsys.readouterr().out
    assert "1 of the 4 start structures are isolated atoms and left out" in printed
    assert "1 of the 4 start structures are copies of others and left out" in printed


@pytest.mark.parametrize(
    ("atoms", "words"),
    [
        ([molecule("H2O")], "element O|element H"),
        ([Atoms("Cu")], "has isolated atoms only, from which a student learns nothing"),
        ([Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 0.5]])], "are 0.5 Å apart"),
    ],
)
def test_what_cannot_start_is_refused(atoms, words, tmp_path):
    file = write(tmp_path / "start.xyz", atoms)
    with pytest.raises(InputError, match=words):
        read_starts([file], ["Cu"], 4.0, ReadOptions(), CONSOLE)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "start.xyz").write_text("")
    with pytest.raises(InputError, match=r"start\.xyz"):
        read_starts([tmp_path / "start.xyz"], ["Cu"], 4.0, ReadOptions(), CONSOLE)


def test_the_lightest_atom_sets_the_time_step():
    options = DistillOptions()
    assert time_step([ethanol()], options) == 0.5
    assert time_step(copper(1), options) == 2.0
    assert time_step([structure_of(Atoms("Li2", positions=[[0, 0, 0], [0, 0, 2.7]]))], options) == 1.31
    assert time_step([*copper(1), ethanol()], options) == 0.5
    assert time_step([ethanol()], replace(options, timestep=0.25)) == 0.25


def test_a_strain_acts_along_periodic_directions_only():
    (cell,) = copper(1)
    wide = strained(cell, 0.02)
    assert np.linalg.det(wide.cell) == pytest.approx(1.02**3 * np.linalg.det(cell.cell))
    np.testing.assert_allclose(
        wide.positions @ np.linalg.inv(wide.cell), cell.positions @ np.linalg.inv(cell.cell), atol=1e-12
    )
    flat = slab()
    shear = np.array([[0.02, 0.01, 0.03], [0.01, -0.02, 0.0], [0.03, 0.0, 0.05]])
    moved = strained(flat, shear)
    np.testing.assert_allclose(moved.positions[:, 2], flat.positions[:, 2], atol=1e-12)
    np.testing.assert_allclose(moved.cell[:, 2], flat.cell[:, 2], atol=1e-12)
    assert np.abs(moved.cell - flat.cell).max() > 0.01
    alone = ethanol()
    assert strained(alone, 0.1) is alone


def test_copies_differ_from_one_another_and_are_repeated_by_their_seed():
    starts, options = copper(2), DistillOptions(copies=5, seed=1)
    copies = disturbed(starts, options)
    assert len(copies) == 10
    again = disturbed(starts, options)
    for one, other in zip(copies, again, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)
    assert len({copy.positions.tobytes() for copy in copies}) == 10
    assert np.abs(disturbed(starts, replace(options, seed=2))[0].positions - copies[0].positions).max() > 0.01
    assert all(copy.energy is None and copy.group == "copies" for copy in copies)
    assert [copy.source.partition(" of ")[2] for copy in copies[:2]] == [start.source for start in starts]


def test_amplitudes_are_those_of_the_options():
    copies = disturbed([ethanol()], DistillOptions(copies=200, rattle=0.04))
    sizes = [np.sqrt(((copy.positions - ethanol().positions) ** 2).mean()) for copy in copies]
    assert max(sizes) < 0.06
    assert min(sizes) > 0.005
    assert np.mean(sizes) == pytest.approx(0.025, rel=0.1)  # evenly between 0.01 and 0.04


def test_atoms_that_are_held_stay(tmp_path):
    atoms = fcc111("Cu", (1, 1, 3), vacuum=5.0)
    atoms.info.clear()
    atoms.set_constraint(FixAtoms([0]))
    ase.io.write(tmp_path / "slab.xyz", atoms, format="extxyz")
    (start,) = read(tmp_path / "slab.xyz", labels_required=False)
    kept = bare(start)
    assert set(kept.extra) == {"move_mask"}
    (copy,) = disturbed([start], DistillOptions(copies=1, strain=0.0))
    moved = np.abs(copy.positions - start.positions).max(axis=1)
    assert moved[0] == 0
    assert moved[1:].min() > 0


def test_copies_in_which_atoms_overlap_are_left_out():
    copies = disturbed([ethanol()], DistillOptions(copies=30, rattle=1.0))
    assert 0 < len(copies) < 30
