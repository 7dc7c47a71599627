"""A checkpoint is taken as it was written, or it is refused."""

import errno
import os
import random
import zipfile
from pathlib import Path

import pytest
import torch

from equiforce.errors import InputError
from equiforce.training.checkpoint import DamagedError, read_checkpoint, write_checkpoint
from equiforce.training.loop import fit
from tests.training.setups import setup_of

NAN = float("nan")


@pytest.fixture(scope="module", params=["muon", "adam"])
def path(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    fit(*setup_of(folder, max_steps=3, optimizer={"name": request.param}))
    return folder / "last.pt"


@pytest.fixture(scope="module")
def state(path):
    found = read_checkpoint(path)
    assert found.pop("sealed")
    return found


def reasons(tmp_path, content):
    """Why a file with this content is refused."""
    (tmp_path / "last.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"last\.pt is damaged or is not a checkpoint of equiforce \(") as caught:
        read_checkpoint(tmp_path / "last.pt")
    return str(caught.value.__cause__)


def test_torch_reads_the_file_too(path, state):
    assert torch.load(path, weights_only=True)["step"] == state["step"] == 3
    with zipfile.ZipFile(path) as archive:
        assert archive.comment.startswith(b"equiforce sha256 ")


def test_each_flipped_bit_and_each_cut_is_noticed(path, tmp_path):
    content, rng = path.read_bytes(), random.Random(1)
    for _ in range(100):
        flipped = bytearray(content)
        flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        assert reasons(tmp_path, bytes(flipped))
        assert reasons(tmp_path, content[: rng.randrange(len(content))])


def test_without_a_checksum_the_parts_of_the_file_still_have_theirs(path, state, tmp_path):
    torch.save(state, tmp_path / "old.pt")
    content = (tmp_path / "old.pt").read_bytes()
    assert not read_checkpoint(tmp_path / "old.pt")["sealed"]
    weights = state["potential"]["model.embed.weight"].numpy().tobytes()
    flipped = bytearray(content)
    flipped[content.index(weights) + 2] ^= 1
    assert "the checksum of its part archive/data/" in reasons(tmp_path, bytes(flipped)).replace("old/", "archive/")


@pytest.mark.parametrize("kind", ["nothing", "pipe", "folder", "device", "text", "missing"])
def test_what_is_no_file_of_a_checkpoint_is_refused_at_once(tmp_path, kind):
    place = tmp_path / "last.pt"
    match kind:
        case "nothing":
            place.touch()
        case "pipe":
            os.mkfifo(place)
        case "folder":
            place.mkdir()
        case "device":
            place.symlink_to("/dev/zero")
        case "text":
            place.symlink_to(__file__)
    with pytest.raises(InputError, match="is damaged or is not a checkpoint"):
        read_checkpoint(place)


def test_a_compressed_file_is_refused_before_it_is_unpacked(tmp_path, path):
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "new", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert reasons(tmp_path, (tmp_path / "new").read_bytes()) == "a part of it is compressed"


VALUES = [
    {"step": -5}, {"step": "7"}, {"step": 10**30}, {"step": NAN}, {"step": True}, {"step": 2}, {"epoch": -1},
    {"epoch": 10**12}, {"batch": 10**9}, {"batch": -1}, {"seconds": NAN}, {"seconds": -1.0}, {"seconds": float("inf")},
    {"n_rows": -1}, {"n_rows": 10**9}, {"n_rows": 0}, {"best_loss": NAN}, {"best_loss": -1.0}, {"best_loss": 0.0},
    {"best_loss": "1"}, {"best_step": 4}, {"best_step": -1}, {"loss_count": -1}, {"loss_sum": NAN},
    {"best_weights": None}, {"best_weights": {}}, {"best_weights": "x"}, {"optimizer": {}}, {"optimizer": None},
    {"rate": {}}, {"rate": None}, {"average": {}}, {"average": None}, {"potential": None}, {"potential": {}},
    {"ended": 5}, {"origin": [1]}, {"origin": {"options": {}}}, {"origin": {"options": {"model": 1}, "data": {}}},
]  # fmt: skip


@pytest.mark.parametrize("values", VALUES, ids=str)
def test_values_that_no_run_has_are_refused(tmp_path, state, values):
    write_checkpoint(tmp_path / "last.pt", {**state, **values})
    with pytest.raises(InputError, match="is damaged or is not a checkpoint"):
        read_checkpoint(tmp_path / "last.pt")


@pytest.mark.parametrize("part", ["potential", "best_weights", "average", "optimizer"])
def test_numbers_that_are_not_finite_are_refused(tmp_path, state, part):
    def spoiled(value):
        if isinstance(value, dict):
            return {name: spoiled(inner) for name, inner in value.items()}
        return value * NAN if isinstance(value, torch.Tensor) and value.numel() > 1 else value

    write_checkpoint(tmp_path / "last.pt", {**state, part: spoiled(state[part])})
    with pytest.raises(InputError, match="it has numbers that are not finite"):
        read_checkpoint(tmp_path / "last.pt")


def test_a_lost_part_of_the_optimizer_is_refused(tmp_path, state):
    memory = state["optimizer"]["state"]
    for less in (dict(list(memory.items())[1:]), {**memory, next(iter(memory)): {}}):
        write_checkpoint(tmp_path / "last.pt", {**state, "optimizer": {**state["optimizer"], "state": less}})
        with pytest.raises(InputError, match="its optimizer is incomplete"):
            read_checkpoint(tmp_path / "last.pt")


def test_a_tensor_that_claims_to_be_huge_is_refused_at_once(tmp_path, state):
    huge = {name: value.new_zeros(1).expand(10**12) for name, value in state["potential"].items()}
    write_checkpoint(tmp_path / "last.pt", {**state, "potential": huge})
    with pytest.raises(InputError, match="its tensors do not fit into it"):
        read_checkpoint(tmp_path / "last.pt")


def test_a_file_that_cannot_be_read_now_is_not_called_damaged(path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"cannot be read now because of this error: input/output error") as caught:
        read_checkpoint(path)
    assert not isinstance(caught.value, DamagedError)
