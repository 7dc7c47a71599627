"""Every fused operation against the reference: value, first and second derivatives."""

import pytest
import torch

from equiforce.geometry.irreps import Irreps
from equiforce.kernels import GatePlan, LinearPlan, edge_geometry, gate, linear
from tests.kernels.cases import TABLES, TOLERANCE, assert_same, convolved, derivatives, random_graph, random_inputs

PRECISIONS = [torch.float64, torch.float32]
SLOW = ("l2-both-parities", "l3-without-vectors", "mixed")  # to compile


@pytest.fixture(params=PRECISIONS, ids=str)
def dtype(request):
    return request.param


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in TABLES])
def test_convolution(name, dtype):
    table, graph = TABLES[name], random_graph(9, 150)
    inputs = random_inputs(table, graph, dtype)
    fused, reference = (derivatives(convolved(table, graph, backend), inputs) for backend in ("cpu", "reference"))
    assert_same(fused, reference, TOLERANCE[dtype])


@pytest.mark.parametrize("l_max", [1, 2, 3, 4])
def test_edges(l_max, dtype):
    torch.manual_seed(0)
    vectors = torch.randn(37, 3, dtype=dtype)

    def described(backend):
        def function(v):
            return torch.cat([part.view(len(v), -1) for part in edge_geometry(v, l_max, 2.5, backend)], dim=1)

        return derivatives(function, [vectors])

    assert_same(described("cpu"), described("reference"), TOLERANCE[dtype])


MIXES = {
    "one-species": LinearPlan(Irreps("20x0e + 7x1o + 33x2e"), Irreps("40x0e + 5x1o + 16x2e"), scale=0.3),
    "by-species": LinearPlan(Irreps("16x0e + 3x1o"), Irreps("8x0e + 17x1o"), n_species=3),
    "gaps": LinearPlan(Irreps("4x0e + 3x1e"), Irreps("2x0o + 6x0e + 3x1o + 2x1e")),
}


@pytest.mark.parametrize("n_atoms", [1, 23, 300])
@pytest.mark.parametrize("name", MIXES)
def test_mix(name, n_atoms, dtype):
    plan = MIXES[name]
    torch.manual_seed(0)
    species = None if plan.n_species == 1 else torch.randint(plan.n_species, (n_atoms,))
    inputs = [
        torch.randn(n_atoms, plan.irreps_in.dim, dtype=dtype),
        torch.randn(plan.n_species, plan.n_weights, dtype=dtype),
    ]
    fused, reference = (
        derivatives(lambda x, w, backend=backend: linear(x, w, species, plan, backend), inputs)
        for backend in ("cpu", "reference")
    )
    assert_same(fused, reference, TOLERANCE[dtype])


@pytest.mark.parametrize("irreps", ["20x0e + 5x0o + 17x1o + 3x2e", "4x0e", "3x1o + 16x0e", "2x0o + 3x1e"])
def test_gate(irreps, dtype):
    plan = GatePlan(Irreps(irreps))
    torch.manual_seed(0)
    x = 3 * torch.randn(70, plan.irreps_in.dim, dtype=dtype)
    fused, reference = (
        derivatives(lambda x, backend=backend: gate(x, plan, 1.7, 1.6, backend), [x])
        for backend in ("cpu", "reference")
    )
    assert_same(fused, reference, TOLERANCE[dtype])


@pytest.mark.parametrize("size", [1e-3, 30.0, 200.0])
def test_gate_of_small_and_large_numbers(size, dtype):
    plan = GatePlan(Irreps("16x0e + 3x0o"))
    x = size * torch.linspace(-1, 1, 19 * 40, dtype=dtype).view(40, 19)
    torch.testing.assert_close(
        gate(x, plan, 1.0, 1.0, "cpu"), gate(x, plan, 1.0, 1.0, "reference"), rtol=1e-5, atol=1e-6 * size
    )


def test_only_what_a_pass_goes_on_to_is_computed(monkeypatch):
    """Forces ask for no gradient of the weights, and weights for none of the knot coordinates."""
    from equiforce.kernels.cpu import convolution as cpu

    table, graph = TABLES["l1"], random_graph(6, 40)
    asked = []
    backward = cpu.convolve_backward
    monkeypatch.setattr(cpu, "convolve_backward", lambda *a, **k: asked.append(a[7]) or backward(*a, **k))
    x, harmonics, values, knot_coordinates = (v.requires_grad_() for v in random_inputs(table, graph, torch.float64))
    out = convolved(table, graph, "cpu")(2 * x, 2 * harmonics, 2 * values, 2 * knot_coordinates)
    (edge_gradients,) = torch.autograd.grad(out.square().sum(), knot_coordinates, create_graph=True)
    assert [tuple(wanted) for wanted in asked] == [(False, True, False)]
    asked.clear()
    (edge_gradients.sum() + out.sum()).backward(inputs=[values])
    assert {tuple(wanted) for wanted in asked} == {(False, False, True)}


def test_a_third_derivative_is_refused_and_the_reference_has_it():
    table, graph = TABLES["l1"], random_graph(4, 12)
    inputs = [v.requires_grad_() for v in random_inputs(table, graph, torch.float64)]

    def second(backend):
        first = torch.autograd.grad(convolved(table, graph, backend)(*inputs).square().sum(), inputs, create_graph=True)
        return torch.autograd.grad(first[0].square().sum(), inputs[1], create_graph=True)

    with pytest.raises(RuntimeError, match="have no third derivative"):
        second("cpu")
    assert torch.autograd.grad(second("reference")[0].sum(), inputs[1])[0].any()


def test_a_tangent_may_be_absent():
    """A first layer's features do not move with the atoms."""
    table, graph = TABLES["from-scalars"], random_graph(6, 40)
    x, *others = random_inputs(table, graph, torch.float64)

    def of(backend):
        inputs = [value.clone().requires_grad_() for value in others]
        out = convolved(table, graph, backend)(x, *inputs)
        (edge_gradients,) = torch.autograd.grad(out.square().sum(), inputs[2], create_graph=True)
        return torch.autograd.grad(edge_gradients.square().sum(), inputs)

    assert_same(of("cpu"), of("reference"), 1e-10)
