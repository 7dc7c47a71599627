"""The output of a simulation: trajectory, thermo table in a file and on the terminal, and last structure."""

import csv
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from ase import Atoms
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from equiforce.calculators.md.state import write_safely
from equiforce.data.write import extxyz
from equiforce.errors import InputError

TRAJECTORY, THERMO, LAST = "trajectory.xyz", "thermo.csv", "last.xyz"
NS_PER_DAY = 86_400 * 1e-6  # from fs per second
COLUMNS = (  # name in the CSV, heading, unit, width, format
    ("step", "step", "", 8, "d"),
    ("time_ps", "time", "ps", 8, ".4f"),
    ("temperature_K", "T", "K", 6, ".1f"),
    ("potential_energy_eV", "E_pot", "eV", 13, ".5f"),
    ("kinetic_energy_eV", "E_kin", "eV", 10, ".5f"),
    ("total_energy_eV", "E_tot", "eV", 13, ".5f"),
    ("largest_force_eV_per_A", "max |F|", "eV/Å", 7, ".3f"),
    ("pressure_GPa", "pressure", "GPa", 8, ".4f"),
    ("volume_A3", "volume", "Å³", 9, ".2f"),
)
NOT_SHOWN_IN_BULK = "kinetic_energy_eV"  # so that the table fits 80 columns; the temperature tells the same
AXES_COLUMNS = tuple(
    f"{name}_{unit}"
    for name, unit in (*((f"pressure_{axis}", "GPa") for axis in "xyz"), *((length, "A") for length in "abc"))
)  # in the CSV only, where the axes of the cell change by themselves


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
    axes: tuple[float, ...] = ()  # the values of AXES_COLUMNS


class Output:
    """Writes the files of a run, and shows its thermo table and its progress on the terminal.

    Args:
        folder: the output folder, which is created if it is missing.
        title: title of the progress bar.
        n_steps: number of steps of the whole run.
        timestep: in fs.
        console: shows the table and the progress bar.
        in_bulk: whether the atoms have a fully periodic cell, hence a pressure and a volume.
        with_axes: whether the table in the file also has the pressure along x, y and z and the lengths of the cell.
        sizes: of the files of a run that continues, in bytes; what was written after its state was saved is cut off.
            None begins new files.

    Raises:
        InputError: a file of a run that continues is missing or too short.
    """

    def __init__(
        self,
        folder: Path,
        title: str,
        n_steps: int,
        timestep: float,
        console: Console,
        in_bulk: bool,
        *,
        with_axes: bool = False,
        sizes: Mapping[str, int] | None = None,
    ):
        self.folder, self.n_steps, self.timestep, self.with_axes = folder, n_steps, timestep, with_axes
        self.resumed = sizes is not None
        for name, size in (sizes or {}).items():
            found = (folder / name).stat().st_size if (folder / name).is_file() else 0
            if found < size:
                raise InputError(
                    f"{folder / name} has {found} bytes, but {size} when the run was saved: put the file back, or "
                    f"start a new run from {folder / LAST}"
                )
        self.sizes_at_start = dict(sizes or {})
        self.columns = COLUMNS if in_bulk else COLUMNS[:-2]
        self.shown = [column for column in self.columns if not in_bulk or column[0] != NOT_SHOWN_IN_BULK]
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
        for name, size in self.sizes_at_start.items():
            os.truncate(self.folder / name, size)
        mode = "a" if self.resumed else "w"
        with ExitStack() as stack:
            self.trajectory = stack.enter_context((self.folder / TRAJECTORY).open(mode, encoding="utf-8"))
            self.thermo_file = stack.enter_context((self.folder / THERMO).open(mode, encoding="utf-8", newline=""))
            self.table = csv.writer(self.thermo_file)
            if not self.resumed:
                self.table.writerow([*(name for name, *_ in self.columns), *(AXES_COLUMNS if self.with_axes else ())])
            stack.enter_context(self.progress)
            self.task = self.progress.add_task("", total=self.n_steps, speed="")
            for heading in (1, 2):
                self._print(f"{column[heading]:>{column[3]}}" for column in self.shown)
            self.open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.open.close()

    def thermo(self, row: Thermo) -> None:
        """Write one line of the thermo table to the file and to the terminal."""
        values = [getattr(row, name) for name, *_ in self.columns]
        self.table.writerow(f"{value:.10g}" for value in (*values, *row.axes))
        self.thermo_file.flush()
        self._print(f"{getattr(row, name):>{width}{form}}" for name, *_, width, form in self.shown)

    def frame(self, frame: Atoms) -> None:
        """Append a frame to the trajectory, in one write, so that an interrupt leaves no half frame."""
        print(extxyz(frame), end="", file=self.trajectory, flush=True)

    def last(self, frame: Atoms) -> None:
        """Write the last structure, from which another run can start."""
        write_safely(self.folder / LAST, extxyz(frame).encode())

    def sizes(self) -> dict[str, int]:
        """The sizes of the trajectory and of the table in bytes, after all of it is on the disk."""
        sizes = {}
        for name, file in ((TRAJECTORY, self.trajectory), (THERMO, self.thermo_file)):
            file.flush()
            os.fsync(file.fileno())
            sizes[name] = os.fstat(file.fileno()).st_size
        return sizes

    def note(self, sentence: str) -> None:
        """Show a sentence in yellow, among the lines of the table."""
        self.progress.console.print(f"note: {sentence}", style="yellow", highlight=False, markup=False, soft_wrap=True)

    def advanced(self, step: int) -> None:
        """Move the progress bar."""
        speed = self.progress.tasks[0].speed
        shown = f"{speed:.1f} steps/s · {speed * self.timestep * NS_PER_DAY:.3g} ns/day" if speed else ""
        self.progress.update(self.task, completed=step, speed=shown)

    def _print(self, cells: Iterable[str]) -> None:
        self.progress.console.print(" ".join(cells), highlight=False, soft_wrap=True)
