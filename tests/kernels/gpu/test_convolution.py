"""The GPU's kernels against the reference: on a GPU where there is one, else in Triton's interpreter."""

from dataclasses import replace
from typing import NamedTuple

import pytest
import torch

from equiforce.errors import InputError
from equiforce.geometry.irreps import Irreps
from equiforce.geometry.spherical_harmonics import spherical_harmonics
from equiforce.graph import AtomicGraph
from equiforce.kernels import convolve
from equiforce.kernels.backend import NeedsGrad, Tangents
from equiforce.kernels.gpu import convolution as gpu
from equiforce.kernels.gpu import launch
from equiforce.kernels.reference import convolution as reference
from equiforce.kernels.spec.paths import PathTable, Radial
from tests.kernels.reference.test_convolution import random_graph
from tests.systems import Images

pytest.importorskip("triton", reason="Triton is not installed: pip install triton")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
N_ROWS = 5
ALL = NeedsGrad(x=True, geometry=True, values=True)
CASES = {
    "scalars": ("5x0e", 0, "5x0e"),
    "unequal-channels": ("4x0e+3x1o+1x2e", 2, "2x0e+2x1o+2x2e"),
    "both-parities": ("2x0e+2x0o+2x1e+2x1o", 1, "2x0e+2x0o+2x1o+2x1e"),
    "some-lead-nowhere": ("3x0e+2x0o+2x1o", 1, "3x0e"),
    "twice-the-same": ("2x1o+2x1o+2x1o", 1, "1x0e"),
    "l3": ("1x0e+2x2e+2x3o", 3, "2x0e+2x3o"),
}


class Case(NamedTuple):
    """Arguments of the form Φ(g, x, Y, w), and tangents."""

    table: PathTable
    graph: AtomicGraph
    g: torch.Tensor
    inputs: tuple[torch.Tensor, ...]  # x, harmonics, values, knot_coordinates
    tangents: Tangents


@pytest.fixture(autouse=True)
def on_any_machine(monkeypatch):
    """Without a GPU kernels are interpreted, with warps of four threads: tiles are small, and programs meet several."""
    if DEVICE == "cpu":
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        monkeypatch.setattr(gpu, "WARP", 4)
    assert launch.available()


def case(name: str, n_atoms=3, n_edges=7, dtype=torch.float64, graph=None) -> Case:
    irreps_in, l_max, targets = CASES[name]
    table = PathTable(Irreps(irreps_in), l_max, Irreps(targets))
    graph = random_graph(n_atoms, n_edges) if graph is None else graph
    torch.manual_seed(2)

    def edge_positions():  # also before the first knot, and beyond the last
        return 4 * torch.rand(graph.n_edges, dtype=dtype) - 0.5

    x, g = (torch.randn(graph.n_atoms, irreps.dim, dtype=dtype) for irreps in (table.irreps_in, table.irreps_out))
    harmonics = spherical_harmonics(torch.randn(graph.n_edges, 3, dtype=dtype), l_max)
    inputs = (x, harmonics, torch.randn(N_ROWS, table.n_weights, dtype=dtype), edge_positions())
    tangents = Tangents(torch.randn_like(x), torch.randn_like(harmonics), edge_positions())
    inputs = tuple(tensor.to(DEVICE).requires_grad_() for tensor in inputs)
    tangents = Tangents(*(tensor.to(DEVICE) for tensor in tangents))
    return Case(table, graph.to(DEVICE), g.to(DEVICE).requires_grad_(), inputs, tangents)


