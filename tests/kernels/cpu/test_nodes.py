import torch

from equiforce.geometry.irreps import Irreps
from equiforce.kernels import GatePlan, LinearPlan, gate, linear
from equiforce.kernels.cpu import nodes as cpu_nodes


def test_no_atoms():
    plan, gated = LinearPlan(Irreps("4x0e"), Irreps("3x0e")), GatePlan(Irreps("4x0e + 2x1o"))
    assert linear(torch.zeros(0, 4), torch.ones(1, plan.n_weights), None, plan, "cpu").shape == (0, 3)
    assert gate(torch.zeros(0, gated.irreps_in.dim), gated, 1.0, 1.0, "cpu").shape == (0, 10)


def test_views_that_are_not_contiguous():
    plan = LinearPlan(Irreps("4x0e + 3x1o"), Irreps("5x0e + 2x1o"))
    wide = torch.randn(8, 2 * plan.irreps_in.dim)
    weights = torch.randn(1, plan.n_weights)
    narrow = wide[:, ::2]
    torch.testing.assert_close(
        linear(narrow, weights, None, plan, "cpu"), linear(narrow.contiguous(), weights, None, plan, "reference")
    )


def test_weights_add_up_over_threads():
    plan = LinearPlan(Irreps("16x0e"), Irreps("16x0e"), n_species=2)
    x, y, species = torch.randn(500, 16).double(), torch.randn(500, 16).double(), torch.arange(500) % 2
    before = torch.get_num_threads()
    results = []
    for n in (1, 4):
        torch.set_num_threads(n)
        results.append(cpu_nodes.linear("w", x, y, species, plan))
    torch.set_num_threads(before)
    torch.testing.assert_close(*results)
