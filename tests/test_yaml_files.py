"""Plain YAML, read in limited time and memory."""

import math
import time

import pytest
import yaml

from equiforce.errors import InputError
from equiforce.yaml_files import MOST_BYTES, load_yaml, one_line_yaml, read_value

BOMB = "a0: &a0 [x, x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 30))
MERGES = "a0: &a0 {k: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}], k{n}: 1}}\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-7", -7),
        ("20_000", 20000),
        ("1e4", 1e4),
        ("1e-3", 1e-3),
        (".5", 0.5),
        ("2.", 2.0),
        ("-.inf", -math.inf),
        ("yes", True),
        ("OFF", False),
        ("~", None),
        ("", None),
        ("'3'", "3"),
        ("010", "010"),
        ("0x10", "0x10"),
        ("1:30", "1:30"),
        ("2024-01-31", "2024-01-31"),
        ("{H: 1.0, O: -2}", {"H": 1.0, "O": -2}),
        ("!!python/tuple [8, 4]", [8, 4]),
        ("\ufeff3", 3),
        ("{a: &x {b: 1}, c: {<<: *x, d: 2}}", {"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
        ("1e400", math.inf),
    ],
)
def test_values_are_what_people_mean(text, value):
    assert read_value(text) == value


@pytest.mark.parametrize(
    "value",
    [
        "1e5",
        "yes",
        "3",
        "~",
        "a: b",
        "\udcff",
        "é 😀",
        "",
        "1:30",
        "a\nb",
        " a",
        ["a\u2028b"],
        [1, "1e5"],
        {"H": 1e-7},
        1e300,
    ],
)
def test_a_written_value_is_read_again(value):
    assert read_value(one_line_yaml(value)) == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (BOMB, "more than 100,000 values"),
        (MERGES, "more than 100,000 values"),
        ("x: &a [*a]", "an alias contains itself"),
        ("x: &a {<<: *a}", "an alias contains itself"),
        ("x: " + "[" * 10_000, "nested more than 20 times"),
        ("x: " + "{a: " * 10_000, "nested more than 20 times"),
        ("x: " + "[" * 30 + "]" * 30, "nested more than 20 times"),
        (f"x: {'9' * 5000}", "a number has 5,000 digits"),
        ("x: !!binary aGk=", "could not determine a constructor"),
        ("x: !!timestamp x", "could not determine a constructor"),
        ("x: !!python/object:os.system {}", "could not determine a constructor"),
        ("x: !!bool x", "'x' is neither true nor false"),
        ("x: !!int x", "'x' is not a number"),
        ("a: 1\na: 2", "'a' occurs twice"),
        ("a: \x00", "it is not a text file"),
        ("a: 1\n\tb: 2", "found character"),
        ("- 1", "must consist of lines"),
        ("false", "must consist of lines"),
        ("[]", "must consist of lines"),
    ],
    ids=lambda part: part[:20],
)
def test_what_is_not_plain_is_refused_at_once(text, problem, tmp_path):
    (tmp_path / "o.yaml").write_text(text, encoding="utf-8")
    began = time.process_time()
    with pytest.raises(InputError, match=problem) as refused:
        load_yaml(tmp_path / "o.yaml")
    assert time.process_time() - began < 10
    assert len(str(refused.value)) < 500


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "large.yaml").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(InputError, match=r"large\.yaml has 1,048,577 bytes"):
        load_yaml(tmp_path / "large.yaml")
    (tmp_path / "empty.yaml").touch()
    assert load_yaml(tmp_path / "empty.yaml") == {}


def test_a_text_that_is_no_yaml_has_its_line():
    with pytest.raises(yaml.MarkedYAMLError) as refused:
        read_value("a: 1\nb: !!set {x}\n")
    assert refused.value.problem_mark.line == 1