def expected(case: Case) -> tuple[torch.Tensor, tuple, torch.Tensor, tuple]:
    """The convolution, the gradients of <g, convolution>, and the gradients of its derivative along the tangents."""
    x, harmonics, values, knot_coordinates = case.inputs
    messages = reference.convolve(x, harmonics, Radial(values, knot_coordinates), case.graph, case.table)
    gradients = torch.autograd.grad((case.g * messages).sum(), case.inputs, create_graph=True)
    along = zip((gradients[0], gradients[1], gradients[3]), case.tangents, strict=True)
    form = sum((gradient * tangent).sum() for gradient, tangent in along)
    for_g, *for_inputs = torch.autograd.grad(form, (case.g, *case.inputs), materialize_grads=True)
    return messages, gradients, for_g, tuple(for_inputs)


def check(case: Case, dtype: torch.dtype):
    rest = case.graph, case.table
    messages, gradients, jvp_messages, jvp_gradients = expected(case)
    close(gpu.convolve_forward(*case.inputs, *rest), messages, dtype)
    close(gpu.convolve_forward(*case.inputs, *rest, case.tangents), jvp_messages, dtype)
    for actual, wanted in zip(gpu.convolve_backward(case.g, *case.inputs, *rest, ALL), gradients, strict=True):
        close(actual, wanted, dtype)
    for actual, wanted in zip(
        gpu.convolve_backward(case.g, *case.inputs, *rest, ALL, case.tangents), jvp_gradients, strict=True
    ):
        close(actual, wanted, dtype)


def close(actual: torch.Tensor, wanted: torch.Tensor, dtype: torch.dtype):
    tolerance = (1e-10 if dtype == torch.float64 else 1e-5) * (wanted.abs().max().item() if wanted.numel() else 0)
    assert actual.dtype == dtype
    torch.testing.assert_close(actual.to(wanted), wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "l3")) for n in CASES])
def test_equals_the_reference_and_its_derivatives(name):
    check(case(name), torch.float64)


@pytest.mark.slow
def test_single_precision():
    exact = case("unequal-channels")
    rough = [tensor.detach().float() for tensor in (exact.g, *exact.inputs)]
    tangents = Tangents(*(tensor.float() for tensor in exact.tangents))
    exact = exact._replace(
        g=rough[0].double().requires_grad_(),
        inputs=tuple(tensor.double().requires_grad_() for tensor in rough[1:]),
        tangents=Tangents(*(tensor.double() for tensor in tangents)),
    )
    messages, gradients, jvp_messages, jvp_gradients = expected(exact)
    g, *inputs = rough
    rest = exact.graph, exact.table
    close(gpu.convolve_forward(*inputs, *rest), messages, torch.float32)
    close(gpu.convolve_forward(*inputs, *rest, tangents), jvp_messages, torch.float32)
    for along, wanted in ((None, gradients), (tangents, jvp_gradients)):
        for actual, of in zip(gpu.convolve_backward(g, *inputs, *rest, ALL, along), wanted, strict=True):
            close(actual, of, torch.float32)


def graph_of(n_atoms: int, centers: list[int], neighbors: list[int]) -> AtomicGraph:
    edges = torch.tensor(neighbors)
    return replace(
        random_graph(n_atoms, len(centers)),
        centers=torch.tensor(centers),
        neighbors=edges,
        by_neighbor=edges.argsort(stable=True),
    )


@pytest.mark.parametrize(
    "graph",
    [
        graph_of(4, [0, 0, 2], [1, 3, 3]),  # 1 and 3 are never centres, as ghosts, and nothing comes from 0 and 2
        graph_of(1, [0, 0], [0, 0]),
        graph_of(2, [1], [0]),
    ],
    ids=["ghosts", "one-atom", "one-edge"],
)
def test_any_graph(graph):
    check(case("some-lead-nowhere", graph=graph), torch.float64)


