"""The start of a simulation: which atoms are held, and which starts are refused."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111, molecule
from ase.constraints import FixAtoms, FixCartesian

from equiforce.calculators.md.options import MDOptions
from equiforce.calculators.md.start import constraints_in_words, hold_fixed, read_start, refuse_unfit
from equiforce.errors import InputError


@pytest.mark.parametrize(
    ("fixed", "expected"),
    [
        ("O", [2]),
        ("C, O", [0, 1, 2]),
        ("0", [0]),
        (3, [3]),
        ([0, "O"], [0, 2]),
        ("0-2,8", [0, 1, 2, 8]),
        ("x<-0.5", [1, 4, 5, 3]),
        ("", []),
    ],
)
def test_atoms_are_chosen_by_element_number_range_or_plane(fixed, expected):
    atoms = molecule("CH3CH2OH")
    if fixed == "x<-0.5":
        expected = np.flatnonzero(atoms.positions[:, 0] < -0.5)
    hold_fixed(atoms, fixed)
    held = atoms.constraints[0].index if atoms.constraints else []
    assert sorted(held) == sorted(expected)


def test_constraints_of_the_start_are_kept_and_joined(tmp_path):
    slab = fcc111("Cu", (1, 1, 3), vacuum=5.0)
    slab.info.clear()
    slab.set_constraint(FixAtoms([0]))
    ase.io.write(tmp_path / "slab.xyz", slab)  # with a move_mask
    atoms, _ = read_start(tmp_path / "slab.xyz")
    assert constraints_in_words(atoms) == "1 atom (Cu) by FixAtoms"
    hold_fixed(atoms, "0-1")
    assert constraints_in_words(atoms) == "2 atoms (Cu) by FixAtoms"
    assert atoms.get_number_of_degrees_of_freedom() == 3


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ("Cu", "fixed=Cu names no atom of the start structure"),
        ("9", "fixed=9 names no atom"),
        ("z<.", "fixed=z<. is not understood"),
        ("z<1.2.3", "fixed=z<1.2.3 is not understood"),
        ("0-9", "fixed=0-9 goes beyond the last atom of the start structure, which is 8"),
        ("z<-50", "fixed=z<-50 names no atom"),
        ("left", "fixed=left is not understood"),
    ],
)
def test_what_names_no_atom_is_refused(fixed, message):
    with pytest.raises(InputError, match=message):
        hold_fixed(molecule("CH3CH2OH"), fixed)


def test_two_constraints_of_one_atom_are_refused():
    atoms = molecule("H2O")
    atoms.set_constraint(FixCartesian([0], mask=[True, False, False]))
    with pytest.raises(InputError, match="atom 0 has a constraint in the start file already"):
        hold_fixed(atoms, "O")


def test_a_file_with_several_frames(tmp_path):
    ase.io.write(tmp_path / "one.xyz", molecule("H2O"))
    ase.io.write(tmp_path / "two.xyz", [molecule("H2O"), molecule("CO")])
    assert read_start(tmp_path / "one.xyz")[1] == []
    atoms, remarks = read_start(tmp_path / "two.xyz")
    assert len(atoms) == 2
    assert remarks == [f"start: the last of several frames in {tmp_path / 'two.xyz'}"]


def test_labels_and_predictions_of_the_start_do_not_go_into_frames(tmp_path):
    (tmp_path / "start.xyz").write_text(
        "1\nProperties=species:S:1:pos:R:3:tag:I:1:REF_forces:R:3:predicted_forces:R:3 predicted_energy=-1.0 "
        "error_energy_meV_per_atom=0.7 REF_energy=-2.0 energy-unit=eV name=a\nH 0 0 0 3 1 1 1 2 2 2\n"
    )
    atoms, _ = read_start(tmp_path / "start.xyz")
    assert atoms.info == {"name": "a"}
    assert set(atoms.arrays) == {"numbers", "positions", "tag"}


def test_a_message_about_the_file_names_no_flag_of_other_commands(tmp_path):
    (tmp_path / "text.txt").write_text("no structure\n")
    with pytest.raises(InputError, match="write it as extended xyz") as error:
        read_start(tmp_path / "text.txt")
    assert "--" not in str(error.value).replace("-i FORMAT", "")


@pytest.mark.parametrize("content", ["", "no atoms", "3\n\nO 0 0 0\n", "\x00\x01"])
def test_a_file_that_holds_no_structure_is_refused(content, tmp_path):
    (tmp_path / "bad.xyz").write_text(content)
    with pytest.raises(InputError, match=r"bad\.xyz"):
        read_start(str(tmp_path / "bad.xyz"))


def test_starts_that_cannot_be_simulated():
    slab = fcc111("Cu", (1, 1, 2), vacuum=5.0)
    held = Atoms("Cu", cell=[3, 3, 3], pbc=True, constraint=FixAtoms([0]))
    for atoms, ensemble, message in (
        (slab, "npt", "periodic in all three directions"),
        (held, "npt", "cannot hold atoms fixed"),
        (held, "nve", "no atom of the start structure can move"),
        (Atoms(), "nve", "has no atoms"),
    ):
        with pytest.raises(InputError, match=message):
            refuse_unfit(atoms, MDOptions(ensemble=ensemble))
