import math

import numpy as np
import pytest
import torch

from equiforce.neighbors import build_graph
from equiforce.nn.pair import ZBL
from equiforce.structure import Structure


def energy(distance, symbols=(14, 8), cutoff=4.0):
    structure = Structure(
        atomic_numbers=np.array(symbols),
        positions=np.array([[0.0, 0, 0], [0, 0, distance]]),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, bool),
    )
    graph = build_graph(structure, ["O", "Si"], cutoff)
    return ZBL([8, 14], cutoff)(graph, graph.edge_vectors())


def test_is_the_formula_of_lammps():
    """pair_style zbl, Si-O at 0.8 Å, worked out by hand, times the envelope."""
    x = 0.8 * (14**0.23 + 8**0.23) / 0.46850
    phi = (
        0.18175 * math.exp(-3.19980 * x) + 0.50986 * math.exp(-0.94229 * x)
        + 0.28022 * math.exp(-0.40290 * x) + 0.02817 * math.exp(-0.20162 * x)
    )  # fmt: skip
    u = 1 - 28 * 0.2**6 + 48 * 0.2**7 - 21 * 0.2**8
    assert energy(0.8).sum().item() == pytest.approx(14.399645 * 14 * 8 / 0.8 * phi * u, rel=1e-12)


def test_halves_go_to_the_atoms_and_nothing_reaches_beyond_the_cutoff():
    halves = energy(1.0)
    assert halves[0].item() == pytest.approx(halves[1].item())
    assert energy(3.999).sum().item() < 1e-9


def test_a_pair_can_end_before_the_cutoff():
    def stretched(distance, factor, p):
        zbl = ZBL([8, 14], 4.0, p, None if factor == 1 else lambda _, lengths: torch.full_like(lengths, factor))
        structure = Structure(
            atomic_numbers=np.array([14, 8]),
            positions=np.array([[0.0, 0, 0], [0, 0, distance]]),
            cell=np.zeros((3, 3)),
            pbc=np.zeros(3, bool),
        )
        graph = build_graph(structure, ["O", "Si"], 4.0)
        return zbl(graph, graph.edge_vectors()).sum().item()

    assert stretched(1.999, 2.0, 4) < 1e-8
    assert stretched(2.5, 2.0, 4) == 0.0
    bare, x = stretched(1.0, 1.0, 6) / (1 - 28 * 0.25**6 + 48 * 0.25**7 - 21 * 0.25**8), 0.5
    assert stretched(1.0, 2.0, 4) == pytest.approx(bare * (1 - 15 * x**4 + 24 * x**5 - 10 * x**6), rel=1e-12)
