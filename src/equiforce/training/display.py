"""Shows the progress of a training run in the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from equiforce.evaluate import ValidationErrors
from equiforce.quantities import QUANTITIES
from equiforce.training.loop import StepReport

WIDTH = 11  # the smallest width of a column
LINES = 40  # about the largest number of lines in a run; log.csv has all validations


class TimeLeft(ProgressColumn):
    """The estimated time to the end of the run."""

    def render(self, task: Task) -> Text:
        if not task.completed or task.elapsed is None:
            return Text("-:--:-- left")
        start = task.fields["began_at"]
        left = int(task.elapsed * (1 - task.completed) / max(task.completed - start, 1e-9))
        return Text(f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left")


class Display:
    """A progress bar with the latest errors, and a table of errors with about 40 lines at most."""

    def __init__(self, console: Console):
        self.console = console
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>5.1f} %  loss {task.fields[loss]}  {task.fields[errors]}"),
            TimeElapsedColumn(),
            TimeLeft(),
            console=console,
            transient=True,
        )
        errors = [(f"{quantity.name} MAE", quantity.logged.unit) for quantity in QUANTITIES]
        self.columns = [("epoch", ""), ("step", ""), ("loss", ""), *errors, ("rate", "")]
        self.task: TaskID | None = None
        self.next_line = 0.0
        self.smooth_loss: float | None = None

    def __enter__(self) -> "Display":
        self._print([name for name, _ in self.columns])
        self._print([unit for _, unit in self.columns])
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def __call__(self, report: StepReport) -> None:
        """Show a training step, and the errors if the step ended with a validation."""
        old = self.smooth_loss
        self.smooth_loss = report.loss if old is None else 0.95 * old + 0.05 * report.loss
        if self.task is None:
            self.task = self.bar.add_task("", total=1.0, epoch=0, loss="", errors="", began_at=report.progress)
        self.bar.update(self.task, completed=report.progress, epoch=report.state.epoch, loss=f"{self.smooth_loss:.3g}")
        if report.errors is None:
            return
        shown = [
            f"{headline.symbol} {found.mae:.{headline.digits}f} {quantity.logged.unit}"
            for quantity, found in report.errors.items()
            if (headline := quantity.headline)
        ]
        self.bar.update(self.task, errors="  ".join(shown))
        if report.progress >= self.next_line or report.progress >= 1:
            self.next_line = report.progress + 1 / LINES
            self._print(self._cells(report, report.errors), " *" if report.improved else "")

    def _print(self, cells: Sequence[str], mark: str = "") -> None:
        widths = [max(WIDTH, len(name) + 1, len(unit) + 1) for name, unit in self.columns]
        line = "".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)) + mark
        self.console.print(line, highlight=False, soft_wrap=True)

    def _cells(self, report: StepReport, errors: ValidationErrors) -> list[str]:
        state = report.state
        found = [errors.get(quantity) for quantity in QUANTITIES]
        rate = state.optimizer.param_groups[0]["lr"]
        cells = [str(state.epoch), str(state.step), f"{self.smooth_loss:.3g}"]
        return cells + ["-" if one is None else f"{one.mae:.3g}" for one in found] + [f"{rate:.1e}"]
