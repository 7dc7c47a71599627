"""Vectors between atoms and what follows from their gradients, on the CPU, by the C of ``pairs.c``."""

import ctypes
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from equiforce.graph import AtomicGraph, Topology
from equiforce.kernels.cpu import build
from equiforce.kernels.cpu.codegen.pairs import PairKernel

EDGES_OF_A_THREAD = 2048  # fewer are not worth waking one


class _Pairs(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_long) for name in ("n_parts", "n_edges")),
        *((name, ctypes.c_void_p) for name in ("centers", "neighbors", "order", "structures")),
        *((name, ctypes.c_void_p) for name in ("positions", "shifts", "cells", "vectors", "gradient")),
    )


def needed() -> list[PairKernel]:
    """What pairs need."""
    return [PairKernel("vectors"), PairKernel("gradient"), PairKernel("differences")]


@cache
def ready() -> bool:
    """Whether there is all that pairs need; compiles what is missing."""
    return build.ready(needed())


@cache
def _kernel(kind: str) -> build.Function:
    return build.function(PairKernel(kind))


def vectors(graph: AtomicGraph) -> Float[Tensor, "edges 3"]:
    """r_ij of each edge, in Å."""
    out = graph.positions.new_empty(graph.n_edges, 3)
    structures = None if graph.n_structures == 1 else graph.structure_of_atom
    given = {"positions": graph.positions, "shifts": graph.shifts, "cells": graph.cell, "structures": structures}
    _run("vectors", graph, vectors=out, **given)
    return out


def gradient(edge_gradients: Float[Tensor, "edges 3"], topology: Topology) -> Float[Tensor, "atoms 3"]:
    """dE/dr_i from dE/dr_ij. Edges are sorted by centre."""
    out = edge_gradients.new_zeros(topology.n_atoms, 3)
    _run("gradient", topology, vectors=edge_gradients, gradient=out, order=topology.by_neighbor)
    return out


def differences(of_atoms: Float[Tensor, "atoms 3"], topology: Topology) -> Float[Tensor, "edges 3"]:
    """The transpose of :func:`gradient`: what neighbour and centre differ by."""
    out = of_atoms.new_empty(topology.n_edges, 3)
    _run("differences", topology, vectors=out, gradient=of_atoms)
    return out


def _run(kind: str, topology: Topology, **tensors: Tensor | None) -> None:
    given = {"centers": topology.centers, "neighbors": topology.neighbors, **tensors}
    kept = {name: tensor.contiguous() for name, tensor in given.items() if tensor is not None}
    arguments = _Pairs(
        n_parts=max(1, min(torch.get_num_threads(), topology.n_edges // EDGES_OF_A_THREAD)),
        n_edges=topology.n_edges,
        **{name: tensor.data_ptr() for name, tensor in kept.items()},
    )
    _kernel(kind)(ctypes.byref(arguments))