def test_ghosts_come_last_and_receive_nothing():
    ghosts = Images(2, torch.tensor([1, 0]))
    graph = replace(graph_of(4, [0, 0, 1, 1], [1, 2, 3, 0]), halo=ghosts)
    all_of_it = case("unequal-channels", 4, graph=replace(graph, halo=None))
    whole = gpu.convolve_forward(*all_of_it.inputs, all_of_it.graph, all_of_it.table)
    graph = graph.to(DEVICE)
    own = gpu.convolve_forward(*all_of_it.inputs, graph, all_of_it.table)
    torch.testing.assert_close(own, whole[:2])
    assert not whole[2:].any()
    given = (all_of_it.inputs, all_of_it.table, ALL)
    some = gpu.convolve_backward(all_of_it.g[:2].contiguous(), *given[0], graph, *given[1:])
    for actual, wanted in zip(
        some, gpu.convolve_backward(all_of_it.g, *given[0], all_of_it.graph, *given[1:]), strict=True
    ):
        torch.testing.assert_close(actual, wanted)


def test_no_edges():
    empty = case("unequal-channels", 2, 0)
    rest = empty.graph, empty.table
    assert not gpu.convolve_forward(*empty.inputs, *rest, empty.tangents).any()
    for gradient, of in zip(gpu.convolve_backward(empty.g, *empty.inputs, *rest, ALL), empty.inputs, strict=True):
        assert gradient.shape == of.shape
        assert not gradient.any()


@pytest.mark.parametrize(
    "wanted", [NeedsGrad(True, False, False), NeedsGrad(False, True, False), NeedsGrad(False, False, True)]
)
@pytest.mark.parametrize("jvp", [False, True])
def test_gives_what_is_wanted(wanted, jvp):
    some = case("both-parities")
    tangents = some.tangents if jvp else None
    results = gpu.convolve_backward(some.g, *some.inputs, some.graph, some.table, wanted, tangents)
    reference_of = expected(some)[3 if jvp else 1]
    asked = (wanted.x, wanted.geometry, wanted.values, wanted.geometry)
    for actual, of, yes in zip(results, reference_of, asked, strict=True):
        assert (actual is not None) == yes
        if yes:
            close(actual, of, torch.float64)


def test_more_channels_than_a_warp_has_threads(monkeypatch):
    monkeypatch.setattr(gpu, "WARP", 8)
    monkeypatch.setitem(CASES, "wide", ("40x0e+33x1o", 1, "1x0e"))
    check(case("wide", 2, 3), torch.float64)


def test_many_atoms_get_programs_of_one_warp(monkeypatch):
    monkeypatch.setattr(gpu, "FILLING", 0)
    check(case("some-lead-nowhere"), torch.float64)


def test_edges_between_two_knots_are_divided(monkeypatch):
    monkeypatch.setattr(gpu, "EDGES_OF_A_SLICE", 1)
    check(case("scalars", n_edges=12), torch.float64)


def test_tangents_need_not_be_contiguous():
    some = case("scalars")
    wide = Tangents(*(torch.stack([tangent, tangent], dim=-1)[..., 0] for tangent in some.tangents))
    close(gpu.convolve_forward(*some.inputs, some.graph, some.table, wide), expected(some)[2], torch.float64)


def test_indices_that_are_changed_in_place_are_computed_again():
    some = case("scalars", 4, 9)
    check(some, torch.float64)
    neighbors = (some.graph.neighbors + 1) % 4
    some.graph.neighbors.copy_(neighbors)
    some.graph.by_neighbor.copy_(neighbors.argsort(stable=True))
    check(some, torch.float64)
    assert some.graph.neighbors.min() == 0
    some.graph.neighbors.clamp_(min=1)  # in the same order
    check(some, torch.float64)
    some.graph.centers.zero_()
    check(some, torch.float64)


def a_column_more(tensor: torch.Tensor) -> torch.Tensor:
    return torch.cat([tensor, tensor.new_zeros(*tensor.shape[:-1], 1)], dim=-1)


ON_META = (lambda tensor: tensor.to("meta"), "is on meta, but other tensors are on")
WRONG = {
    "dtype": (lambda tensor: tensor.float(), "is float32, but has to be float64: convert it with"),
    "shape": (a_column_more, "has the shape"),
    "device": ON_META,
}
WRONG_INDEX = {
    "dtype": (lambda index: index.int(), "is int32, but has to be int64: convert it with"),
    "shape": (a_column_more, "has the shape"),
    "device": ON_META,
}


