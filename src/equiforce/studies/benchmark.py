"""The benchmark study: trains on published data sets, and prints our errors beside the published ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from equiforce.config import configured
from equiforce.errors import InputError
from equiforce.option_values import check_names, read_options
from equiforce.options import option
from equiforce.storage.whole import write_text
from equiforce.studies.comparison import Comparison, PublishedNumbers, load_published
from equiforce.studies.runs import Row, Run
from equiforce.studies.table import ResultTable
from equiforce.studies.task import Drawn, Task
from equiforce.terminal import Table, one_line
from equiforce.yaml_files import load_yaml

ID_COLUMNS = ("task", "model", "seed", "test", "n_test")
VALIDATIONS = 40  # per run, unless the file sets training.validate_every
OWN = ("training.seed", "training.max_steps", "training.max_epochs", "training.time")


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions:
    """The options of a benchmark, as in its YAML file."""

    title: str = option("", "title of the page; the name of the file if empty")
    note: str = option("", "what a reader has to know before comparing with published numbers")
    published: str | None = option(None, "file of published numbers, in the same folder")
    models: dict[str, dict[str, Any]] = option(reason="name: {section.option: value, ...}, for all tasks", factory=dict)
    default_models: list[str] = option(
        reason="models that run if the command line names none; all models of a task if empty", factory=list
    )
    budgets: dict[str, int] = option(reason="model: factor that multiplies the steps of each task", factory=dict)
    seeds: list[int] = option(reason="random seeds of weights and order of batches", factory=lambda: [0])
    common: dict[str, Any] = option(reason="section.option: value, for all tasks and models", factory=dict)
    tasks: dict[str, dict[str, Any]] = option(reason="name: {option of a task: value, ...}", factory=dict)

    def __post_init__(self) -> None:
        for name in ("tasks", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"benchmark.{name} is empty: give at least one")
        check_names(self.tasks, "benchmark.tasks")
        check_names(self.models, "benchmark.models")
        for model, times in self.budgets.items():
            if model not in self.models:
                raise ValueError(f"benchmark.budgets has {model!r}, which is not in benchmark.models: correct the name")
            if times < 2:
                raise ValueError(
                    f"benchmark.budgets has {model}: {times}, which is too small: give at least 2, or leave it out"
                )


def load_benchmark(
    file: Path,
    data: Path,
    *,
    tasks: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> "Benchmark":
    """Load a benchmark from a YAML file, read the data of the chosen tasks, and draw their training structures.

    Args:
        file: a YAML file with the options of :class:`BenchmarkOptions`.
        data: the folder to which file names in it are relative.
        tasks: run only these; None runs all.
        models: run these instead of the default models of the file.
        seeds: run these instead of the seeds of the file.

    Raises:
        InputError: an option, a name or a file is wrong.
    """
    options = read_options(BenchmarkOptions, load_yaml(file), "benchmark", str(file))
    options = options if options.title else replace(options, title=file.stem)
    described = {
        name: read_options(Task, values, f"tasks.{name}", f"{file}, task {name}")
        for name, values in options.tasks.items()
    }
    published = PublishedNumbers({}, ())
    if options.published is not None:
        published = load_published(file.parent / options.published, described)
    known = dict.fromkeys([*options.models, *(model for task in described.values() for model in task.models)])
    selection = Selection(
        tasks=_chosen(tasks, described, "task"),
        models=_chosen(models or options.default_models, known, "model"),
        seeds=tuple(seeds or options.seeds),
    )
    benchmark = Benchmark(options, described, published, selection, data)
    if not benchmark.count():
        raise InputError(f"{file}: no chosen task has a chosen model: choose others, or add models to the file")
    return benchmark


def _chosen(names: Sequence[str] | None, known: Mapping[str, Any], what: str) -> tuple[str, ...]:
    if not names:
        return tuple(known)
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"the benchmark has no {what} {unknown[0]!r}: choose from {', '.join(known)}")
    return tuple(name for name in known if name in names)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The tasks, models and seeds of a benchmark that are run."""

    tasks: tuple[str, ...]
    models: tuple[str, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"the seeds {list(self.seeds)} are not valid: give different numbers of at least 0")


