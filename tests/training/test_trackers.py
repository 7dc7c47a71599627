import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from equiforce.errors import InputError
from equiforce.training.trackers import CsvLog, TensorBoardLog, check_installed

ROWS = [{"step": 10 * n, "loss": 1.0 / n, "stress": None} for n in (1, 2, 3)]


def test_csv_has_a_row_a_validation_and_is_empty_where_nothing_is(tmp_path):
    log = CsvLog(tmp_path / "log.csv")
    for row in ROWS:
        log.write(row)
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines == ["step,loss,stress", "10,1.0,", "20,0.5,", "30,0.3333333333333333,"]


def test_rows_that_will_be_computed_again_are_cut_off(tmp_path):
    log = CsvLog(tmp_path / "log.csv")
    for row in ROWS:
        log.write(row)
    resumed = CsvLog(tmp_path / "log.csv", n_rows=1)
    resumed.write({"step": 20, "loss": 7.0, "stress": 1.0})
    assert (tmp_path / "log.csv").read_text().splitlines() == ["step,loss,stress", "10,1.0,", "20,7.0,1.0"]


def test_tensorboard_can_read_the_log(tmp_path):
    log = TensorBoardLog(tmp_path)
    for row in ROWS:
        log.write(row)
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, pytest.approx(e.value)) for e in events.Scalars("loss")] == [(10, 1.0), (20, 0.5), (30, 1 / 3)]
    assert events.Tags()["scalars"] == ["step", "loss"]


def test_a_tracker_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r"equiforce\[wandb\]"):
        check_installed(tensorboard=True, wandb=True)
