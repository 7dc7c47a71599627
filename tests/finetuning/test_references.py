"""Reference energies follow the labels exactly where these determine them, and stay where they do not."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule

from equiforce.evaluate import predict
from equiforce.finetuning.references import refit
from tests.finetuning.starts import ENERGIES, SPECIES, potential_of
from tests.systems import atom, rattled

pytestmark = pytest.mark.usefixtures("plain_torch")
MOVED = {"H": 0.7, "C": -3.0, "O": 11.0}
OLD = np.array([ENERGIES[symbol] for symbol in SPECIES])


@pytest.fixture(scope="module")
def start():
    return potential_of("nequip")


def labelled(start, names, moved=MOVED, noise=0.0):
    """Molecules with the energies of the start model, moved by a number for each atom."""
    rng, found = np.random.default_rng(0), []
    for seed, name in enumerate(names):
        structure = rattled(molecule(name), seed)
        counts = [(structure.atomic_numbers == z).sum() for z in (1, 6, 8)]
        energy = predict(start, structure).energy.item() + float(np.dot(counts, list(moved.values())))
        found.append(replace(structure, energy=energy + noise * rng.normal()))
    return found


def test_the_shift_between_two_levels_of_theory_is_found(start):
    found = refit(start, labelled(start, ["H2O", "CH4", "CH3CH2OH", "CO", "H2O"]), [], None)
    np.testing.assert_allclose(found.new, OLD + list(MOVED.values()), atol=1e-9)
    np.testing.assert_allclose(found.shift, list(MOVED.values()), atol=1e-9)
    assert found.residual == pytest.approx(0, abs=1e-9)
    assert (found.origin, found.notes()) == ("least squares", [])
    line, error = found.lines()
    assert "H -13.6000 → -12.9000 (+0.7000), C -1029.5000 → -1032.5000 (-3.0000)" in line
    assert "differs from them by 0.0 meV/atom" in error


def test_one_composition_moves_all_by_as_little_as_possible(start):
    frames = labelled(start, ["CH3CH2OH"] * 3)
    found = refit(start, frames, [], None)
    counts = np.array([6, 2, 1])
    total = counts @ list(MOVED.values())
    assert counts @ found.shift == pytest.approx(total, abs=1e-9)
    np.testing.assert_allclose(found.shift, counts * total / (counts @ counts), atol=1e-9)


def test_an_element_that_does_not_occur_keeps_its_energy(start):
    found = refit(start, labelled(start, ["H2O", "H2O", "H2"]), [], None)
    np.testing.assert_allclose(found.shift, [0.7, 0.0, 11.0], atol=1e-9)
    assert found.new[1] == OLD[1]
    assert found.origin == "least squares (H, O), start model (C)"


def test_isolated_atoms_and_given_energies_win(start):
    frames = labelled(start, ["H2O", "CH4", "CH3CH2OH", "CO"])
    isolated = [replace(atom("H"), energy=-13.0), replace(atom("H"), energy=-12.9)]
    found = refit(start, frames, isolated, {"C": -1030.0})
    assert found.new[:2].tolist() == [-13.0, -1030.0]
    assert found.origin == "isolated atoms (H), given (C), least squares (O)"
    np.testing.assert_allclose(found.shift, list(MOVED.values()), atol=1e-9)  # replay needs it all the same
    everything = refit(start, frames, [], {"H": 1.0, "C": 2.0, "O": 3.0})
    assert everything.new.tolist() == [1.0, 2.0, 3.0]
    assert any("eV/atom away from the energies" in sentence for sentence in everything.notes())


def test_isolated_atoms_that_would_ruin_the_start_model_do_not_count(start):
    frames = labelled(start, ["H2O", "CH4", "CH3CH2OH", "CO"])
    exact = [replace(atom(s), energy=ENERGIES[s] + MOVED[s]) for s in SPECIES]
    found = refit(start, frames, exact, None)
    assert (found.origin, found.left_out, found.notes()) == ("isolated atoms", (), [])
    assert found.gap == pytest.approx(0, abs=1e-9)
    bound = [replace(one, energy=one.energy + 4.0) for one in exact]  # the start model has reference energies of a fit
    found = refit(start, frames, bound, None)
    assert (found.origin, found.left_out) == ("least squares", ("H", "C", "O"))
    np.testing.assert_allclose(found.new, OLD + list(MOVED.values()), atol=1e-9)
    assert "would be 4.0 eV/atom away" in found.notes()[0]
    given = {symbol: one.energy for symbol, one in zip(SPECIES, bound, strict=True)}
    found = refit(start, frames, bound, given)
    assert found.new.tolist() == [*given.values()]
    assert "is 4.0 eV/atom away from the energies" in found.notes()[0]


def test_without_energies_nothing_moves(start):
    frames = [replace(one, energy=None) for one in labelled(start, ["H2O"])]
    found = refit(start, frames, [], None)
    assert (found.new.tolist(), found.residual, found.origin) == (OLD.tolist(), None, "start model")
    assert len(found.lines()) == 1


def test_labels_of_other_matter_are_told(start):
    found = refit(start, labelled(start, ["H2O", "CH4", "CO"] * 5, noise=50.0), [], None)
    assert any("differs from the new energies by" in sentence for sentence in found.notes())


def test_impossible_energies_do_not_count(start):
    frames = labelled(start, ["H2O", "CH4", "CO"] * 3)
    wrong = replace(frames[0], energy=-1e9)
    np.testing.assert_allclose(refit(start, [*frames, wrong], [], None).shift, list(MOVED.values()), atol=1e-9)
