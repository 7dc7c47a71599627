"""Damaged files of Nequix are refused in a sentence, or give a potential; none crashes, hangs or takes much memory."""

import argparse
import random
import tempfile
from pathlib import Path

import pytest
import torch

from equiforce.errors import InputError
from equiforce.foundation import import_potential
from tests.fuzz import harness

SOUND = (Path(__file__).parents[1] / "foundation" / "nequix" / "published.nqx").read_bytes()
OPTIONS = SOUND.index(b"\n")  # the first line
LONGEST_SENTENCE = 600
CHARACTERS = b'0123456789{}[]",:.e-x+ '


def attack(rng: random.Random, folder: Path) -> str:
    """Import a file with a few flipped, replaced or missing bytes, more often in its options than in its weights."""
    content = bytearray(SOUND)
    for _ in range(rng.choice((1, 1, 2, 5))):
        place = rng.randrange(OPTIONS if rng.random() < 0.6 else len(content) - 1)
        match rng.randrange(3):
            case 0:
                content[place] ^= 1 << rng.randrange(8)
            case 1:
                new = bytes(rng.choice(CHARACTERS) for _ in range(rng.randrange(1, 9)))
                content[place : place + rng.randrange(1, 9)] = new
            case _:
                del content[place : place + rng.randrange(1, 30)]
    path = folder / "damaged.nqx"
    path.write_bytes(content)
    try:
        import_potential(path, n_knots=rng.choice((None, 16)))
    except InputError as error:
        if "\n" in str(error) or len(str(error)) > LONGEST_SENTENCE:
            raise AssertionError("the message is no sentence") from error
        return "refused"
    return "opened"


@pytest.mark.slow
def test_no_damaged_file_does_harm(tmp_path, fuzz_seconds):
    tally = harness.run(attack, tmp_path, seconds=fuzz_seconds("imports"))
    print(tally)
    assert not tally.failures, str(tally)
    assert {"refused", "opened"} <= set(tally.counts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tries", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        print(harness.run(attack, Path(made), tries=arguments.tries, seed=arguments.seed))
