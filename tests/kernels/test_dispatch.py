import pytest
import torch

from equiforce.errors import InputError
from equiforce.kernels import Radial, convolve, describe, fused, using
from equiforce.kernels.dispatch import choose
from tests.kernels.cases import TABLES, random_graph, random_inputs

FLOAT = torch.zeros(1)


def test_backends_by_name():
    table, graph = TABLES["l1"], random_graph(4, 10)
    x, harmonics, values, knot_coordinates = random_inputs(table, graph, torch.float64)
    by_name = convolve(x, harmonics, Radial(values, knot_coordinates), graph, table, "reference")
    with using("reference"):
        assert describe("cpu") == "plain torch"
        assert not fused("cpu")
        torch.testing.assert_close(
            convolve(x, harmonics, Radial(values, knot_coordinates), graph, table), by_name, rtol=0, atol=0
        )
    assert describe("cpu").startswith("generated C")
    assert fused("cpu")
    half = (x.half(), harmonics.half(), Radial(values.half(), knot_coordinates.half()))
    with pytest.raises(InputError, match=r"'cpu' cannot compute torch\.float16"):
        convolve(*half, graph, table, "cpu")


def test_c_is_chosen_where_its_kernels_are_ready():
    assert choose("auto", FLOAT, lambda: True) == "cpu"
    assert choose("auto", FLOAT, lambda: False) == "reference"
    assert choose("reference", FLOAT, lambda: True) == "reference"


def test_an_operation_without_triton_falls_back_to_torch_on_a_gpu():
    assert choose("gpu", FLOAT, lambda: True) == "reference"


def test_a_call_by_name_goes_before_the_context():
    with using("reference"):
        assert choose("cpu", FLOAT, lambda: True) == "cpu"