class Benchmark:
    """The runs of a benchmark, one for each task, model and seed, and the comparison of their results."""

    id_columns = ID_COLUMNS

    def __init__(
        self,
        options: BenchmarkOptions,
        tasks: Mapping[str, Task],
        published: PublishedNumbers,
        selection: Selection,
        data: Path,
    ):
        self.options, self.tasks, self.published, self.selection = options, tasks, published, selection
        self.drawn: dict[str, Drawn] = {}
        for name in selection.tasks:
            reading = configured({}, {k: v for k, v in self._given(name).items() if k.startswith("data.")}).data
            try:
                self.drawn[name] = Drawn.of(tasks[name], data, reading)
            except InputError as error:
                raise InputError(f"task {name}: {error}") from None
        self._runs = self._make_runs()

    def runs(self, rows: Sequence[Row]) -> list[Run]:  # noqa: ARG002 (no run depends on another)
        """See :class:`equiforce.studies.work.Study`; all tasks run with the first seed before the second seed."""
        return self._runs

    def count(self) -> int:
        return len(self._runs)

    def _make_runs(self) -> list[Run]:
        cells = [
            (task, model, seed)
            for seed in self.selection.seeds
            for task in self.selection.tasks
            for model in self.models(task)
            if model in self.selection.models
        ]
        runs: list[Run] = []
        hashes: dict[str, tuple[str, str, int]] = {}
        for cell in cells:
            run = self.run(*cell)
            if (twin := hashes.setdefault(run.hash, cell)) != cell:
                first, second = (" ".join(map(str, one)) for one in (twin, cell))
                raise InputError(f"{first} and {second} are the same run: remove one")
            runs.append(run)
        return runs

    def models(self, task: str) -> list[str]:
        """The names of the models of a task."""
        return list(dict.fromkeys([*self.options.models, *self.tasks[task].models]))

    def run(self, task: str, model: str, seed: int) -> Run:
        """Return one run of a chosen task."""
        drawn = self.drawn[task]
        (first, files), *others = drawn.tests.items()
        return Run(
            id_values=dict(zip(ID_COLUMNS, (task, model, seed, first, drawn.n_tests[first]), strict=True)),
            options=self.settings(task, model, seed),
            train=drawn.pool,
            test=files,
            further_tests=dict(others),
            fingerprint=drawn.fingerprint,
            indices={"train": drawn.train, "validation": drawn.validation},
        )

    def settings(self, task: str, model: str, seed: int) -> dict[str, Any]:
        """Return the options of a run.

        Raises:
            InputError: the file sets an option that the benchmark itself sets.
        """
        given, steps = self._given(task, model), self._steps(task, model)
        if taken := [name for name in given if name in OWN or name.startswith("split.")]:
            raise InputError(f"task {task}, model {model}: the benchmark itself sets {taken[0]}: leave it out")
        own = {"training.seed": seed, "training.max_steps": steps}
        return own | {"training.validate_every": max(1, steps // VALIDATIONS)} | given

    def _given(self, task: str, model: str | None = None) -> dict[str, Any]:
        described = self.tasks[task]
        given = self.options.common | described.options
        return given if model is None else given | self.options.models.get(model, {}) | described.models.get(model, {})

    def summary(self) -> str:
        """Describe the data and the runs, for the terminal."""
        lines = [f"{one_line(self.options.title)}: {self.count()} runs"]
        for name, drawn in self.drawn.items():
            copies = f", {drawn.n_copies} copies left out" if drawn.n_copies else ""
            tests = ", ".join(f"{one_line(test)} {n}" for test, n in drawn.n_tests.items())
            lines.append(
                f"{one_line(name)}: train {len(drawn.train)}, validate {len(drawn.validation)}{copies}; test {tests}; "
                f"{self._steps_in_words(name)}"
            )
        return "\n".join(lines)

    def _steps_in_words(self, task: str) -> str:
        models = [model for model in self.models(task) if model in self.selection.models]
        steps = {model: self._steps(task, model) for model in models}
        if len(set(steps.values())) == 1:
            return f"{steps[models[0]]:,} steps"
        return "steps: " + ", ".join(f"{n:,} ({model})" for model, n in steps.items())

    def _steps(self, task: str, model: str) -> int:
        return self.tasks[task].steps * self.options.budgets.get(model, 1)

    def comparison(self, rows: Sequence[Row]) -> Comparison:
        """Compare the latest row of each run and test set, leaving out rows measured with other settings or data."""
        expected: dict[tuple[str, str, int], str] = {}
        found: dict[tuple, Row] = {}
        for row in sorted(rows, key=lambda row: row["date"]):
            task, model, seed, test = str(row["task"]), str(row["model"]), row["seed"], str(row["test"])
            if task not in self.tasks or model not in self.models(task):
                continue
            key = (task, model, seed)
            if key not in expected:
                expected[key] = Run(id_values={}, options=self.settings(*key), train=(), test=(), fingerprint="").config
            of_other_data = task in self.drawn and row["hash"] != self.run(*key).hash
            if row["config"] == expected[key] and not of_other_data:
                found[*key, test] = row
        order = list(self.options.models)
        ranked = sorted(found.values(), key=lambda r: order.index(r["model"]) if r["model"] in order else len(order))
        return Comparison(self.tasks, self.published, ranked)

    def tables(self, rows: Sequence[Row]) -> list[Table]:
        """Tables for the terminal: our errors and the published ones for each chosen task, and an overview."""
        compared = self.comparison(rows)
        tasks = [task for task in self.selection.tasks if compared.models(task)]
        return [compared.sheet(task).rich() for task in tasks] + [compared.overview().rich()]


def write_benchmark(benchmark: Benchmark, rows: Sequence[Row], folder: Path) -> list[Path]:
    """Write the page of a benchmark, and return its path.

    Args:
        benchmark: the benchmark; it may run only a part of the tasks, models and seeds of its file.
        rows: the rows of its runs; the page also shows the other rows of ``results.csv`` in the folder.
        folder: the folder of the results.

    Raises:
        InputError: ``results.csv`` belongs to another study.
    """
    known = {(row["hash"], row["test"]): row for row in [*ResultTable(folder, ID_COLUMNS).rows(), *rows]}
    options, path = benchmark.options, folder / "README.md"
    page = benchmark.comparison(list(known.values())).page(options.title, options.note)
    write_text(path, page)
    return [path]
