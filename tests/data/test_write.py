"""What is written is read again by ASE, with labels and predictions beside one another."""

import ase.io
import numpy as np
import pytest
import torch

from equiforce.data.read import read
from equiforce.data.write import atoms_from_structure, write_structures
from equiforce.graph import Prediction
from equiforce.structure import Structure

STRESS = np.array([[1.0, 0.1, 0.2], [0.1, 2.0, 0.3], [0.2, 0.3, 3.0]])


def structures() -> list[Structure]:
    rng = np.random.default_rng(0)
    labelled = Structure(
        atomic_numbers=np.array([8, 1]),
        positions=rng.normal(size=(2, 3)),
        cell=4 * np.eye(3),
        pbc=np.full(3, True),
        energy=-3.25,
        forces=rng.normal(size=(2, 3)),
        stress=STRESS,
        group="liquid",
    )
    bare = Structure(
        atomic_numbers=np.array([1]), positions=np.zeros((1, 3)), cell=np.zeros((3, 3)), pbc=np.full(3, False)
    )
    return [labelled, bare]


def prediction(n_atoms: int, stressed: bool) -> Prediction:
    stress = torch.as_tensor(STRESS + 1)[None] if stressed else None
    energies = torch.arange(n_atoms, dtype=torch.float64)
    return Prediction(energies.sum()[None] - 1, energies, torch.full((n_atoms, 3), 0.5).double(), stress, stress)


def test_labels_and_predictions_come_back(tmp_path):
    write_structures(tmp_path / "both.xyz", structures(), [prediction(2, True), prediction(1, False)])
    labelled, bare = ase.io.read(tmp_path / "both.xyz", ":")
    expected = structures()[0]
    np.testing.assert_allclose(labelled.positions, expected.positions, atol=1e-8)
    assert labelled.get_potential_energy() == -3.25
    np.testing.assert_allclose(labelled.get_forces(), expected.forces, atol=1e-8)
    np.testing.assert_allclose(labelled.get_stress(voigt=False), STRESS)
    assert labelled.info["config_type"] == "liquid"
    assert labelled.info["predicted_energy"] == 0.0
    np.testing.assert_allclose(labelled.arrays["predicted_forces"], 0.5)
    np.testing.assert_allclose(labelled.arrays["predicted_energies"], [0, 1])
    np.testing.assert_allclose(labelled.info["predicted_stress"], (STRESS + 1).ravel())
    assert "_JSON" not in (tmp_path / "both.xyz").read_text()
    assert bare.calc is None
    assert not bare.pbc.any()
    assert bare.info["predicted_energy"] == -1.0
    assert "predicted_stress" not in bare.info


def with_values(n_atoms: int = 3, of_atoms: frozenset[str] = frozenset(), **values) -> Structure:
    """Some atoms with other values in their file."""
    return Structure(
        atomic_numbers=np.full(n_atoms, 1),
        positions=np.arange(3.0 * n_atoms).reshape(-1, 3),
        cell=np.zeros((3, 3)),
        pbc=np.full(3, False),
        energy=1.0,
        extra=values,
        of_atoms=of_atoms,
    )


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (True, True),
        (7, 7),
        (10**20, 1e20),
        (-1.5e-13, -1.5e-13),
        (np.float32(0.5), 0.5),
        (np.array(3), 3),
        ([1, 2, 3], [1, 2, 3]),
        ((0.5, 1e-9), [0.5, 1e-9]),
        ([True, False], [True, False]),
        (np.arange(9.0).reshape(3, 3), np.arange(9.0)),
        (np.arange(4.0).reshape(2, 2), np.arange(4.0)),
        (np.arange(3, dtype=np.uint8), [0, 1, 2]),
        ("mp-0", "mp-0"),
        ("Größe in Å", "Größe in Å"),
        ('a "quoted" word, it\'s {here} [0]', 'a "quoted" word, it\'s {here} [0]'),
        ("x=1 y = 2", "x=1 y = 2"),
        ("http://a.b/?c=d", "http://a.b/?c=d"),
        ("C:\\data\\run", "C:\\data\\run"),
        ("two\nlines\tand a tab", "two lines and a tab"),
        ("no\N{NO-BREAK SPACE}break", "no break"),
        (["PBE", "D3 (BJ)"], '["PBE", "D3 (BJ)"]'),
        ({"code": {"name": "Ü", "k": [1, 2]}}, '{"code": {"name": "Ü", "k": [1, 2]}}'),
        ([[1, 2], [3]], "[[1, 2], [3]]"),
        (1 + 2j, "(1+2j)"),
    ],
)
def test_values_of_the_file_come_back_as_numbers_and_readable_text(tmp_path, value, found):
    path = tmp_path / "a.xyz"
    assert write_structures(path, [with_values(before=1, **{"a key": value}, after="end")]) == []
    read = ase.io.read(path)
    np.testing.assert_array_equal(read.info["a key"], found)
    assert (read.info["before"], read.info["after"]) == (1, "end")
    assert read.get_potential_energy() == 1.0
    assert "_JSON" not in path.read_text(encoding="utf-8")


