import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from ase.io import iread

from equiforce.data.copies import first_copies
from equiforce.data.dataset import Batches, SplitOptions, fingerprint, split
from equiforce.errors import InputError
from equiforce.quantities import FORCES
from equiforce.structure import Structure


def molecule(seed, n_atoms=4, energy=0.0, source="train.xyz", group="", pbc=False):
    rng = np.random.default_rng(seed)
    return Structure(
        atomic_numbers=np.ones(n_atoms, dtype=int),
        positions=rng.random((n_atoms, 3)) * 2 + np.arange(n_atoms)[:, None],
        cell=np.eye(3) * 30 if pbc else np.zeros((3, 3)),
        pbc=np.array([pbc] * 3),
        energy=energy,
        forces=rng.normal(size=(n_atoms, 3)),
        group=group,
        source=f"{source}, frame {seed}",
    )


def moved(structure, by):
    return Structure(
        atomic_numbers=structure.atomic_numbers,
        positions=structure.positions + by,
        cell=structure.cell,
        pbc=structure.pbc,
        energy=structure.energy,
        source="copy",
    )


@pytest.fixture(scope="module")
def molecules():
    return [molecule(seed) for seed in range(40)]


def sources(structures):
    return [s.source for s in structures]


def test_a_random_split_is_a_partition_that_the_seed_decides(molecules):
    first = split(molecules, SplitOptions())
    assert [len(p) for p in (first.train, first.validation, first.test)] == [32, 4, 4]
    everything = sources(first.train) + sources(first.validation) + sources(first.test)
    assert sorted(everything) == sorted(sources(molecules))
    assert split(molecules, SplitOptions()).indices == first.indices
    assert split(molecules, SplitOptions(seed=1)).indices != first.indices


def test_shares_are_fractions_or_numbers(molecules):
    parts = split(molecules, SplitOptions(train=10, validation=0.25, test=3))
    assert [len(p) for p in (parts.train, parts.validation, parts.test)] == [10, 10, 3]
    assert split(molecules, SplitOptions(validation=0, test=0)).validation == ()
    assert len(split(molecules[:4], SplitOptions(test=0)).validation) == 1


def test_smaller_training_sets_lie_within_larger_ones(molecules):
    """What a learning curve needs: the same test set, and nested training sets."""
    parts = [split(molecules, SplitOptions(train=n, validation=5, test=10)) for n in (5, 10, 25)]
    for small, large in pairwise(parts):
        assert small.indices["test"] == large.indices["test"]
        assert set(small.indices["train"]) < set(large.indices["train"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SplitOptions(train=38), "40 structures are not enough for 4 test, 4 validation and 38 training"),
        (SplitOptions(validation=40), "are not enough"),
        (SplitOptions(validation=2.5), r"split\.validation=2\.5 is not allowed"),
        (SplitOptions(test=-0.1), r"split\.test=-0\.1 is not allowed"),
    ],
)
def test_impossible_shares(molecules, options, message):
    with pytest.raises(InputError, match=message):
        split(molecules, options)


def test_one_structure_can_only_be_trained_on(molecules):
    with pytest.raises(InputError, match="1 structure is not enough"):
        split(molecules[:1], SplitOptions())
    assert len(split(molecules[:1], SplitOptions(validation=0)).train) == 1
    with pytest.raises(InputError, match="No training structure is left"):
        split([], SplitOptions())


def test_isolated_atoms_are_apart(molecules):
    atoms = [molecule(100, 1), molecule(101, 1, group="IsolatedAtom", pbc=True)]
    parts = split([atoms[0], *molecules, atoms[1]], SplitOptions())
    assert sources(parts.isolated) == sources(atoms)
    assert len(parts.train) + len(parts.validation) + len(parts.test) == 40
    assert all(0 not in part for part in parts.indices.values())


def test_files_of_their_own_replace_the_shares(molecules):
    parts = split(molecules[:20], SplitOptions(), validation=molecules[20:25], test=molecules[25:])
    assert sources(parts.train) == sources(molecules[:20])
    assert sources(parts.validation) == sources(molecules[20:25])
    assert sources(parts.test) == sources(molecules[25:])
    assert set(parts.indices) == {"train"}
    parts = split(molecules[:20], SplitOptions(), test=molecules[25:])
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (18, 2, 15)


