import json

import numpy as np
import pytest
from ase.io import iread

from equiforce.data.isolated import is_isolated_atom
from equiforce.data.statistics import Statistics, compute, fitted_elements
from equiforce.errors import InputError
from equiforce.quantities import ENERGY, FORCES, STRESS
from equiforce.structure import Structure


def structure(numbers, energy=None, forces=None, pbc=False, group="", spacing=1.0, stress=None):
    numbers = np.asarray(numbers)
    positions = np.zeros((len(numbers), 3))
    positions[:, 0] = spacing * np.arange(len(numbers))
    return Structure(
        atomic_numbers=numbers,
        positions=positions,
        cell=np.eye(3) * 20 if pbc else np.zeros((3, 3)),
        pbc=np.array([pbc] * 3),
        energy=energy,
        forces=forces,
        stress=stress,
        group=group,
        source="a test",
    )


def random_set(energies, n=30, seed=0):
    """Molecules of random composition, whose energies are sums over atoms."""
    rng = np.random.default_rng(seed)
    elements = list(energies)
    sets = [rng.choice(elements, size=rng.integers(2, 12)) for _ in range(n)]
    return [structure(numbers, float(sum(energies[z] for z in numbers))) for numbers in sets]


def test_least_squares_finds_the_energies_of_the_atoms():
    found = compute(random_set({8: -2000.0, 1: -13.0, 6: -1000.0}), [], 3.0)
    assert found.species == ("H", "C", "O")
    np.testing.assert_allclose(found.reference_energies, [-13.0, -1000.0, -2000.0], rtol=1e-9)
    assert found.reference_energies_from == "least squares"
    assert found.energy_residual_rms == pytest.approx(0, abs=1e-9)
    assert not any("minimum norm" in note for note in found.notes)


def test_isolated_atoms_come_first():
    train = [structure([1, 8, 1], -100.0), structure([1, 1], -30.0)]
    isolated = [structure([1], -13.0), structure([8], -70.0), structure([79], -1.0)]
    found = compute(train, isolated, 3.0)
    assert found.reference_energies == (-13.0, -70.0)
    assert found.reference_energies_from == "isolated atoms"
    assert found.energy_residual_rms == pytest.approx(np.sqrt(((4 / 3) ** 2 + 2**2) / 2))


def test_elements_without_an_isolated_atom_are_fitted():
    train = [structure([1, 8, 1], -100.0), structure([8, 8], -150.0)]
    found = compute(train, [structure([1], -13.0)], 3.0)
    assert found.reference_energies[0] == -13.0
    # (x + 74)² / 9 + (x + 75)² is least there: energies count per atom
    assert found.reference_energies[1] == pytest.approx(-74.9)
    assert found.reference_energies_from == "isolated atoms (H), least squares (O)"


def test_the_fit_beside_isolated_atoms_is_exact_where_it_can_be():
    found = compute(random_set({1: -13.0, 8: -2000.0}), [structure([1], -13.0)], 3.0)
    np.testing.assert_allclose(found.reference_energies, [-13.0, -2000.0])


def test_given_energies_are_used_and_the_rest_is_fitted():
    train = random_set({1: -13.0, 8: -2000.0})
    found = compute(train, [structure([1], -99.0)], 3.0, {"H": -13.0, "Au": 5.0})
    np.testing.assert_allclose(found.reference_energies, [-13.0, -2000.0])
    assert found.reference_energies_from == "given (H), least squares (O)"
    three = compute(train, [structure([8], -2000.0)], 3.0, {"H": -13.0})
    assert three.reference_energies_from == "given (H), isolated atoms (O)"
    assert compute(train, [structure([1], -13.0)], 3.0, {}).reference_energies[0] == -13.0
    with pytest.raises(InputError, match="no chemical element 'Hh'"):
        compute(train, [], 3.0, {"Hh": 1.0})


