import numpy as np
import pytest
import torch

from equiforce.errors import InputError
from equiforce.models.nequip import NequIP
from equiforce.models.nequip_config import NequIPConfig
from equiforce.models.pair_cutoffs import PairCutoffs, kinds_of
from equiforce.structure import Structure
from tests.systems import SPECIES, ethanol, graph_of, potential_of


def test_there_are_none_by_default():
    assert PairCutoffs.of(NequIPConfig(), SPECIES) is None


def test_ratios_are_those_of_ordered_pairs():
    found = PairCutoffs.of(NequIPConfig(cutoff=4.0, pair_cutoffs={"H-C": 2.0}), SPECIES)
    assert SPECIES == ["H", "C", "O"]
    assert found.ratios == (1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)


def test_a_pair_of_unknown_elements_is_refused():
    with pytest.raises(InputError, match="has H-N, but the elements are H, C, O: write a pair as H-O, centre first"):
        NequIP(NequIPConfig(cutoff=3.5, pair_cutoffs={"H-N": 2.0}), SPECIES)


def test_ratios_are_exact_in_double_precision():
    pairs = PairCutoffs.of(NequIPConfig(cutoff=4.0, pair_cutoffs={"H-H": 3.0, "H-O": 3.0, "O-H": 3.0}), ["H", "O"])
    graph = graph_of(ethanol())
    stretch = PairCutoffs(4.0, (4 / 3,) * 9, 3).stretch(graph, torch.ones(1, dtype=torch.float64))
    assert (stretch == 4 / 3).all()
    assert pairs.ratios[0] == 4 / 3


def test_longer_edges_are_left_out():
    graph = graph_of(ethanol())
    pairs = PairCutoffs.of(NequIPConfig(cutoff=3.5, pair_cutoffs={"H-H": 2.0, "C-H": 1.5}), SPECIES)
    vectors = graph.edge_vectors()
    topology, near, stretch = pairs.within(graph, vectors)
    limits = torch.tensor([2.0, 3.5, 3.5, 1.5, 3.5, 3.5, 3.5, 3.5, 3.5], dtype=torch.float64)
    expected = vectors.norm(dim=1) < limits[kinds_of(graph, 3)]
    assert 0 < expected.sum() < graph.n_edges
    assert torch.equal(near, vectors[expected])
    assert topology.n_edges == len(near) == len(stretch)
    assert torch.equal(topology.neighbors[topology.by_neighbor], topology.neighbors.sort().values)


@pytest.mark.parametrize("kind", ["nequip", "allegro"])
def test_what_lies_beyond_changes_nothing(kind):
    """H sees no O beyond its cutoff, O still sees H."""
    structure = Structure(
        atomic_numbers=np.array([1, 8]),
        positions=np.array([[0.0, 0, 0], [2.5, 0, 0]]),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, bool),
    )
    options = {"n_layers": 1, "l_max": 0} if kind == "nequip" else {"n_layers": 1}
    potential = potential_of(kind, pair_cutoffs={"H-O": 2.0}, **options)
    energies = potential(graph_of(structure)).energies - potential.atomic_energies[[0, 2]]
    assert energies[0] == 0
    assert energies[1] != 0


def test_splines_end_at_the_pair_cutoffs_too():
    def energy(knots):
        options = {"l_max": 1, "n_layers": 2, "channels": 4, "pair_cutoffs": {"C-H": 2.0, "H-C": 2.5}}
        return potential_of(**options, radial_knots=knots)(graph_of(ethanol())).energy

    assert (energy(1024) - energy(None)).abs().max() < 1e-5
