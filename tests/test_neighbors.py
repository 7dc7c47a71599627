import time

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from equiforce.errors import InputError
from equiforce.neighbors import SMALL_MOLECULE, VerletList, build_graph, find_pairs, refuse_coincident
from equiforce.structure import Structure

PERIODICITIES = [
    (True, True, True),
    (True, True, False),
    (True, False, True),
    (False, True, True),
    (False, False, True),
    (True, False, False),
    (False, False, False),
]
NOT_PERIODIC = np.zeros(3, dtype=bool)


def make(positions, cell=None, pbc=(False, False, False), numbers=None, source=""):
    positions = np.asarray(positions, dtype=float).reshape(-1, 3)
    return Structure(
        atomic_numbers=np.ones(len(positions), dtype=int) if numbers is None else np.asarray(numbers),
        positions=positions,
        cell=np.zeros((3, 3)) if cell is None else np.asarray(cell, dtype=float),
        pbc=np.array(pbc),
        source=source,
    )


def random_structure(seed, pbc, n_atoms=7, size=4.0, skew=1.5):
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(0.6, 1.4, 3)) * size + np.tril(rng.uniform(-skew, skew, (3, 3)), -1)
    return make(rng.random((n_atoms, 3)) @ cell + rng.normal(size=3), cell, pbc)


def reference_edges(structure, cutoff):
    """Every (i, j, S) closer than the cutoff, by trying all images."""
    positions, cell, pbc = structure.positions, structure.cell, structure.pbc
    if not pbc.any():
        first = last = np.zeros((1, 1, 3), dtype=int)
    else:
        reciprocal = np.linalg.pinv(cell[pbc])  # columns; in units of cell vectors
        fractional = np.zeros_like(positions)
        fractional[:, pbc] = positions @ reciprocal
        between = fractional[:, None] - fractional[None]  # S near f_i - f_j brings j to i
        reach = np.zeros(3)
        reach[pbc] = cutoff * np.linalg.norm(reciprocal, axis=0)
        first, last = np.floor(between - reach).astype(int), np.ceil(between + reach).astype(int)
        first[..., ~pbc] = last[..., ~pbc] = 0
    found = set()
    for i in range(len(positions)):
        for j in range(len(positions)):
            low, high = (a[0, 0] if a.shape[0] == 1 else a[i, j] for a in (first, last))
            for shift in np.ndindex(*(high - low + 1)):
                image = low + shift
                distance = np.linalg.norm(positions[j] + image @ cell - positions[i])
                if distance < cutoff and not (i == j and not image.any()):
                    found.add((i, j, *image.tolist()))
    return found


def edges(graph):
    return set(
        zip(graph.centers.tolist(), graph.neighbors.tolist(), *graph.shifts.to(torch.int64).T.tolist(), strict=True)
    )


def check_order(graph):
    assert torch.all(graph.centers.diff() >= 0)
    by_neighbor = graph.by_neighbor
    assert torch.equal(by_neighbor, torch.argsort(graph.neighbors, stable=True))
    assert graph.centers.is_contiguous()
    assert graph.neighbors.is_contiguous()
    assert len(edges(graph)) == graph.n_edges


