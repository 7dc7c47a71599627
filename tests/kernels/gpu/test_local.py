"""The GPU's kernels of strictly local models against the reference: on a GPU, else in Triton's interpreter."""

from dataclasses import replace

import pytest
import torch

from equiforce.errors import InputError
from equiforce.geometry.irreps import Irreps, hidden_irreps
from equiforce.kernels import CouplingTable, autograd, using
from equiforce.kernels.gpu import local as gpu_local
from equiforce.kernels.gpu.codegen import local as codegen_local
from equiforce.kernels.gpu.codegen.local import products
from equiforce.kernels.reference import local as reference_local
from tests.kernels.cases import TOLERANCE, assert_same, derivatives, random_graph
from tests.systems import atom, ethanol, graph_of, potential_of

pytest.importorskip("triton", reason="Triton is not installed: pip install triton")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
COUPLINGS = {
    "scalars": CouplingTable(Irreps("5x0e"), 0, Irreps("5x0e")),
    "more-than-a-warp": CouplingTable(Irreps("40x0e + 40x1o"), 1, Irreps("40x0e + 40x1o")),
    "both-parities": CouplingTable(hidden_irreps((4, 4), odd=True), 1, hidden_irreps((4, 4), odd=True)),
    "l2": CouplingTable(hidden_irreps((3,) * 3, odd=False), 2, hidden_irreps((3,) * 3, odd=False)),
    "not-summed": CouplingTable(hidden_irreps((9, 9), odd=True), 1, hidden_irreps((9, 9), odd=True), False),
    "l3-to-scalars": CouplingTable(hidden_irreps((16,) * 4, odd=False), 3, Irreps("16x0e")),
    "gaps": CouplingTable(Irreps("3x1e + 3x2o"), 3, Irreps("3x3o + 3x0e + 3x1o")),
    "some-lead-nowhere": CouplingTable(Irreps("2x0e + 2x0o"), 0, Irreps("2x0e")),
}
SLOW = ("l2", "not-summed", "gaps")


@pytest.fixture(autouse=True)
def on_any_machine(monkeypatch):
    if DEVICE == "cpu":
        monkeypatch.setenv("TRITON_INTERPRET", "1")


def check(actual, expected, inputs):
    """Values, first and second derivatives of two functions of the same tensors."""
    found, wanted = (derivatives(function, [tensor.to(DEVICE) for tensor in inputs]) for function in (actual, expected))
    (dtype,) = {tensor.dtype for tensor in found}
    assert_same(found, wanted, TOLERANCE[dtype])


def check_environment(graph, l_max, channels, *, dtype=torch.float64, summed=True):
    torch.manual_seed(0)
    graph = graph.to(DEVICE)
    centers, n_atoms = (graph.centers, graph.n_atoms) if summed else (None, graph.n_edges)
    inputs = [
        torch.randn(graph.n_edges, (l_max + 1) * channels, dtype=dtype),
        torch.randn(graph.n_edges, (l_max + 1) ** 2, dtype=dtype),
    ]

    def expected(w, y):
        return (
            reference_local.environment(w, y, centers, n_atoms) if summed else reference_local.weighted_harmonics(w, y)
        )

    check(lambda w, y: autograd.environment(w, y, centers, n_atoms, l_max, gpu_local), expected, inputs)


def check_contraction(graph, table, *, dtype=torch.float64):
    torch.manual_seed(0)
    graph = graph.to(DEVICE)
    inputs = [
        torch.randn(graph.n_edges, table.irreps_in.dim, dtype=dtype),
        torch.randn(graph.n_atoms, table.dim_environment, dtype=dtype),
        torch.randn(table.n_paths, table.channels, dtype=dtype),
    ]
    check(
        lambda v, g, w: autograd.tensor_product(v, g, w, graph.centers, table, gpu_local),
        lambda v, g, w: reference_local.tensor_product(v, g, w, graph.centers, table),
        inputs,
    )


def splines(n_edges, columns, dtype=torch.float64):
    """Tables of two kinds, knot_coordinates also before the first knot and beyond the last, and kinds."""
    torch.manual_seed(0)
    values, knot_coordinates = torch.randn(2, 5, columns, dtype=dtype), 3 * torch.rand(n_edges, dtype=dtype) - 0.5
    return [values.to(DEVICE), knot_coordinates.to(DEVICE)], torch.randint(2, (n_edges,)).to(DEVICE)


