import pytest
import torch

from equiforce.checks import version_of
from equiforce.errors import InputError
from equiforce.kernels.order import require_sorted, sorted_by_center, sorted_edges
from tests.kernels.cases import random_graph, shuffled

GRAPH = random_graph(9, 70)
ORDER = torch.randperm(70, generator=torch.Generator().manual_seed(1))


def test_sorted_edges_are_left_as_they_are():
    assert sorted_edges(GRAPH) == (GRAPH, None)
    require_sorted("act", GRAPH)


def test_other_edges_are_sorted_once_and_values_go_with_them():
    mixed, values = shuffled(GRAPH, ORDER), torch.arange(70)[ORDER]
    topology, ordered = sorted_by_center(mixed, values)
    assert torch.equal(topology.centers, GRAPH.centers)
    assert torch.equal(GRAPH.neighbors[ordered], topology.neighbors)
    assert sorted_edges(mixed)[0] is topology
    with pytest.raises(InputError, match="act: the edges have to be sorted by centre"):
        require_sorted("act", mixed)


def test_an_index_that_is_changed_in_place_is_checked_and_sorted_again():
    graph = random_graph(9, 70)
    assert sorted_edges(graph)[1] is None
    graph.centers.copy_(graph.centers.flip(0))
    assert sorted_edges(graph)[1] is not None
    graph.neighbors[3] = 9
    with pytest.raises(InputError, match="neighbors holds 9, but there are 9 atoms"):
        sorted_edges(graph)


def test_changes_in_place_are_counted_except_those_of_inference_tensors():
    tensor = torch.zeros(2)
    before = version_of(tensor)
    tensor += 1
    assert version_of(tensor) != before
    with torch.inference_mode():
        assert version_of(torch.zeros(2)) == 0
