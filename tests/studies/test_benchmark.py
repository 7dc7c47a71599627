"""A benchmark of a few steps on the ethanol of the examples; that of the repository fits its published numbers."""

from io import StringIO
from pathlib import Path

import ase.io
import pytest
import yaml
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console

from equiforce import model_file
from equiforce.data.read import read
from equiforce.errors import InputError
from equiforce.evaluate import errors, predict
from equiforce.studies import runs, work
from equiforce.studies.benchmark import ID_COLUMNS, load_benchmark, write_benchmark
from equiforce.studies.comparison import load_published
from equiforce.studies.runs import DIVERGED, DONE, Run, measured_columns
from equiforce.studies.table import ResultTable
from equiforce.studies.work import Place, execute
from tests.data_sets import TINY

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning_fabric")
ROOT = Path(__file__).parents[2]
DATA = ROOT / "examples" / "ethanol"
TASK = {
    "title": "Ethanol",
    "note": "A note.",
    "pool": ["train.xyz@:20"],
    "train": 6,
    "validation": 3,
    "tests": {"300 K": ["test_300K.xyz@:4"], "600 K": ["test_600K.xyz@:3"]},
    "errors": {"energy": "MAE meV", "forces": "RMSE meV/Å"},
    "steps": 4,
}
VALUES = {
    "title": "Small",
    "published": "published.yaml",
    "common": {f"model.{name}": value for name, value in TINY.items() if name != "l_max"} | {"training.batch_size": 2},
    "models": {"l=0": {"model.l_max": 0}, "l=1": {"model.l_max": 1}},
    "default_models": ["l=0"],
    "seeds": [0],
    "tasks": {
        "ethanol": TASK | {"models": {"wide": {"model.l_max": 0, "model.channels": 8}}},
        "fewer": TASK | {"train": 2, "tests": {"hot": ["test_1000K.xyz@:2"]}, "steps": 3},
    },
}
FEATURES = {"metric": "MAE", "unit": "meV", "method": "NequIP", "source": "paper"}
PUBLISHED = {
    "sources": {"paper": "A paper"},
    "numbers": [FEATURES | {"task": "ethanol", "test": "300 K", "quantity": "energy", "value": 1e6}],
}


