"""A state goes to disk and back in one piece, or is refused in a sentence."""

import pickle

import pytest
import torch

from equiforce.errors import InputError
from equiforce.training.loop import fit
from tests.training.setups import setup_of


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("state")
    state, setup = setup_of(folder, max_steps=3)
    fit(state, setup)
    return state, folder / "last.pt"


def fresh(tmp_path, **optimizer):
    return setup_of(tmp_path, max_steps=3, optimizer=optimizer)[0]


def test_everything_comes_back(trained, tmp_path):
    state, path = trained
    back = fresh(tmp_path)
    back.restore(path)
    assert (back.step, back.epoch, back.batch, back.n_rows, back.best_step) == (3, 1, 1, 1, 3)
    assert (back.best_loss, back.seconds, back.rate.state()) == (state.best_loss, state.seconds, state.rate.state())
    assert back.ema.n_updates == 3
    for mine, other in ((back.potential, state.potential), (back.ema.potential, state.ema.potential)):
        pairs = zip(mine.state_dict().values(), other.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    for mine, other in zip(back.optimizer.state.values(), state.optimizer.state.values(), strict=True):
        assert mine.keys() == other.keys()
        assert all(torch.equal(mine[name], other[name]) and mine[name].any() for name in mine)
    assert back.best_weights.keys() == state.best_weights.keys()


def test_saving_replaces_the_file_in_one_piece(trained, tmp_path):
    state, _ = trained
    path = tmp_path / "last.pt"
    path.write_text("an older one")
    state.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]
    fresh(tmp_path).restore(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", pickle.dumps({"potential": 1}, protocol=2), "truncated", {"potential": 1}, {}, [1]],
    ids=["empty", "garbage", "pickle", "truncated", "lacking", "nothing", "list"],
)
def test_what_is_no_checkpoint_is_refused(trained, tmp_path, content):
    path = tmp_path / "last.pt"
    if content == "truncated":
        content = trained[1].read_bytes()[:5000]
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(InputError, match=r"last\.pt"):
        fresh(tmp_path).restore(path)


def test_a_checkpoint_executes_no_code(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    torch.save({"potential": Payload()}, tmp_path / "last.pt")
    with pytest.raises(InputError, match="is damaged or is not a checkpoint of equiforce"):
        fresh(tmp_path).restore(tmp_path / "last.pt")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "optimizer", [{"name": "adam"}, {"name": "adamw"}, {"beta2": 0.9}, {"ema_decay": 0.0}], ids=lambda o: next(iter(o))
)
def test_what_cannot_change_midway_is_refused(trained, tmp_path, optimizer):
    with pytest.raises(InputError, match="belongs to another model or optimizer"):
        fresh(tmp_path, **optimizer).restore(trained[1])


def test_what_can_change_midway_may(trained, tmp_path):
    state = fresh(tmp_path, ema_decay=0.5, learning_rate=1.0, clip_gradient=1.0)
    state.restore(trained[1])
    assert (state.step, state.ema.decay) == (3, 0.5)


def test_an_average_cannot_begin_midway(tmp_path):
    state, _ = setup_of(tmp_path, optimizer={"ema_decay": 0.0})
    state.save(tmp_path / "last.pt")
    with pytest.raises(InputError, match="belongs to another model or optimizer"):
        fresh(tmp_path).restore(tmp_path / "last.pt")


def test_another_model_is_refused(trained, tmp_path):
    content = torch.load(trained[1], weights_only=True)
    for weights in (content["potential"], content["average"]["weights"], content["best_weights"]):
        weights["model.embed.weight"] = torch.zeros(7, 7)
    torch.save(content, tmp_path / "last.pt")
    with pytest.raises(InputError, match="belongs to another model or optimizer"):
        fresh(tmp_path).restore(tmp_path / "last.pt")
