import pytest

from equiforce.geometry.irreps import Irreps
from equiforce.kernels import GatePlan, LinearPlan


def test_matrices_lie_one_after_another():
    plan = LinearPlan(Irreps("4x0e + 3x1o + 2x2e"), Irreps("5x0e + 6x2e + 1x0o"), scale=2.0)
    assert [(m.source.name, m.weight) for m in plan.matrices] == [("0e", 0), ("2e", 20)]
    assert plan.n_weights == 4 * 5 + 2 * 6
    assert [m.scale for m in plan.matrices] == [2.0 / 2.0, 2.0 / 2**0.5]


def test_gates_come_in_the_order_of_what_they_gate():
    plan = GatePlan(Irreps("6x0e + 5x0o + 4x1o + 2x2e"))
    assert str(plan.irreps_in) == "12x0e+5x0o+4x1o+2x2e"
    assert [(b.name, gates) for _, b, gates in plan.parts] == [("0e", -1), ("0o", -1), ("1o", 6), ("2e", 10)]


def test_equal_plans_have_one_hash():
    a, b = (LinearPlan(Irreps("4x0e"), Irreps("3x0e"), scale=s) for s in (1.0, 1.0))
    assert hash(a) == hash(b)
    assert a == b
    assert a != LinearPlan(Irreps("4x0e"), Irreps("3x0e"), scale=2.0)


def test_an_irrep_that_stands_twice_is_refused():
    with pytest.raises(ValueError, match="has an irrep twice"):
        LinearPlan(Irreps("4x0e + 3x1o"), Irreps("2x0e + 3x0e"))
