"""``equiforce train``."""

import os
import signal

import yaml

from equiforce.training.display import Display
from tests.cli.small import SETS


def test_train_passes_its_options_on(equiforce, place):
    status, out, err = equiforce(
        "train", "copper.xyz@:6", "-o", "options", "--steps", "3", "--epochs", "2", "--seed", "5", "--deterministic",
        "--device", "cpu", "--energy-key", "energy", "--stress-key", "none", "--validation", "copper.xyz@6:8",
        "--test", "copper.xyz@8:", *SETS, "--set", "training.batch_size=3", "--set", "model.channels=[4, 2]",
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert "3 steps are done" in out
    assert "equiforce md options options/test_predictions.xyz --temperature 300" in out
    written = yaml.safe_load((place / "options" / "config.yaml").read_text())
    assert (
        written["training"] | {"max_steps": 3, "max_epochs": 2, "seed": 5, "deterministic": True} == written["training"]
    )
    assert written["model"]["channels"] == [4, 2]
    assert (written["data"]["energy_key"], written["data"]["stress_key"]) == ("energy", "none")
    assert written["split"]["validation_file"] == [f"{place / 'copper.xyz'}@6:8"]


def test_a_training_that_diverges_ends_in_one_sentence(equiforce):
    status, _, err = equiforce(
        "train", "copper.xyz", "-o", "diverged", "--steps", "5", *SETS, "--set", "optimizer.learning_rate=1e30"
    )
    assert status == 1
    assert err.startswith("error: the loss is not finite at step ")
    assert "lower optimizer.learning_rate" in err
    assert err.count("\n") == 1


def test_an_interrupted_training_is_saved_and_goes_on(equiforce, place, monkeypatch):
    class Interrupting(Display):
        def __call__(self, report):
            super().__call__(report)
            if report.state.step == 2:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("equiforce.workflow.Display", Interrupting)
    status, out, err = equiforce("train", "copper.xyz", "-o", "stopped", "--steps", "5", *SETS)
    assert (status, err) == (130, "")
    assert "interrupted and saved; continue with: equiforce train --resume stopped" in out
    assert (place / "stopped" / "last.pt").exists()
    monkeypatch.setattr("equiforce.workflow.Display", Display)
    status, out, err = equiforce("train", "--resume", "stopped")
    assert (status, err) == (0, "")
    assert "the run continues at step 3 (1.5 passes)" in out
    assert "5 steps are done" in out