def write_files(folder, **changes):
    values = {name: value for name, value in (VALUES | changes).items() if value is not None}
    (folder / "published.yaml").write_text(yaml.safe_dump(PUBLISHED))
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    return file


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A benchmark that was run, one task after the other; the folder, its rows and what was printed."""
    folder, printed = tmp_path_factory.mktemp("benchmark"), StringIO()
    file, console = write_files(folder), Console(file=printed, width=200)
    load = {"tasks": ["ethanol"], "models": ["l=0", "l=1"], "seeds": [0, 1]}
    first = execute(load_benchmark(file, DATA, **load), folder / "out", Place(), console)
    second = execute(load_benchmark(file, DATA), folder / "out", Place(), console)
    return folder, file, first, second, printed.getvalue()


def test_a_row_for_each_run_and_test_set(done):
    folder, _, first, second, _ = done
    assert list(first[0]) == [*ID_COLUMNS, *measured_columns()]
    cells = [(r["task"], r["model"], r["seed"], r["test"], r["n_test"]) for r in first]
    assert cells == [
        ("ethanol", model, seed, test, n)
        for seed in (0, 1)
        for model in ("l=0", "l=1")
        for test, n in (("300 K", 4), ("600 K", 3))
    ]
    assert {r["state"] for r in first} == {DONE}
    assert [(r["task"], r["model"], r["test"], r["steps"], r["n_train"]) for r in second] == [
        ("ethanol", "l=0", "300 K", 4, 6),
        ("ethanol", "l=0", "600 K", 4, 6),
        ("fewer", "l=0", "hot", 3, 2),
    ]
    assert len({r["hash"] for r in first}) == 4
    assert not list((folder / "out" / "runs").glob("*/last.pt"))


def test_each_test_set_is_measured_with_the_model_that_is_left(done):
    folder, _, first, _, _ = done
    for row, files in zip(first[:2], TASK["tests"].values(), strict=True):
        structures = read([DATA / file for file in files])
        potential = model_file.load(folder / "out" / "runs" / row["hash"] / "model.eqf")
        total = errors(structures, predict(potential, structures)).total
        assert row["test_energy_mae_meV"] == pytest.approx(total.energy.mae, abs=1e-4)
        assert row["test_forces_rmse_meV_per_A"] == pytest.approx(total.forces.rmse, abs=1e-4)
    assert first[0]["validation_loss"] == first[1]["validation_loss"]


def test_progress_counts_runs_and_not_rows(done):
    printed = done[-1]
    assert "1 of 2 runs were done already" in printed
    assert printed.count("task ethanol, model l=0, seed 0, test 300 K") == 1
    assert "test 600 K" not in printed


def test_a_second_time_nothing_is_run(done, monkeypatch):
    folder, file, _, second, _ = done
    monkeypatch.setattr(work, "perform", lambda *_: pytest.fail("it was done already"))
    assert execute(load_benchmark(file, DATA), folder / "out", Place(), Console(quiet=True)) == second


def test_the_page_has_what_other_calls_have_run(done):
    folder, file, _, second, _ = done
    (path,) = write_benchmark(load_benchmark(file, DATA, tasks=["fewer"]), second, folder / "out")
    page = path.read_text(encoding="utf-8")
    assert path == folder / "out" / "README.md"
    assert "| equiforce l=1 |" in page
    assert "A note. Validated on 3; tested on 300 K (4 frames), 600 K (3 frames)." in page
    assert "1 of 1 errors are not larger than those published for NequIP" in page  # it was set to a million
    assert "tested on hot (2 frames)" in page
    assert "Not run yet" not in page


def test_tables_are_of_the_chosen_tasks(done):
    _, file, first, second, _ = done
    tables = load_benchmark(file, DATA, tasks=["ethanol"]).tables([*first, *second])
    assert [table.title.plain for table in tables] == ["Ethanol", "in brackets: ratio to NequIP"]


def test_rows_of_other_settings_are_not_shown(done):
    folder, file, first, _, _ = done
    assert load_benchmark(file, DATA).comparison(first).models("ethanol") == ["l=0", "l=1"]
    tasks = VALUES["tasks"] | {"ethanol": TASK | {"options": {"loss.forces": 2.0}}}
    changed = load_benchmark(write_files(folder, tasks=tasks), DATA)
    assert changed.comparison(first).models("ethanol") == []
    write_files(folder)


def test_the_latest_row_is_shown(done):
    _, file, first, _, _ = done
    again = [row | {"date": "2999", "hash": "of other data", "test_energy_mae_meV": 5.0} for row in first[:1]]
    compared = load_benchmark(file, DATA, tasks=["fewer"]).comparison([*again, *first])
    assert compared.ours("ethanol", "l=0", "300 K", "energy").n_seeds == 2
    assert 5.0 in [row["test_energy_mae_meV"] for row in compared.rows]
    assert len(compared.rows) == len(first)


def test_rows_of_other_data_are_left_out_if_the_data_are_read(done):
    _, file, first, _, _ = done
    changed = [row | {"hash": "of other data", "test_energy_mae_meV": 5.0} for row in first if row["seed"] == 1]
    compared = load_benchmark(file, DATA).comparison([*(row for row in first if row["seed"] == 0), *changed])
    assert compared.ours("ethanol", "l=0", "300 K", "energy").n_seeds == 1
    assert 5.0 not in [row["test_energy_mae_meV"] for row in compared.rows]


def test_what_is_interrupted_between_test_sets_is_not_trained_again(tmp_path, monkeypatch):
    benchmark = load_benchmark(write_files(tmp_path), DATA, tasks=["ethanol"])

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(runs, "predict", stop)
        work.work(benchmark, tmp_path / "out")
    assert not ResultTable(tmp_path / "out", ID_COLUMNS).rows()
    monkeypatch.setattr("equiforce.training.loop.take_step", lambda *_: pytest.fail("it was trained already"))
    work.work(benchmark, tmp_path / "out")
    assert [row["test"] for row in ResultTable(tmp_path / "out", ID_COLUMNS).rows()] == ["300 K", "600 K"]


def test_a_test_set_without_forces_has_no_errors_of_forces(tmp_path):
    frames = ase.io.read(DATA / "test_600K.xyz", ":2")
    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy())
    ase.io.write(tmp_path / "scan.xyz", frames)
    tests = TASK["tests"] | {"scan": [str(tmp_path / "scan.xyz")]}
    benchmark = load_benchmark(write_files(tmp_path, tasks={"ethanol": TASK | {"tests": tests}}), DATA)
    rows = execute(benchmark, tmp_path / "out", Place(), Console(quiet=True))
    assert [row["test"] for row in rows] == ["300 K", "600 K", "scan"]
    assert [row["test_forces_mae_meV_per_A"] is None for row in rows] == [False, False, True]
    assert rows[2]["test_energy_mae_meV"] > 0
    headings = benchmark.comparison(rows).sheet("ethanol").headings
    assert [h for h in headings if h.startswith("scan")] == ["scan: energy, MAE, meV"]


def test_a_run_that_diverges_has_one_row(tmp_path, monkeypatch):
    monkeypatch.setattr("equiforce.training.loop.backward", lambda *_, **__: float("nan"))
    benchmark = load_benchmark(write_files(tmp_path), DATA, tasks=["ethanol"])
    (row,) = execute(benchmark, tmp_path / "out", Place(), Console(quiet=True))
    assert (row["state"], row["test"]) == (DIVERGED, "300 K")
    (page,) = write_benchmark(benchmark, [row], tmp_path / "out")
    assert "Diverged: ethanol, l=0, seed 0." in page.read_text(encoding="utf-8")


def test_what_is_chosen_is_run(tmp_path):
    file = write_files(tmp_path)

    def cells(**chosen):
        return [tuple(run.id_values.values())[:3] for run in load_benchmark(file, DATA, **chosen).runs([])]

    assert cells() == [("ethanol", "l=0", 0), ("fewer", "l=0", 0)]
    assert cells(tasks=["fewer"], models=["l=1"], seeds=[3, 1]) == [("fewer", "l=1", 3), ("fewer", "l=1", 1)]
    assert cells(models=["wide"]) == [("ethanol", "wide", 0)]
    everything = load_benchmark(write_files(tmp_path, default_models=None), DATA, seeds=[0, 1])
    assert everything.count() == 2 * (3 + 2)
    seeds_and_tasks = [(run.id_values["seed"], run.id_values["task"]) for run in everything.runs([])]
    assert seeds_and_tasks == sorted(seeds_and_tasks)  # every task once before the second seed


def test_only_the_data_of_chosen_tasks_are_needed(tmp_path):
    tasks = VALUES["tasks"] | {"fewer": VALUES["tasks"]["fewer"] | {"pool": ["not_there.xyz"]}}
    file = write_files(tmp_path, tasks=tasks)
    assert load_benchmark(file, DATA, tasks=["ethanol"]).count() == 1
    with pytest.raises(InputError, match=r"task fewer: .*not_there.xyz"):
        load_benchmark(file, DATA)


def test_options_of_models_go_before_those_of_tasks_and_of_all(tmp_path):
    tasks = {
        "ethanol": TASK
        | {"options": {"loss.forces": 2.0, "model.channels": 6}, "models": {"l=1": {"loss.forces": 3.0}}}
    }
    benchmark = load_benchmark(write_files(tmp_path, tasks=tasks), DATA, models=["l=0", "l=1"])
    plain, other = benchmark.runs([])
    assert (plain.options["loss.forces"], plain.options["model.channels"]) == (2.0, 6)
    assert (other.options["loss.forces"], other.options["training.max_steps"]) == (3.0, 4)
    assert other.options["training.validate_every"] == 1


def test_a_model_may_be_trained_for_longer(tmp_path):
    models = VALUES["models"] | {"l=0, x3": {"model.l_max": 0}}
    file = write_files(tmp_path, models=models, budgets={"l=0, x3": 3})
    benchmark = load_benchmark(file, DATA, tasks=["ethanol"], models=["l=0", "l=0, x3"])
    short, long = (run.settings["training"] for run in benchmark.runs([]))
    assert (short["max_steps"], long["max_steps"]) == (4, 12)
    assert short | {"max_steps": 12} == long
    assert benchmark.summary().splitlines()[1].endswith("; steps: 4 (l=0), 12 (l=0, x3)")
    assert load_benchmark(file, DATA, tasks=["ethanol"], models=["l=0, x3"]).summary().endswith("; 12 steps")


def test_words_say_what_will_be_run(tmp_path):
    words = load_benchmark(write_files(tmp_path), DATA).summary()
    assert words.splitlines()[0] == "Small: 2 runs"
    assert "ethanol: train 6, validate 3; test 300 K 4, 600 K 3; 4 steps" in words


@pytest.mark.parametrize(
    ("changes", "chosen", "message"),
    [
        ({"tasks": {}}, {}, "benchmark.tasks is empty"),
        ({"seeds": []}, {}, "benchmark.seeds is empty"),
        ({}, {"tasks": ["water"]}, "no task 'water': choose from ethanol, fewer"),
        ({}, {"models": ["l=7"]}, "no model 'l=7': choose from l=0, l=1, wide"),
        ({}, {"tasks": ["fewer"], "models": ["wide"]}, "no chosen task has a chosen model"),
        ({}, {"seeds": [0, 0]}, r"the seeds \[0, 0\] are not valid"),
        ({}, {"seeds": [-1]}, r"the seeds \[-1\] are not valid"),
        ({"default_models": ["l=7"]}, {}, "no model 'l=7'"),
        ({"published": "none.yaml"}, {}, "none.yaml"),
        ({"budgets": {"l=9": 2}}, {}, "benchmark.budgets has 'l=9', which is not in benchmark.models"),
        (
            {"budgets": {"l=0": 1}},
            {},
            "benchmark.budgets has l=0: 1, which is too small: give at least 2, or leave it out",
        ),
        ({"model": {}}, {}, "no option benchmark.model: did you mean benchmark.models"),
        (
            {"common": {"training.max_steps": 3}},
            {},
            "task ethanol, model l=0: the benchmark itself sets training.max_steps",
        ),
        ({"common": {"split.train": 3}}, {}, "the benchmark itself sets split.train"),
        ({"models": {"a": {}, "b": {}}, "default_models": None}, {}, "ethanol a 0 and ethanol b 0 are the same run"),
        ({"models": {"l=0": {"model.lmax": 1}}}, {}, "no option model.lmax: did you mean model.l_max"),
    ],
)
def test_mistakes_are_told_in_a_sentence(changes, chosen, message, tmp_path):
    with pytest.raises(InputError, match=message):
        load_benchmark(write_files(tmp_path, **changes), DATA, **chosen)


def test_the_hash_of_a_run_knows_nothing_of_further_tests():
    """Or the learning curves, which have none, would have to be computed again."""
    plain = {
        "id_values": {},
        "options": {"training.seed": 1},
        "train": ("a",),
        "fingerprint": "d",
        "indices": {"train": [1]},
    }
    assert Run(test=("b",), **plain).hash == Run(test=("b",), further_tests={"x": ("c",)}, **plain).hash


def test_the_benchmark_of_the_repository_fits_its_published_numbers(tmp_path):
    """Without data: every number belongs to a task, test set and source, and NequIP's are there for most tasks."""
    from equiforce.option_values import read_options
    from equiforce.studies.benchmark import BenchmarkOptions
    from equiforce.studies.task import Task
    from equiforce.yaml_files import load_yaml

    file = ROOT / "studies" / "benchmark.yaml"
    options = read_options(BenchmarkOptions, load_yaml(file), "benchmark", str(file))
    tasks = {name: read_options(Task, values, name) for name, values in options.tasks.items()}
    published = load_published(file.parent / options.published, tasks)
    assert {number.source for number in published.numbers} == set(published.sources)
    alone = {name for name in tasks if not any(n.task == name for n in published.numbers)}
    assert alone == {"3bpa-mixed", *(f"mlearn-{element}" for element in ("Li", "Mo", "Cu", "Ni", "Si"))}
    for name in set(tasks) - alone:
        assert any(published.of(name, test, "forces") for test in tasks[name].tests), name
    assert published.of("rmd17-aspirin", "random frames", "forces").value == 8.2
    assert published.of("acac", "MD at 300 K", "forces").spread == 0.38


