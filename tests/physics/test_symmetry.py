"""What must hold for every model, whatever its weights: in float64, on real geometries."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import bulk
from scipy.spatial.transform import Rotation

from tests.systems import (
    ATOMIC_ENERGIES,
    CUTOFF,
    SPECIES,
    atom,
    crystal,
    ethanol,
    graph_of,
    potential_of,
    slab,
    structure_of,
)

MODELS = {
    "invariant": {"l_max": 0, "n_layers": 2, "channels": 8},
    "l1": {"l_max": 1, "n_layers": 3, "channels": 8},
    "l2": {"l_max": 2, "n_layers": 3, "channels": [8, 4, 2]},
    "l2-parity": {"l_max": 2, "n_layers": 4, "channels": [4, 3, 2], "parity": True},
    "l3": {"l_max": 3, "n_layers": 2, "channels": [8, 4, 2, 2]},
    "angles": {"l_max": 2, "n_layers": 2, "channels": [6, 4, 2], "invariant": True},
    "l4": {"l_max": 4, "n_layers": 2, "channels": 3},
    "paper": {
        "l_max": 1, "n_layers": 5, "channels": 3, "parity": True, "bessel_trainable": True, "radial_depth": 3,
        "readout_depth": 1, "first_self_connection": True,
    },
    "residual": {"l_max": 1, "n_layers": 3, "channels": 6, "residual": True, "self_connection": False},
    "zbl": {"l_max": 1, "n_layers": 2, "channels": 6, "zbl": True},
    "nequix": {
        "l_max": 2, "n_layers": 3, "channels": [6, 4, 3], "embedding_channels": 5, "first_self_connection": True,
        "shared_self_connection": True, "layer_norm": True,
    },
    "sevennet": {
        "l_max": 2, "n_layers": 3, "channels": [6, 4, 3], "embedding_channels": 5, "first_self_connection": True,
        "shared_self_connection": True, "reflections": False, "xplor_on": 0.9 * CUTOFF, "scalar_constants": True,
    },
    "nequip": {
        "l_max": 1, "n_layers": 3, "channels": [6, 4], "species_linear_in": True,
        "pair_cutoffs": {"H-H": 2.0, "C-O": 2.5, "O-C": 3.0, "C-H": 2.2},
        "zbl": {"envelope_p": 4, "pair_cutoffs": True},
    },
}  # fmt: skip
ALLEGRO = {
    "invariant": {"l_max": 0},
    "one-layer": {"l_max": 2, "n_layers": 1},
    "l1": {"l_max": 1, "n_layers": 2},
    "l2": {"l_max": 2, "n_layers": 2},
    "l3-parity": {"l_max": 3, "n_layers": 3, "parity": True},
    "paper": {
        "l_max": 2, "n_layers": 3, "parity": True, "channel_mixing": True, "residual": True, "bessel_trainable": True,
        "latent_depth": 2,
    },
    "pair-cutoffs": {"pair_cutoffs": {"H-H": 2.0, "C-H": 2.5, "H-C": 3.0}, "latent_depth": 0, "readout_depth": 0},
    "nequip": {"l_max": 1, "envelope_multiplies": "basis", "pair_cutoffs": {"H-H": 2.0, "C-O": 2.5, "O-C": 3.0}},
    "splines": {"radial_basis": "spline", "radial_depth": 1},
    "zbl": {"l_max": 1, "zbl": True},
}  # fmt: skip
MODELS |= {
    f"allegro-{name}": {"kind": "allegro", "scalar_channels": 6, "tensor_channels": 4, **options}
    for name, options in ALLEGRO.items()
}


# what differs in kind; all others are variants of these
QUICK = (
    "l2",
    "l2-parity",
    "angles",
    "zbl",
    "nequix",
    "sevennet",
    "nequip",
    "allegro-l2",
    "allegro-paper",
    "allegro-pair-cutoffs",
    "allegro-nequip",
    "allegro-zbl",
)


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in MODELS], scope="module"
)
def potential(request):
    potential = potential_of(**MODELS[request.param])
    with torch.no_grad():  # which are zero before training
        for name, weight in potential.named_parameters():
            if name.endswith("constants"):
                weight.normal_()
    return potential


@pytest.fixture(params=[ethanol, crystal, slab], ids=["molecule", "crystal", "slab"])
def structure(request):
    return request.param()


def moved(structure, matrix=None, translation=(0.0, 0.0, 0.0)):
    matrix = np.eye(3) if matrix is None else matrix
    return replace(structure, positions=structure.positions @ matrix.T + translation, cell=structure.cell @ matrix.T)


def predict(potential, *structures):
    return potential(graph_of(*structures), stress=True)


def close(actual, expected, tolerance=1e-9):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=1e-9, atol=tolerance)


@pytest.mark.parametrize("reflected", [False, True], ids=["rotation", "reflection"])
def test_energy_is_invariant_and_forces_turn_with_the_atoms(potential, structure, reflected):
    matrix = Rotation.random(rng=3).as_matrix() * (-1 if reflected else 1)
    before, after = predict(potential, structure), predict(potential, moved(structure, matrix))
    if reflected and not getattr(potential.model.config, "reflections", True):
        assert (after.energies - before.energies).abs().max() > 1e-6  # as its label says
        return
    close(after.energies, before.energies)
    close(after.forces, before.forces.numpy() @ matrix.T)
    close(after.virial, matrix @ before.virial.numpy() @ matrix.T)


def test_a_mirror_plane_changes_nothing(potential, structure):
    if not getattr(potential.model.config, "reflections", True):
        pytest.skip("the model knows rotations only")
    mirror = np.diag([1.0, 1.0, -1.0])
    before, after = predict(potential, structure), predict(potential, moved(structure, mirror))
    close(after.energy, before.energy)
    close(after.forces, before.forces.numpy() @ mirror)


def test_translation_changes_nothing(potential, structure):
    before, after = predict(potential, structure), predict(potential, moved(structure, translation=(11.0, -7.3, 2.9)))
    close(after.energies, before.energies)
    close(after.forces, before.forces)


def test_permutation_permutes(potential, structure):
    order = np.random.default_rng(1).permutation(len(structure))
    shuffled = replace(structure, atomic_numbers=structure.atomic_numbers[order], positions=structure.positions[order])
    before, after = predict(potential, structure), predict(potential, shuffled)
    close(after.energies, before.energies[order])
    close(after.forces, before.forces[order])


def test_forces_are_minus_the_gradient_of_the_energy(potential, structure):
    forces, step = predict(potential, structure).forces.numpy(), 1e-4
    for index in [(0, 0), (1, 2), (len(structure) - 1, 1)]:
        energies = []
        for sign in (1, -1, 2, -2):
            positions = structure.positions.copy()
            positions[index] += sign * step
            energies.append(predict(potential, replace(structure, positions=positions)).energy.item())
        near, far = energies[0] - energies[1], energies[2] - energies[3]
        assert forces[index] == pytest.approx(-(8 * near - far) / (12 * step), abs=1e-6)


def test_stress_is_the_derivative_by_strain(potential):
    structure, step = crystal(), 1e-4
    prediction = predict(potential, structure)
    volume = abs(np.linalg.det(structure.cell))
    for a, b in [(0, 0), (1, 1), (0, 1), (1, 2), (0, 2)]:
        energies = []
        for sign in (1, -1, 2, -2):
            strain = np.zeros((3, 3))
            strain[a, b] += 0.5 * sign * step
            strain[b, a] += 0.5 * sign * step
            energies.append(predict(potential, moved(structure, np.eye(3) + strain)).energy.item())
        near, far = energies[0] - energies[1], energies[2] - energies[3]
        slope = (8 * near - far) / (12 * step)
        assert prediction.stress[0, a, b].item() * volume == pytest.approx(slope, abs=1e-5)
        assert prediction.virial[0, a, b].item() == pytest.approx(-slope, abs=1e-5)


def test_forces_sum_to_zero(potential, structure):
    close(predict(potential, structure).forces.sum(0), np.zeros(3), 1e-8)


def test_far_apart_molecules_have_the_sum_of_energies(potential):
    one = ethanol()
    other = moved(ethanol(seed=1), translation=(40.0, 0.0, 0.0))
    both = replace(
        one,
        atomic_numbers=np.concatenate([one.atomic_numbers, other.atomic_numbers]),
        positions=np.concatenate([one.positions, other.positions]),
    )
    alone = predict(potential, one).energy + predict(potential, other).energy
    close(predict(potential, both).energy, alone)


def test_supercell_has_as_many_energies(potential):
    structure = crystal()
    shifts = [np.array([i, j, 0]) @ structure.cell for i in range(2) for j in range(3)]
    repeated = replace(
        structure,
        atomic_numbers=np.tile(structure.atomic_numbers, 6),
        positions=np.concatenate([structure.positions + shift for shift in shifts]),
        cell=structure.cell * np.array([[2], [3], [1]]),
    )
    small, large = predict(potential, structure), predict(potential, repeated)
    close(large.energy, 6 * small.energy)
    close(large.forces, np.tile(small.forces, (6, 1)))
    close(large.stress, small.stress)


def test_wrapping_changes_nothing(potential, structure):
    if not structure.pbc.any():
        pytest.skip("a molecule has no cell to wrap into")
    whole = np.random.default_rng(0).integers(-2, 3, (len(structure), 3)) * structure.pbc
    outside = replace(structure, positions=structure.positions + whole @ structure.cell)
    close(predict(potential, outside).energies, predict(potential, structure).energies)
    close(predict(potential, outside).forces, predict(potential, structure).forces)


def test_batch_equals_one_by_one(potential):
    structures = [ethanol(), atom("H"), crystal(), slab(), ethanol(seed=2)]
    together = predict(potential, *structures)
    assert together.stress is None  # a molecule has none
    starts = np.cumsum([0, *(len(s) for s in structures)])
    for number, structure in enumerate(structures):
        alone = predict(potential, structure)
        close(together.energy[number], alone.energy[0])
        close(together.forces[starts[number] : starts[number + 1]], alone.forces)
        close(together.virial[number], alone.virial[0])


@pytest.mark.parametrize("symbol", SPECIES)
def test_isolated_atom_has_its_reference_energy(potential, symbol):
    for structure in (atom(symbol), replace(atom(symbol), cell=20.0 * np.eye(3), pbc=np.full(3, True))):
        prediction = predict(potential, structure)
        close(prediction.energy, [ATOMIC_ENERGIES[SPECIES.index(symbol)]])
        close(prediction.forces, np.zeros((1, 3)))
        close(prediction.virial, np.zeros((1, 3, 3)))


def test_a_cell_without_periodicity_changes_nothing(potential):
    bare, boxed = ethanol(), replace(ethanol(), cell=np.diag([5.0, 6.0, 7.0]))
    close(predict(potential, boxed).energies, predict(potential, bare).energies)
    assert predict(potential, boxed).stress is None


def test_one_atom_in_a_cell_smaller_than_the_cutoff(potential):
    primitive = structure_of(bulk("C", "fcc", a=2.6))
    prediction = predict(potential, primitive)
    assert graph_of(primitive).n_edges > 12
    close(prediction.forces, np.zeros((1, 3)))
    isotropic = prediction.stress[0] - prediction.stress[0].trace() / 3 * torch.eye(3, dtype=torch.float64)
    close(isotropic, np.zeros((3, 3)))


def test_smooth_at_the_cutoff(potential):
    """Energy, force and the force's derivative, of a pair beside a third atom, have no jump where the pair parts."""

    def at(distance):
        positions = np.array([[0.0, 0, 0], [distance, 0, 0], [0.4, 1.1, 0.2]])
        third = replace(ethanol(), atomic_numbers=np.array([8, 6, 1]), positions=positions)
        prediction = predict(potential, third)
        return np.array([prediction.energy.item(), *prediction.forces.flatten().tolist()])

    def slope(distance, side):
        return side * (at(distance + side * 1e-4) - at(distance)) / 1e-4

    pairs = potential.model.config.pair_cutoffs or {}
    for cutoff in (CUTOFF, *(pairs[pair] for pair in ("C-O", "O-C") if pair in pairs)):
        inside, outside = at(cutoff - 1e-9), at(cutoff + 1e-9)
        close(inside, outside, 1e-8 * max(1, abs(slope(cutoff, 1)).max()))
        if getattr(potential.model.config, "xplor_on", None) is None:  # or the force has a kink there
            close(slope(cutoff, -1), slope(cutoff, 1), 2e-3)
