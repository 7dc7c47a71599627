"""Shows the progress of a training run in the terminal."""

from collections.abc import Sequence

from equiforce.evaluate import ValidationErrors
from equiforce.quantities import Quantity
from equiforce.terminal import BarColumn, Console, ProgressColumn, Task, TaskID, Text, TextColumn, bar, say
from equiforce.training.loop import StepReport

WIDTH = 10  # the smallest width of a column
LINES = 40  # about the largest number of lines in a run; log.csv has all validations


class TimeLeft(ProgressColumn):
    """The estimated time to the end of the run."""

    def render(self, task: Task) -> Text:
        if not task.completed or task.elapsed is None:
            return Text("-:--:-- left")
        start = task.fields["began_at"]
        left = int(task.elapsed * (1 - task.completed) / max(task.completed - start, 1e-9))
        return Text(f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left", no_wrap=True)


class Display:
    """A progress bar with the latest errors, and a table of errors with about 40 lines at most.

    Args:
        console: where to print.
        quantities: the quantities with labels to validate with; each has a column.
    """

    def __init__(self, console: Console, quantities: Sequence[Quantity]):
        self.console, self.quantities = console, quantities
        self.bar = bar(
            console,
            TextColumn("{task.fields[passes]} passes"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[errors]}"),
            TimeLeft(),
            transient=True,
        )
        errors = [(f"{quantity.name} MAE", quantity.logged.unit) for quantity in quantities]
        self.columns = [("passes", ""), ("step", ""), ("loss", ""), *errors, ("rate", "")]
        self.task: TaskID | None = None
        self.next_line = 0.0
        self.smooth_loss: float | None = None

    def __enter__(self) -> "Display":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def __call__(self, report: StepReport) -> None:
        """Show a training step, and the errors if the step ended with a validation."""
        old = self.smooth_loss
        self.smooth_loss = report.loss if old is None else 0.95 * old + 0.05 * report.loss
        if self.task is None:
            self.task = self.bar.add_task("", total=1.0, passes="0", errors="", began_at=report.progress)
        self.bar.update(self.task, completed=report.progress, passes=f"{report.passes:.1f}")
        if report.errors is None:
            return
        shown = [
            f"{headline.symbol} {found.mae:.{headline.digits}f} {quantity.logged.unit}"
            for quantity, found in report.errors.items()
            if (headline := quantity.headline)
        ]
        self.bar.update(self.task, errors="  ".join(shown))
        if report.progress >= self.next_line or report.progress >= 1:
            if self.next_line == 0.0:
                self._print_heading()
            self.next_line = report.progress + 1 / LINES
            self._print(self._cells(report, report.errors), " *" if report.improved else "")

    def _print_heading(self) -> None:
        """Print the heading before the first line, because kernels may be compiled before it."""
        say(self.console, "errors of validation (* the lowest loss so far):")
        self._print([name for name, _ in self.columns])
        self._print([unit for _, unit in self.columns])

    def _print(self, cells: Sequence[str], mark: str = "") -> None:
        widths = [max(WIDTH, len(name) + 2, len(unit) + 2) for name, unit in self.columns]
        line = "".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)) + mark
        say(self.console, line.rstrip())

    def _cells(self, report: StepReport, errors: ValidationErrors) -> list[str]:
        state = report.state
        found = [errors.get(quantity) for quantity in self.quantities]
        rate = state.optimizer.param_groups[0]["lr"]
        cells = [f"{report.passes:.1f}", f"{state.step:,}", f"{self.smooth_loss:.3g}"]
        return cells + ["-" if one is None else f"{one.mae:.3g}" for one in found] + [f"{rate:.1e}"]
