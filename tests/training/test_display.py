import io

from rich.console import Console

from equiforce.evaluate import ValidationErrors
from equiforce.training.display import Display
from equiforce.training.loop import Report, new_state
from equiforce.training.optimizer import OptimizerConfig
from tests.systems import potential_of


def test_errors_are_shown_with_units_and_the_best_is_marked():
    state = new_state(potential_of(l_max=0, n_layers=1, channels=2), OptimizerConfig())
    text = io.StringIO()
    with Display(Console(file=text, width=100)) as display:
        for step in range(1, 11):
            state.step = step
            errors = ValidationErrors(1.25, 2.0, 31.5, 40.0, None, None) if step == 10 else None
            display(Report(state, step / 10, 0.5, errors, improved=True))
    lines = text.getvalue().splitlines()
    assert lines[0].split() == ["epoch", "step", "loss", "energy", "MAE", "forces", "MAE", "stress", "MAE", "rate"]
    assert lines[1].split() == ["meV/atom", "meV/Å", "meV/Å³"]
    assert lines[2].split() == ["0", "10", "0.5", "1.25", "31.5", "-", "1.0e-01", "*"]
