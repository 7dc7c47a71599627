"""Damaged model files: flipped bits, cut and longer files, of NequIP and Allegro; none may open."""

import argparse
import random
import tempfile
from functools import cache
from pathlib import Path

import pytest
import torch

from equiforce.errors import InputError
from equiforce.model_file import load, read_header, save
from tests.fuzz import harness
from tests.systems import ethanol, potential_of

MODELS = {
    "nequip": {"l_max": 1, "n_layers": 2, "channels": 4},
    "allegro": {"kind": "allegro", "l_max": 1, "tensor_channels": 4, "radial_width": 16, "zbl": True},
}
KINDS = ("flip", "flip", "flip", "flip in the header", "several", "cut", "longer", "zeros", "moved")


@cache
def sound(model: str, folder: Path) -> bytes:
    """The bytes of a sound file; it opens."""
    path = folder / f"{model}.eqf"
    save(path, potential_of(**MODELS[model], dtype="float32"), [ethanol()])
    load(path)
    return path.read_bytes()


def damaged(rng: random.Random, data: bytes) -> tuple[str, bytes]:
    """A kind of damage, and the bytes with it."""
    kind, place, changed = rng.choice(KINDS), rng.randrange(len(data)), bytearray(data)
    if kind == "flip in the header":
        place = rng.randrange(8 + int.from_bytes(data[:8], "little"))
    if kind.startswith("flip"):
        changed[place] ^= 1 << rng.randrange(8)
    elif kind == "several":
        for _ in range(rng.randrange(2, 50)):
            changed[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    elif kind == "cut":
        del changed[place:]
    elif kind == "longer":
        changed += bytes(rng.randrange(256) for _ in range(rng.choice((1, 8, 4096))))
    elif kind == "zeros":  # as after a crash of the machine
        first = place // 512 * 512
        changed[first : first + 4096] = bytes(len(changed[first : first + 4096]))
    else:
        size = rng.randrange(1, 64)
        changed[place : place + size] = reversed(changed[place : place + size])
    return kind, bytes(changed)


def attack(rng: random.Random, folder: Path) -> str:
    """Open a damaged file, in a potential or for its header."""
    model = rng.choice(list(MODELS))
    data = sound(model, folder)
    kind, changed = damaged(rng, data)
    if changed == data:
        return "not damaged"
    path = folder / "damaged.eqf"
    path.write_bytes(changed)
    opened = rng.choice((load, read_header))
    try:
        opened(path)
    except InputError:
        return f"{model}, {kind}: refused"
    raise AssertionError(f"{model}: a file with {kind} was opened by {opened.__name__}")


def prepare(folder: Path) -> None:
    """Make the sound files before the tries, whose processes then have them."""
    torch.set_num_threads(1)
    for model in MODELS:
        sound(model, folder)


@pytest.mark.slow
def test_no_damaged_model_file_opens(tmp_path, fuzz_seconds):
    prepare(tmp_path)
    tally = harness.run(attack, tmp_path, seconds=fuzz_seconds("model_flips"))
    print(tally)
    assert not tally.failures
    assert {f"{model}, {kind}: refused" for model in MODELS for kind in KINDS} <= set(tally.counts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tries", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        prepare(Path(place))
        print(harness.run(attack, Path(place), tries=given.tries, seed=given.seed))
