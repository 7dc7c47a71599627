"""A frame with labels that no atoms have is named before it ruins a fit, and right labels are not named."""

from dataclasses import replace

import numpy as np
import pytest

from equiforce.data import statistics
from equiforce.data.impossible import findings, impossible_energies, impossible_forces
from equiforce.data.plausible import check
from equiforce.errors import InputError
from tests.data_sets import crystals, labelled, molecules


def named(structures):
    return [replace(s, source=f"a.xyz, frame {i}") for i, s in enumerate(structures)]


def repeated(structures, n):
    """The structures again and again, moved by amounts that make no copies."""
    rng = np.random.default_rng(0)
    again = [structures[i % len(structures)] for i in range(n)]
    return named([replace(s, positions=s.positions + rng.normal(scale=2e-3, size=s.positions.shape)) for s in again])


@pytest.fixture(scope="module", params=["copper", "ethanol", "both"])
def data(request):
    copper = [labelled(atoms) for atoms in crystals(20)]
    ethanol = [labelled(atoms) for atoms in molecules(20, name="CH3CH2OH")]
    return named({"copper": copper, "ethanol": ethanol, "both": copper + ethanol}[request.param])


@pytest.fixture(scope="module")
def many(data):
    return repeated(data, 1000)


def with_energies(data, changes):
    return [replace(s, energy=changes[i]) if i in changes else s for i, s in enumerate(data)]


def with_forces(data, changes):
    return [replace(s, forces=s.forces + changes[i]) if i in changes else s for i, s in enumerate(data)]


def test_right_labels_are_not_named(data):
    assert findings(data) == ([], [])
    assert findings([]) == ([], [])
    assert findings([replace(s, energy=None, forces=None) for s in data]) == ([], [])


@pytest.mark.parametrize("energy", [1e10, -1e10, 1e5])
def test_one_energy(data, many, energy):
    assert impossible_energies(with_energies(many, {13: energy})) == [13]
    with pytest.raises(InputError, match=r"a\.xyz, frame 13: the energy is .* eV, which is impossible .*check=false"):
        check(with_energies(data, {13: energy}), 5.0)


@pytest.mark.parametrize("force", [1e9, -1e9])
def test_one_force(data, many, force):
    assert impossible_forces(with_forces(many, {13: force * np.eye(1, 3)})) == [13]
    with pytest.raises(InputError, match=r"a\.xyz, frame 13: a force is 1e\+09 eV/Å, more than the repulsion"):
        check(with_forces(data, {13: force * np.eye(1, 3)}), 5.0)


def test_half_of_the_frames(data):
    half = range(0, len(data), 2)
    energies = with_energies(data, {i: (-1) ** i * 1e10 * (i + 1) for i in half})
    assert impossible_energies(energies) == list(half)
    assert impossible_forces(with_forces(data, dict.fromkeys(half, 1e9))) == list(half)
    [found] = findings(energies)[0]
    assert f"so are {len(half) - 1} more of {len(data)} frames, such as a.xyz, frame 0, " in found.sentence


def test_few_frames_and_isolated_atoms(data):
    assert impossible_energies(with_energies(data[:2], {1: 1e10})) == [1]
    one = {"atomic_numbers": data[0].atomic_numbers[:1], "positions": np.zeros((1, 3)), "forces": None}
    assert impossible_energies([replace(data[0], energy=-1e10, **one)]) == [0]
    assert impossible_energies([replace(data[0], energy=-13.6, **one)]) == []


def test_constants_of_a_potential_are_those_without_the_frame(data):
    wrong = with_forces(with_energies(data, {3: 1e10}), {5: 1e9})
    found = statistics.compute(wrong, [], 5.0)
    expected = statistics.compute([s for i, s in enumerate(data) if i not in (3, 5)], [], 5.0)
    assert found.reference_energies == expected.reference_energies
    assert found.force_rms == expected.force_rms
    assert "2 frames with impossible labels are left out of reference energies and scale" in found.notes


def test_the_user_may_train_nevertheless(data):
    wrong = with_energies(data, {3: 1e10})
    notes = check(wrong, 5.0, refuse=False)
    assert notes[0].startswith("a.xyz, frame 3: the energy is 1e+10 eV")
    assert len(notes) == 1


def test_atoms_that_collide_have_large_labels():
    """A screened repulsion of two atoms, down to 0.2 Å."""
    copper = named([labelled(atoms) for atoms in crystals(20)])
    dimers = []
    for i, distance in enumerate([0.2, 0.4, 0.8]):
        repulsion = 14.4 * 29**2 * np.exp(-distance / 0.15) / distance
        force = repulsion * (1 / distance + 1 / 0.15)
        positions = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, distance]])
        dimers.append(
            replace(
                copper[i],
                atomic_numbers=np.array([29, 29]),
                positions=positions,
                pbc=np.zeros(3, bool),
                energy=repulsion,
                forces=np.array([[0, 0, -force], [0, 0, force]]),
                stress=None,
            )
        )
    assert dimers[0].energy / 2 > 1000
    assert findings(copper + dimers) == ([], [])


def test_another_level_of_theory_is_not_impossible():
    """It is named as such by another check."""
    water = named([labelled(atoms) for atoms in molecules(20)])
    mixed = [replace(s, energy=s.energy - 2000.0) if i % 2 else s for i, s in enumerate(water)]
    assert findings(mixed) == ([], [])
    with pytest.raises(InputError, match="the energies of H2O form two groups"):
        check(mixed, 5.0)
