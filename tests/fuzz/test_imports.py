"""Damaged files of other programs are refused in a sentence, or give a potential, in little time and memory."""

import argparse
import random
import tempfile
import zipfile
from pathlib import Path

import pytest
import torch

from equiforce.errors import InputError
from equiforce.foundation import import_potential
from tests.fuzz import harness

FOLDER = Path(__file__).parents[1] / "foundation"
SOUND = (FOLDER / "nequix" / "published.nqx").read_bytes()
OPTIONS = SOUND.index(b"\n")  # the first line
ZIPPED = (
    "nequip/nequip-by-type.ckpt",
    "nequip/nequip-l1-pairs-zbl.ckpt",
    "nequip/nequip.nequip.zip",
    "nequip/allegro-ema.ckpt",
    "nequip/allegro.nequip.zip",
    "sevennet/xplor.pth",
    "sevennet/parity.pth",
)
LONGEST_SENTENCE = 600
CHARACTERS = b'0123456789{}[]",:.e-x+ '


def attack(rng: random.Random, folder: Path) -> str:
    """Import a damaged file of any kind."""
    return refused_or_opened(rng, damaged_text(rng, folder) if rng.random() < 0.3 else damaged_zip(rng, folder))


def damaged_text(rng: random.Random, folder: Path) -> Path:
    """A file of Nequix with a few changed bytes, more often in its options than in its weights."""
    content = bytearray(SOUND)
    for _ in range(rng.choice((1, 1, 2, 5))):
        change(rng, content, OPTIONS if rng.random() < 0.6 else len(content) - 1)
    path = folder / "damaged.nqx"
    path.write_bytes(content)
    return path


def damaged_zip(rng: random.Random, folder: Path) -> Path:
    """A file of nequip or SevenNet with a few changed bytes; the checksums of its members are right again."""
    source = FOLDER / rng.choice(ZIPPED)
    path = folder / ("damaged.nequip.zip" if source.name.endswith(".zip") else f"damaged{source.suffix}")
    if rng.random() < 0.2:
        content = bytearray(source.read_bytes())
        change(rng, content, len(content) - 1)
        path.write_bytes(content)
        return path
    with zipfile.ZipFile(source) as archive:
        members = {name: bytearray(archive.read(name)) for name in archive.namelist()}
    described = [name for name in members if name.endswith((".pkl", ".yaml", ".txt"))]
    for _ in range(rng.choice((1, 1, 2, 5))):
        content = members[rng.choice(described if rng.random() < 0.8 else list(members))]
        if len(content) > 1:
            change(rng, content, len(content) - 1)
    if rng.random() < 0.1:
        del members[rng.choice(list(members))]
    with zipfile.ZipFile(path, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in members.items():
            archive.writestr(name, bytes(content))
    return path


def change(rng: random.Random, content: bytearray, end: int) -> None:
    """Flip, replace or remove a few bytes before ``end``."""
    place = rng.randrange(end)
    match rng.randrange(3):
        case 0:
            content[place] ^= 1 << rng.randrange(8)
        case 1:
            new = bytes(rng.choice(CHARACTERS) for _ in range(rng.randrange(1, 9)))
            content[place : place + (len(new) if rng.random() < 0.5 else rng.randrange(1, 9))] = new
        case _:
            del content[place : place + rng.randrange(1, 30)]


def refused_or_opened(rng: random.Random, path: Path) -> str:
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
