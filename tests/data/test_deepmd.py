"""Data folders of DeePMD-kit: eV, Å, and a virial in eV with the sign of ours."""

import shutil

import numpy as np
import pytest

from equiforce.data.read import read, read_with_report
from equiforce.errors import InputError

N, ATOMS = 5, 3
CELL = np.array([[9.0, 0.0, 0.0], [1.0, 9.0, 0.0], [0.0, 0.0, 9.0]])


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    virial = rng.normal(size=(N, 3, 3))
    return {
        "coord": (rng.normal(scale=0.1, size=(N, ATOMS, 3)) + 2.0 * np.arange(ATOMS)[:, None]).reshape(N, -1),
        "box": np.tile(CELL.ravel(), (N, 1)),
        "energy": rng.normal(size=N),
        "force": rng.normal(size=(N, 3 * ATOMS)),
        "virial": (virial + virial.swapaxes(1, 2)).reshape(N, 9),
    }


def write_folder(folder, arrays, types="0 1 1", names="O H", sets=(slice(0, 3), slice(3, N))):
    folder.mkdir(parents=True)
    (folder / "type.raw").write_text("\n".join(types.split()))
    (folder / "type_map.raw").write_text("\n".join(names.split()))
    for number, part in enumerate(sets):
        (folder / f"set.{number:03d}").mkdir()
        for name, array in arrays.items():
            np.save(folder / f"set.{number:03d}" / f"{name}.npy", array[part])
    return folder


def check(structures, arrays):
    assert len(structures) == N
    for i, structure in enumerate(structures):
        assert structure.atomic_numbers.tolist() == [8, 1, 1]
        assert structure.energy == arrays["energy"][i]
        np.testing.assert_array_equal(structure.positions, arrays["coord"][i].reshape(-1, 3))
        np.testing.assert_array_equal(structure.forces, arrays["force"][i].reshape(-1, 3))


def test_arrays_in_several_sets(tmp_path, arrays):
    structures, report = read_with_report(write_folder(tmp_path / "dp", arrays))
    check(structures, arrays)
    np.testing.assert_array_equal(structures[0].cell, CELL)
    assert structures[0].pbc.all()
    for structure, virial in zip(structures, arrays["virial"], strict=True):
        np.testing.assert_allclose(structure.stress, -virial.reshape(3, 3) / np.linalg.det(CELL))
    assert structures[3].source.endswith("dp, frame 3")
    assert "converted" not in str(report)
    assert [s.energy for s in read(f"{tmp_path / 'dp'}@1:3")] == arrays["energy"][1:3].tolist()


def test_texts_instead_of_arrays(tmp_path, arrays):
    folder = write_folder(tmp_path / "dp", arrays, sets=())
    for name, array in arrays.items():
        np.savetxt(folder / f"{name}.raw", array, fmt="%.17g")
    check(read(folder), arrays)


def test_molecules_without_a_cell(tmp_path, arrays):
    folder = write_folder(tmp_path / "dp", {name: a for name, a in arrays.items() if name != "virial"})
    (folder / "nopbc").write_text("")
    structure = read(folder)[0]
    assert not structure.pbc.any()
    assert not structure.cell.any()


def test_mixed_types_with_virtual_atoms(tmp_path, arrays):
    types = np.tile([1, 0, 0], (N, 1))
    types[1] = [1, 0, -1]
    folder = write_folder(tmp_path / "dp", arrays | {"real_atom_types": types}, types="0 0 0", names="H O")
    structures = read(folder)
    assert [s.atomic_numbers.tolist() for s in structures[:2]] == [[8, 1, 1], [8, 1]]
    np.testing.assert_array_equal(structures[1].forces, arrays["force"][1].reshape(-1, 3)[:2])


def test_systems_in_subfolders(tmp_path, arrays):
    for name in ("a", "b/c"):
        write_folder(tmp_path / "all" / name, arrays)
    structures, report = read_with_report(tmp_path / "all")
    assert len(structures) == 2 * N
    assert [file.path.split("all/")[1] for file in report.files] == ["a", "b/c"]
    assert report.skipped == ()


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("force", np.ones((N, 5)), r"set\.000: force has the shape \(3, 5\), which does not fit 3 frames of 3 atoms"),
        ("energy", np.ones((2, N)).T[:, :0], r"set\.000: energy has the shape \(3, 0\)"),
        ("box", None, r"set\.000 has no box: .* put an empty file nopbc beside type\.raw"),
        ("coord", None, r"set\.000 has no coord"),
        ("coord", np.array(["a"] * N), r"set\.000: coord has the shape"),
    ],
)
def test_folders_that_are_wrong(tmp_path, arrays, name, wrong, message):
    if wrong is None:
        del arrays[name]
    else:
        arrays[name] = wrong
    with pytest.raises(InputError, match=message):
        read(write_folder(tmp_path / "dp", arrays))


def test_folders_without_elements_or_with_damaged_arrays(tmp_path, arrays):
    folder = write_folder(tmp_path / "dp", arrays)
    coordinates = folder / "set.001" / "coord.npy"
    coordinates.write_bytes(coordinates.read_bytes()[:140])
    with pytest.raises(
        InputError,
        match=r"set\.001/coord\.npy says that it holds an array of the shape \(2, 9\), 144 bytes, but has 12",
    ):
        read(folder)
    shutil.rmtree(folder / "set.001")
    for names in ("O", "type_0 type_1"):
        (folder / "type_map.raw").write_text(names)
        with pytest.raises(InputError, match=r"does not say the element of each type .* write their symbols into"):
            read(folder)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("type.raw", "0 1.7 1", r"type\.raw is 1.7 in place 1 .*, not a whole number"),
        ("type.raw", "0 -1 1", r"type\.raw has the type -1, but types are counted from 0"),
        ("type.raw", "0 1_0 1", r"type\.raw is not an array of numbers"),
        ("type_map.raw", "O \xe9", r"does not say the element of each type"),
        (
            "real_atom_types",
            np.array([[0, 1, 2]] * N),
            r"real_atom_types has types from 0 to 2, but type_map.raw names 2",
        ),
        ("real_atom_types", np.array([[0, 1, -2]] * N), r"real_atom_types has types from -2 to 1"),
        ("real_atom_types", np.array([[0, 1, 0.5]] * N), r"real_atom_types is 0.5 in place 2"),
        ("coord", np.zeros((N, 9)) + 1j, r"set\.000: coord begins with 1j, a complex number"),
        ("energy", np.array(["1"] * N), r"frame 0: 'energy' is '1', not a number"),
        ("force", np.ones((N, 9), np.float16), r"frame 0: 'force' is .*, a number of 16 bits"),
    ],
)
def test_numbers_that_are_not_what_they_say(tmp_path, arrays, name, wrong, message):
    folder = write_folder(tmp_path / "dp", arrays | ({} if isinstance(wrong, str) else {name: wrong}))
    if isinstance(wrong, str):
        (folder / name).write_bytes(wrong.encode("latin-1"))
    with pytest.raises(InputError, match=message):
        read(folder)