def test_one_composition_gets_the_minimum_norm_and_is_told():
    found = compute([structure([1, 8, 1], -470.0), structure([8, 1, 1], -468.0)], [], 3.0)
    np.testing.assert_allclose(found.reference_energies, np.array([2, 1]) * -469 / 5)
    assert any(
        "all structures have the composition H2O, so reference energies are only one of many" in note
        for note in found.notes
    )


def test_a_composition_is_written_as_chemists_do():
    assert "composition CH4O," in compute([structure([1, 8, 1, 6, 1, 1], -470.0)], [], 3.0).notes[0]


def test_compositions_too_alike_are_told():
    train = [structure([1, 8, 1] * n + [26], -469.0 * n - 7.0) for n in (1, 2, 3)]
    found = compute(train, [], 3.0)
    assert any("tell only 2 of 3 reference energies" in note for note in found.notes)
    assert found.energy_residual_rms == pytest.approx(0, abs=1e-9)


def test_isolated_atoms_of_another_method_are_noticed():
    train = [structure([1, 8, 1], -2080.0), structure([1, 1], -32.0)]
    found = compute(train, [structure([1], -1.1), structure([8], -1.9)], 3.0)
    assert any("another method" in note for note in found.notes)
    assert not compute(train, [structure([1], -13.6), structure([8], -2040.0)], 3.0).notes[1:]


def test_isolated_atoms_that_disagree_are_told_and_the_lowest_is_taken():
    isolated = [structure([1], -13.0), structure([1], -13.5)]
    found = compute([structure([1, 1], -30.0)], isolated, 3.0)
    assert found.reference_energies == (-13.5,)
    assert any("-13.5000 to -13.0000" in note for note in found.notes)


def test_the_scale_is_the_rms_of_the_force_components():
    rng = np.random.default_rng(0)
    forces = [rng.normal(size=(n, 3)) for n in (3, 5)]
    train = [structure([1] * len(f), -1.0, f) for f in forces] + [structure([1, 1], -2.0)]
    found = compute(train, [], 3.0)
    assert found.force_rms == pytest.approx(np.sqrt(np.mean(np.concatenate(forces) ** 2)))
    assert (found.n_structures, found.n_atoms) == (3, 10)
    assert [found.n_labels[quantity] for quantity in (ENERGY, FORCES, STRESS)] == [3, 2, 0]


def test_the_scale_is_never_zero():
    still = [structure([1, 1], -1.0, np.zeros((2, 3))) for _ in range(2)]
    found = compute(still, [], 3.0)
    assert found.force_rms == 1.0
    assert any("All forces are zero" in note for note in found.notes)
    found = compute([structure([1, 1], -1.0), structure([1, 1], -2.0)], [], 3.0)
    assert found.force_rms == pytest.approx(0.25)
    assert any("No training structure has forces" in n for n in found.notes)
    found = compute([structure([1, 1])], [], 3.0)
    assert found.force_rms == 1.0
    assert found.energy_residual_rms is None
    assert found.reference_energies == (0.0,)
    assert "zero because there are no energies" in found.reference_energies_from


def test_neighbours_are_counted_within_the_cutoff():
    line = structure([1] * 4, spacing=1.0)
    assert compute([line], [], 1.5).mean_neighbors == 1.5
    assert compute([line] * 5000, [], 2.5).mean_neighbors == 2.5


def test_a_cutoff_without_any_neighbour_is_refused():
    line = structure([1] * 4, spacing=3.0)
    with pytest.raises(
        InputError, match=r"cutoff of 2\.5 Å, because the smallest distance is 3\.00 Å.*cutoff=6 or more"
    ):
        compute([line] * 3, [], 2.5)
    with pytest.raises(InputError, match=r"more than 50 Å apart: check the positions"):
        compute([structure([1, 1], spacing=60.0)], [], 2.5)
    with pytest.raises(InputError, match=r"within model\.pair_cutoffs: set larger ones"):
        compute([structure([1, 8], spacing=1.0)], [], 2.5, None, {"H-O": 0.5, "O-H": 0.5})


