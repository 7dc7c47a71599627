"""``equiforce study``: what a user types, reads and finds."""

import csv

import pytest
import yaml

from equiforce.cli import main
from tests.data_sets import TINY
from tests.small_study import N_RUNS, write_study


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a command line; returns its exit status and what it printed."""

    def of(*arguments):
        monkeypatch.setattr("sys.argv", ["equiforce", "study", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return ended.value.code, captured.out + captured.err

    return of


def test_a_learning_curve_from_the_command_line(run, tmp_path):
    file = write_study(tmp_path)
    status, printed = run("learning-curve", file)
    folder = tmp_path / "water"
    assert status == 0, printed
    assert f"{N_RUNS} runs" in printed
    names = {"README.md", "fits.csv", "results.csv", "forces.png", "forces.svg", "energy.png", "energy.svg"}
    assert names <= {path.name for path in folder.iterdir()}
    with (folder / "results.csv").open() as table:
        assert len(list(csv.DictReader(table))) == N_RUNS
    page = (folder / "README.md").read_text()
    assert "equiforce study learning-curve water.yaml --data FOLDER" in page
    assert "unfinished" not in page
    status, again = run("learning-curve", file)
    assert status == 0
    assert f"{N_RUNS} of {N_RUNS} runs were done already" in again
    assert (folder / "README.md").read_text() == page


def test_a_part_of_the_models_and_a_page_only(run, tmp_path):
    file = write_study(tmp_path)
    status, printed = run("learning-curve", file, "--page", "-o", tmp_path / "nothing")
    assert status == 0, printed
    assert f"unfinished: 0 of {N_RUNS} runs" in (tmp_path / "nothing" / "README.md").read_text()
    assert not (tmp_path / "nothing" / "runs").exists()
    status, printed = run("learning-curve", file, "--model", "l=1", "--data", tmp_path, "-o", tmp_path / "part")
    assert status == 0, printed
    assert f"unfinished: {N_RUNS // 2} of {N_RUNS} runs" in (tmp_path / "part" / "README.md").read_text()


def test_ctrl_c_writes_what_is_known_and_says_how_to_go_on(run, tmp_path, monkeypatch):
    from equiforce.studies import work

    perform, done = work.perform, []

    def stopping(chosen, folder, say):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(chosen)
        return perform(chosen, folder, say)

    monkeypatch.setattr(work, "perform", stopping)
    status, printed = run("learning-curve", write_study(tmp_path))
    assert status == 130
    assert "stopped; the same command continues the study" in printed
    assert f"unfinished: 2 of {N_RUNS} runs" in (tmp_path / "water" / "README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["learning-curve", "none.yaml"], "there is no configuration file"),
        (["learning-curve", "water.yaml", "--model", "l=9"], "the study has no model 'l=9': choose from l=0, l=1"),
        (["learning-curve", "water.yaml", "--slurm", "gpu"], "--slurm gpu has no equals sign: write option=value"),
        (["learning-curve", "water.yaml", "--slurm", "partition=gpu"], "there is no SLURM on this machine"),
        (["learning-curve", "pool.xyz"], "pool.xyz must consist of lines of the form 'name: value'"),
        (["benchmark", "none.yaml"], "there is no configuration file"),
        (["benchmark", "water.yaml"], "there are no such options: nothing corresponds to pool"),
    ],
)
def test_mistakes_end_in_a_sentence_and_leave_nothing(arguments, message, run, tmp_path, monkeypatch):
    write_study(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))  # where there is no SLURM
    before = {path.name for path in tmp_path.iterdir()}
    status, printed = run(*arguments)
    assert status == 1
    assert message in printed
    assert "Traceback" not in printed
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_benchmark_from_the_command_line(run, tmp_path):
    write_study(tmp_path)
    task = {
        "title": "water", "pool": ["pool.xyz"], "train": 6, "validation": 2, "steps": 4,
        "tests": {"cold": ["test.xyz"]}, "errors": {"energy": "MAE meV", "forces": "MAE meV/Å"},
    }  # fmt: skip
    options = {f"model.{name}": value for name, value in TINY.items()}
    values = {"models": {"tiny": options, "tinier": options | {"model.channels": 2}}, "tasks": {"water": task}}
    file = tmp_path / "bench.yaml"
    file.write_text(yaml.safe_dump(values))
    status, printed = run("benchmark", file, "--model", "tiny", "--task", "water", "--seed", "3")
    assert status == 0, printed
    with (tmp_path / "bench" / "results.csv").open() as table:
        (row,) = csv.DictReader(table)
    assert (row["task"], row["model"], row["seed"], row["test"]) == ("water", "tiny", "3", "cold")
    shown = f"{float(row['test_forces_mae_meV_per_A']):.0f}"
    assert shown in printed
    assert shown in (tmp_path / "bench" / "README.md").read_text()
