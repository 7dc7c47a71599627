"""Vectors between atoms, and gradients with respect to positions, on the CPU, by the C of ``pairs.c``."""

from functools import cache

import torch
from torch import Tensor

from equiforce.graph import AtomicGraph, Topology
from equiforce.kernels.cpu import build
from equiforce.kernels.cpu.codegen.pairs import ARGUMENTS, PairKernel


def needed() -> list[PairKernel]:
    """The kernels of pairs."""
    return [PairKernel("vectors"), PairKernel("gradient"), PairKernel("differences")]


@cache
def ready() -> bool:
    """Whether the kernels of pairs can be used; compiles those that are missing."""
    return build.ready(needed())


@cache
def _kernel(kind: str) -> build.Function:
    return build.function(PairKernel(kind))


def vectors(graph: AtomicGraph) -> Tensor:
    """See :class:`equiforce.kernels.backend.PairBackend`."""
    structures = None if graph.n_structures == 1 else graph.structure_of_atom
    given = {"positions": graph.positions, "shifts": graph.shifts, "cells": graph.cell, "structures": structures}
    return _run("vectors", graph, given, {"vectors": torch.empty}, graph.n_structures)


def gradient(edge_gradients: Tensor, topology: Topology) -> Tensor:
    """See :class:`equiforce.kernels.backend.PairBackend`."""
    given = {"vectors": edge_gradients, "order": topology.by_neighbor}
    return _run("gradient", topology, given, {"gradient": torch.zeros})


def differences(of_atoms: Tensor, topology: Topology) -> Tensor:
    """See :class:`equiforce.kernels.backend.PairBackend`."""
    return _run("differences", topology, {"gradient": of_atoms}, {"vectors": torch.empty})


def _run(kind: str, topology: Topology, given: dict, made: dict, n_structures: int = 1) -> Tensor:
    sizes = {"n_edges": topology.n_edges, "n_atoms": topology.n_atoms, "n_structures": n_structures, "three": 3}
    given |= {"centers": topology.centers, "neighbors": topology.neighbors}
    return ARGUMENTS.call(_kernel(kind), torch.float64, sizes, given, made)[0]
