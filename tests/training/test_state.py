import pytest
import torch

from equiforce.errors import InputError
from equiforce.training.loop import new_state
from equiforce.training.optimizer import OptimizerConfig
from tests.systems import potential_of


def state(channels=3, **options):
    return new_state(potential_of(l_max=1, n_layers=2, channels=channels), OptimizerConfig(**options))


def moved(state):
    for parameter in state.potential.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    state.average.update()
    state.step, state.epoch, state.seconds = 1, 2, 3.5
    state.keep_best()
    return state


def test_everything_comes_back(tmp_path):
    before, after = moved(state()), state()
    before.save(tmp_path / "last.pt")
    after.restore(tmp_path / "last.pt")
    assert (after.step, after.epoch, after.seconds) == (1, 2, 3.5)
    for one, other in ((before.potential, after.potential), (before.average.potential, after.average.potential)):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert str(before.optimizer.state_dict()) == str(after.optimizer.state_dict())
    assert before.best_weights.keys() == after.best_weights.keys()
    assert not list(tmp_path.glob("*.part"))


def test_checkpoints_of_another_model_and_broken_ones_are_refused(tmp_path):
    moved(state()).save(tmp_path / "last.pt")
    with pytest.raises(InputError, match="belongs to another model"):
        state(channels=5).restore(tmp_path / "last.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "last.pt").read_bytes()[:500])
    with pytest.raises(InputError, match="damaged"):
        state().restore(tmp_path / "cut.pt")


def test_a_checkpoint_without_average_needs_the_same_option(tmp_path):
    moved(state(ema_decay=0.0)).save(tmp_path / "last.pt")
    with pytest.raises(InputError, match="belongs to another model or optimiser"):
        state().restore(tmp_path / "last.pt")
