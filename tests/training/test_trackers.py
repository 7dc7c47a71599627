import csv
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from equiforce.errors import MissingPackageError
from equiforce.training.trackers import CsvLog, TensorBoardLog, check_installed

ROW = {"step": 1, "loss": 0.1 + 0.2, "stress": None}


def test_csv_has_a_heading_exact_numbers_and_is_empty_where_nothing_is(tmp_path):
    log = CsvLog(tmp_path / "log.csv")
    log.write(ROW)
    log.write({**ROW, "step": 2})
    log.close()
    assert (tmp_path / "log.csv").read_bytes() == b"step,loss,stress\n1,0.30000000000000004,\n2,0.30000000000000004,\n"


def test_rows_that_will_be_computed_again_are_cut_off(tmp_path):
    path = tmp_path / "log.csv"
    for n_rows, step in ((0, 1), (1, 2), (1, 3), (2, 4)):
        CsvLog(path, n_rows).write({**ROW, "step": step})
    assert [row["step"] for row in csv.DictReader(path.read_text().splitlines())] == ["1", "3", "4"]
    CsvLog(path).write(ROW)
    assert len(path.read_text().splitlines()) == 2


def test_a_log_of_an_older_version_goes_on_in_present_units(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("step,stress_mae_meV_per_A3\n1,10.0\n")
    CsvLog(path, n_rows=1).write({"step": 2, "stress_mae_GPa": 0.5})
    assert path.read_text() == "step,stress_mae_GPa\n1,1.60217662\n2,0.5\n"


def test_a_log_that_was_lost_begins_with_a_heading_again(tmp_path):
    CsvLog(tmp_path / "log.csv", n_rows=7).write(ROW)
    assert (tmp_path / "log.csv").read_text().startswith("step,loss,stress\n1,")


def test_a_missing_package_is_said_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # makes its import fail
    check_installed(tensorboard=True, wandb=False)
    with pytest.raises(
        MissingPackageError,
        match=r'training\.wandb needs a package that is not installed: pip install "equiforce\[wandb\]"',
    ):
        check_installed(tensorboard=False, wandb=True)


def test_tensorboard_can_read_the_log(tmp_path):
    log = TensorBoardLog(tmp_path)
    for step in (5, 10):
        log.write({**ROW, "step": step})
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert events.Tags()["scalars"] == ["step", "loss"]
    assert [(e.step, pytest.approx(e.value)) for e in events.Scalars("loss")] == [(5, 0.3), (10, 0.3)]


def test_the_log_of_an_older_version_keeps_its_columns(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("step,loss\n1,2.0\n")
    CsvLog(path, n_rows=1).write({"passes": 0.5, "step": 2, "loss": 1.0})
    assert path.read_text() == "step,loss\n1,2.0\n2,1.0\n"
