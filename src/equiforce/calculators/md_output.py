"""The output of a simulation: trajectory, thermo table in a file and on the terminal, and last structure."""

import csv
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from ase import Atoms
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from equiforce.data.write import extxyz

TRAJECTORY, THERMO, LAST = "trajectory.xyz", "thermo.csv", "last.xyz"
NS_PER_DAY = 86_400 * 1e-6  # from fs per second
COLUMNS = (  # name in the CSV, heading, unit, width, format
    ("step", "step", "", 9, "d"),
    ("time_ps", "time", "ps", 10, ".4f"),
    ("temperature_K", "T", "K", 9, ".1f"),
    ("potential_energy_eV", "E_pot", "eV", 14, ".5f"),
    ("kinetic_energy_eV", "E_kin", "eV", 11, ".5f"),
    ("total_energy_eV", "E_tot", "eV", 14, ".5f"),
    ("largest_force_eV_per_A", "max |F|", "eV/Å", 9, ".3f"),
    ("pressure_GPa", "pressure", "GPa", 10, ".4f"),
    ("volume_A3", "volume", "Å³", 11, ".2f"),
)


class Thermo(NamedTuple):
    """One line of the thermo table; pressure and volume are None without a fully periodic cell."""

    step: int
    time_ps: float
    temperature_K: float  # noqa: N815
    potential_energy_eV: float  # noqa: N815
    kinetic_energy_eV: float  # noqa: N815
    total_energy_eV: float  # noqa: N815
    largest_force_eV_per_A: float  # noqa: N815
    pressure_GPa: float | None  # noqa: N815
    volume_A3: float | None  # noqa: N815


class Output:
    """Writes the files of a run, and shows its thermo table and its progress on the terminal.

    Args:
        folder: the output folder, which is created if it is missing.
        title: title of the progress bar.
        n_steps: number of steps of the whole run.
        timestep: in fs.
        console: shows the table and the progress bar.
        in_bulk: whether the atoms have a fully periodic cell, hence a pressure and a volume.
    """

    def __init__(self, folder: Path, title: str, n_steps: int, timestep: float, console: Console, in_bulk: bool):
        self.folder, self.n_steps, self.timestep = folder, n_steps, timestep
        self.columns = COLUMNS if in_bulk else COLUMNS[:-2]
        self.progress = Progress(
            TextColumn(title),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=console,
        )

    def __enter__(self) -> "Output":
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            self.trajectory = stack.enter_context((self.folder / TRAJECTORY).open("w", encoding="utf-8"))
            table = stack.enter_context((self.folder / THERMO).open("w", encoding="utf-8", newline=""))
            self.table = csv.writer(table)
            self.table.writerow(name for name, *_ in self.columns)
            stack.enter_context(self.progress)
            self.task = self.progress.add_task("", total=self.n_steps, speed="")
            for heading in (1, 2):
                self._print(f"{column[heading]:>{column[3]}}" for column in self.columns)
            self.thermo_file = table
            self.open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.open.close()

    def thermo(self, row: Thermo) -> None:
        """Write one line of the thermo table to the file and to the terminal."""
        values = [getattr(row, name) for name, *_ in self.columns]
        self.table.writerow(f"{value:.10g}" for value in values)
        self.thermo_file.flush()
        self._print(f"{value:>{width}{form}}" for value, (*_, width, form) in zip(values, self.columns, strict=True))

    def frame(self, frame: Atoms) -> None:
        """Append a frame to the trajectory, in one write, so that an interrupt leaves no half frame."""
        print(extxyz(frame), end="", file=self.trajectory, flush=True)

    def last(self, frame: Atoms) -> None:
        """Write the last structure, from which another run can start."""
        (self.folder / LAST).write_text(extxyz(frame), encoding="utf-8")

    def advanced(self, step: int) -> None:
        """Move the progress bar."""
        speed = self.progress.tasks[0].speed
        shown = f"{speed:.1f} steps/s · {speed * self.timestep * NS_PER_DAY:.3g} ns/day" if speed else ""
        self.progress.update(self.task, completed=step, speed=shown)

    def _print(self, cells: Iterable[str]) -> None:
        self.progress.console.print(" ".join(cells), highlight=False, soft_wrap=True)