@pytest.mark.parametrize("pbc", PERIODICITIES)
@pytest.mark.parametrize("size", [1.6, 4.0, 12.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_pairs_are_those_of_a_brute_force_search(pbc, size, seed):
    structure = random_structure(seed, pbc, n_atoms=2 if size < 2 else 8, size=size, skew=size / 2)
    graph = build_graph(structure, ["H"], 3.5)
    check_order(graph)
    assert edges(graph) == reference_edges(structure, 3.5)
    lengths = graph.edge_vectors().norm(dim=1)
    assert graph.n_edges == 0 or (lengths.max() < 3.5 and lengths.min() > 0)


@pytest.mark.parametrize("pbc", PERIODICITIES)
def test_motions_of_the_whole_leave_the_distances(pbc):
    structure = random_structure(5, pbc)
    rng = np.random.default_rng(5)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    wraps = rng.integers(-30, 30, (len(structure), 3)) * np.array(pbc)
    distances = []
    for positions, cell in [
        (structure.positions, structure.cell),
        (structure.positions + np.array([50.0, -3.0, 1e3]), structure.cell),
        (structure.positions @ rotation, structure.cell @ rotation),
        (structure.positions + wraps @ structure.cell, structure.cell),
    ]:
        moved = make(positions, cell, pbc)
        graph = build_graph(moved, ["H"], 4.0)
        assert edges(graph) == reference_edges(moved, 4.0)
        distances.append(np.sort(graph.edge_vectors().norm(dim=1).numpy()))
    for other in distances[1:]:
        np.testing.assert_allclose(other, distances[0], atol=1e-9)


def test_one_atom_sees_its_own_images_in_a_tiny_cell():
    graph = build_graph(make([[0.3, 0, 0]], np.eye(3) * 1.5, [True] * 3), ["H"], 4.0)
    assert set(graph.centers.tolist()) == set(graph.neighbors.tolist()) == {0}
    assert edges(graph) == reference_edges(make([[0, 0, 0]], np.eye(3) * 1.5, [True] * 3), 4.0)


@pytest.mark.parametrize("positions", [[[0.0, 0, 0]], [[0.0, 0, 0], [9.0, 0, 0]], np.zeros((0, 3))])
def test_no_pairs(positions):
    graph = build_graph(make(positions), ["H"], 4.0)
    assert graph.n_edges == 0
    assert graph.n_atoms == len(positions)
    assert graph.shifts.shape == (0, 3)
    assert graph.by_neighbor.shape == (0,)
    assert graph.edge_vectors().shape == (0, 3)


def test_a_box_that_is_not_periodic_plays_no_part():
    box = np.eye(3) * 2.0
    graph = build_graph(make([[0, 0, 0], [1.0, 0, 0]], box), ["H"], 4.0)
    assert edges(graph) == {(0, 1, 0, 0, 0), (1, 0, 0, 0, 0)}
    assert graph.volumes().item() == 0.0


@pytest.mark.parametrize("third", [[0, 0, 0], [0, 0, 1.0], [2.0, 1.0, 0.5], [0, 0, 40.0]])
def test_the_third_vector_of_a_slab_plays_no_part(third):
    positions = np.random.default_rng(3).random((6, 3)) * [3, 3, 9]
    slab = make(positions, [[3, 0, 0], [1, 2.5, 0], third], [True, True, False])
    graph = build_graph(slab, ["H"], 4.0)
    assert edges(graph) == reference_edges(slab, 4.0)
    assert torch.all(graph.shifts[:, 2] == 0)
    np.testing.assert_array_equal(graph.cell[0, 2].numpy(), third)


@pytest.mark.parametrize("thin", [0, 1, 2])
@pytest.mark.parametrize("periodic", [True, False])
def test_wide_and_thin_structures_are_searched(thin, periodic):
    """A sheet of more than 0.1 µm: the search counted its cells as zero and ended the process."""
    near = np.random.default_rng(0).uniform(0, 4, (20, 3))
    box = np.where(np.arange(3) == thin, 4.0, 1500.0)
    corner = np.where(np.arange(3) == thin, 0.0, 1496.0)
    pbc = (periodic and np.arange(3) != thin) | np.zeros(3, dtype=bool)
    wide = make([*near, *(near + corner)], np.diag(box), pbc)
    found = find_pairs(wide.positions, wide.cell, pbc, 3.0)
    assert found.distances.max() <= 3.0
    beside = make([*near, *(near - np.where(pbc, 4.0, 0.0 if periodic else 400.0))])  # the image of the corner
    expected = find_pairs(beside.positions, beside.cell, beside.pbc, 3.0)
    assert len(found.centers) == len(expected.centers)
    np.testing.assert_allclose(np.sort(found.distances), np.sort(expected.distances), atol=1e-9)


@pytest.mark.parametrize(("n_numbers", "n_positions"), [(1, 9), (9, 1), (70_000, 2), (0, 3)])
def test_each_atom_has_a_number_and_a_position(n_numbers, n_positions):
    positions = np.arange(3.0 * n_positions).reshape(-1, 3)
    structure = make(positions, source="a.xyz")
    object.__setattr__(structure, "atomic_numbers", np.ones(n_numbers, dtype=int))  # it is not checked when it is made
    with pytest.raises(InputError, match=rf"a\.xyz has {n_numbers} atomic numbers and {n_positions} positions"):
        build_graph(structure, ["H"], 3.0)


@pytest.mark.parametrize(
    ("positions", "cell", "pbc"),
    [((4, 2), (3, 3), (3,)), ((12,), (3, 3), (3,)), ((4, 3), (3,), (3,)), ((4, 3), (3, 3), (1,))],
)
def test_other_shapes_do_not_reach_the_search(positions, cell, pbc):
    with pytest.raises((InputError, TypeCheckError), match=r"give three numbers for each atom|Type-check error"):
        find_pairs(np.ones(positions), np.ones(cell), np.zeros(pbc, dtype=bool), 3.0)


def test_species_are_places_in_the_models_list():
    water = make([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], numbers=[8, 1, 1], source="water.xyz, frame 4")
    assert build_graph(water, ["H", "O"], 4.0).species.tolist() == [1, 0, 0]
    with pytest.raises(InputError, match=r"water\.xyz, frame 4: atom 0 .* element O .*H, C"):
        build_graph(water, ["H", "C"], 4.0)


@pytest.mark.parametrize(
    ("structure", "message"),
    [
        (
            make([[0, 0, 0], [1, 0, 0], [1, 0, 1e-3]], source="a.xyz, frame 1"),
            r"a\.xyz, frame 1: atoms 1 and 2 .* are 0\.001 Å apart",
        ),
        (make([[0, 0, 0], [2.0, 0, 1e-4]], np.diag([2.0, 3, 3]), [True] * 3), "atoms 0 and 1 .* are 0.0001 Å apart"),
        (make([[0, 0, 0], [np.nan, 0, 0]]), "atom 1 .* is at"),
        (make([[0, 0, 0], [np.inf, 0, 0]]), "atom 1 .* is at"),
        (make([[0, 0, 0], [1e9, 0, 0]], np.eye(3) * 3, [True] * 3), "atom 1 .* is at"),
        (make([[0, 0, 0], [1e6, 0, 0]]), "1e\\+06 Å wide"),
        (make([[0, 0, 0]], np.diag([1e6, 3, 3]), [True] * 3), "1e\\+06 Å wide"),
        (make([[0, 0, 0], [0, 0, 1e5]], np.diag([3.0, 3, 0]), [True, True, False]), "1e\\+05 Å wide"),
        (make([[0, 0, 0]], np.zeros((3, 3)), [True] * 3), "flat"),
        (make([[0, 0, 0]], np.diag([3.0, 3, 0]), [True] * 3), "flat"),
        (make([[0, 0, 0]], [[3, 0, 0], [6, 0, 0], [0, 0, 3]], [True, True, False]), "flat"),
        (make([[0, 0, 0]], np.full((3, 3), np.nan), [True] * 3), "not finite"),
    ],
)
def test_impossible_geometries_are_refused_in_words(structure, message):
    with pytest.raises(InputError, match=message):
        build_graph(structure, ["H"], 4.0)


@pytest.mark.parametrize(
    "check",
    [
        refuse_coincident,
        lambda s: build_graph(s, ["H"], 4.0),
        lambda s: VerletList(np.zeros(len(s), dtype=int), 4.0, 0.5).graph(s.positions, s.cell, s.pbc),
    ],
    ids=["in-data", "in-a-graph", "in-a-verlet-list"],
)
@pytest.mark.parametrize("n_others", [0, SMALL_MOLECULE])
@pytest.mark.parametrize("pbc", [False, True])
def test_atoms_coincide_below_a_tenth_of_an_angstrom(check, n_others, pbc):
    """The same distance wherever atoms come from, in small molecules, large ones and crystals."""
    others = [[3.0 * i, 5.0, 5.0] for i in range(1, n_others + 1)]
    apart, coincident = (
        make([[1.0, 1, 1], [1.0, 1, 1 + distance], *others], np.diag([3.0 * n_others + 6, 10, 10]), [pbc] * 3)
        for distance in (0.101, 0.099)
    )
    check(apart)
    with pytest.raises(
        InputError, match=r"atoms [01] and [01] \(counted from 0\) are 0\.099 Å apart, closer than 0\.1 Å"
    ):
        check(coincident)


@pytest.mark.parametrize("pbc", PERIODICITIES)
@pytest.mark.parametrize("skin", [0.0, 0.7])
def test_a_verlet_list_never_misses_a_pair(pbc, skin):
    """Along a random walk in which the cell is strained too, every graph is that of a fresh search."""
    start = random_structure(11, pbc, n_atoms=9, size=5.0)
    verlet = VerletList(np.zeros(9, dtype=int), 3.5, skin)
    rng = np.random.default_rng(11)
    positions, cell = start.positions.copy(), start.cell.copy()
    for _ in range(40):
        strain = np.eye(3) + rng.normal(size=(3, 3)) * 2e-3
        positions = positions @ strain + rng.normal(size=positions.shape) * 0.02
        cell = cell @ strain
        graph = verlet.graph(positions, cell, np.array(pbc))
        check_order(graph)
        expected = build_graph(make(positions, cell, pbc), ["H"], 3.5)
        assert edges(graph) == edges(expected)
        assert torch.equal(graph.positions, expected.positions)
        assert torch.equal(graph.cell, expected.cell)
    assert verlet.n_builds == 40 if skin == 0 else 1 < verlet.n_builds < 20


def test_a_verlet_list_counts_its_searches():
    structure = random_structure(2, [True] * 3, n_atoms=6, size=6.0)
    verlet = VerletList(np.zeros(6, dtype=int), 3.0, 1.0)
    verlet.graph(structure.positions, structure.cell, structure.pbc)
    for moved in (0.49, -0.49):
        positions = structure.positions.copy()
        positions[3, 1] += moved
        verlet.graph(positions, structure.cell, structure.pbc)
    assert verlet.n_builds == 1
    positions[3, 1] = structure.positions[3, 1] + 0.51
    verlet.graph(positions, structure.cell, structure.pbc)
    assert verlet.n_builds == 2
    verlet.graph(positions, structure.cell, np.array([True, True, False]))
    assert verlet.n_builds == 3


def test_a_rotation_of_everything_and_a_strain_within_the_skin_need_no_search():
    structure = random_structure(2, [True] * 3, n_atoms=6, size=6.0)
    verlet = VerletList(np.zeros(6, dtype=int), 3.0, 0.5)
    verlet.graph(structure.positions, structure.cell, structure.pbc)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    verlet.graph(structure.positions @ rotation, structure.cell @ rotation, structure.pbc)
    verlet.graph(structure.positions * 1.05, structure.cell * 1.05, structure.pbc)
    assert verlet.n_builds == 1
    verlet.graph(structure.positions * 0.8, structure.cell * 0.8, structure.pbc)
    assert verlet.n_builds == 2


def test_a_verlet_list_keeps_no_hold_on_the_callers_arrays():
    positions = np.array([[0.0, 0, 0], [1.0, 0, 0]])
    verlet = VerletList(np.zeros(2, dtype=int), 3.0, 0.5)
    graph = verlet.graph(positions, np.zeros((3, 3)), NOT_PERIODIC)
    positions += 100.0
    assert graph.positions[1, 0] == 1.0
    positions[1] += 10.0
    assert verlet.graph(positions, np.zeros((3, 3)), NOT_PERIODIC).n_edges == 0


def test_a_verlet_list_refuses_an_explosion():
    verlet = VerletList(np.zeros(2, dtype=int), 3.0, 0.5, source="md step")
    verlet.graph(np.array([[0.0, 0, 0], [1.0, 0, 0]]), np.zeros((3, 3)), NOT_PERIODIC)
    with pytest.raises(InputError, match="md step: atom 1"):
        verlet.graph(np.array([[0.0, 0, 0], [np.nan, 0, 0]]), np.zeros((3, 3)), NOT_PERIODIC)
    with pytest.raises(InputError, match=r"md step: atoms 0 and 1 .* are 0\.0001 Å apart"):
        verlet.graph(np.array([[0.9999, 0, 0], [1.0, 0, 0]]), np.zeros((3, 3)), NOT_PERIODIC)


def test_a_verlet_list_refuses_a_cell_that_has_burst():
    verlet = VerletList(np.zeros(1, dtype=int), 3.0, 0.5)
    verlet.graph(np.zeros((1, 3)), np.eye(3) * 4, ~NOT_PERIODIC)
    with pytest.raises(InputError, match="cell holds a value that is not finite"):
        verlet.graph(np.zeros((1, 3)), np.eye(3) * np.nan, ~NOT_PERIODIC)


@pytest.mark.parametrize("n_atoms", [0, 1])
def test_a_verlet_list_of_nothing_or_of_one_atom(n_atoms):
    verlet = VerletList(np.zeros(n_atoms, dtype=int), 3.0, 0.5)
    for _ in range(2):
        assert verlet.graph(np.zeros((n_atoms, 3)), np.zeros((3, 3)), NOT_PERIODIC).n_edges == 0
    assert verlet.n_builds == 1


@pytest.mark.parametrize("pbc", [(True, True, False), (False, True, False)])
@pytest.mark.parametrize("cutoff", [1.0, 5.0])
def test_an_atom_far_from_a_slab_or_a_wire_takes_no_time_and_changes_no_pair(pbc, cutoff):
    structure = random_structure(3, pbc, n_atoms=40)
    far = np.append(structure.positions, [[2.0, 2.0, 8000.0], [2.0, 2.0, 8000.5]], axis=0)
    began = time.perf_counter()
    found = find_pairs(far, structure.cell, structure.pbc, cutoff)
    assert time.perf_counter() - began < 0.5  # vesin took minutes
    near = find_pairs(structure.positions, structure.cell, structure.pbc, cutoff)
    among_near = (found.centers < 40) & (found.neighbors < 40)
    rows = [np.column_stack([each.centers, each.neighbors, each.shifts, each.distances]) for each in (found, near)]
    one, other = (each[np.lexsort(each[:, :5].T)] for each in (rows[0][among_near], rows[1]))
    np.testing.assert_allclose(one, other, atol=1e-9)
    together = found.distances[(found.centers == 40) & (found.neighbors == 41)]
    assert together.min() == pytest.approx(0.5)
