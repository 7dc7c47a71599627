"""The output of a simulation: trajectory, thermo table in a file and on the terminal, and last structure."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from ase import Atoms

from equiforce.data.write import extxyz
from equiforce.errors import InputError
from equiforce.storage.append import Growing
from equiforce.storage.whole import write_text
from equiforce.terminal import BarColumn, Console, MofNCompleteColumn, TextColumn, TimeRemainingColumn, bar, note, say

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
            A file without a size begins anew, and replaces an old one with its first frame or row.

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
        self.sizes_at_start = {name: (sizes or {}).get(name, 0) for name in (TRAJECTORY, THERMO)}
        for name, size in self.sizes_at_start.items():
            found = (folder / name).stat().st_size if (folder / name).is_file() else 0
            if found < size:
                raise InputError(
                    f"{folder / name} has {found} bytes, but {size} when the run was saved: put the file back, or "
                    f"start a new run from {folder / LAST}"
                )
        self.on_step: Callable[[int], object] | None = None  # is called with the number of each step
        self.columns = COLUMNS if in_bulk else COLUMNS[:-2]
        self.shown = [column for column in self.columns if not in_bulk or column[0] != NOT_SHOWN_IN_BULK]
        self.progress = bar(
            console,
            TextColumn(title),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
        )

    def __enter__(self) -> "Output":
        with ExitStack() as stack:
            self.trajectory, self.table = (
                stack.enter_context(Growing(self.folder / name, size)) for name, size in self.sizes_at_start.items()
            )
            stack.enter_context(self.progress)
            self.task = self.progress.add_task("", total=self.n_steps, speed="")
            for heading in (1, 2):
                self._print(f"{column[heading]:>{column[3]}}" for column in self.shown)
            self.open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.open.close()

    def thermo(self, row: Thermo) -> None:
        """Write one line of the thermo table to the file, the first one with the heading, and to the terminal."""
        values = [getattr(row, name) for name, *_ in self.columns]
        heading = [*(name for name, *_ in self.columns), *(AXES_COLUMNS if self.with_axes else ())]
        lines = [] if self.table.size else [heading]
        lines.append([f"{value:.10g}" for value in (*values, *row.axes)])
        self.table.append("".join(",".join(line) + "\r\n" for line in lines))
        self._print(f"{getattr(row, name):>{width}{form}}" for name, *_, width, form in self.shown)

    def frame(self, frame: Atoms) -> None:
        """Append a frame to the trajectory."""
        self.trajectory.append(extxyz(frame))

    def last(self, frame: Atoms) -> None:
        """Write the last structure, from which another run can start."""
        write_text(self.folder / LAST, extxyz(frame))

    def sizes(self) -> dict[str, int]:
        """The sizes of the trajectory and of the table in bytes, after all of it is on the disk."""
        return {TRAJECTORY: self.trajectory.flush(), THERMO: self.table.flush()}

    def note(self, sentence: str) -> None:
        """Show a sentence in yellow, among the lines of the table."""
        note(self.progress.console, sentence)

    def advanced(self, step: int) -> None:
        """Move the progress bar."""
        speed = self.progress.tasks[0].speed
        shown = f"{speed:.1f} steps/s · {speed * self.timestep * NS_PER_DAY:.3g} ns/day" if speed else ""
        self.progress.update(self.task, completed=step, speed=shown)
        if self.on_step is not None:
            self.on_step(step)

    def _print(self, cells: Iterable[str]) -> None:
        say(self.progress.console, " ".join(cells))