def check_lookup(n_edges, columns, *, dtype=torch.float64):
    inputs, kinds = splines(n_edges, columns, dtype)
    check(
        lambda values, t: autograd.lookup(values, t, kinds, gpu_local),
        lambda values, t: reference_local.lookup(values, t, kinds),
        inputs,
    )


GRAPHS = {
    "no-edges": random_graph(3, 0),
    "one-atom": random_graph(1, 3),
    "one-edge": random_graph(3, 1),
    "a-gap": replace(random_graph(5, 6), centers=torch.tensor([1, 1, 1, 1, 1, 3])),
}


@pytest.mark.parametrize(("l_max", "channels"), [(0, 5), (1, 40), (2, 1), (3, 16)])
@pytest.mark.parametrize("summed", [True, False])
def test_environment(l_max, channels, summed):
    check_environment(random_graph(4, 23), l_max, channels, summed=summed)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in COUPLINGS])
def test_contraction(name):
    check_contraction(random_graph(4, 13), COUPLINGS[name])


@pytest.mark.parametrize("columns", [1, 5, 37])
def test_lookup(columns):
    check_lookup(30, columns)


@pytest.mark.slow
def test_single_precision():
    check_environment(random_graph(4, 23), 2, 5, dtype=torch.float32)
    check_environment(random_graph(4, 23), 2, 5, dtype=torch.float32, summed=False)
    check_contraction(random_graph(4, 17), COUPLINGS["l2"], dtype=torch.float32)
    check_lookup(20, 5, dtype=torch.float32)


@pytest.mark.parametrize("name", GRAPHS)
def test_any_graph(name):
    check_environment(GRAPHS[name], 1, 3)
    check_environment(GRAPHS[name], 1, 3, summed=False)
    check_contraction(GRAPHS[name], COUPLINGS["scalars"])
    check_lookup(GRAPHS[name].n_edges, 3)


def test_no_atoms():
    table, device = COUPLINGS["scalars"], DEVICE
    nothing = torch.zeros(0, dtype=torch.int64, device=device)
    out = autograd.tensor_product(
        torch.zeros(0, 5, device=device),
        torch.zeros(0, 5, device=device),
        torch.ones(1, 5, device=device),
        nothing,
        table,
        gpu_local,
    )
    assert out.shape == (0, 5)
    assert autograd.environment(out, out[:, :1], nothing, 0, 0, gpu_local).shape == (0, 5)
    assert not gpu_local.couple("weights", out, out, table).any()


def test_many_atoms_get_programs_of_one_warp(monkeypatch):
    monkeypatch.setattr(gpu_local, "FILLING", 0)
    check_environment(random_graph(3, 9), 1, 33)
    check_contraction(random_graph(3, 9), COUPLINGS["more-than-a-warp"])


@pytest.mark.slow
def test_what_is_too_much_for_one_program_is_divided(monkeypatch):
    monkeypatch.setattr(gpu_local, "products", products.__wrapped__)
    monkeypatch.setattr(codegen_local, "MOST_ELEMENTS", 9)
    monkeypatch.setattr(codegen_local, "MOST_TERMS_OF_COUPLE", 9)
    table = COUPLINGS["both-parities"]
    assert min(gpu_local.products(table).programs.values()) > 1
    check_contraction(random_graph(4, 9), table)


@pytest.mark.slow
def test_shared_gradients_are_summed_in_two_steps(monkeypatch):
    monkeypatch.setattr(gpu_local, "MOST_COPIES", 2)
    monkeypatch.setattr(gpu_local, "EDGES_OF_A_SLICE", 1)
    check_contraction(random_graph(20, 30), CouplingTable(Irreps("32x0e"), 0, Irreps("32x0e")))  # 5 tiles of atoms
    check_lookup(30, 33)


