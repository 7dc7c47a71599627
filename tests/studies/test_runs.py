"""One training of a study: its row, its interruption, its failure."""

import csv
import json
import shutil
import signal
from pathlib import Path

import pytest

from equiforce import model_file
from equiforce.errors import DivergedError
from equiforce.studies.runs import (
    DIVERGED,
    DONE,
    NAME_IN_TABLES,
    Interrupted,
    Run,
    error_columns,
    measured_columns,
    perform,
    tidy,
)
from equiforce.studies.table import ResultTable
from tests.small_study import study


@pytest.fixture(scope="module")
def curve(tmp_path_factory):
    return study(tmp_path_factory.mktemp("study"))


def test_a_row_has_everything_that_was_measured(curve, tmp_path):
    run = curve.run("l=1", 4, 1, 0.05)
    row = perform(run, tmp_path / "runs" / "a")
    assert list(row) == ["model", "size", "seed", "learning_rate", "budget", *measured_columns()]
    assert (row["model"], row["size"], row["seed"], row["state"]) == ("l=1", 4, 1, DONE)
    assert (row["n_train"], row["steps"], row["hash"]) == (4, 6, run.hash)
    assert json.loads(row["config"])["model"]["l_max"] == 1
    empty = [name for name, value in row.items() if value == ""]
    assert empty[:2] == ["test_stress_mae_GPa", "test_stress_rmse_GPa"]
    assert set(empty) < set(error_columns())
    with (tmp_path / "runs" / "a" / "log.csv").open() as file:
        best = min(csv.DictReader(file), key=lambda r: float(r["validation_loss"]))
    assert row["validation_loss"] == float(best["validation_loss"])
    assert row["best_step"] == int(best["step"])


def test_the_test_error_is_that_of_the_model_that_is_left(curve, tmp_path):
    from equiforce.data.read import read
    from equiforce.evaluate import errors, predict

    run = curve.run("l=0", 4, 0, 0.05)
    row = perform(run, tmp_path / "a")
    structures = read(run.test)
    potential = model_file.load(tmp_path / "a" / "model.eqf", "cpu")
    total = errors(structures, predict(potential, structures)).total
    assert row["test_forces_mae_meV_per_A"] == pytest.approx(total.forces.mae, abs=1e-4)
    assert row["test_energy_rmse_meV"] == pytest.approx(total.energy.rmse, abs=1e-4)
    n_frozen = 2 * 2 + 4  # a shift and a scale of each species, and the roots of the Bessel functions
    assert row["n_weights"] == sum(p.numel() for p in potential.parameters()) - n_frozen
    tidy(tmp_path / "a", row)
    assert not (tmp_path / "a" / "last.pt").exists()


def test_the_structures_are_those_of_the_plan(curve, tmp_path, monkeypatch):
    seen = {}

    def keep(prepared, *rest, **options):
        seen["parts"] = prepared.parts
        raise DivergedError("enough")

    monkeypatch.setattr("equiforce.workflow._run", keep)
    run = curve.run("l=0", 4, 1, 0.05)
    assert perform(run, tmp_path / "a")["state"] == DIVERGED
    assert seen["parts"].indices["train"] == curve.subsets.training(4, 1)
    assert seen["parts"].indices["validation"] == list(curve.subsets.validation)
    assert len(seen["parts"].test) == 4


def test_a_run_that_diverges_has_a_row_and_nothing_else(curve, tmp_path, monkeypatch):
    monkeypatch.setattr("equiforce.training.loop.backward", lambda *_, **__: float("nan"))
    row = perform(curve.run("l=0", 2, 0, 0.05), tmp_path / "a")
    assert row["state"] == DIVERGED
    assert row["test_forces_mae_meV_per_A"] == ""
    tidy(tmp_path / "a", row)
    assert not (tmp_path / "a").exists()
    ResultTable(tmp_path, ("model", "size", "seed", "learning_rate", "budget")).add(row)


def test_an_interrupted_run_goes_on_to_the_same_numbers(curve, tmp_path, monkeypatch):
    run = curve.run("l=1", 4, 0, 0.05)
    expected = perform(run, tmp_path / "whole")
    looks = []

    def stop_after_three(flags, fabric):
        looks.append(flags)
        return [len(looks) == 3, False]

    with monkeypatch.context() as patch:
        patch.setattr("equiforce.training.loop.on_any_process", stop_after_three)
        with pytest.raises(Interrupted):
            perform(run, tmp_path / "parts")
    assert (tmp_path / "parts" / "last.pt").exists()
    row = perform(run, tmp_path / "parts")
    same = [name for name in measured_columns() if name.startswith(("test", "validation", "best", "steps"))]
    assert {name: row[name] for name in same} == {name: expected[name] for name in same}


@pytest.fixture
def stopped(curve, tmp_path, monkeypatch):
    """A run that was stopped after three of its six steps, and a function that continues it."""
    run, looks = curve.run("l=1", 4, 0, 0.05), []

    def stop_after_three(flags, fabric):
        looks.append(flags)
        return [len(looks) == 3, False]

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr("equiforce.training.loop.on_any_process", stop_after_three)
        perform(run, tmp_path / "a")
    heard = []

    def go_on():
        row = perform(run, tmp_path / "a", heard.append)
        about = model_file.read_header(tmp_path / "a" / "model.eqf")["about"]["config"]
        assert not run.differences(about)  # the row says what was trained
        return row, heard

    return run, tmp_path / "a", go_on