def test_the_benchmark_of_the_repository_can_be_run(shared_data):
    """Not of every task, for reading all of their frames takes long."""
    tasks = ["rmd17-ethanol", "acac", "3bpa-mixed", "water", "lips-10", "lips-100", "lips-500", "mlearn-Si"]
    benchmark = load_benchmark(ROOT / "studies" / "benchmark.yaml", shared_data, tasks=tasks)
    assert benchmark.count() == len(tasks)
    drawn = benchmark.drawn
    assert {name: d.n_copies for name, d in drawn.items() if d.n_copies} == {}
    sizes = {name: (len(d.train), len(d.validation), *d.n_tests.values()) for name, d in drawn.items()}
    assert sizes["rmd17-ethanol"] == (950, 50, 1000)
    assert sizes["acac"] == (450, 50, 650, 45)
    assert sizes["3bpa-mixed"] == (450, 50, 1669)
    assert sizes["water"] == (133, 50, 64)
    few, more, most = (set(drawn[f"lips-{n}"].train) for n in (10, 100, 500))
    assert few < more < most
    for run in (benchmark.run(task, model, 0) for task in tasks for model in benchmark.models(task)):
        times = 4 if run.id_values["model"].endswith(" x4") else 1
        assert run.settings["training"]["max_steps"] == times * benchmark.tasks[run.id_values["task"]].steps
