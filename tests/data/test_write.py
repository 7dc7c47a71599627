"""What is written is read again by ASE, with labels and predictions beside one another."""

import ase.io
import numpy as np
import torch

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
    np.testing.assert_allclose(labelled.info["predicted_stress"], STRESS + 1)
    assert bare.calc is None
    assert not bare.pbc.any()
    assert bare.info["predicted_energy"] == -1.0
    assert "predicted_stress" not in bare.info


def test_structures_alone_can_be_written(tmp_path):
    write_structures(tmp_path / "alone.xyz", structures())
    frames = ase.io.read(tmp_path / "alone.xyz", ":")
    assert [len(frame) for frame in frames] == [2, 1]
    assert not any("predicted" in key for frame in frames for key in frame.info)


def test_atoms_carry_what_is_known():
    labelled, bare = structures()
    assert atoms_from_structure(bare).calc is None
    assert set(atoms_from_structure(labelled).calc.results) == {"energy", "forces", "stress"}
