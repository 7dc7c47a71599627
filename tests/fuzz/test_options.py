"""Hostile options from YAML, ``--set`` and Python end as a configuration or as one sentence, never as a traceback."""

import argparse
import math
import random
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from equiforce import memory, model_file
from equiforce.calculators.md import MDOptions
from equiforce.calculators.relax_options import RelaxOptions
from equiforce.cli.arguments import parsed
from equiforce.config import RunConfig, configured, json_schema, load_config, to_yaml
from equiforce.errors import InputError
from equiforce.option_values import read_options
from equiforce.studies.learning_curve import LearningCurveOptions
from equiforce.studies.task import Task
from equiforce.yaml_files import load_yaml
from tests.fuzz import harness

RECIPES = [
    file.read_text(encoding="utf-8")
    for folder in ("recipes", "studies")
    for file in sorted((Path(__file__).parents[2] / folder).glob("*.yaml"))
]
OPTIONS = [
    f"{name}.{option}"
    for name, section in {**json_schema()["properties"]}.items()
    for option in (section.get("properties") or section["anyOf"][0]["properties"])
]
TEXTS = (
    "true", "yes", "No", "null", "~", "3", "'3'", "2.0", "1e4", "1e400", "-1e400", ".nan", ".inf", "-1", "0", "010",
    "0x10", "1_000", "1:30", "2024-01-31", "2024-13-45", str(2**70), "9" * 5000, "10" * 3000, "[]", "{}",
    "[1, [2, [3]]]", "{H: 1.0}", "{H:1.0}", "{1: 2.0}", "{No: 1.0}", "!!binary aGk=", "!!timestamp x", "!!bool x",
    "!!int x", "!!set {a}", "!!python/object:os.system {}", "!!python/tuple [8, 4]", "&a [*a]", "&a {<<: *a}", "*b",
    "[" * 3000, "{a: " * 500, "- " * 300 + "1", "\ufeff1", "\x00", "\t1", "'", '"\\x00"', "%YAML 9.9", "--- 1\n--- 2",
    "? [a]", "a: a: a", "<<: 3", "|", "auto", "cpu", "float64", "nequip", "allegro", "small", "10m", "1" * 3000 + "d",
    "[0, 1]", "[[0, 1], [0.5, 10]]", "é😀\udcff", "1000000000000000000", "1e-3", "1e5", "-0.0", "[true]", "[1, '2']",
    "x" * 20000,
)  # fmt: skip
LONGEST = 3000  # characters of a message
BOMB = "a0: &a0 [x, x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 25))
MERGES = "a0: &a0 {k: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}], k{n}: 1}}\n" for n in range(1, 30))


def nested(value, depth):
    for _ in range(depth):
        value = [value]
    return value


def recursive():
    value: list = [1]
    value.append(value)
    return value


VALUES = (
    True, False, None, -1, 0, 1, 3, 2.0, 2.5, 1e400, -1e400, math.nan, 10**5000, 2**70, -(2**63), "3", "x", "", b"3",
    (1, 2), [1, True], [], {}, {"H": 1.0}, {1: 2}, {"H": math.nan}, {"H": True}, {"H": 10**400}, set(), Path("a.xyz"),
    [Path("a")], np.int64(3), np.float32(3), np.bool_(True), np.array([8, 4, 2]), np.array(3), np.array(["a"]),
    np.nan, torch.tensor(3), object, 1j, range(3), nested(1, 30), nested(1, 5000), recursive(),
    {"a": {"b": {"c": 1}}}, "a\x00b", "\udcff", "x" * 10**5, [[0, 1], [0.5, 10]], [(0, 1), (2, 10)], [[0, -1]],
    [["0", 1]],
)  # fmt: skip
KEYS = (
    "",
    ".",
    "model",
    "model.",
    ".l_max",
    "model.l_max.x",
    "a.b",
    "x" * 5000,
    "\x00",
    1,
    None,
    True,
    (1, 2),
    1.5,
    b"model.l_max",
    "modle.l_max",
)