def test_some_structures_without_neighbours_are_noted():
    apart = structure([1, 1], -2.0, spacing=9.0)
    found = compute([structure([1, 1], -3.0), apart], [structure([1], -1.0)], 5.0)
    assert found.notes[1:] == (
        "a test has no neighbours within the cutoff of 5 Å, so predicted energies are sums of reference energies "
        "there, whatever the labels: leave such frames out, or choose a larger cutoff",
    )


def test_fitted_reference_energies_are_noted_also_for_one_element():
    [note] = compute([structure([29, 29], -7.0)], [], 3.0).notes[:1]
    assert "no isolated atoms of Cu" in note
    assert "cohesive and binding energies will mean nothing" in note
    assert compute([structure([29, 29], -7.0)], [structure([29], -3.0)], 3.0).notes == (
        "No training structure has forces and the energies do not vary: the scale of the model is 1",
    )
    assert not any("isolated" in note for note in compute([structure([29, 29], -7.0)], [], 3.0, {"Cu": -3.0}).notes)


@pytest.mark.parametrize(
    ("origin", "elements"),
    [
        ("least squares", ["H", "C", "O"]),
        ("isolated atoms (H, O), least squares (C)", ["C"]),
        ("given (C), least squares (H, O)", ["H", "O"]),
        ("zero because there are no energies", ["H", "C", "O"]),
        ("isolated atoms", []),
        ("", []),
    ],
)
def test_the_elements_with_fitted_energies(origin, elements):
    assert fitted_elements(origin, ["H", "C", "O"]) == elements


def test_statistics_survive_json():
    found = compute([structure([1, 8, 1], -470.0, np.ones((3, 3)))], [], 3.0)
    plain = json.loads(json.dumps(found.to_dict()))
    assert Statistics.from_dict(plain) == found
    assert (plain["n_energies"], plain["n_forces"], plain["n_stresses"]) == (1, 1, 0)


def test_nothing_to_train_on():
    with pytest.raises(InputError, match="no structure to train on"):
        compute([], [structure([1], -13.0)], 3.0)


def read_frames(path):
    for atoms in iread(path, ":"):
        yield Structure(
            atomic_numbers=atoms.numbers,
            positions=atoms.positions,
            cell=atoms.cell.array,
            pbc=atoms.pbc,
            energy=atoms.get_potential_energy(),
            forces=atoms.get_forces(),
        )


def test_water_alone_determines_one_sum(shared_data):
    found = compute(list(read_frames(shared_data / "water_pbe0ts_train.xyz")), [], 3.0)
    # 64 molecules a cell, of mean energy -29943.6022 eV
    np.testing.assert_allclose(found.reference_energies, [-187.14751, -93.57376], atol=1e-4)
    assert "composition H128O64" in found.notes[0]


def test_3bpa_with_its_isolated_atoms(shared_data):
    train = list(read_frames(shared_data / "3bpa_train_300K.xyz"))
    isolated = list(read_frames(shared_data / "3bpa_isolated_atoms.xyz"))
    assert all(is_isolated_atom(s, 5.0) for s in isolated)
    assert not any(is_isolated_atom(s, 5.0) for s in train)
    found = compute(train, isolated, 5.0)
    assert found.species == ("H", "C", "N", "O")
    assert found.notes == ()
    assert 3 < found.energy_residual_rms < 8


def test_mean_neighbors_counts_within_the_cutoffs_of_pairs():
    """In a chain H-O-H of 1 Å each atom sees both others within 3 Å."""
    chain = Structure(
        atomic_numbers=np.array([1, 8, 1]),
        positions=np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, bool),
    )
    assert compute([chain], [], 3.0).mean_neighbors == 2.0
    assert compute([chain], [], 3.0, None, {"H-H": 1.5}).mean_neighbors == pytest.approx(4 / 3)
    assert compute([chain], [], 3.0, None, {"H-O": 0.5}).mean_neighbors == pytest.approx(4 / 3)
