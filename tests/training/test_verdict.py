"""What is said at the end of runs whose logs were made up, and of a log that a real run wrote."""

import math

import pytest

from equiforce.training.loop import fit
from equiforce.training.loss import LossConfig
from equiforce.training.trackers import CsvLog
from equiforce.training.verdict import LogRow, read_log, verdict
from tests.training.setups import LOSS, mixed, setup_of

STEPS = range(50, 2001, 50)
JUMPS = (1.0, 1.8, 0.9, 2.1, 1.1, 1.7)


def log_of(error, training_error=None):
    training_error = training_error or (lambda done: 0.8 * error(done))
    return [LogRow(step, error(step / 2000), training_error(step / 2000)) for step in STEPS]


@pytest.mark.parametrize(
    ("rows", "kind", "text", "longer"),
    [
        ([], "unknown", "without validation structures, nothing tells whether a longer run would help", False),
        (log_of(lambda x: 1 / x)[:1], "short", "1 validation is too few to judge the run: train longer", True),
        (log_of(lambda x: 1 / x)[:7], "short", "7 validations are too few to judge the run: train longer", True),
        (
            log_of(lambda x: 1 / x),
            "falling",
            "the validation error fell by 25 % in the last quarter: train longer",
            True,
        ),
        (
            log_of(lambda x: 1 / x, lambda x: 0.25 / x),
            "falling",
            "the validation error fell by 25 % in the last quarter: train longer; the validation error is 4.0 times "
            "the training error: more training data would help most",
            True,
        ),
        (
            log_of(lambda x: 1 + math.exp(-20 * x), lambda x: 0.4 + math.exp(-20 * x)),
            "gap",
            "the validation error is 2.5 times the training error: more training data would help most",
            False,
        ),
        (
            log_of(lambda x: max(1.0, 2 - 2.5 * x)),
            "converged",
            "the validation error has not fallen for the last 60 % of the run: it has converged",
            False,
        ),
        (
            log_of(lambda x: 2 - 0.1 * x),
            "converged",
            "the validation error fell by only 1 % in the last quarter: a longer run would gain little",
            False,
        ),
        (
            log_of(lambda x: 1 + abs(x - 0.5), lambda x: 2 - x),
            "worse",
            "the validation error has risen by 50 % since step 1,000, while the training error fell: add training data",
            False,
        ),
        (
            log_of(lambda x: 1 + abs(x - 0.5)),
            "worse",
            "the validation error has risen by 50 % since step 1,000, and so has the training error: lower "
            "optimizer.learning_rate",
            False,
        ),
        (
            [LogRow(step, JUMPS[i % 6], 1.0) for i, step in enumerate(STEPS)],
            "noisy",
            "the validation error jumps by 55 % between validations: lower optimizer.learning_rate",
            False,
        ),
    ],
)
def test_made_up_logs(rows, kind, text, longer):
    assert verdict(rows, LOSS) == (kind, text, longer)


def test_losses_of_changing_weights_are_not_compared_with_those_of_validation():
    rows = log_of(lambda x: 1 + math.exp(-20 * x), lambda x: 0.4)
    changing = LossConfig(energy=1.0, forces=[(0.0, 0.1), (1.0, 1.0)])
    assert verdict(rows, LOSS).kind == "gap"
    assert verdict(rows, changing).kind == "converged"


@pytest.mark.parametrize(("kind", "power"), [("mse", 0.5), ("mae", 1.0)])
def test_a_log_is_read_as_errors(tmp_path, kind, power):
    (tmp_path / "log.csv").write_text("step,loss,validation_loss\n10,4.0,9.0\n20,1.0,\n")
    assert read_log(tmp_path / "log.csv", LossConfig(kind=kind)) == [LogRow(10, 9.0**power, 4.0**power)]
    assert read_log(tmp_path / "none.csv", LossConfig()) == []


def test_a_real_log_that_still_falls(tmp_path):
    """The validation structures are those of training, so there can be no gap."""
    log, same = CsvLog(tmp_path / "log.csv"), mixed()
    state, setup = setup_of(tmp_path, same, same, max_steps=40, validate_every=4, trackers=[log])
    fit(state, setup)
    found = verdict(read_log(tmp_path / "log.csv", LOSS), LOSS)
    assert (found.kind, found.train_longer) == ("falling", True)
