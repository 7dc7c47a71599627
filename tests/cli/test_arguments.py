"""What the options of the command line become."""

import pytest

from equiforce.cli.arguments import given, parsed
from equiforce.errors import InputError


def test_flags_that_were_not_given_leave_the_configuration_as_it_is():
    assert given("data", energy_key="E", forces_key=None) == {"data.energy_key": "E"}
    assert given(steps=3, seed=None) == {"steps": 3}


def test_values_are_yaml():
    assert parsed(["a.b=[4, 2]", " c = true", "d=x=y"]) == {"a.b": [4, 2], "c": True, "d": "x=y"}
    assert parsed(None) == {}
    with pytest.raises(InputError, match=r"--set nonsense has no equals sign"):
        parsed(["nonsense"])
    with pytest.raises(InputError, match="the value is not YAML"):
        parsed(["a=[4"])