def attack(rng: random.Random, folder: Path) -> str:
    """Read one hostile set of options, as far as training would before it begins."""
    kind = rng.choice((_yaml, _yaml, _mutated, _set, _python, _python, _section))
    try:
        settings = kind(rng, folder)
    except InputError as error:
        if "\n" in str(error) or len(str(error)) > LONGEST:
            raise AssertionError(f"a message that is not one short sentence: {str(error)[:300]!r}") from None
        return "refused"
    if not isinstance(settings, RunConfig):
        return "read"
    if load_config(_written(folder, to_yaml(settings))) != settings:
        raise AssertionError("a written configuration is read as another one")
    return _memory_of(rng, settings)


def _memory_of(rng, settings):
    """The check before a model is built, with invented data."""
    species = (
        ["H", "O"] if rng.random() < 0.9 else [str(s) for s in ("H", "C", "N", "O", "F", "Na", "Si", "P", "S", "Cl")]
    )
    description = {
        "kind": settings.kind, "config": asdict(settings.model), "species": species, "dtype": settings.training.dtype,
        "zbl": settings.potential.zbl, "atomic_energies_trainable": False, "scale_trainable": False,
    }  # fmt: skip
    try:
        memory.require_room_to_build(
            lambda: model_file.build_potential(description), torch.device("cpu"), rng.choice([1.0, 100.0, 1e6]), 1e3
        )
    except InputError:
        return "no room"
    return "accepted"


def _written(folder, text):
    path = folder / "options.yaml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return path


def _yaml(rng, folder):
    """Sections of known and unknown options with hostile values."""
    if rng.random() < 0.05:
        return load_config(_written(folder, rng.choice((BOMB, MERGES))))
    lines = []
    for _ in range(rng.randrange(1, 4)):
        name = rng.choice(OPTIONS) if rng.random() < 0.9 else rng.choice([str(k) for k in KEYS])
        section, _, option = name.partition(".")
        lines.append(
            rng.choice((f"{section}:\n  {option}: ", f"{section}: {{{option}: ", f"{section}: ")) + rng.choice(TEXTS)
        )
    return load_config(_written(folder, "\n".join(lines).replace("\udcff", "\udcff")))


def _mutated(rng, folder):
    """A recipe with a few characters changed, or cut."""
    text = rng.choice(RECIPES)
    for _ in range(rng.randrange(1, 6)):
        at, end = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        end = min(end, at + rng.choice((0, 1, 5, 50)))
        text = (
            text[:at]
            + rng.choice(("", rng.choice(TEXTS)[:200], chr(rng.randrange(1, 256)), text[end:][:50]))
            + text[end:]
        )
    path = _written(folder, text)
    if rng.random() < 0.2:
        return load_yaml(path)
    return load_config(path)


def _set(rng, folder):
    sets = [f"{rng.choice(OPTIONS)}{rng.choice('=====:')}{rng.choice(TEXTS)}" for _ in range(rng.randrange(1, 3))]
    return load_config(None, parsed(sets))


def _python(rng, folder):
    chosen = {
        rng.choice(OPTIONS) if rng.random() < 0.9 else rng.choice(KEYS): rng.choice(VALUES)
        for _ in range(rng.randrange(1, 3))
    }
    if rng.random() < 0.2:
        return configured(
            rng.choice(({"model": rng.choice(VALUES)}, rng.choice(VALUES), {rng.choice(KEYS): rng.choice(VALUES)})),
            chosen,
        )
    return configured({}, chosen)


def _section(rng, folder):
    """One dataclass of options of another command."""
    cls, base = rng.choice(
        ((MDOptions, {}), (RelaxOptions, {}), (Task, {}), (LearningCurveOptions, {"pool": ["a"], "steps": 1}))
    )
    names = [*cls.__dataclass_fields__, "steps", "nothing"]
    return read_options(
        cls, base | {rng.choice(names): rng.choice(VALUES) for _ in range(rng.randrange(1, 4))}, "section"
    )


@pytest.mark.slow
def test_hostile_options_are_read_or_refused(tmp_path, fuzz_seconds):
    tally = harness.run(attack, tmp_path, seconds=fuzz_seconds("options"))
    print(tally)
    assert not tally.failures, str(tally)
    assert {"refused", "read", "accepted", "no room"} <= set(tally.counts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tries", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        print(harness.run(attack, Path(made), tries=arguments.tries, seed=arguments.seed))
