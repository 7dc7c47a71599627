"""Hostile model files whose checksum fits: every number and every structure of their headers may be anything."""

import argparse
import contextlib
import io
import json
import random
import re
import tempfile
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from equiforce.cli.info import info
from equiforce.errors import InputError
from equiforce.model_file import build_potential, load, read_header, reference_energies_from, save
from equiforce.models import REGISTRY
from equiforce.potential import Potential
from tests.fuzz import harness
from tests.model_file.files import joined, parts
from tests.systems import crystal, ethanol, graph_of, potential_of

MODELS = {
    "nequip": {"l_max": 1, "n_layers": 2, "channels": 4},
    "allegro": {
        "kind": "allegro", "l_max": 1, "tensor_channels": 4, "radial_width": 16, "scalar_channels": 8,
        "pair_cutoffs": {"H-H": 2.0},
    },
}  # fmt: skip
ABOUT = {
    "statistics": {"reference_energies_from": "given"},
    "ranges": {
        "cutoff": 3.5, "distances": {"C-H": [[1.0, 1.2], [1.8, 3.5]]}, "neighbors": [1, 4], "largest_force": 2.0,
        "volume_per_atom": [10.0, 12.0],
    },
    "training": {"steps": 10, "best_step": 5, "seconds": 1.5},
    "test_errors": {"units": {"forces": "meV/Å"}, "total": {"forces": {"mae": 12.5, "rmse": 20.0}}},
    "made": {"date": "2026-01-01"},
}  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 7, 8, 1000, 10**9, 2**31, 2**63 - 1, -(2**63) + 1, 2**63, 10**40, 0.0, -0.0, 1.5,
    1e-308, 1e308, -1e308, float("nan"), float("inf"), "", "x", "H", "[red]x[/red]", "\x1b[2J", "\ud800", "9" * 5000,
    "a" * 10**5, [], {}, [[]], [{}], {"": None}, [None] * 3, [0] * 1000, [[0.0, 0.0, 0.0]] * 3, [1e400],
    {"a": {"a": 1}}, json.loads("[" * 500 + "]" * 500),
]  # fmt: skip
OPENERS: dict[str, Callable[[Path], Any]] = {
    "load": load,
    "read_header": read_header,
    "info": info,
    "info --json": lambda path: info(path, as_json=True),
    "origin": reference_energies_from,
}
LONGEST_SENTENCE = 1000
FREE = {"radial_width": (1, 64), "radial_depth": (1, 16), "radial_knots": (8, 1024), "envelope_p": (2, 100)}


@cache
def sound(model: str, folder: Path) -> bytes:
    """The bytes of a sound file; it opens."""
    path = folder / f"{model}.eqf"
    save(path, potential_of(**MODELS[model], dtype="float32", zbl=True), [ethanol(), crystal()], ABOUT)
    load(path)
    return path.read_bytes()


def energies_of(potential: Potential) -> Tensor:
    """Energies of atoms at other places than those of the references."""
    with torch.no_grad():
        return potential(graph_of(ethanol(7), crystal(7)), forces=False).energies


@cache
def energies(model: str, folder: Path) -> Tensor:
    """The energies of the sound model."""
    return energies_of(load(folder / f"{model}.eqf"))


def any_place(rng: random.Random, value: Any) -> tuple[Any, Any]:
    """A list or object somewhere within a value, and a key or an index in it."""
    while True:
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        if not isinstance(value[key], dict | list) or not value[key] or rng.random() < 0.15:
            return value, key
        value = value[key]


def change_anything(rng: random.Random, value: Any) -> None:
    """Change one thing somewhere within a value."""
    part, key = any_place(rng, value)
    old, kind = part[key], rng.randrange(6)
    if kind == 0:
        del part[key]
    elif kind == 1 and isinstance(old, int | float):
        part[key] = old * rng.choice((-1, 0, 2, 1e3, 1e9, 1e-9, 1.0000001)) + rng.choice((0, 0, 1, -1))
    elif kind == 2 and isinstance(old, list):
        part[key] = rng.choice((old * 2, old[:-1], old * 300, list(reversed(old)), [old]))
    elif kind == 3:
        other, place = any_place(rng, value)
        part[key] = json.loads(json.dumps(other[place]))
    else:
        part[key] = json.loads(json.dumps(rng.choice(VALUES)))


