"""The options of a relaxation."""

import pytest

from equiforce.calculators.relax_options import RelaxOptions
from equiforce.errors import InputError
from equiforce.option_values import read_options


def test_a_pressure_needs_a_cell_that_relaxes():
    with pytest.raises(InputError, match=r"relax\.pressure changes nothing unless cell is not fixed"):
        read_options(RelaxOptions, {"pressure": 1.0}, "relax")
    assert read_options(RelaxOptions, {"pressure": 1.0, "cell": "full"}, "relax").pressure == 1.0


@pytest.mark.parametrize(("name", "value"), [("fmax", 0), ("steps", -1), ("cell", "all"), ("optimizer", "bfgs")])
def test_impossible_values_are_refused(name, value):
    with pytest.raises(InputError, match=f"relax.{name}={value!r} is not allowed"):
        read_options(RelaxOptions, {name: value}, "relax")
