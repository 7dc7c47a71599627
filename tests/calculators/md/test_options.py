"""The options of molecular dynamics."""

import pytest

from equiforce.calculators.md.options import MDOptions
from equiforce.errors import InputError
from equiforce.option_values import read_options
from equiforce.options import to_lines
from equiforce.yaml_files import read_value


def test_nvt_is_langevin():
    assert MDOptions(ensemble="nvt") == MDOptions(ensemble="langevin")


def test_an_option_that_the_ensemble_does_not_use_is_refused():
    for name, value in (("pressure", 1.0), ("coupling", "full"), ("tdamp", 50.0), ("pdamp", 50.0)):
        with pytest.raises(InputError, match=f"md.{name} changes nothing unless ensemble is "):
            read_options(MDOptions, {name: value}, "md")
    with pytest.raises(InputError, match=r"md\.friction changes nothing unless ensemble is langevin"):
        read_options(MDOptions, {"ensemble": "nve", "friction": 1.0}, "md")


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", -5), ("timestep", 0), ("steps", -1), ("seed", -1), ("ensemble", "nvp"), ("trajectory_every", 0)],
)
def test_impossible_values_are_refused(name, value):
    with pytest.raises(InputError, match=f"md.{name}={value!r} is not allowed"):
        read_options(MDOptions, {name: value}, "md")


def test_the_options_of_a_run_are_read_again_as_they_were():
    options = MDOptions(ensemble="npt", coupling="full", timestep=1e-5, fixed=[0, "Cu"], seed=7)
    assert read_options(MDOptions, read_value(to_lines(options)), "md") == options