SAME = [name for name in measured_columns() if name.startswith(("test", "validation", "best", "steps"))]


@pytest.fixture(scope="module")
def unbroken(curve, tmp_path_factory):
    row = perform(curve.run("l=1", 4, 0, 0.05), tmp_path_factory.mktemp("unbroken") / "a")
    return {name: row[name] for name in SAME}


def test_a_config_that_was_cut_changes_nothing(stopped, unbroken):
    """Missing options were taken for defaults, and the row said those of the study."""
    _, folder, go_on = stopped
    config = folder / "config.yaml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text[: text.index("max_steps")], encoding="utf-8")
    row, heard = go_on()
    assert {name: row[name] for name in SAME} == unbroken
    assert not heard  # the checkpoint has all options


def test_a_split_that_was_changed_changes_nothing(stopped, unbroken):
    _, folder, go_on = stopped
    (folder / "split.json").write_text('{"train": [0], "validation": [1]}', encoding="utf-8")
    folder.with_suffix(".split.json").write_text("{", encoding="utf-8")
    row, heard = go_on()
    assert {name: row[name] for name in SAME} == unbroken
    assert not heard


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder, other: shutil.copy(other / "last.pt", folder), "training.seed is 1 instead of 0"),
        (lambda folder, _: (folder / "last.pt").write_bytes(b"PK"), "it is damaged"),
        (lambda folder, _: cut_line(folder / "log.csv"), "has 2 of its 3 validations"),
    ],
)
def test_a_run_whose_files_are_of_another_or_damaged_is_trained_anew(curve, stopped, unbroken, damage, said, tmp_path):
    _, folder, go_on = stopped
    (folder / "best.pt").unlink()
    perform(curve.run("l=1", 4, 1, 0.05), tmp_path / "other")
    damage(folder, tmp_path / "other")
    row, heard = go_on()
    assert {name: row[name] for name in SAME} == unbroken
    (sentence,) = heard
    assert sentence.startswith(
        f"model l=1, size 4, seed 0, learning_rate 0.05, budget 1: does not continue from {folder}"
    )
    assert said in sentence


def cut_line(log):
    text = log.read_text(encoding="utf-8")
    log.write_text(text[: len(text) - 9], encoding="utf-8")


def test_a_damaged_last_checkpoint_leaves_the_best_one(stopped, unbroken):
    _, folder, go_on = stopped
    (folder / "last.pt").write_bytes(b"PK")
    row, heard = go_on()
    assert {name: row[name] for name in SAME} == unbroken
    assert len(heard) == 1


def test_the_model_file_of_another_run_differs_in_its_options(curve, tmp_path):
    run = curve.run("l=1", 4, 0, 0.05)
    perform(curve.run("l=1", 4, 1, 0.05), tmp_path / "other")
    other = model_file.read_header(tmp_path / "other" / "model.eqf")["about"]["config"]
    assert run.differences(other) == ["training.seed is 1 instead of 0"]


def test_a_signal_that_comes_too_late_to_interrupt_a_run_stops_the_study(curve, tmp_path, monkeypatch):
    monkeypatch.setattr("equiforce.training.loop.save", lambda *_: signal.raise_signal(signal.SIGTERM))
    run = curve.run("l=0", 2, 0, 0.05)
    monkeypatch.setitem(run.options, "training.validate_every", 1000)
    with pytest.raises(Interrupted):
        perform(run, tmp_path / "a")


def test_a_folder_that_was_left_before_anything_was_done_is_begun_again(curve, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "statistics.json").touch()
    assert perform(curve.run("l=0", 2, 0, 0.05), tmp_path / "a")["state"] == DONE


@pytest.mark.parametrize("study", ["aspirin", "benchmark", "ethanol", "water"])
def test_runs_of_the_tables_in_the_repository_are_found_again(study):
    """An option that is renamed would change the hashes, and every run would be made again."""
    csv.field_size_limit(10**7)
    with (Path(__file__).parents[2] / "studies" / study / "results.csv").open() as file:
        configs = {row["config"] for row in csv.DictReader(file)}
    assert configs
    renamed = {in_table: today for today, in_table in NAME_IN_TABLES.items()}
    for config in configs:
        sections = json.loads(config)
        options = {f"{s}.{renamed.get(n, n)}": value for s, part in sections.items() for n, value in part.items()}
        run = Run(id_values={}, options=options, train=(), test=(), fingerprint="")
        assert json.loads(run.config) == sections


def test_options_of_newer_versions_count_only_if_they_are_changed():
    def data_of(options):
        return Run(id_values={}, options=options, train=(), test=(), fingerprint="").settings["data"]

    assert "format" not in data_of({})
    assert data_of({"data.format": "vasp-out"})["format"] == "vasp-out"
    assert data_of({"data.unconverged": "keep"})["unconverged"] == "keep"
