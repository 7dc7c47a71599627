"""Edges sorted by centre, which the kernels require; the order of a topology is computed once."""

from typing import NamedTuple
from weakref import WeakKeyDictionary

from jaxtyping import Int
from torch import Tensor

from equiforce.errors import InputError
from equiforce.graph import Topology


class _Order(NamedTuple):
    """The result of sorting a topology's edges; it is valid until an index is changed in place."""

    state: tuple[int, ...]
    found: tuple[Topology, Int[Tensor, " edges"]] | None  # None if the edges were sorted


_orders: WeakKeyDictionary[Topology, _Order] = WeakKeyDictionary()


def sorted_edges(topology: Topology) -> tuple[Topology, Int[Tensor, " edges"] | None]:
    """Return the topology sorted by centre and the permutation that sorts its edges; it is None if they were sorted.

    Raises:
        InputError: an index has been changed in place and is out of range, or ``by_neighbor`` names an edge twice.
    """
    order, state = _orders.get(topology), topology.state
    if order is None or order.state != state:
        if topology.checked != state:
            topology.check()  # someone has changed an index in place since the topology was checked
        try:
            order = _orders[topology] = _Order(state, topology.sorted_by_center())
        except (IndexError, RuntimeError):
            topology.check()  # an index was changed in a way that torch did not notice
            raise
        if order.found is not None:
            sorted_edges(order.found[0])
    return (topology, None) if order.found is None else order.found


def sorted_by_center(topology: Topology, values: Tensor) -> tuple[Topology, Tensor]:
    """Return the topology with edges sorted by centre, which kernels require, and the values in the same order."""
    topology, order = sorted_edges(topology)
    return topology, values if order is None else values[order]


def require_sorted(operation: str, topology: Topology) -> None:
    """Raise InputError if the edges are not sorted by centre, or ``by_neighbor`` does not sort them by neighbour."""
    if sorted_edges(topology)[1] is not None:
        raise InputError(
            f"{operation}: the edges have to be sorted by centre, and by_neighbor has to sort them by neighbour: use "
            "equiforce.kernels.sorted_by_center"
        )
