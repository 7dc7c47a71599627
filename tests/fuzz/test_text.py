"""Hostile names of files, groups, models and titles stand as they are in tables, notes, errors, plots and pages."""

import argparse
import csv
import io
import random
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console as RichConsole

from equiforce.assessment import _print_errors
from equiforce.cli import output
from equiforce.conclusion import conclude
from equiforce.config import RunConfig
from equiforce.data.dataset import SplitOptions
from equiforce.errors import InputError
from equiforce.evaluate import errors
from equiforce.graph import Prediction
from equiforce.option_values import check_names
from equiforce.preparation import print_notes
from equiforce.report import ModelCurve, learning_curve_plot, parity_plot
from equiforce.structure import Structure
from equiforce.studies.comparison import Comparison, PublishedNumbers
from equiforce.studies.learning_curve import LearningCurve, LearningCurveOptions, Subsets
from equiforce.studies.markdown import assigned, code, markdown_table, plain
from equiforce.studies.page import write_page
from equiforce.studies.runs import DONE, measured_columns
from equiforce.studies.table import ResultTable
from equiforce.studies.task import Task
from equiforce.terminal import one_line, own_console, show
from equiforce.training.verdict import Verdict
from equiforce.worst_frames import print_worst_frames
from tests.fuzz import harness

PIECES = (
    'fcc', '[bold]', '[/]', '[/bold]', '[slab]', '[link=http://x.y]', '[', ']', '\\', '\\[', ':smile:', '{task}',
    '{}', '{0}', '%s', '$x$', '$', '\\frac{', '_', '__', '^', '*', '**', '`', '``', '|', '\\|',
    '<script>alert(1)</script>', '<b>', '&amp;', '](http://x.y)', '![a](b)', '# ', '- ', '1. ', '> ', '\n', '\r',
    '\t', '\x00', '\x07', '\x1b[31m', '\x1b]0;t\x07', '\x9b31m', '\u202e', '\u2028', '\ufeff', '\udcff', '\ud83d',
    '😀', '日本', 'é', '=1+1', '+1', '-1', '@x', "'", '"', ',', ';', ' ', '  ', '/', '..', '/tmp/a', '~', "a" * 300,
    'config_type', 'None', 'nan', '0', '3', 'C:\\x', 'www.x.y', 'http://x.y',
)  # fmt: skip


ERRORS = {"forces": "MAE meV/Å"}


def name(rng: random.Random) -> str:
    return "".join(rng.choice(PIECES) for _ in range(rng.randrange(1, 6)))


def seen(rng: random.Random) -> str:
    """Like most hostile names, but one that studies accept."""
    one = name(rng)
    return one if rng.random() < 0.1 else one_line(one).strip() or "x"