def refused(some: Case, message: str):
    rest = some.graph, some.table
    with pytest.raises(InputError, match=f"convolve: {message}"):
        gpu.convolve_backward(some.g, *some.inputs, *rest, ALL, some.tangents)
    if not message.startswith("g "):
        with pytest.raises(InputError, match=f"convolve: {message}"):
            gpu.convolve_forward(*some.inputs, *rest, some.tangents)


@pytest.mark.parametrize("n_edges", [0, 7])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_tensor_is_refused_even_without_edges(wrong, n_edges):
    some, (spoil, message) = case("unequal-channels", 3, n_edges), WRONG[wrong]
    refused(some._replace(g=spoil(some.g)), f"g {message}")
    for place, name in enumerate(("x", "harmonics", "values", "knot_coordinates")):
        if name == "x" and wrong != "shape":
            continue  # the others have to be like x
        if name == "knot_coordinates" and wrong == "shape":
            continue  # jaxtyping, which is on in the tests, refuses it before
        inputs = [spoil(tensor) if k == place else tensor for k, tensor in enumerate(some.inputs)]
        refused(some._replace(inputs=tuple(inputs)), f"{name} {message}")
    for place, name in enumerate(("dx", "dharmonics", "dknot_coordinates")):
        tangents = [spoil(tensor) if k == place else tensor for k, tensor in enumerate(some.tangents)]
        refused(some._replace(tangents=Tangents(*tangents)), f"{name} {message}")


@pytest.mark.parametrize("n_edges", [0, 7])
@pytest.mark.parametrize("wrong", WRONG_INDEX)
@pytest.mark.parametrize("name", ["centers", "neighbors", "by_neighbor"])
def test_a_wrong_index_is_refused_even_without_edges(name, wrong, n_edges):
    if (name, wrong) == ("centers", "shape"):
        return  # the length of the centres is the number of edges
    some, (spoil, message) = case("unequal-channels", 3, n_edges), WRONG_INDEX[wrong]
    graph = replace(some.graph)
    object.__setattr__(graph, name, spoil(getattr(graph, name)))  # its constructor would refuse it
    refused(some._replace(graph=graph), f"{name} {message}")


def test_a_topology_on_another_device_is_refused():
    some = case("unequal-channels")
    refused(some._replace(graph=some.graph.to("meta")), f"centers {ON_META[1]}")


def test_indices_are_computed_once_and_knots_again_when_positions_change():
    some = case("scalars")
    assert gpu._edges(some.graph) is gpu._edges(some.graph)
    knot_coordinates = some.inputs[3].detach()
    first = gpu._edges_by_knot(knot_coordinates, N_ROWS)
    assert gpu._edges_by_knot(knot_coordinates, N_ROWS) is first
    assert gpu._edges_by_knot(knot_coordinates, 7) is not first
    knot_coordinates += 1
    assert gpu._edges_by_knot(knot_coordinates, N_ROWS).version != first.version


def test_training_on_forces_through_the_public_operation():
    """The gradient of a loss of forces by ``convolve``, against the reference."""
    made = case("unequal-channels")

    def gradients(backend):
        x, harmonics, values, knot_coordinates = (tensor.detach().clone().requires_grad_() for tensor in made.inputs)
        out = convolve(2 * x, 2 * harmonics, Radial(2 * values, 2 * knot_coordinates), made.graph, made.table, backend)
        edge_gradients = torch.autograd.grad(out.square().sum(), (harmonics, knot_coordinates), create_graph=True)
        loss = out.sum() + sum(part.square().sum() for part in edge_gradients)
        return torch.autograd.grad(loss, (x, values))

    for actual, wanted in zip(gradients("gpu"), gradients("reference"), strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-10, atol=1e-10)
