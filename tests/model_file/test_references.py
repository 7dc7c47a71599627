"""References hold every pair of elements, and change when a weight changes that inference reads."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from equiforce.errors import InputError
from equiforce.model_file import (
    as_reference,
    build_potential,
    describe,
    load,
    read_header,
    reference_structures,
    references,
    save,
    small_pieces,
    stored_units,
    structure_of,
    verify,
)
from equiforce.model_file.references import as_references, clusters
from equiforce.neighbors import build_graph
from tests.model_file.files import rewritten
from tests.systems import atom, crystal, ethanol, potential_of, slab

FOUR = ["Nb", "Mo", "Ta", "W"]
MODELS = {
    "nequip": {"l_max": 1, "n_layers": 2, "channels": 4},
    "allegro": {
        "kind": "allegro", "l_max": 1, "tensor_channels": 4, "scalar_channels": 8, "latent_width": 8, "radial_width": 8,
    },
}  # fmt: skip


def of_species(species, **options):
    description = describe(potential_of(dtype="float32", **options))
    constants = {"atomic_energies": [-1.0] * len(species), "scale": [1.0] * len(species)}
    torch.manual_seed(0)
    return build_potential({**description, "species": species, **constants}).eval()


def test_references_hold_every_element():
    chosen = reference_structures([atom("C"), ethanol(), crystal(), ethanol(1)])
    assert [len(s) for s in chosen] == [1, 9]


def test_pieces_hold_the_surroundings_of_every_element():
    """Alone and in a cell; an element far from the others has a piece of its own."""
    positions = np.random.default_rng(0).normal(scale=4, size=(36, 3))
    numbers = np.full(36, 6)
    numbers[np.linalg.norm(positions - positions[0], axis=1).argmax()] = 8
    large = replace(ethanol(), atomic_numbers=numbers, positions=positions)
    pieces = small_pieces([large, crystal(), atom("H")])
    assert [len(p) for p in pieces] == [12, 12, 12, 12, 1, 1]
    assert [bool(p.pbc.any()) for p in pieces] == [False, True] * 3
    assert [set(p.atomic_numbers) for p in pieces[::2]] == [{6}, {6, 8}, {1}]
    away = np.linalg.norm(positions - positions[0], axis=1)
    assert np.linalg.norm(pieces[0].positions - positions[0], axis=1).max() == pytest.approx(np.sort(away)[11])


def test_periodic_pieces_have_fewer_neighbors_than_a_long_cutoff_could_give():
    (_, piece) = small_pieces([atom("H")], cutoff=40.0)
    assert len(build_graph(piece, ["H"], 40.0).centers) < 100


@pytest.mark.parametrize("n_species", [1, 2, 3, 7, 20, 89])
def test_clusters_hold_every_pair_well_within_the_cutoff(n_species):
    species = list(references.SYMBOLS[1 : n_species + 1])
    found, seen = clusters(of_species(species, **MODELS["nequip"])), np.zeros((n_species, n_species), dtype=int)
    assert len(found) <= n_species**2 / 60 + 2
    for structure in found:
        assert len(structure) == 12
        graph = build_graph(structure, species, 0.85 * 3.5)
        lengths = graph.edge_vectors().norm(dim=1)
        assert lengths.min() > 0.2 * 3.5
        assert len(lengths) == 12 * 11
        np.add.at(seen, (graph.species[graph.centers].numpy(), graph.species[graph.neighbors].numpy()), 1)
    assert seen.min() > 0


def test_clusters_are_smaller_for_shorter_cutoffs_of_pairs():
    potential = potential_of(kind="allegro", l_max=1, tensor_channels=4, pair_cutoffs={"H-H": 2.0, "C-O": 1.5})
    (cluster,) = clusters(potential)
    lengths = build_graph(cluster, potential.species, 3.5).edge_vectors().norm(dim=1)
    assert lengths.max() < 0.85 * 1.5


def test_many_structures_at_once_have_the_predictions_of_each():
    potential, structures = potential_of(l_max=1, n_layers=2, channels=4), [ethanol(), crystal(), slab(), atom("H")]
    at_once = as_references(potential, structures)
    for structure, reference in zip(structures, at_once, strict=True):
        alone = as_reference(potential, structure)
        assert (reference["stress"] is None) == (not structure.pbc.any())
        for name, value in alone.items():
            assert value is None or np.allclose(value, reference[name], rtol=0, atol=1e-10)


def test_references_that_need_much_memory_are_divided_or_refused(monkeypatch):
    potential, structures = potential_of(l_max=1, n_layers=2, channels=4), [ethanol(k) for k in range(5)]
    whole = as_references(potential, structures)
    one = references.step_memory(potential).bytes(9, 72)
    monkeypatch.setattr(references, "MOST_MEMORY", 2.5 * one)
    for one_reference, other in zip(as_references(potential, structures), whole, strict=True):
        assert np.allclose(one_reference["forces"], other["forces"], rtol=0, atol=1e-10)
    monkeypatch.setattr(references, "MOST_MEMORY", 0.5 * one)
    with pytest.raises(InputError, match="reference structure 0 needs too much memory"):
        as_references(potential, structures)


def places(potential):
    """The name of each tensor, and the index of a weight: in each row if a row belongs to an element or a pair."""
    for name, value in potential.state_dict().items():
        n_rows = len(value) if value.dim() and len(value) in (len(FOUR), len(FOUR) ** 2) else 1
        for row in range(n_rows):
            yield name, row * value.numel() // n_rows


@pytest.mark.parametrize("model", MODELS)
def test_a_changed_weight_of_any_pair_changes_a_reference(model, tmp_path):
    """The references hold every pair although the structures hold single elements, as in the first published case."""
    potential, path = of_species(FOUR, **MODELS[model]), tmp_path / "model.eqf"
    save(path, potential, [atom(symbol) for symbol in FOUR])
    header, wrong = read_header(path), load(path)
    apart = ("embed.weight", "self_connection.weights", "first")
    changed = [place for place in places(wrong) if place[0].endswith(apart)][1::3]
    assert len(changed) >= 3
    for name, index in changed:
        value = wrong.state_dict()[name].view(-1)
        kept = value[index].clone()
        value[index] += 8.0
        with pytest.raises(InputError, match="gives another"):
            verify(wrong, header, 2e-4, "model.eqf")
        value[index] = kept
    verify(wrong, header, 2e-4, "model.eqf")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.slow
def test_a_file_with_one_changed_weight_is_refused_though_its_checksum_fits(model, tmp_path):
    potential, path = of_species(FOUR, **MODELS[model]), tmp_path / "model.eqf"
    save(path, potential, [atom(symbol) for symbol in FOUR])
    for name, index in places(load(path)):

        def flip(weights, header, name=name, index=index):
            raw = weights[name].view(-1)[index : index + 1].numpy().view(np.uint8)
            raw[-1] ^= 0x80 if raw[-1] & 0x40 else 0xC0  # the sign; the highest bit of the exponent if it is not set
            if name in header["potential"]:
                header["potential"][name] = weights[name].tolist()

        with pytest.raises(InputError):
            load(rewritten(path, tmp_path / "changed.eqf", flip))


def test_a_result_that_only_one_side_has_is_a_difference():
    potential = potential_of(l_max=1, n_layers=2, channels=4)
    stored = [as_reference(potential, crystal()), as_reference(potential, ethanol())]
    header = {"units": stored_units(), "references": stored}
    verify(potential, header, 1e-8, "model.eqf")
    for number, stress in ((0, None), (1, np.zeros((3, 3)).tolist())):
        changed = copy.deepcopy(header)
        changed["references"][number]["stress"] = stress
        with pytest.raises(InputError, match=f"another stress for reference structure {number}"):
            verify(potential, changed, 1e-8, "model.eqf")


def test_references_that_are_not_numbers_are_refused():
    potential = potential_of(l_max=1, n_layers=2, channels=4)
    broken = {**as_reference(potential, ethanol()), "energy": float("nan")}
    with pytest.raises(InputError, match="another energy for reference structure 0"):
        verify(potential, {"units": stored_units(), "references": [broken]}, 1e-4, "model.eqf")


def test_a_reference_is_a_structure_again():
    structure = structure_of(as_reference(potential_of(l_max=1, n_layers=2, channels=4), slab()), "the slab")
    assert np.array_equal(structure.positions, slab().positions)
    assert np.array_equal(structure.pbc, slab().pbc)
    assert structure.source == "the slab"