def console_of(rng):
    """A program's console, or one that a user made."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=rng.choice(("utf-8", "ascii", "latin-1")))
    console = output.messages() if rng.random() < 0.5 else RichConsole()
    console.file, console.width = stream, 160  # names are broken where COLUMNS says that a terminal is narrow
    return console


def text_of(console) -> str:
    console.file.flush()
    return console.file.buffer.getvalue().decode(console.file.encoding)


def check(console, *names: str) -> None:
    """What was printed has no command for the terminal, and contains each name."""
    text, encoding = text_of(console), console.file.encoding
    controls = set(re.findall(r"[^\S\n ]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)) - {"\n"}
    assert not controls, f"{controls} in {text[:200]!r}"
    for one in (one for one in names if len(one) < 60):  # longer ones may be broken
        shown = one_line(one).encode(encoding, "backslashreplace").decode(encoding)
        missing = _bare(shown) not in _bare(text)
        assert not missing, f"{one!r} is not in {text[:1000]!r}"


def _bare(text: str) -> str:
    """The text without what tables add: spaces, breaks of lines and frames."""
    return re.sub(r"[\s│┃|]", "", text)


def attack(rng: random.Random, folder: Path) -> str:
    """Give hostile names to one part that prints, draws or writes."""
    kind = rng.choice((_tables, _notes, _error, _end, _plots, _sheet, _page, _cells, _tables, _notes, _sheet, _cells))
    try:
        kind(rng, folder)
    except ValueError as error:
        # names of models are refused when a study is read, and no file has a null character in its name
        if "cannot be seen" in str(error) or "null" in str(error):
            return "refused"
        raise
    return kind.__name__.removeprefix("_")


def _structures(rng, n=3):
    found = []
    for _ in range(n):
        positions = np.random.default_rng(rng.randrange(1000)).normal(size=(2, 3))
        found.append(
            Structure(
                atomic_numbers=np.array([1, 8]), positions=positions, cell=np.zeros((3, 3)),
                pbc=np.zeros(3, dtype=bool), energy=1.0, forces=positions, group=name(rng),
                source=name(rng) if rng.random() < 0.9 else "",
            )
        )  # fmt: skip
    zeros = Prediction(energy=torch.zeros(1), energies=torch.zeros(2), forces=torch.zeros(2, 3))
    return found, [zeros] * n


def _tables(rng, folder):
    structures, predictions = _structures(rng)
    console = console_of(rng)
    _print_errors(errors(structures, predictions), structures, console)
    print_worst_frames(structures, predictions, console)
    check(console, *{s.group for s in structures if len({s.group for s in structures}) > 1})


def _notes(rng, folder):
    console, notes = console_of(rng), [name(rng), name(rng)]
    print_notes(notes, console)
    check(console, *notes)


def _error(rng, folder):
    console, sentence = console_of(rng), name(rng)
    before, output.own_console = output.own_console, lambda **_: console
    try:
        output.print_error(rng.choice((InputError(sentence), OSError(2, "No such file", sentence))))
    finally:
        output.own_console = before
    check(console, sentence)


def _end(rng, folder):
    console, run, data = console_of(rng), Path(name(rng)[:60]), name(rng)
    settings = RunConfig(split=SplitOptions(train_file=[data]))
    conclude(run, settings, Verdict("short", name(rng), train_longer=True), console)
    check(console)


def _plots(rng, folder):
    if rng.random() < 0.5:
        parity_plot(folder / "parity.png", *_structures(rng))
    else:
        curves = [ModelCurve(name(rng), [10, 20], [2.0, 1.0], None) for _ in range(2)]
        paths = [folder / "curve.svg"]
        learning_curve_plot(paths, curves, title=name(rng), error="x", legend="exponent")


def _sheet(rng, folder):
    task, test, model = seen(rng), seen(rng), seen(rng)
    check_names((task, model), "a study")  # as when it is read
    tasks = {
        task: Task(title=name(rng), note=name(rng), pool=["p"], tests={test: ["a"]}, errors={"forces": "MAE meV/Å"})
    }
    row = {
        "task": task, "model": model, "test": test, "seed": 0, "n_test": 10, "state": DONE, "n_weights": 1,
        "n_train": 7, "steps": 5, "seconds": 6.0, "threads": 1, "machine": one_line(name(rng)), "equiforce": "1",
        "torch": "2", "date": "2026", "best_step": 1, "validation_loss": 1.0,
        "validation_forces_mae_meV_per_A": 9.0, "test_forces_mae_meV_per_A": 1.0, "hash": "a", "config": "{}",
    }  # fmt: skip
    compared = Comparison(tasks, PublishedNumbers({name(rng): name(rng)}, ()), [row])
    console = own_console(width=300)
    console.file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    show(console, compared.sheet(task).rich())
    check(console, model)
    _check_page(compared.page(name(rng), name(rng)))
    table = ResultTable(folder / f"{rng.random()}", ("task", "model", "seed", "test", "n_test"))
    table.add(dict.fromkeys(table.columns) | row)
    read = table.rows()[0]
    assert (read["task"], read["model"], read["test"]) == (task, model, test)
    _check_cells(table.path)


def _page(rng, folder):
    model = seen(rng)
    options = LearningCurveOptions(
        title=name(rng), pool=[name(rng)], test=[name(rng)], sizes=[10, 20], seeds=[0], steps=10, doubled=False,
        models={model: {"model.l_max": 1}, seen(rng) + "2": {"model.l_max": 0}},
    )  # fmt: skip
    subsets = Subsets(
        pool=("p",), test=("t",), validation=(0,), candidates=(1,) * 30, fingerprint="0", n_test=3, n_copies=0
    )
    curve = LearningCurve(options, subsets, name(rng))
    rows = []
    for run in curve.runs([]):
        measured = {
            "state": DONE, "n_weights": 5, "steps": 10, "validation_loss": 1.0, "test_forces_rmse_meV_per_A": 4.0,
            "test_forces_mae_meV_per_A": 3.0 / run.id_values["size"], "seconds": 1.0, "threads": 1,
            "machine": name(rng), "equiforce": "1", "torch": "2", "hash": run.hash,
        }  # fmt: skip
        rows.append(dict(run.id_values) | dict.fromkeys(measured_columns()) | measured)
    files = write_page(curve, rows, folder)
    _check_page(files[0].read_text(encoding="utf-8"))
    _check_cells(files[1])


def _cells(rng, folder):
    texts = [name(rng) for _ in range(3)]
    table = markdown_table([["a", "b", "c"], [plain(t) for t in texts], [code(t) for t in texts]])
    _check_page("\n".join([table, plain(texts[0]), assigned({texts[1]: texts[2]})]))


def _check_page(text: str) -> None:
    """Nothing of a name is markup: the rows of each table have as many cells as its head."""
    outside = _outside_of_code(re.sub(r"(?m)^    .*$", "", text))
    assert not re.search(r"<\w|</|\]\((?!\w+\.png\))|\$", outside), outside
    for block in re.split(r"\n\n+", re.sub(r"\\\|", "", text)):
        rows = [line for line in block.split("\n") if line.startswith("|")]
        assert len({row.count("|") for row in rows}) <= 1, block
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)


def _outside_of_code(text: str) -> str:
    """The text without code and without escaped characters, as a reader of Markdown sees it."""
    left, at = "", 0
    while at < len(text):
        if escaped := re.compile(r"\\[!-/:-@\[-`{-~]").match(text, at):
            at = escaped.end()
        elif opened := re.compile("`+").match(text, at):
            closed = re.compile(rf"(?<!`){opened[0]}(?!`)").search(text, opened.end())
            assert closed, f"code without an end: {text[at:]}"
            at = closed.end()
        else:
            left, at = left + text[at], at + 1
    return left


def _check_cells(path: Path) -> None:
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            assert not re.match(r"[=+@-]", str(row["model"]))


@pytest.mark.slow
def test_hostile_names_stand_as_they_are(tmp_path, fuzz_seconds):
    tally = harness.run(attack, tmp_path, seconds=fuzz_seconds("text"))
    print(tally)
    assert not tally.failures, str(tally)
    assert {"tables", "notes", "error", "end", "plots", "sheet", "page", "cells"} <= set(tally.counts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tries", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        print(harness.run(attack, Path(made), tries=arguments.tries, seed=arguments.seed))
