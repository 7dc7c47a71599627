import csv
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from equiforce.errors import InputError, MissingPackageError
from equiforce.training.trackers import CsvLog, TensorBoardLog, check_installed, rows_of

ROW = {"step": 1, "loss": 0.1 + 0.2, "stress": None}


def test_csv_has_a_heading_exact_numbers_and_is_empty_where_nothing_is(tmp_path):
    log = CsvLog(tmp_path / "log.csv")
    log.write(ROW)
    log.write({**ROW, "step": 2})
    log.close()
    assert (tmp_path / "log.csv").read_bytes() == b"step,loss,stress\n1,0.30000000000000004,\n2,0.30000000000000004,\n"


def test_rows_that_will_be_computed_again_are_cut_off(tmp_path):
    path = tmp_path / "log.csv"
    for last_step, step in ((0, 1), (1, 2), (1, 3), (3, 4)):
        log = CsvLog(path, last_step)
        log.write({**ROW, "step": step})
        log.close()
    assert [row["step"] for row in csv.DictReader(path.read_text().splitlines())] == ["1", "3", "4"]
    log = CsvLog(path)
    assert not path.exists()
    log.write(ROW)
    log.close()
    assert len(path.read_text().splitlines()) == 2


def test_a_log_that_ends_with_its_checkpoint_is_not_touched(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("step,loss\n1,2.0\n")
    before = path.stat()
    CsvLog(path, last_step=1).close()
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_line_that_a_kill_has_cut_is_computed_again(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("step,loss\n1,2.0\n2,1.")
    log = CsvLog(path, last_step=1)
    log.write({"step": 2, "loss": 1.5})
    log.close()
    assert path.read_text() == "step,loss\n1,2.0\n2,1.5\n"


@pytest.mark.parametrize("row", ["x,1.0", "2", "2,1,1", ",", "2,0.1x3", "2,nan", "2,\udcff"])
def test_a_row_that_is_none_of_a_log_is_refused(tmp_path, row):
    path = tmp_path / "log.csv"
    path.write_text(f"step,loss\n1,2.0\n{row}\n", errors="surrogateescape")
    with pytest.raises(InputError, match=r"log\.csv, line 3 is not a row of a training log"):
        CsvLog(path, last_step=5)


def test_a_log_of_an_older_version_goes_on_in_present_units(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("step,loss,stress_mae_meV_per_A3\n1,2.0,10.0\n")
    log = CsvLog(path, last_step=1)
    log.write({"step": 2, "loss": 1.0, "stress_mae_GPa": 0.5})
    log.close()
    assert path.read_text() == "step,loss,stress_mae_GPa\n1,2.0,1.60217662\n2,1.0,0.5\n"


def test_a_log_that_was_lost_begins_with_a_heading_again(tmp_path):
    log = CsvLog(tmp_path / "log.csv", last_step=7)
    log.write(ROW)
    log.close()
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
    log = CsvLog(path, last_step=1)
    log.write({"passes": 0.5, "step": 2, "loss": 1.0})
    log.close()
    assert path.read_text() == "step,loss\n1,2.0\n2,1.0\n"


def test_a_damaged_heading_is_refused(tmp_path):
    (tmp_path / "log.csv").write_bytes(b"step,l\xffss\n1,2.0\n")
    with pytest.raises(InputError, match=r"log\.csv, line 2 is not a row of a training log"):
        list(rows_of(tmp_path / "log.csv"))
