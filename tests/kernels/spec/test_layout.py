from dataclasses import dataclass

from equiforce.geometry.irreps import Irreps
from equiforce.kernels.spec.layout import Layout


@dataclass(frozen=True)
class Doubled(Layout):
    irreps_in: Irreps
    irreps_out: Irreps
    scale: float = 1.0

    __hash__ = Layout.__hash__


def test_equal_values_are_one_key():
    a, b, c = (Doubled(Irreps("2x0e + 1x1o"), Irreps("3x1o"), scale) for scale in (1.0, 1.0, 2.0))
    assert {a: "found"}[b] == "found"
    assert len({a, b, c}) == 2


def test_dims():
    assert Doubled(Irreps("2x0e + 1x1o"), Irreps("3x1o")).dims == (5, 9)
