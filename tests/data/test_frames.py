import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from equiforce.data.read import ReadOptions, read, read_with_report
from equiforce.errors import InputError

KCAL = units.kcal / units.mol


def dimers(n=5):
    frames = []
    for i in range(n):
        atoms = Atoms("OH", [[0, 0, 0], [0.96 + 0.01 * i, 0, 0]])
        atoms.calc = SinglePointCalculator(atoms, energy=-float(i))
        frames.append(atoms)
    return frames


@pytest.fixture
def dimer_file(tmp_path):
    write(tmp_path / "dimers.xyz", dimers(), format="extxyz")
    return tmp_path / "dimers.xyz"


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    positions = rng.normal(size=(4, 3, 3)) + np.arange(3)[None, :, None] * 5
    return {"z": np.array([8, 1, 1]), "R": positions, "E": rng.normal(size=4), "F": rng.normal(size=(4, 3, 3))}


@pytest.fixture
def in_kcal(arrays):
    """Energies and forces of the size that they have in kcal/mol."""
    return arrays | {"E": arrays["E"] - 47_950, "F": 25 * arrays["F"]}


def test_parts_of_a_file(dimer_file):
    def energies(part):
        return [-s.energy for s in read(f"{dimer_file}@{part}")]

    assert energies("1:3") == [1, 2]
    assert energies("::2") == [0, 2, 4]
    assert energies("-2:") == [3, 4]
    assert energies("3") == [3]
    assert energies("-1") == [4]
    structures = read(f"{dimer_file}@1:3")
    assert structures[0].source.endswith("dimers.xyz@1:3, frame 0")
    with pytest.raises(InputError, match="contains no structures"):
        read(f"{dimer_file}@7:9")


def test_a_file_that_is_not_there_names_the_nearest(tmp_path, dimer_file):
    with pytest.raises(InputError, match=r"no file .*dimer\.xyz; did you mean .*dimers\.xyz"):
        read(tmp_path / "dimer.xyz")
    for odd in ("dimers.xyz@", "dimers.xyz@-", "dimers.xyz@a:b"):
        with pytest.raises(InputError, match="There is no file"):
            read(tmp_path / odd)
    with pytest.raises(InputError, match="There is no file"):
        read("nowhere/at/all.xyz")


