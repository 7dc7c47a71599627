from io import StringIO

import pytest
from rich.console import Console

from equiforce.evaluate import MeanErrors, ValidationErrors
from equiforce.quantities import ENERGY, FORCES, QUANTITIES, STRESS
from equiforce.training.display import LINES, Display
from equiforce.training.loop import StepReport
from tests.training.setups import setup_of


@pytest.fixture
def state(tmp_path):
    state, _ = setup_of(tmp_path)
    state.step, state.epoch = 12, 3
    return state


def shown(reports, terminal=False, quantities=QUANTITIES, width=120):
    console = Console(file=StringIO(), width=width, force_terminal=terminal)
    with Display(console, quantities) as display:
        for report in reports:
            display(report)
        bar = display.bar.tasks[0]
    return console.file.getvalue().splitlines(), bar


@pytest.mark.parametrize(
    ("errors", "cells", "beside_bar"),
    [
        (
            {ENERGY: (1.5, 2.0), FORCES: (30.0, 40.0), STRESS: (5.0, 6.0)},
            ["1.5", "30", "5"],
            "E 1.50 meV/atom  F 30.0 meV/Å",
        ),
        ({ENERGY: (1.5, 2.0)}, ["1.5", "-", "-"], "E 1.50 meV/atom"),
        ({FORCES: (30.0, 40.0)}, ["-", "30", "-"], "F 30.0 meV/Å"),
        ({}, ["-", "-", "-"], ""),
    ],
    ids=["all", "energies", "forces", "none"],
)
def test_errors_are_shown_with_units_and_the_best_is_marked(state, errors, cells, beside_bar):
    found = ValidationErrors({quantity: MeanErrors(*values) for quantity, values in errors.items()})
    lines, bar = shown([StepReport(state, 0.5, 0.25, found, True, 3.25)])
    names, units, values = (line.split() for line in lines[1:4])
    assert names[:9] == ["passes", "step", "loss", "energy", "MAE", "forces", "MAE", "stress", "MAE"]
    assert units[:3] == ["meV/atom", "meV/Å", "GPa"]
    assert values[:6] == ["3.2", "12", "0.25", *cells]
    assert (names[-1], values[-2:]) == ("rate", ["3.0e-02", "*"])
    assert bar.fields["errors"].strip() == beside_bar


def test_a_long_run_has_few_lines_and_always_a_last_one(state):
    errors = ValidationErrors({ENERGY: MeanErrors(1.0, 1.0), FORCES: MeanErrors(1.0, 1.0)})
    lines, bar = shown([StepReport(state, (i + 1) / 500, 1.0, errors, False, 1.0) for i in range(500)])
    lines = [line for line in lines[3:] if line.strip()]
    assert LINES - 2 <= len(lines) <= LINES + 2
    assert bar.completed == 1.0


def test_steps_without_validation_only_move_the_bar(state):
    lines, bar = shown([StepReport(state, 0.1 * i, loss, None, False, 0.5) for i, loss in enumerate((4.0, 2.0), 1)])
    assert not [line for line in lines if line.strip()]
    assert bar.completed == pytest.approx(0.2)
    assert bar.fields["passes"] == "0.5"


def test_the_bar_says_the_time_that_is_left(state):
    lines, _ = shown([StepReport(state, p, 1.0, None, False, 7.5) for p in (0.1, 0.5)], terminal=True)
    assert any("7.5 passes" in line and "50 %" in line and "left" in line for line in lines)


def test_a_quantity_without_labels_has_no_column_and_lines_fit_on_a_terminal(state):
    state.step = 123_456
    errors = ValidationErrors(dict.fromkeys(QUANTITIES, MeanErrors(1234.5, 1.0)))
    reports = [StepReport(state, 1.0, 1.23e-5, errors, True, 1234.5)]
    assert max(map(len, shown(reports, width=80)[0])) <= 80
    lines, _ = shown(reports, quantities=[FORCES])
    assert lines[1].split() == ["passes", "step", "loss", "forces", "MAE", "rate"]
    assert lines[3].split() == ["1234.5", "123,456", "1.23e-05", "1.23e+03", "3.0e-02", "*"]
