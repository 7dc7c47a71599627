"""Data files of LAMMPS: the elements of the types, the styles of atoms, and what is refused."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.io import write

from equiforce.data.files import read_last
from equiforce.data.lammps_data import read_lammps_data
from equiforce.data.source import Source
from equiforce.errors import InputError

FILE = """written by hand{units}

2 atoms
2 atom types

0.0 10.0 xlo xhi
0.0 11.0 ylo yhi
-1.0 11.0 zlo zhi
1.0 0.0 0.0 xy xz yz

Masses

{masses}

Atoms{style}

{atoms}
{more}"""
GIVEN = {"units": "", "masses": "1 12.011 # C\n2 1.008 # H", "style": "", "more": "",
         "atoms": "2 2 1.0 0.0 0.0\n1 1 0.0 0.0 0.0"}  # fmt: skip


@pytest.fixture
def read(tmp_path):
    """Reads a data file with some parts changed; the atoms and the notes."""

    def made(**changes: str) -> tuple[Atoms, list[str]]:
        (tmp_path / "any.name").write_text(FILE.format(**{**GIVEN, **changes}))
        notes: list[str] = []
        path = str(tmp_path / "any.name")
        return read_lammps_data(Source(path, path), notes), notes

    return made


@pytest.mark.parametrize("style", ["atomic", "charge", "full"])
@pytest.mark.parametrize(
    "options", [{"masses": True}, {"atom_type_labels": True}, {"masses": True, "velocities": True}]
)
def test_what_ase_writes_is_read_under_any_name(style, options, tmp_path):
    atoms = molecule("CH3CH2OH", vacuum=3.0)
    atoms.pbc = True
    atoms.set_cell(atoms.cell.array + np.tril(np.full((3, 3), 0.3), -1))
    atoms.set_momenta(np.random.default_rng(0).normal(size=(9, 3)))
    write(tmp_path / "start", atoms, format="lammps-data", atom_style=style, write_image_flags=True, **options)
    found, remarks = read_last(str(tmp_path / "start"))
    assert list(found.symbols) == list(atoms.symbols)
    distances = [each.get_all_distances(mic=True) for each in (found, atoms)]
    np.testing.assert_allclose(*distances, atol=1e-9)
    np.testing.assert_allclose(found.cell.cellpar(), atoms.cell.cellpar())
    if "velocities" in options:
        np.testing.assert_allclose(found.get_kinetic_energy(), atoms.get_kinetic_energy(), rtol=1e-6)
    assert remarks == ["a data file of LAMMPS does not say which directions repeat: all are taken as periodic"]


def test_the_parts_of_a_file(read):
    atoms, notes = read(more="\nVelocities\n\n1 1 2 3\n2 0 0 0\n\nPair Coeffs # lj/cut\n\n1 1 1\n")
    assert str(atoms.symbols) == "CH"  # in the order of IDs
    np.testing.assert_array_equal(atoms.cell, [[10, 0, 0], [1, 11, 0], [0, 0, 12]])
    np.testing.assert_allclose(atoms.get_velocities()[0] * 1000 * units.fs, [1, 2, 3])
    np.testing.assert_array_equal(atoms.get_masses(), [12.011, 1.008])
    assert len(notes) == 1
    moving, _ = read(units=", units = real", more="\nVelocities\n\n1 1 2 3\n2 0 0 0\n")
    np.testing.assert_allclose(moving.get_velocities()[0] * units.fs, [1, 2, 3])


@pytest.mark.parametrize(
    ("masses", "symbols", "said"),
    [
        ("1 12.011\n2 1.008", "CH", "the elements of the atom types are those of their masses: 1 = C, 2 = H"),
        ("1 12\n2 1.0", "CH", "1 = C, 2 = H"),  # ASE takes the mass of 1 u for a dummy
        ("1 12 # CA of a force field\n2 2.014 # HO", "CH", "1 = C, 2 = H"),  # no Ca and no Ho
        ("1 11.0 # C heavier hydrogen\n2 3.024 # H", "CH", ""),
        ("1 15.999 # C\n2 1.008 # H", "CH", "line 13: atom type 1 is C, whose mass is not 15.999 u: is it right?"),
    ],
)
def test_elements_are_those_of_the_words_or_of_the_masses(masses, symbols, said, read):
    atoms, notes = read(masses=masses)
    assert str(atoms.symbols) == symbols
    assert said in " ".join(notes)
    assert len(notes) == 1 + bool(said)


def test_labels_of_types(read):
    more = "\nAtom Type Labels\n\n1 C\n2 H\n"
    for masses, kinds in (("1 12\n2 1", "CH"), ("C 12\nH 1", "CH"), ("C 12\nH 1", "12")):
        rows = "\n".join(f"{n} {kind} {n}.0 0 0" for n, kind in enumerate(kinds, 1))
        assert str(read(masses=masses, more=more, atoms=rows)[0].symbols) == "CH"


@pytest.mark.parametrize(
    ("style", "rows"),
    [
        ("", "1 1 0.5 0 0 0\n2 2 -0.5 1 0 0"),
        (" # charge", "1 1 1 0 0 0\n2 2 -1 1 0 0"),
        (" # molecular", "1 7 1 0 0 0\n2 7 2 1 0 0"),
        (" # full", "1 7 1 0.5 0 0 0 0 0 0\n2 7 2 -0.5 1 0 0 1 0 0"),
        ("", "1 7 1 0.5 0 0 0\n2 7 2 -0.5 1 0 0"),
        (" # atomic", "1 1 0 0 0 0 0 0\n2 2 1 0 0 0 0 0"),
    ],
)
def test_styles_of_atoms(style, rows, read):
    atoms, _ = read(style=style, atoms=rows)
    assert str(atoms.symbols) == "CH"
    assert atoms.get_distance(0, 1, mic=True) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"masses": "1 5.1\n2 1.0"}, "line 13: 5.1 u is the mass of no element: write the element of atom type 1"),
        ({"masses": "1 12.011 # C"}, "does not say the element or the mass of atom type 2: give both in the section"),
        (
            {"atoms": "1 1 0 0 0 0\n2 2 0 0 0 0"},
            "an atom has 6 columns, which fits no style or several: write 'Atoms #",
        ),
        ({"style": " # sphere"}, "an atom has 5 columns, which does not fit the style 'sphere'"),
        ({"atoms": "1 1 0 0 0"}, "says 2 atoms, but its section Atoms has 1 rows"),
        ({"atoms": "1 1 0 0 0\n2 2 1 0 0\n3 2 2 0 0"}, "says 2 atoms, but its section Atoms has 3 rows"),
        ({"atoms": ""}, "has no section Atoms"),
        ({"atoms": "1 1 0 0 0\n1 2 1 0 0"}, "two atoms have the same ID"),
        ({"atoms": "1 1 0 0 0\n2 2 1 x 0"}, "line 19: '2 2 1 x 0' is not a row of 5 numbers"),
        ({"atoms": "1 1 0 0 0\n2 2 1_0 0 0"}, "line 19: '2 2 1_0 0 0' is not a row"),
        ({"atoms": "1 1 0 0 0\n2 2 1"}, "line 19: '2 2 1' is not a row"),
        ({"atoms": "1 1 0 0 0\n2 2 1 0 0 0 0 0"}, "rows of the section Atoms have several lengths"),
        ({"more": "\nVelocities\n\n1 1 2 3\n"}, "the sections Atoms and Velocities have different atoms"),
        ({"more": "\nMasses\n\n1 1\n"}, "line 21: a second section Masses"),
        ({"units": ", units = lj"}, "has the units 'lj' of LAMMPS: write it with units metal"),
    ],
)
def test_what_is_wrong_is_named(changes, sentence, read):
    with pytest.raises(InputError) as error:
        read(**changes)
    assert sentence in str(error.value)
    assert "any.name" in str(error.value)


def test_headers_without_a_box_are_refused(tmp_path):
    path = str(tmp_path / "a")
    for wrong, sentence in ((" xlo xhi", "has no line 'xlo xhi'"), ("0.0 10.0 ", "no line 'xlo xhi'")):
        (tmp_path / "a").write_text(FILE.format(**GIVEN).replace(wrong, ""))
        with pytest.raises(InputError, match=sentence):
            read_lammps_data(Source(path, path), [])


def test_a_box_of_three_vectors(read, tmp_path):
    text = FILE.format(**GIVEN)
    box = text[text.index("0.0 10.0") : text.index("Masses")]
    (tmp_path / "b").write_text(text.replace(box, "1 2 3 avec\n0 4 0 bvec\n0 0 5 cvec\n0 0 0 abc origin\n\n"))
    path = str(tmp_path / "b")
    np.testing.assert_array_equal(read_lammps_data(Source(path, path), []).cell, [[1, 2, 3], [0, 4, 0], [0, 0, 5]])


def test_without_masses_the_way_out_is_named(tmp_path):
    write(tmp_path / "a.xyz", bulk("Si"), format="lammps-data")  # whose name lies, too
    with pytest.raises(InputError, match=r"add the section Masses .* behind its mass, as in '1 12.011 # C'"):
        read_last(str(tmp_path / "a.xyz"))
