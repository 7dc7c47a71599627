import io
import zipfile

import numpy as np
import pytest
from ase import units

from equiforce.data.read import ReadOptions, read, read_with_report
from equiforce.errors import InputError

KCAL = units.kcal / units.mol


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    positions = rng.normal(size=(4, 3, 3)) + np.arange(3)[None, :, None] * 5
    return {"z": np.array([8, 1, 1]), "R": positions, "E": rng.normal(size=4), "F": rng.normal(size=(4, 3, 3))}


@pytest.fixture
def in_kcal(arrays):
    """Energies and forces of the size that they have in kcal/mol."""
    return arrays | {"E": arrays["E"] - 47_950, "F": 25 * arrays["F"]}


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
    for content in (b"no archive", whole[:200]):
        (tmp_path / "broken.npz").write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as npz"):
            read(tmp_path / "broken.npz")


@pytest.mark.parametrize(
    "names", [("Z", "R", "energy", "forces"), ("numbers", "positions", "REF_energy", "REF_forces")]
)
def test_other_names_of_arrays(tmp_path, in_kcal, names):
    np.savez(tmp_path / "a.npz", **dict(zip(names, in_kcal.values(), strict=True)))
    structures, report = read_with_report(tmp_path / "a.npz")
    assert structures[1].energy == pytest.approx(in_kcal["E"][1] * KCAL)
    np.testing.assert_allclose(structures[1].forces, in_kcal["F"][1] * KCAL)
    assert f"energy from {names[2]!r} (4 of 4), forces from {names[3]!r} (4 of 4)" in str(report)


def test_arrays_that_are_filled_up_with_zeros(tmp_path, in_kcal):
    """As in files of PhysNet, with the number N of atoms of each structure."""
    filled = {name: np.concatenate([in_kcal[name], np.zeros((4, 2, 3))], axis=1) for name in ("R", "F")}
    z = np.array([[8, 1, 1, 0, 0]] * 4)
    np.savez(tmp_path / "a.npz", N=np.full(4, 3), Z=z, E=in_kcal["E"], Q=np.zeros(4), **filled)
    structures, report = read_with_report(tmp_path / "a.npz")
    assert structures[2].atomic_numbers.tolist() == [8, 1, 1]
    np.testing.assert_allclose(structures[2].forces, in_kcal["F"][2] * KCAL)
    assert structures[2].extra["Q"] == 0.0
    assert str(report).endswith("not used: Q")


def test_arrays_of_objects_are_never_read(tmp_path, in_kcal):
    np.savez(tmp_path / "a.npz", **in_kcal, comment=np.array([{"a": 1}], dtype=object))
    assert "note: arrays that are not used: comment" in str(read_with_report(tmp_path / "a.npz")[1])


def test_look_alikes_in_npz(tmp_path, in_kcal):
    np.savez(tmp_path / "a.npz", z=in_kcal["z"], R=in_kcal["R"], F=in_kcal["F"], U0=in_kcal["E"])
    with pytest.raises(InputError, match=r"'U0' \(4 frames\) looks like the energy.*--energy-key U0"):
        read(tmp_path / "a.npz")
    assert read(tmp_path / "a.npz", ReadOptions(energy_key="U0"))[0].energy == pytest.approx(in_kcal["E"][0] * KCAL)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"z": np.array([6.9, 1, 1])}, r"a\.npz: 'z' is 6.9 in place 0 .*, not a whole number"),
        ({"z": np.array(["O", "H", "H"])}, r"a\.npz: 'z' begins with 'O', not a number"),
        ({"z": np.array([8, 1, -1])}, r"a\.npz: 'z' holds -1, which is not an element"),
        ({"z": np.array([8, 1, 119])}, r"a\.npz: 'z' holds 119, which is not an element"),
        (
            {"z": np.array([8, 1, 0])},
            r"frame 0 .*: the last atoms have positions but the element 0: correct the elements",
        ),
        ({"N": np.array([3, 3, 2, 3])}, r"frame 2 .*: 'N' does not count the atoms whose element is not 0"),
        ({"R": np.ones((4, 3, 3)) + 1j}, r"a\.npz: 'R' begins with \(1\+1j\), a complex number"),
        ({"F": np.zeros((4, 3, 3), np.float16)}, r"frame 0: 'F' is .*, a number of 16 bits"),
        ({"E": np.array(["1", "2", "3", "4"])}, r"frame 0: 'E' is '1', not a number"),
        ({"E": np.zeros((4, 3))}, r"frame 0: 'E' has the shape \(3,\)"),
        ({"E": np.array([1, 2, None, 4], dtype=object)}, r"the array 'E' holds Python objects, which are never read"),
        ({"cell": np.array([{}])}, r"the array 'cell' holds Python objects"),
        ({"cell": np.array([5.0, 5.0, 5.0])}, r"the cell has the shape \(3,\)"),
        ({"lattice": np.eye(2)}, r"the cell has the shape \(2, 2\)"),
        ({"cell": np.eye(3), "pbc": np.array(["T", "T", "T"])}, r"a\.npz: 'pbc' is .*: give true or false"),
        ({"cell": np.eye(3) * np.nan}, "the cell holds a value that is not finite"),
    ],
)
def test_numbers_that_are_not_what_they_say(tmp_path, in_kcal, changes, message):
    np.savez(tmp_path / "a.npz", **(in_kcal | changes))
    with pytest.raises(InputError, match=message):
        read(tmp_path / "a.npz")


def test_two_arrays_of_one_name(tmp_path, in_kcal):
    np.savez(tmp_path / "a.npz", **in_kcal)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("E.npy", archive.read("z.npy"))
    with pytest.raises(InputError, match=r"a\.npz has two arrays of one name"):
        read(tmp_path / "a.npz")


def test_a_bomb_is_not_unpacked(tmp_path, in_kcal):
    """An array of 80 GB in a file of some kB."""
    np.savez(tmp_path / "a.npz", **in_kcal)
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (10**10,)})
    with zipfile.ZipFile(tmp_path / "a.npz", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("more.npy", stream.getvalue() + bytes(10**6))
    with pytest.raises(InputError, match=r"array 'more' says that it holds .* 80,000,000,000 bytes, but has 1,000,000"):
        read(tmp_path / "a.npz")


def test_a_bomb_that_tells_its_size_is_not_unpacked(tmp_path, in_kcal):
    """An array of 80 MB in a file of 80 kB."""
    np.savez_compressed(tmp_path / "a.npz", **in_kcal, more=np.zeros(10**7))
    with pytest.raises(InputError, match=r"a\.npz unpacks to more than 100 times its size"):
        read(tmp_path / "a.npz")


def test_one_absurd_label_does_not_hide_the_unit(tmp_path, in_kcal):
    for name, wrong in (("E", 1e12), ("F", 1e12)):
        arrays = {key: array.copy() for key, array in in_kcal.items()}
        arrays[name][1] = wrong
        np.savez(tmp_path / "a.npz", **arrays)
        assert read(tmp_path / "a.npz")[0].energy == pytest.approx(in_kcal["E"][0] * KCAL)
