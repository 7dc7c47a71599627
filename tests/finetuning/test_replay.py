"""Replayed structures keep or get labels, are held out in part, and make up their share of the batches."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule

from equiforce.errors import InputError
from equiforce.evaluate import predict
from equiforce.finetuning.replay import ReplayBatches, make_replay
from tests.finetuning.starts import SPECIES, potential_of
from tests.systems import atom, crystal, rattled

pytestmark = pytest.mark.usefixtures("plain_torch")
SHIFT = [0.5, -1.0, 2.0]


@pytest.fixture(scope="module")
def start():
    return potential_of("nequip")


@pytest.fixture(scope="module")
def moved():
    potential = potential_of("nequip")
    potential.atomic_energies.data += potential.atomic_energies.new_tensor(SHIFT)
    return potential


def waters(n, seed=0, **labels):
    return [replace(rattled(molecule("H2O"), seed + i), **labels) for i in range(n)]


def test_structures_without_labels_get_those_of_the_moved_start_model(start, moved):
    replay = make_replay([*waters(19), crystal()], moved, SHIFT, [], seed=0)
    assert (len(replay.train), len(replay.held_out), replay.n_predicted) == (18, 2, 20)
    for structure in (*replay.train, *replay.held_out):
        own = predict(start, structure)
        index = [{1: 0, 6: 1, 8: 2}[z] for z in structure.atomic_numbers.tolist()]
        assert structure.energy == pytest.approx(own.energy.item() + np.sum(np.array(SHIFT)[index]), abs=1e-9)
        np.testing.assert_allclose(structure.forces, own.forces.numpy(), atol=1e-12)
        assert (structure.stress is not None) == bool(structure.pbc.any())


def test_labels_of_their_own_are_kept_and_energies_are_moved(moved):
    forces = np.ones((3, 3))
    frames = [*waters(5, energy=-20.0, forces=forces), *waters(5, seed=5, forces=forces)]
    replay = make_replay(frames, moved, SHIFT, [], seed=0)
    assert replay.n_predicted == 0
    everything = [*replay.train, *replay.held_out]
    assert all((structure.forces == forces).all() for structure in everything)
    energies = Counter(structure.energy for structure in everything)
    assert energies == {None: 5, -20.0 + 2 * 0.5 + 2.0: 5}
    first, moves = replay.lines(0.25)
    assert first == (
        "replay: 10 structures, all with labels of their own; 9 for training (25 % of a batch on average), 1 held out "
        "to measure what is forgotten"
    )
    assert "moved by the difference" in moves


def test_copies_of_held_out_structures_and_isolated_atoms_are_left_out(moved):
    frames = waters(6)
    replay = make_replay([*frames, atom("H")], moved, SHIFT, frames[:2], seed=0)
    assert replay.n_left_out == 3
    left = {structure.positions.tobytes() for structure in (*replay.train, *replay.held_out)}
    assert left == {structure.positions.tobytes() for structure in frames[2:]}
    assert "3 replayed structures are left out" in replay.lines(0.5)[-1]


def test_one_structure_is_too_few(moved):
    with pytest.raises(InputError, match=r"start\.replay has 1 usable structure, but at least 2 are needed"):
        make_replay(waters(1), moved, SHIFT, [], seed=0)


def batches(n_new, n_replayed, share, **options):
    return ReplayBatches(waters(n_new), waters(n_replayed, 100), share, SPECIES, 3.5, seed=3, **options)


def test_an_epoch_has_every_new_structure_and_its_share_of_replayed_ones():
    found = batches(30, 25, 0.25, batch_size=4)
    orders = [found.order(number) for number in range(5)]
    assert all(len(order) == 40 for order in orders)
    assert all(sorted(i for i in order if i < 30) == [*range(30)] for order in orders)
    replayed = Counter(i for order in orders for i in order if i >= 30)
    assert replayed == dict.fromkeys(range(30, 55), 2)
    assert orders[0] != orders[1]
    assert batches(30, 25, 0.25, batch_size=4).order(2) == orders[2]
    assert found.count() == 10
    assert sum(graph.n_structures for graph, _ in found.epoch(1)) == 40


def test_few_replayed_structures_are_repeated_and_edges_limit_a_batch():
    found = batches(8, 2, 0.5, max_edges=20)
    assert Counter(i for i in found.order(0) if i >= 8) == {8: 4, 9: 4}
    assert sum(graph.n_structures for graph, _ in found.epoch(0)) == 16
    assert max(graph.n_edges for graph, _ in found.epoch(0)) <= 20