def anything(rng: random.Random, outer: dict, inner: dict, body: bytes) -> bytes:
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        change_anything(rng, inner)
    return joined(outer, inner, body)


def options(rng: random.Random, outer: dict, inner: dict, body: bytes) -> bytes:
    """Large and wrong options, which contradict the shapes of the weights."""
    config = inner["potential"]["config"]
    if rng.random() < 0.3:
        inner["potential"]["kind"] = rng.choice(("nequip", "allegro", "mace", "../x"))
    entries = fields(REGISTRY[rng.choice(("nequip", "allegro"))].config_class)
    for entry in rng.sample(entries, rng.choice((1, 1, 2, 8))):
        most = entry.metadata["bounds"].get("le", 2)
        config[entry.name] = rng.choice((most, most, int(most) // 2, most + 1, 1, 2, 3, *VALUES))
    return joined(outer, inner, body)


def elements(rng: random.Random, outer: dict, inner: dict, body: bytes) -> bytes:
    described = inner["potential"]
    n = rng.choice((0, 1, 2, 4, 118, 10**4))
    described["species"] = [rng.choice(("H", "C", "O", "Og", "X", "", "Fe", 6, None)) for _ in range(n)]
    for name in ("atomic_energies", "scale"):
        described[name] = [rng.choice((1.0, 0, 1e300, None))] * rng.choice((n, n, 3))
    return joined(outer, inner, body)


def references(rng: random.Random, outer: dict, inner: dict, body: bytes) -> bytes:
    """References of wrong, contradictory and absurd content."""
    one = rng.choice(inner["references"])
    for _ in range(rng.choice((1, 1, 2))):
        kind = rng.randrange(9)
        if kind == 0:  # as in the first case: fewer or more atomic numbers than positions
            one["atomic_numbers"] = [rng.choice((1, 6, 8))] * rng.choice((0, 1, 3, 900, 70_000))
        elif kind == 1:
            n = rng.choice((0, 1, 500, 3000, 50_000))
            rows = [[rng.uniform(-9, 9) for _ in range(3)]] * n
            one |= {"atomic_numbers": [6] * n, "positions": rows, "forces": rows}
        elif kind == 2:
            one["positions"][:1] = [[rng.choice((0.0, 1e-9, 1e6, 1e12, 1e300, -1e308)) for _ in range(3)]]
        elif kind == 3:
            one["positions"][-1:] = one["positions"][:1]
        elif kind == 4:
            size = rng.choice((0.0, 1e-300, 1e-3, 0.11, 0.5, 1e4, 1e9, 1e300, -3.0))
            one["cell"] = [[size * (i == k) for k in range(3)] for i in range(3)]
            one["pbc"] = [rng.random() < 0.7 for _ in range(3)]
        elif kind == 5:
            few = len(json.dumps(inner["references"])) < 10**5
            inner["references"] *= rng.choice((0, 2, 100, 1500)) if few else 0
            break  # what follows would change all of them, and the file would have gigabytes
        elif kind == 6:
            del one[rng.choice(list(one))]
            break
        elif kind == 7:
            one["forces"] = rng.choice((None, [[0.0] * 3], [[1e300] * 3] * len(one["atomic_numbers"]), [[0.0] * 2] * 9))
        else:
            one[rng.choice(("energy", "stress"))] = rng.choice(VALUES)
    return joined(outer, inner, body)


def tensors(rng: random.Random, outer: dict, inner: dict, body: bytes) -> bytes:
    """Contradictory shapes and places of the weights."""
    name = rng.choice([key for key in outer if key != "__metadata__"])
    entry = outer[name]
    kind = rng.randrange(6)
    if kind == 0:
        entry["shape"] = rng.choice(
            ([], [0], [2**40, 2**40], [-1, -1], [1] * 200, [3.0], "x", entry["shape"][::-1], None)
        )
    elif kind == 1:
        start, stop = entry["data_offsets"]
        entry["data_offsets"] = rng.choice(
            ([0, 2**60], [stop, start], [start, stop + 4], [-8, 8], [start], "ab", [0, 0])
        )
    elif kind == 2:
        entry["dtype"] = rng.choice(("F64", "F16", "I64", "BOOL", "F8_E4M3", "", None, []))
    elif kind == 3:
        outer[rng.choice(("model.more", "scale", "", "x" * 10**4))] = dict(entry)
        del outer[name]
    elif kind == 4:
        change_anything(rng, outer)
    else:
        body = body[: rng.randrange(len(body))] + bytes(rng.choice((0, 4, 4096)))
    return joined(outer, inner if isinstance(outer.get("__metadata__"), dict) else None, body)


def text(rng: random.Random, outer: dict, inner: dict, body: bytes) -> bytes:
    """JSON that is not strict: keys given twice, other numbers, deep nesting, cut or exchanged characters."""
    written = json.dumps(inner)
    place = rng.randrange(100, len(written))
    kind = rng.randrange(6)
    if kind == 0:
        key = rng.choice(list(inner))
        written = written[:-1] + f', "{key}": {json.dumps(inner[key])}}}'
    elif kind == 1:
        number = rng.choice(
            ("NaN", "-Infinity", "1e999", "9" * 400, "0x10", "01", "1_000", "-", "1." + "0" * 10**5 + "1")
        )
        written = re.sub(r"-?\d+\.\d+", number, written, count=rng.choice((1, 0)))
    elif kind == 2:
        deep = rng.choice((10, 50, 900, 10**5))
        written = (
            written[:-1] + ', "deep": ' + rng.choice(("[" * deep + "]" * deep, '{"a":' * deep + "1" + "}" * deep)) + "}"
        )
    elif kind == 3:
        written = written[:place]
    elif kind == 4:
        written = written[:place] + chr(rng.randrange(1, 0x2FF)) + written[place + 1 :]
    else:
        written = written[:-1] + ', "wide": [' + ",".join(["[]"] * rng.choice((10, 10**5, 10**6))) + "]}"
    return joined(outer, written, body)


def length(rng: random.Random, outer: dict, inner: dict, body: bytes) -> bytes:
    data = joined(outer, inner, body)
    wrong = rng.choice((0, 1, 7, 2**63, 2**64 - 1, 100 * 2**20, len(data), len(data) - 8, rng.randrange(2 * len(data))))
    return wrong.to_bytes(8, "little") + data[8:]


def consistent(rng: random.Random, outer: dict, inner: dict, body: bytes) -> bytes:
    """Another model with the weights that it has, whose predictions are others."""
    described = inner["potential"]
    for name, (low, high) in FREE.items():
        described["config"][name] = rng.choice((low, high, rng.randrange(low, high + 1)))
    torch.manual_seed(rng.randrange(1000))
    weights = build_potential(described).state_dict()
    return joined(*parts(to_bytes(weights, metadata={"equiforce": json.dumps(inner)})))


ATTACKS = [
    anything,
    anything,
    anything,
    options,
    options,
    elements,
    references,
    references,
    tensors,
    text,
    length,
    consistent,
]


def attack(rng: random.Random, folder: Path) -> str:
    """Open a hostile file."""
    make = rng.choice(ATTACKS)
    path, model = folder / "hostile.eqf", rng.choice(list(MODELS))
    path.write_bytes(make(rng, *parts(sound(model, folder))))
    name = rng.choice(("load", "load", "load", *OPENERS))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            opened = OPENERS[name](path)
    except InputError as error:
        if "\n" in str(error) or len(str(error)) > LONGEST_SENTENCE:
            raise AssertionError("the message is no sentence") from error
        return f"{make.__name__}: refused"
    if name == "load":  # a potential that opens is the one that was saved
        torch.testing.assert_close(energies_of(opened), energies(model, folder), rtol=0, atol=5e-3)
    return f"{make.__name__}: opened"


def prepare(folder: Path) -> None:
    """Make the sound files before the tries, whose processes then have them."""
    torch.set_num_threads(1)
    for model in MODELS:
        sound(model, folder)
        torch.testing.assert_close(energies(model, folder), energies(model, folder))  # which takes a second at first


@pytest.mark.slow
def test_no_header_of_a_model_file_does_harm(tmp_path, fuzz_seconds):
    prepare(tmp_path)
    tally = harness.run(attack, tmp_path, seconds=fuzz_seconds("model_headers"))
    print(tally)
    assert not tally.failures
    assert {f"{make.__name__}: refused" for make in ATTACKS} <= set(tally.counts)
    assert "anything: opened" in tally.counts  # a word that nothing depends on may change


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tries", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        prepare(Path(place))
        print(harness.run(attack, Path(place), tries=given.tries, seed=given.seed))