@pytest.mark.parametrize("order", range(5))
def test_any_derivative_of_splines(order):
    (values, knot_coordinates), kinds = splines(20, 3)
    knot_coordinates.requires_grad_()
    expected = reference_local.lookup(values, knot_coordinates, kinds)
    rows = [expected.sum(1)]
    for _ in range(order):  # each edge's row depends on its own position alone
        (slope,) = torch.autograd.grad(rows[-1].sum(), knot_coordinates, create_graph=True)
        rows.append(slope)
    found = gpu_local.lookup("rows", values, None, knot_coordinates.detach(), kinds, tuple(values.shape), order)
    torch.testing.assert_close(found.sum(1), rows[-1].detach(), rtol=0, atol=1e-10)


def test_tensors_need_not_be_contiguous():
    table, graph = COUPLINGS["scalars"], random_graph(4, 9).to(DEVICE)
    torch.manual_seed(0)
    features, environments, weights = (
        torch.randn(5, n, dtype=torch.float64, device=DEVICE).T for n in (graph.n_edges, graph.n_atoms, table.n_paths)
    )
    found = autograd.tensor_product(features, environments, weights, graph.centers, table, gpu_local)
    expected = reference_local.tensor_product(features, environments, weights, graph.centers, table)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda centers: centers.int(), "centers is int32, but has to be int64: convert it with"),
        (lambda centers: centers.to("meta"), "centers is on meta, but other tensors are on"),
        (lambda centers: centers[:-1], "has the shape"),  # of another tensor: their length is the number of edges
    ],
    ids=["dtype", "device", "shape"],
)
def test_wrong_centers_are_refused(spoil, message):
    graph, table = random_graph(4, 9).to(DEVICE), COUPLINGS["scalars"]
    wrong, tensors = spoil(graph.centers), {"device": DEVICE, "dtype": torch.float64}
    of_atoms, of_edges, harmonics = (torch.zeros(*shape, **tensors) for shape in ((4, 5), (9, 5), (9, 1)))
    given = {"environment": (of_edges, harmonics), "weights": (of_atoms, harmonics), "harmonics": (of_atoms, of_edges)}
    for result, others in given.items():
        assert gpu_local.environment(result, *others, graph.centers, 4, 0, 5).numel()
        with pytest.raises(InputError, match=f"environment: .*{message}"):
            gpu_local.environment(result, *others, wrong, 4, 0, 5)
    given = {"result": (of_atoms, of_edges), "operator": (of_edges, of_edges), "features": (of_edges, of_atoms)}
    for result, others in given.items():
        assert gpu_local.act(result, *others, graph.centers, 4, table).numel()
        with pytest.raises(InputError, match=f"act: .*{message}"):
            gpu_local.act(result, *others, wrong, 4, table)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda kinds: kinds.int(), "lookup: kinds is int32, but has to be int64: convert it with"),
        (lambda kinds: kinds.to("meta"), "lookup: kinds is on meta, but other tensors are on"),
    ],
    ids=["dtype", "device"],
)
def test_wrong_kinds_are_refused(spoil, message):
    (values, knot_coordinates), kinds = splines(20, 3)
    with pytest.raises(InputError, match=message):
        gpu_local.lookup("rows", values, None, knot_coordinates, spoil(kinds), tuple(values.shape), 0)


def test_starts_are_computed_once_and_again_when_centers_change():
    centers = torch.tensor([0, 0, 2], device=DEVICE)
    first = gpu_local._starts(centers, 3)
    assert first.tolist() == [0, 2, 2, 3]
    assert gpu_local._starts(centers, 3) is first
    assert gpu_local._starts(centers, 4).tolist() == [0, 2, 2, 3, 3]
    centers[1] = 1
    assert gpu_local._starts(centers, 3).tolist() == [0, 1, 2, 3]


@pytest.mark.slow
def test_a_whole_model():
    potential = potential_of("allegro", l_max=1, tensor_channels=3, scalar_channels=4, latent_width=4, dtype="float64")
    graph = graph_of(atom(), ethanol()).to(DEVICE)
    potential.to(DEVICE)
    with using("gpu"):
        fused = potential(graph)
    with using("reference"):
        plain = potential(graph)
    torch.testing.assert_close(fused.energies, plain.energies, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(fused.forces, plain.forces, rtol=1e-9, atol=1e-10)
