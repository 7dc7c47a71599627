"""A value has the kind of its option, or it is refused in one sentence."""

import math
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
import yaml
from pydantic import TypeAdapter

from equiforce.calculators.md import MDOptions
from equiforce.config import SECTIONS, configured
from equiforce.errors import InputError
from equiforce.models import REGISTRY
from equiforce.option_values import check_names, quoted, read_options, schema_of


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


def recursive():
    value = [1]
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("option", "value", "read"),
    [
        ("model.l_max", np.int64(1), 1),
        ("model.l_max", np.array(1), 1),
        ("model.channels", (8, 4, 2), [8, 4, 2]),
        ("model.channels", np.array([8, 4, 2]), [8, 4, 2]),
        ("model.cutoff", 4, 4.0),
        ("model.cutoff", np.float32(4), 4.0),
        ("training.max_steps", 1e4, 10_000),
        ("training.deterministic", np.bool_(True), True),
        ("training.time", None, None),
        ("split.train_file", Path("a.xyz"), ["a.xyz"]),
        ("split.train_file", (Path("a"), "b"), ["a", "b"]),
        ("split.train", 20.0, 20.0),
        ("split.train", 20, 20),
        ("loss.forces", [(0, 1), [0.5, 2]], [(0.0, 1.0), (0.5, 2.0)]),
        ("potential.scale", {"H": np.float64(1.5)}, {"H": 1.5}),
        ("training.seed", 2**63 - 1, 2**63 - 1),
    ],
)
def test_values_of_python_and_numpy_are_taken(option, value, read):
    section, _, name = option.partition(".")
    found = getattr(getattr(configured({}, {option: value}), section), name)
    assert found == read
    assert type(found) is type(read)


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("model.l_max", True, "a whole number"),
        ("model.l_max", "2", "a whole number"),
        ("model.l_max", 2.5, "a whole number"),
        ("model.cutoff", True, "a number"),
        ("model.cutoff", "5", "a number"),
        ("model.cutoff", math.nan, "a finite number"),
        ("model.cutoff", math.inf, "a finite number"),
        ("training.max_steps", True, "a whole number or null"),
        ("training.max_steps", 10**18, "less than or equal to 1000000000000"),
        ("training.batch_size", 10**9, "less than or equal"),
        ("training.max_edges", 10**12, "less than or equal"),
        ("training.seed", -1, "greater than or equal to 0"),
        ("training.seed", 2**70, "less than or equal"),
        ("training.seed", 1.5, "a whole number"),
        ("training.seed", 10**5000, "less than"),
        ("training.deterministic", 1, "true or false"),
        ("training.deterministic", "yes", "true or false"),
        ("training.time", 90, "a text"),
        ("model.channels", [8, True], "a whole number"),
        ("loss.forces", [["0", 1]], "a number"),
        ("potential.reference_energies", {"H": math.nan}, "a finite number"),
        ("potential.reference_energies", {1: 1.0}, "a text"),
        ("model.cutoff", 10**5000, "a number"),
        ("split.test", 10**400, "less than or equal"),
        ("model.l_max", set(), "a whole number"),
    ],
    ids=quoted,
)
def test_values_of_another_kind_are_refused(option, value, wanted):
    with pytest.raises(InputError, match=rf"^{option}=.* is not allowed: it should be .*{wanted}") as refused:
        configured({}, {option: value})
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("value", [nested(50), nested(5000), recursive()], ids=["50", "5000", "recursive"])
def test_deep_values_are_refused(value):
    with pytest.raises(InputError, match="nested more than 20 times"):
        configured({}, {"model.channels": value})


@pytest.mark.parametrize("options", [{1: 2}, {None: 1}, {("a", 1): 1}, {"x" * 5000: 1}])
def test_names_of_options_may_be_anything(options):
    with pytest.raises(InputError, match="there is no option") as refused:
        configured({}, options)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("values", [[], [1], "model", 3, None])
def test_a_configuration_that_is_no_mapping_is_refused(values):
    with pytest.raises(InputError, match="is not a mapping: give names with values"):
        configured(values)


def test_sections_that_are_lists_are_refused():
    for section in ([], [1], 0, False, "x"):
        with pytest.raises(InputError, match="model is a section"):
            configured({"model": section})
    assert configured({"model": None}) == configured({})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timestep", 0),
        ("timestep", -1),
        ("timestep", 1e6),
        ("steps", 10**18),
        ("steps", "100"),
        ("temperature", 1e9),
        ("temperature", math.nan),
        ("trajectory_every", 10**18),
        ("seed", 2**70),
        ("skin", 1e3),
        ("max_memory", math.inf),
        ("friction", 1e30),
        ("save_every", 1e30),
        ("stop_on_escape", 1),
    ],
    ids=quoted,
)
def test_simulations_that_nobody_means_are_refused(name, value):
    with pytest.raises(InputError, match=rf"^md\.{name}=.* is not allowed"):
        read_options(MDOptions, {name: value}, "md")


def test_simulations_that_may_be_meant_are_not_refused():
    read_options(
        MDOptions, {"steps": 10**9, "timestep": 10, "temperature": 1e5, "trajectory_every": 10**9, "seed": 2**40}, "md"
    )


def test_values_in_messages_are_short():
    assert quoted("x") == "'x'"
    assert len(quoted("x" * 10**5)) < 120
    assert len(quoted([list(range(1000))] * 1000)) < 1000
    assert quoted(10**5000) == "a number with thousands of digits"


def test_names_that_cannot_be_seen_are_refused():
    check_names(["l = 1", "日本", "[/]"], "study.models")
    for name in ("", " ", "a\nb", "\x1b[31m", "\u202e", "\udcff"):
        with pytest.raises(ValueError, match=r"study\.models has the name"):
            check_names([name], "study.models")


def test_the_schema_has_the_bounds():
    steps = schema_of(MDOptions).model_json_schema()["properties"]["steps"]
    assert (steps["minimum"], steps["maximum"]) == (0, 10**12)


@pytest.mark.parametrize("kind", ["nequip", "allegro"])
@pytest.mark.parametrize(
    "value", [{"Mg": {"O": 3}}, {("Mg", "O"): 3}, {"Mg-O": "3"}, [["Mg", "O", 3]], 3, "Mg-O: 3"], ids=quoted
)
def test_a_wrong_table_of_pairs_is_answered_with_the_right_form(kind, value):
    with pytest.raises(InputError, match=r" or null, as in \{H-O: 3\.0, O-H: 3\.0\}$"):
        configured({}, {"model.kind": kind, "model.pair_cutoffs": value})
    configured({}, {"model.kind": kind, "model.pair_cutoffs": yaml.safe_load("{H-O: 3.0, O-H: 3.0}")})


@pytest.mark.parametrize("option", ["potential.reference_energies", "potential.scale"])
def test_a_wrong_table_of_elements_is_answered_with_the_right_form(option):
    with pytest.raises(InputError, match=r" as entry Mg or null, as in \{H: -?\d+\.\d, O: -?\d+\.\d\}$"):
        configured({}, {option: {"Mg": {"O": 3}}})


def test_every_option_that_is_a_table_has_an_example():
    tables = [
        (entry, hint)
        for cls in (*SECTIONS.values(), *(kind.config_class for kind in REGISTRY.values()))
        for entry, hint in ((one, get_type_hints(cls)[one.name]) for one in fields(cls))
        if "dict[" in str(hint)
    ]
    assert len(tables) >= 4
    for entry, hint in tables:
        assert TypeAdapter(hint).validate_python(yaml.safe_load(entry.metadata["example"]), strict=True)