def test_values_of_atoms_are_columns_whatever_the_number_of_atoms(tmp_path):
    columns = {
        "tags": np.array([0, 1, 1]),
        "momenta": np.arange(9.0).reshape(3, 3),
        "born_charges": np.arange(27.0).reshape(3, 3, 3),
        "is_surface": np.array([True, False, True]),
        "residue": np.array(["HOH", "Ü", "x1"], dtype=object),
        "magmoms": np.array([0.0, 1.0, 2.0]),
    }
    of_frame = {"dipole_D": np.array([0.0, 0.0, 1.8]), "weights": [1, 2, 3]}  # as many numbers as atoms
    write_structures(tmp_path / "a.xyz", [with_values(of_atoms=frozenset(columns), **columns, **of_frame)])
    read = ase.io.read(tmp_path / "a.xyz")
    for name in ("tags", "is_surface", "residue"):
        assert read.arrays[name].tolist() == columns[name].tolist()
    np.testing.assert_allclose(read.get_momenta(), columns["momenta"])
    np.testing.assert_allclose(read.arrays["born_charges"], columns["born_charges"].reshape(3, 9))
    np.testing.assert_allclose(read.get_magnetic_moments(), columns["magmoms"])
    for name, value in of_frame.items():
        np.testing.assert_array_equal(read.info[name], value)
    write_structures(tmp_path / "one.xyz", [with_values(1, frozenset(["tags"]), tags=np.array([5]))])
    assert ase.io.read(tmp_path / "one.xyz").get_tags().tolist() == [5]


@pytest.mark.parametrize("free", [[True, False, True], [[True] * 3, [True, False, True], [False] * 3]])
def test_fixed_atoms_stay_fixed(tmp_path, free):
    mask = np.array(free)
    write_structures(tmp_path / "a.xyz", [with_values(of_atoms=frozenset(["move_mask"]), move_mask=mask)])
    (structure,) = read(tmp_path / "a.xyz")
    np.testing.assert_array_equal(structure.extra["move_mask"], mask)


def test_what_cannot_be_written_is_named(tmp_path):
    values = {
        "empty": "", "absent": None, "blank": " ", "nothing": [], "a=b": 1, "names": np.array(["a b", "", "c"]),
        "REF_energy": -23.0, "Virial": np.eye(3), "energy-unit": "kcal/mol", "lattice": "1 2 3",
        "predicted_forces": np.zeros((3, 3)), "error_energy_meV_per_atom": 3.0, "error_bar": 0.1,
    }  # fmt: skip
    structure = with_values(of_atoms=frozenset(["names", "predicted_forces"]), **values)
    left_out = write_structures(tmp_path / "a.xyz", [structure], headers=[{"error_energy_meV_per_atom": 4.0}])
    assert [entry.split("'")[1] for entry in left_out] == [
        "REF_energy", "Virial", "energy-unit", "lattice", "predicted_forces", "error_energy_meV_per_atom",
        "empty", "absent", "blank", "nothing", "a=b", "names",
    ]  # fmt: skip
    read = ase.io.read(tmp_path / "a.xyz")
    assert read.info == {"error_bar": 0.1, "error_energy_meV_per_atom": 4.0}
    assert "names" not in read.arrays


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path):
    write_structures(tmp_path / "a.xyz", structures())
    before = (tmp_path / "a.xyz").read_text()
    with pytest.raises(ValueError, match="shorter"):
        write_structures(tmp_path / "a.xyz", structures(), [prediction(2, True)])
    assert (tmp_path / "a.xyz").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.xyz"]


def test_structures_alone_can_be_written(tmp_path):
    write_structures(tmp_path / "alone.xyz", structures())
    frames = ase.io.read(tmp_path / "alone.xyz", ":")
    assert [len(frame) for frame in frames] == [2, 1]
    assert not any("predicted" in key for frame in frames for key in frame.info)


def test_atoms_carry_what_is_known():
    labelled, bare = structures()
    assert atoms_from_structure(bare).calc is None
    assert set(atoms_from_structure(labelled).calc.results) == {"energy", "forces", "stress"}
