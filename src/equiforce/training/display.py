"""What a person sees while a model trains."""

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from equiforce.training.loop import Report

COLUMNS = ("epoch", "step", "loss", "energy MAE", "forces MAE", "stress MAE", "rate")
UNITS = ("", "", "", "meV/atom", "meV/Å", "meV/Å³", "")
WIDTH = 11
LINES = 40  # at most, over a run; every number is in the log


class TimeLeft(ProgressColumn):
    """The time left, from the fraction that is done."""

    def render(self, task: Task) -> Text:
        if not task.completed or task.elapsed is None:
            return Text("-:--:-- left")
        start = task.fields["began_at"]
        left = int(task.elapsed * (1 - task.completed) / max(task.completed - start, 1e-9))
        return Text(f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left")


class Display:
    """A progress bar, and a line of errors with units from time to time."""

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
        self.task = None
        self.next_line = 0.0
        self.smooth = None

    def __enter__(self) -> "Display":
        self.console.print("".join(name.rjust(WIDTH) for name in COLUMNS), highlight=False, soft_wrap=True)
        self.console.print("".join(unit.rjust(WIDTH) for unit in UNITS), highlight=False, soft_wrap=True)
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def __call__(self, report: Report) -> None:
        """Shows a step, and after a validation its errors."""
        self.smooth = report.loss if self.smooth is None else 0.95 * self.smooth + 0.05 * report.loss
        if self.task is None:
            fields = {"epoch": 0, "loss": "", "errors": "", "began_at": report.progress}
            self.task = self.bar.add_task("", total=1.0, **fields)
        self.bar.update(self.task, completed=report.progress, epoch=report.state.epoch, loss=f"{self.smooth:.3g}")
        if report.errors is None:
            return
        energy, forces = report.errors.energy_mae_meV_per_atom, report.errors.forces_mae_meV_per_A
        shown_energy = "" if energy is None else f"E {energy:.2f} meV/atom  "
        shown_forces = "" if forces is None else f"F {forces:.1f} meV/Å"
        self.bar.update(self.task, errors=shown_energy + shown_forces)
        if report.progress >= self.next_line or report.progress >= 1:
            self.next_line = report.progress + 1 / LINES
            self.console.print(self._line(report), highlight=False, soft_wrap=True)

    def _line(self, report: Report) -> str:
        state, errors = report.state, report.errors
        values = (errors.energy_mae_meV_per_atom, errors.forces_mae_meV_per_A, errors.stress_mae_meV_per_A3)
        rate = state.optimizer.param_groups[0]["lr"]
        cells = [str(state.epoch), str(state.step), f"{self.smooth:.3g}"]
        cells += ["-" if value is None else f"{value:.3g}" for value in values] + [f"{rate:.1e}"]
        return "".join(cell.rjust(WIDTH) for cell in cells) + (" *" if report.improved else "")
