"""A damaged or hostile checkpoint is refused, or its weights come back to the bit: a run never goes on with others."""

import argparse
import functools
import io
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from equiforce.errors import InputError
from equiforce.run_folder import intact_checkpoint
from equiforce.training.checkpoint import read_checkpoint, sealed
from equiforce.training.loop import fit, new_state
from equiforce.training.optimizer import OptimizerConfig
from tests.fuzz import harness
from tests.training.setups import setup_of, tiny_potential

NAN, INFINITE = float("nan"), float("inf")
# no run has these where a checkpoint has numbers, names or tables
STRANGE = [
    None,
    -1,
    -(10**30),
    10**30,
    2**63,
    NAN,
    INFINITE,
    -INFINITE,
    -0.5,
    "",
    "x",
    [],
    [[]],
    {},
    {"x": 1},
    True,
    b"x",
    1j,
]


@functools.cache
def example() -> tuple[bytes, bytes, dict[str, Any]]:
    """A checkpoint, the same without a checksum as older versions wrote it, and its values."""
    with tempfile.TemporaryDirectory() as place:
        torch.set_num_threads(1)
        folder = Path(place)
        fit(*setup_of(folder, max_steps=3))
        state = read_checkpoint(folder / "last.pt")
        del state["sealed"]
        torch.save(state, folder / "old.pt")
        return (folder / "last.pt").read_bytes(), (folder / "old.pt").read_bytes(), state


def attack(rng: random.Random, folder: Path) -> str:
    """Put a changed checkpoint beside an intact ``best.pt``, and restore what is taken."""
    intact, old, state = example()
    last, best = folder / "last.pt", folder / "best.pt"
    best.write_bytes(intact)
    match rng.choice(["bytes", "old bytes", "values", "old values", "another model"]):
        case "bytes":
            last.write_bytes(changed(rng, intact))
        case "old bytes":
            last.write_bytes(changed(rng, old))
        case "values":
            content = io.BytesIO()
            torch.save(misled(rng, state), content)
            last.write_bytes(sealed(content.getvalue()))
        case "old values":
            torch.save(misled(rng, state), last)
        case "another model":
            new_state(tiny_potential(channels=rng.choice([2, 8])), OptimizerConfig()).save(last)
    found = intact_checkpoint(folder)
    assert found is not None
    restored = new_state(tiny_potential(), OptimizerConfig())
    try:
        restored.restore(found.path)
    except InputError:
        assert found.path == last
        return "refused"
    for own, expected in (
        (restored.potential, state["potential"]),
        (restored.ema.potential, state["average"]["weights"]),
    ):
        for name, value in own.state_dict().items():
            assert torch.equal(value, expected[name]), f"other weights {name}"
    assert all(torch.equal(restored.best_weights[name], value) for name, value in state["best_weights"].items())
    memory = restored.optimizer.state_dict()["state"]
    for number, own in state["optimizer"]["state"].items():
        assert all(torch.equal(memory[number][name], value) for name, value in own.items()), "another memory"
    assert (restored.step, restored.best_loss) == (state["step"], state["best_loss"])
    return "right" if found.path == last else "best"


def changed(rng: random.Random, content: bytes) -> bytes:
    """The bytes of a file with a fault of a disk, or none."""
    found = bytearray(content)
    match rng.choice(["flips", "cut", "zeros", "swap", "insert", "none"]):
        case "flips":
            for _ in range(rng.choice([1, 1, 1, 2, 8])):
                found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
        case "cut":
            del found[rng.randrange(len(found)) :]
        case "zeros":
            start = rng.randrange(len(found))
            found[start : start + 512] = bytes(len(found[start : start + 512]))
        case "swap":
            a, b = (rng.randrange(len(found) - 64) for _ in range(2))
            found[a : a + 64], found[b : b + 64] = found[b : b + 64], found[a : a + 64]
        case "insert":
            at = rng.randrange(len(found))
            found[at:at] = rng.randbytes(rng.choice([1, 64]))
    return bytes(found)


def misled(rng: random.Random, value: Any) -> Any:
    """Values of which one, at any depth, is strange."""
    if isinstance(value, torch.Tensor):
        return strange_tensor(rng, value)
    if isinstance(value, dict) and value and rng.random() < 0.85:
        name = rng.choice(list(value))
        if rng.random() < 0.1:
            return {key: inner for key, inner in value.items() if key != name}
        return {**value, name: misled(rng, value[name])}
    return rng.choice(STRANGE)


def strange_tensor(rng: random.Random, value: torch.Tensor) -> Any:
    """A tensor that none of this place can be."""
    spoiled = value.clone().to(torch.float32).flatten()
    spoiled[rng.randrange(len(spoiled))] = rng.choice([NAN, INFINITE, -INFINITE])
    tensors = [
        spoiled.reshape(value.shape),
        torch.zeros(2, *value.shape),
        value.to(torch.float16),
        value.to(torch.complex64),
        torch.zeros(1).expand(10**12),
        torch.zeros(3, 3).to_sparse(),
    ]
    return rng.choice([*tensors, rng.choice(STRANGE)])


@pytest.mark.slow
def test_no_checkpoint_leads_to_other_weights(tmp_path, fuzz_seconds):
    tally = harness.run(attack, tmp_path, seconds=fuzz_seconds("checkpoints"))
    print(tally)
    assert not tally.failures
    assert {"refused", "best", "right"} <= tally.counts.keys()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tries", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        print(harness.run(attack, Path(place), tries=arguments.tries, seed=arguments.seed))