def test_a_saved_split_is_made_again(molecules, tmp_path):
    first = split(molecules, SplitOptions(seed=3))
    first.save(tmp_path / "split.json")
    again = split(molecules, SplitOptions(split_file=str(tmp_path / "split.json")))
    assert again.indices == first.indices
    assert sources(again.train) == sources(first.train)
    with pytest.raises(InputError, match="was made of other training data than these 39"):
        split(molecules[1:], SplitOptions(split_file=str(tmp_path / "split.json")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train": [0, 1], "test": [1]}, "frame 1 both in 'train' and in 'test'"),
        ({"train": [0, 40]}, "frame 40 in 'train', but the training data have only the frames 0 to 39"),
        ({"train": [0, "a"]}, "frame a in 'train'"),
        ({"test": [0]}, "must contain"),
        ([1, 2], "must contain"),
    ],
)
def test_faulty_index_files(molecules, tmp_path, content, message):
    path = tmp_path / "index.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        split(molecules, SplitOptions(split_file=str(path)))


def test_an_index_file_by_hand(molecules, tmp_path):
    path = tmp_path / "index.json"
    path.write_text(json.dumps({"train": [5, 3, 1], "validation": [0]}))
    parts = split(molecules, SplitOptions(split_file=str(path)))
    assert sources(parts.train) == sources([molecules[i] for i in (5, 3, 1)])
    assert parts.test == ()
    for missing in (tmp_path / "none.json", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            split(molecules, SplitOptions(split_file=str(missing)))


def test_a_fingerprint_may_include_labels(molecules):
    changed = [replace(molecules[0], energy=7.0), *molecules[1:]]
    assert fingerprint(changed) == fingerprint(molecules)
    assert fingerprint(changed, labels=True) != fingerprint(molecules, labels=True)
    assert fingerprint(molecules[::-1]) != fingerprint(molecules)


def test_the_same_structure_in_training_and_test_is_an_error(molecules):
    test = [moved(molecules[7], 1e-7), molecule(99), molecules[3]]
    message = r"train\.xyz, frame 3 \(train\) and train\.xyz, frame 3 \(held out\).*1 more.*split\.drop_duplicates=true"
    with pytest.raises(InputError, match=message):
        split(molecules, SplitOptions(validation=0), test=test)
    with pytest.raises(InputError, match="same structure"):
        split(molecules[:20], SplitOptions(), validation=molecules[19:], test=[])
    with pytest.raises(InputError, match=r"\(validation\)"):
        split(molecules[:20], SplitOptions(), validation=molecules[20:30], test=molecules[29:])
    parts = split(molecules, SplitOptions(validation=0, drop_duplicates=True), test=test)
    assert len(parts.train) == 38
    assert len(parts.test) == 3
    assert not {3, 7} & set(parts.indices["train"])
    assert any("2 train structures were left out" in note for note in parts.notes)


def test_copies_in_one_file_stay_on_one_side(molecules):
    doubled = [*molecules, *(moved(m, 0.0) for m in molecules)]
    parts = split(doubled, SplitOptions(validation=0.3, test=0.3))
    assert len(parts.train) + len(parts.validation) + len(parts.test) == 80
    assert any("train structures are copies" in note for note in parts.notes)
    dropped = split(doubled, SplitOptions(drop_duplicates=True))
    assert len(dropped.train) + len(dropped.validation) + len(dropped.test) == 40


def test_copies_with_contradictory_labels_are_not_left_out_in_silence(molecules):
    other = replace(moved(molecules[3], 0.0), energy=5.0, extra={"charge": 1})
    assert len(split([*molecules, other], SplitOptions()).train) == 33
    message = r"1 frame has the same positions.*5 eV \(1\.25 eV per atom\).*frame 3 and copy.*charge \(None, 1\)"
    with pytest.raises(InputError, match=message):
        split([*molecules, other], SplitOptions(drop_duplicates=True))
    with pytest.raises(InputError, match=message):
        split(molecules, SplitOptions(drop_duplicates=True), test=[other])


def test_the_cutoff_decides_what_is_isolated(molecules):
    boxed = molecule(101, 1, pbc=True)
    assert sources(split([*molecules, boxed], SplitOptions(), cutoff=5.0).isolated) == [boxed.source]
    named = replace(boxed, group="IsolatedAtom")
    crystal = split([*molecules, named], SplitOptions(), cutoff=31.0)
    assert crystal.isolated == ()
    assert any("frame 101 is called IsolatedAtom, but images of the atom are closer" in n for n in crystal.notes)


def test_batches_hold_every_structure_once(molecules):
    batches = Batches(molecules, ["H"], 4.0, batch_size=7, seed=5)
    assert batches.count() == 6
    seen = list(batches.epoch(0))
    assert [graph.n_structures for graph, _ in seen] == [7] * 5 + [5]
    energies = {s.forces.tobytes() for s in molecules}
    seen_forces = [labels[FORCES].values for _, labels in seen]
    assert {one.numpy().tobytes() for forces in seen_forces for one in forces.split(4)} == energies
    assert all(forces.dtype == torch.float64 for forces in seen_forces)


def test_the_order_depends_on_seed_and_epoch_alone(molecules):
    def order(batches, number, start=0):
        return [graph.positions[::4, 0].tolist() for graph, _ in batches.epoch(number, start)]

    batches = Batches(molecules, ["H"], 4.0, batch_size=7, seed=5)
    first = order(batches, 3)
    assert order(batches, 3) == first != order(batches, 4)
    fresh = Batches(molecules, ["H"], 4.0, batch_size=7, seed=5)
    assert order(fresh, 3, start=4) == first[4:]
    assert order(Batches(molecules, ["H"], 4.0, batch_size=7, seed=6), 3) != first
    in_file_order = order(Batches(molecules, ["H"], 4.0, batch_size=40), 9)
    assert in_file_order == [[m.positions[0, 0] for m in molecules]]


def test_a_budget_of_edges(molecules):
    mixed = [*molecules, molecule(50, 30)]
    batches = Batches(mixed, ["H"], 4.0, max_edges=40, seed=0)
    for number in range(3):
        graphs = [graph for graph, _ in batches.epoch(number)]
        assert len(graphs) == batches.count(number)
        assert sum(graph.n_structures for graph in graphs) == 41
        assert all(graph.n_edges <= 40 or graph.n_structures == 1 for graph in graphs)
        assert len(graphs) < 25


def test_the_largest_batch_is_known_beforehand(molecules):
    mixed = [*molecules, molecule(50, 30)]
    for limit in ({"batch_size": 3}, {"max_edges": 10}):
        batches = Batches(mixed, ["H"], 4.0, seed=0, **limit)
        n_atoms, n_edges = batches.largest()
        graphs = [graph for number in range(3) for graph, _ in batches.epoch(number)]
        assert n_atoms >= max(graph.n_atoms for graph in graphs)
        assert n_edges >= 0.9 * max(graph.n_edges for graph in graphs)  # others of the same size may be denser
    assert n_atoms == 30
    assert Batches(mixed, ["H"], 4.0, batch_size=3, n_ranks=3).largest()[0] == 30
    assert Batches(molecules, ["H"], 4.0, max_edges=24).largest()[1] == 24


@pytest.mark.parametrize("limit", [{"batch_size": 7}, {"max_edges": 50}])
def test_processes_share_each_batch(molecules, limit):
    whole = Batches(molecules, ["H"], 4.0, seed=2, **limit)
    ranks = [Batches(molecules, ["H"], 4.0, seed=2, rank=r, n_ranks=3, **limit) for r in range(3)]
    assert {shard.count(1) for shard in ranks} == {whole.count(1)}
    for (graph, _), *shares in zip(whole.epoch(1), *(shard.epoch(1) for shard in ranks), strict=True):
        assert sum(share.n_structures for share, _ in shares if share) == graph.n_structures
        together = torch.cat([share.positions for share, _ in shares if share])
        assert torch.equal(together.sort(dim=0).values, graph.positions.sort(dim=0).values)


def test_a_process_may_have_nothing_of_a_batch(molecules):
    shares = [list(Batches(molecules[:3], ["H"], 4.0, batch_size=2, rank=r, n_ranks=2).epoch(0)) for r in range(2)]
    assert shares[1][1] == (None, None)
    assert shares[0][1][0].n_structures == 1


def test_batches_refuse_limits_that_mean_nothing(molecules):
    for limits in ({}, {"batch_size": 2, "max_edges": 3}, {"batch_size": 0}, {"max_edges": -1}):
        with pytest.raises(InputError, match=r"[Bb]atch"):
            Batches(molecules, ["H"], 4.0, **limits)


def read_frames(path):
    for i, atoms in enumerate(iread(path, ":")):
        yield Structure(
            atomic_numbers=atoms.numbers,
            positions=atoms.positions,
            cell=atoms.cell.array,
            pbc=atoms.pbc,
            energy=atoms.get_potential_energy(),
            source=f"{path.name}, frame {i}",
        )


def test_the_known_copies_of_published_sets(shared_data):
    mixed = list(read_frames(shared_data / "3bpa_train_mixedT.xyz"))
    cold = list(read_frames(shared_data / "3bpa_train_300K.xyz"))
    with pytest.raises(InputError, match="and 30 more of train are held out"):
        split(mixed, SplitOptions(validation=0), test=cold)
    aspirin = list(read_frames(shared_data / "aspirin_ccsd_train.xyz"))
    assert len(aspirin) - len(set(first_copies(aspirin).tolist())) == 3
    for seed in range(3):
        split(aspirin, SplitOptions(seed=seed, validation=0.4, test=0.3))
