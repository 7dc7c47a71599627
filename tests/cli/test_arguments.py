"""What the options of the command line become."""

import inspect
from dataclasses import dataclass

import pytest
import typer

from equiforce.cli.arguments import given, parsed, with_flags, with_sets
from equiforce.errors import InputError
from equiforce.options import option


def test_flags_that_were_not_given_leave_the_configuration_as_it_is():
    assert given("data", energy_key="E", forces_key=None) == {"data.energy_key": "E"}
    assert given(steps=3, seed=None) == {"steps": 3}


def test_values_are_yaml():
    assert parsed(["a.b=[4, 2]", " c = true", "d=x=y"]) == {"a.b": [4, 2], "c": True, "d": "x=y"}
    assert parsed(None) == {}
    with pytest.raises(InputError, match=r"--set nonsense has no equals sign"):
        parsed(["nonsense"])
    assert parsed(["a.b=1", "a.b=2"]) == {"a.b": 2}
    with pytest.raises(InputError, match="the value is not YAML"):
        parsed(["a=[4"])


@dataclass(frozen=True)
class Oven:
    heat: float = option(200.0, "bakes bread", unit="°C")
    minutes: int | None = option(None, "until it is brown")
    shelf: str | int | list[str | int] = option("", "the middle")


def test_every_option_of_a_dataclass_becomes_a_flag():
    @with_flags(Oven)
    def bake(flags: dict, loaf: str = "rye") -> None:
        found.append((loaf, flags))

    found: list = []
    parameters = inspect.signature(bake).parameters
    assert list(parameters) == ["loaf", "heat", "minutes", "shelf"]
    kinds = [parameters[name].annotation.__origin__ for name in ("heat", "minutes", "shelf")]
    assert kinds == [float | None, int | None, str | None]
    (declared,) = parameters["heat"].annotation.__metadata__
    assert declared.help == "°C; bakes bread (default: 200.0)"
    app = typer.Typer()
    app.command()(bake)
    app(["--heat", "180", "--loaf", "oat"], standalone_mode=False)
    assert found == [("oat", {"heat": 180.0})]


def test_a_flag_and_a_set_for_one_option_are_refused():
    assert with_sets({"training.seed": 3}, ["model.l_max=1"]) == {"training.seed": 3, "model.l_max": 1}
    with pytest.raises(InputError, match=r"training\.seed is given twice, by its flag and by --set"):
        with_sets({"training.seed": 3}, ["training.seed=4"])
