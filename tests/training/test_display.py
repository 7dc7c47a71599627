from io import StringIO

import pytest
from rich.console import Console

from equiforce.evaluate import MeanErrors, ValidationErrors
from equiforce.quantities import ENERGY, FORCES, STRESS
from equiforce.training.display import LINES, Display
from equiforce.training.loop import StepReport
from tests.training.setups import setup_of


@pytest.fixture
def state(tmp_path):
    state, _ = setup_of(tmp_path)
    state.step, state.epoch = 12, 3
    return state


def shown(reports, terminal=False):
    console = Console(file=StringIO(), width=120, force_terminal=terminal)
    with Display(console) as display:
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
    lines, bar = shown([StepReport(state, 0.5, 0.25, found, True)])
    names, units, values = (line.split() for line in lines[:3])
    assert names[:9] == ["epoch", "step", "loss", "energy", "MAE", "forces", "MAE", "stress", "MAE"]
    assert units[:3] == ["meV/atom", "meV/Å", "GPa"]
    assert values[:6] == ["3", "12", "0.25", *cells]
    assert (names[-1], values[-2:]) == ("rate", ["3.0e-02", "*"])
    assert bar.fields["errors"].strip() == beside_bar


def test_a_long_run_has_few_lines_and_always_a_last_one(state):
    errors = ValidationErrors({ENERGY: MeanErrors(1.0, 1.0), FORCES: MeanErrors(1.0, 1.0)})
    lines, bar = shown([StepReport(state, (i + 1) / 500, 1.0, errors, False) for i in range(500)])
    lines = [line for line in lines[2:] if line.strip()]
    assert LINES - 2 <= len(lines) <= LINES + 2
    assert bar.completed == 1.0


def test_steps_without_validation_only_move_the_bar(state):
    lines, bar = shown([StepReport(state, 0.1 * i, loss, None, False) for i, loss in enumerate((4.0, 2.0), 1)])
    assert not [line for line in lines[2:] if line.strip()]
    assert bar.completed == pytest.approx(0.2)
    assert bar.fields["loss"] == "3.9"  # smoothed


def test_the_bar_says_the_time_that_is_left(state):
    lines, _ = shown([StepReport(state, p, 1.0, None, False) for p in (0.1, 0.5)], terminal=True)
    assert any("left" in line and "50.0 %" in line for line in lines)
