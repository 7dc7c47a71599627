"""The CPU backend of edge vectors and of gradients with respect to positions, which calls the C of ``pairs.c``."""

from functools import cache

from torch import Tensor

from equiforce.errors import InputError
from equiforce.graph import AtomicGraph, Topology
from equiforce.kernels.cpu import build
from equiforce.kernels.cpu.codegen.pairs import ARGUMENTS, PairKernel, PairKind
from equiforce.kernels.cpu.launch import Allocate


def needed() -> list[PairKernel]:
    """The kernels of edge vectors and gradients."""
    return [PairKernel("vectors"), PairKernel("gradient"), PairKernel("differences")]


@cache
def ready() -> bool:
    """Compile the missing kernels of edge vectors and gradients and return whether all can be used."""
    return build.ready(needed())


@cache
def _kernel(kind: PairKind) -> build.Function:
    return build.function(PairKernel(kind))


def vectors(graph: AtomicGraph) -> Tensor:
    """See :class:`equiforce.kernels.backend.PairBackend`."""
    structures = None if graph.n_structures == 1 else graph.structure_of_atom
    given: dict[str, Tensor | None] = {
        "positions": graph.positions,
        "shifts": graph.shifts,
        "cells": graph.cell,
        "structures": structures,
        "by_neighbor": graph.by_neighbor,
    }
    try:
        return _run("vectors", graph, graph.positions, given, {"vectors": Tensor.new_empty}, graph.n_structures)
    except InputError:
        graph.check()  # names the index and its value
        raise


def gradient(edge_gradients: Tensor, topology: Topology) -> Tensor:
    """See :class:`equiforce.kernels.backend.PairBackend`."""
    given: dict[str, Tensor | None] = {"vectors": edge_gradients, "by_neighbor": topology.by_neighbor}
    return _run("gradient", topology, edge_gradients, given, {"gradient": Tensor.new_zeros})


def differences(of_atoms: Tensor, topology: Topology) -> Tensor:
    """See :class:`equiforce.kernels.backend.PairBackend`."""
    return _run("differences", topology, of_atoms, {"gradient": of_atoms}, {"vectors": Tensor.new_empty})


def _run(
    kind: PairKind,
    topology: Topology,
    like: Tensor,
    given: dict[str, Tensor | None],
    made: dict[str, Allocate],
    n_structures: int = 1,
) -> Tensor:
    sizes = {"n_edges": topology.n_edges, "n_atoms": topology.n_atoms, "n_structures": n_structures, "three": 3}
    given |= {"centers": topology.centers, "neighbors": topology.neighbors}
    return ARGUMENTS.call(_kernel(kind), like, sizes, given, made)[0]
