"""Variants that training and dynamics do not ask for: Hessians need dual kernels with a gradient of the geometry."""

import pytest
import torch

from equiforce.kernels.backend import NeedsGrad, Tangents
from equiforce.kernels.cpu import convolution as cpu
from equiforce.kernels.cpu.codegen.convolution import ConvolutionKernel
from equiforce.kernels.cpu.targets import TARGETS
from tests.kernels.cases import TABLES, assert_same, convolved, random_graph, random_inputs


@pytest.mark.parametrize(
    "needs_grad", [NeedsGrad(True, True, False), NeedsGrad(True, False, True), NeedsGrad(True, True, True)]
)
def test_dual_kernels_differentiate_along_the_tangents(needs_grad):
    """The derivative of scatter along a direction, by finite differences."""
    table, graph = TABLES["l2"], random_graph(6, 40)
    inputs = random_inputs(table, graph, torch.float64)
    x, harmonics, values, knot_coordinates = inputs
    torch.manual_seed(3)
    g = torch.randn(graph.n_atoms, table.irreps_out.dim, dtype=torch.float64)
    tangents = Tangents(*(torch.randn_like(value) for value in (x, harmonics, knot_coordinates)))
    dual = cpu.convolve_backward(g, *inputs, graph, table, needs_grad, tangents)

    def moved(step):
        x_, harmonics_, positions_ = (
            a + step * b for a, b in zip((x, harmonics, knot_coordinates), tangents, strict=True)
        )
        return cpu.convolve_backward(g, x_, harmonics_, values, positions_, graph, table, needs_grad)

    step = 1e-5
    for exact, plus, minus in zip(dual, moved(step), moved(-step), strict=True):
        if exact is not None:
            torch.testing.assert_close(exact, (plus - minus) / (2 * step), rtol=1e-6, atol=1e-6)


def test_hessian():
    table, graph = TABLES["l2"], random_graph(5, 20)
    inputs = [value.requires_grad_() for value in random_inputs(table, graph, torch.float64)]

    def of(backend):
        (edge_gradients,) = torch.autograd.grad(
            convolved(table, graph, backend)(*inputs).square().sum(), inputs[3], create_graph=True
        )
        return torch.autograd.grad(edge_gradients.sin().sum(), [inputs[1], inputs[3]])

    assert_same(of("cpu"), of("reference"), 1e-10)


@pytest.mark.parametrize("family", TARGETS)
def test_code_grows_with_kinds_of_paths_and_not_with_paths(family):
    """Both parities are three times as many paths, and little more code."""
    both, natural = (
        len(ConvolutionKernel(table, "float", "forward").source(TARGETS[family]))
        for table in (TABLES["l2-both-parities"], TABLES["l2"])
    )
    assert len(TABLES["l2-both-parities"].paths) > 2.5 * len(TABLES["l2"].paths)
    assert both < 2 * natural


def test_source_is_the_same_every_time():
    kernel = ConvolutionKernel(TABLES["l2"], "float", "backward", jvp=True, weights=True)
    assert kernel.source(TARGETS["avx512"]) == kernel.source(TARGETS["avx512"])
    assert "float" in kernel.source(TARGETS["avx512"])
