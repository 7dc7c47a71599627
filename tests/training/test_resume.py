"""A run that was interrupted ends as if it never had been: bit for bit."""

import os
import signal
from pathlib import Path

import pytest
import torch

import equiforce
from equiforce.training.display import Display
from tests.data_sets import TINY, crystals, write

pytestmark = pytest.mark.usefixtures("without_plots")

OPTIONS = {
    **{f"model.{name}": value for name, value in TINY.items()},
    "training.max_steps": 14,
    "training.batch_size": 3,
    "training.validate_every": 4,
    "training.deterministic": True,
    "split.validation": 2,
    "split.test": 2,
    "loss.forces": [[0.0, 1.0], [1.0, 3.0]],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "copper.xyz", crystals(12))


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "uninterrupted"
    trained = equiforce.train(data, folder, options=OPTIONS)
    assert not trained.outcome.interrupted
    return folder


def interrupting(at_step: int, number: int):
    """The real display, which also sends this process a real signal after a step."""

    class Interrupting(Display):
        def __call__(self, report):
            super().__call__(report)
            if report.state.step == at_step:
                os.kill(os.getpid(), number)

    return Interrupting


def log_without_seconds(folder: Path) -> list[list[str]]:
    rows = [line.split(",") for line in (folder / "log.csv").read_text().split("\n")]
    seconds = rows[0].index("seconds")
    return [row[:seconds] + row[seconds + 1 :] for row in rows]


def assert_same(one, other):
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert one == other


# epochs have 3 steps, a validation is due every 4, and a signal is obeyed at the end of the step after it
@pytest.mark.parametrize("steps", [[4], [11], [1, 8]], ids=["mid-epoch", "epoch's end with validation", "twice"])
def test_a_resumed_run_is_the_same_bit_for_bit(data, uninterrupted, tmp_path, monkeypatch, steps):
    folder = tmp_path / "run"
    for number, step in enumerate(steps):
        monkeypatch.setattr("equiforce.workflow.Display", interrupting(step, signal.SIGTERM))
        again = {"resume": folder} if number else {"data": data, "output": folder, "options": OPTIONS}
        trained = equiforce.train(**again)
        assert trained.outcome.interrupted
        assert torch.load(folder / "last.pt", weights_only=True)["step"] == step + 1
        assert (trained.model is not None) == (step + 1 >= 4)
    monkeypatch.setattr("equiforce.workflow.Display", Display)
    assert equiforce.train(resume=folder).outcome[:2] == ("14 steps are done", False)
    assert_same_runs(folder, uninterrupted)


def assert_same_runs(folder: Path, uninterrupted: Path) -> None:
    assert log_without_seconds(folder) == log_without_seconds(uninterrupted)
    for name in ("last.pt", "best.pt"):
        expected, found = (torch.load(f / name, weights_only=True) for f in (uninterrupted, folder))
        if expected["step"]:
            assert expected.pop("seconds") != found.pop("seconds")
        assert_same(found, expected)
    mine, other = (equiforce.load(f / "model.eqf").state_dict() for f in (folder, uninterrupted))
    assert_same(mine, other)


@pytest.mark.parametrize("step", [1, 5, 14], ids=["before a validation", "after one", "finished"])
@pytest.mark.parametrize("rate", [0.005, 10.0], ids=["better than its start", "worse than its start"])
def test_so_is_a_training_from_a_model(data, uninterrupted, tmp_path, monkeypatch, step, rate):
    """Its start counts as validated before the first row of the log, and may stay the best to the end."""
    own = ("training", "split", "loss")
    options = {name: value for name, value in OPTIONS.items() if name.startswith(own)}
    options |= {"start.model": str(uninterrupted / "model.eqf"), "optimizer.learning_rate": rate}
    whole, folder = tmp_path / "whole", tmp_path / "run"
    equiforce.train(data, whole, options=options)
    assert (torch.load(whole / "last.pt", weights_only=True)["best_step"] == 0) == (rate > 1)
    monkeypatch.setattr("equiforce.workflow.Display", interrupting(step, signal.SIGTERM))
    equiforce.train(data, folder, options=options)
    monkeypatch.setattr("equiforce.workflow.Display", Display)
    assert equiforce.train(resume=folder).outcome[:2] == ("14 steps are done", False)
    assert_same_runs(folder, whole)