def test_files_that_cannot_be_read(tmp_path):
    empty, words = tmp_path / "empty.xyz", tmp_path / "words.xyz"
    empty.write_text("")
    words.write_text("these are words\nand nothing else\n")
    for path in (empty, words):
        with pytest.raises(InputError, match=rf"{path.name}") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_a_file_cut_off_in_the_middle(dimer_file):
    dimer_file.write_text("\n".join(dimer_file.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(InputError, match=r"dimers\.xyz, line 17: frame 4 .* has 2 atoms, but .* after 1 of them"):
        read(dimer_file)


def test_an_unknown_element_is_named_with_its_line(dimer_file):
    dimer_file.write_text(dimer_file.read_text().replace("\nH ", "\nHh ", 2).replace("\nHh ", "\nH ", 1))
    with pytest.raises(InputError, match=r"frame 1 .*, line 8: there is no element 'Hh'"):
        read(dimer_file)


def test_a_folder_is_read_in_the_order_of_names(tmp_path, dimer_file):
    write(tmp_path / "another.xyz", dimers(1), format="extxyz")
    (tmp_path / ".hidden.xyz").write_text("no")
    (tmp_path / "README.md").write_text("# words")
    structures, report = read_with_report(tmp_path)
    assert [s.source.split("/")[-1] for s in structures[:2]] == ["another.xyz, frame 0", "dimers.xyz, frame 0"]
    assert [name.split("/")[-1] for name in report.skipped] == ["README.md"]
    bare = tmp_path / "bare"
    bare.mkdir()
    with pytest.raises(InputError, match="has no file with structures"):
        read(bare)


def test_the_group_of_a_frame(tmp_path):
    frames = dimers(3)
    frames[0].info["config_type"] = "bulk"
    frames[1].info["group"] = 7
    write(tmp_path / "g.xyz", frames, format="extxyz")
    assert [s.group for s in read(tmp_path / "g.xyz")] == ["bulk", "7", ""]


@pytest.mark.parametrize("columns", [False, True])
def test_md17(tmp_path, in_kcal, columns):
    """Energies are kcal/mol, in a row or a column."""
    arrays = in_kcal
    stored = arrays | ({"E": arrays["E"][:, None]} if columns else {})
    np.savez(tmp_path / "md17.npz", **stored, name="water", theory="DFT")
    structures, report = read_with_report(tmp_path / "md17.npz")
    for i, structure in enumerate(structures):
        assert structure.energy == pytest.approx(arrays["E"][i] * KCAL)
        np.testing.assert_allclose(structure.forces, arrays["F"][i] * KCAL)
        np.testing.assert_array_equal(structure.positions, arrays["R"][i])
        assert structure.atomic_numbers.tolist() == [8, 1, 1]
        assert structure.source.endswith(f"md17.npz, frame {i}")
    found, note = str(report).splitlines()
    assert "energy from 'E' (4 of 4), forces from 'F' (4 of 4); in kcal/mol, which the file does not state" in found
    assert found.endswith("; converted from kcal/mol")
    assert note == "  note: arrays that are not used: name, theory"


def test_rmd17(tmp_path, in_kcal):
    arrays = in_kcal
    names = {"z": "nuclear_charges", "R": "coords", "E": "energies", "F": "forces"}
    np.savez(tmp_path / "r.npz", **{names[k]: v for k, v in arrays.items()}, old_indices=np.arange(4))
    structures, report = read_with_report(f"{tmp_path / 'r.npz'}@1:3")
    assert [s.energy for s in structures] == pytest.approx(arrays["E"][1:3] * KCAL)
    assert "energy from 'energies' (2 of 2)" in str(report)


def test_sgdml_states_its_units_and_its_lattice_by_columns(tmp_path, arrays):
    lattice = np.array([[20.0, 1, 2], [0, 20.0, 3], [0, 0, 20.0]])
    np.savez(tmp_path / "s.npz", **arrays, e_unit="eV", r_unit="Ang", lattice=lattice, type="d")
    structure = read(tmp_path / "s.npz")[0]
    assert structure.energy == arrays["E"][0]
    np.testing.assert_array_equal(structure.cell, lattice.T)
    assert structure.pbc.all()
    np.savez(tmp_path / "s.npz", **arrays, e_unit="parsec")
    with pytest.raises(InputError, match=r"s\.npz: 'parsec' is not a unit of energy"):
        read(tmp_path / "s.npz")


@pytest.mark.parametrize("of_each", [False, True])
def test_cells_and_pbc_as_in_nequips_files(tmp_path, arrays, of_each):
    cell = np.array([[20.0, 1, 2], [0, 20.0, 3], [0, 0, 20.0]])
    pbc = np.array([True, True, False])
    given = {"cell": np.stack([cell + i for i in range(4)]), "pbc": np.stack([pbc] * 4)} if of_each else {"cell": cell}
    np.savez(tmp_path / "n.npz", **arrays, **given)
    structures = read(tmp_path / "n.npz")
    np.testing.assert_array_equal(structures[2].cell, cell + 2 * of_each)
    assert structures[2].pbc.tolist() == (pbc.tolist() if of_each else [True] * 3)
    for wrong, message in (
        ({"cell": np.ones((2, 2))}, r"the cell has the shape \(2, 2\)"),
        ({"cell": cell, "lattice": cell}, "'cell' and 'lattice': remove one"),
    ):
        np.savez(tmp_path / "n.npz", **arrays, **wrong)
        with pytest.raises(InputError, match=message):
            read(tmp_path / "n.npz")


def test_units_that_are_asked_for_win(tmp_path, arrays):
    np.savez(tmp_path / "md17.npz", **arrays)
    structure = read(tmp_path / "md17.npz", ReadOptions(energy_unit="eV"))[0]
    assert structure.energy == arrays["E"][0]


def test_npz_of_another_kind_and_of_wrong_shapes(tmp_path, arrays):
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    with pytest.raises(InputError, match=r"other\.npz contains the arrays x instead of those of MD17"):
        read(tmp_path / "other.npz")
    for name, wrong in (("R", arrays["R"][:, :2]), ("E", arrays["E"][:2]), ("z", np.ones((2, 3), dtype=int))):
        np.savez(tmp_path / "wrong.npz", **(arrays | {name: wrong}))
        with pytest.raises(InputError, match=rf"do not fit.*{name} \("):
            read(tmp_path / "wrong.npz")
    np.savez(tmp_path / "wrong.npz", **(arrays | {"F": arrays["F"][:, :2]}))
    with pytest.raises(InputError, match=r"frame 0: 'F' has the shape \(2, 3\)"):
        read(tmp_path / "wrong.npz")
    whole = (tmp_path / "wrong.npz").read_bytes()
    for content in (b"no archive", b"", whole[:200]):
        (tmp_path / "broken.npz").write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as npz"):
            read(tmp_path / "broken.npz")
