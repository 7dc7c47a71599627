"""Writers of the training log: a CSV file always, TensorBoard and Weights & Biases on request."""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from equiforce.errors import InputError, MissingPackageError
from equiforce.quantities import in_present_units
from equiforce.storage.append import Growing, whole_lines
from equiforce.storage.whole import write_text

LOG = "log.csv"  # in the folder of a run
NEEDED = {"step", "loss"}  # columns
Row = Mapping[str, float | int | None]


@runtime_checkable
class Tracker(Protocol):
    """Receives one row of numbers after each validation."""

    def write(self, row: Row) -> None: ...

    def close(self) -> None: ...


class CsvLog:
    """A CSV file with one row for each validation; the cell of a number that does not exist is empty.

    Args:
        path: the file.
        last_step: the step of the checkpoint from which a run continues. Later rows are deleted, because the resumed
            run computes them again.

    Raises:
        InputError: the file has a row that is none of a log, or cannot be written.
    """

    def __init__(self, path: Path, last_step: int = 0):
        self.path = path
        self.file: Growing | None = None
        self.columns: list[str] = []  # of an older version, which may lack new ones
        rows = rows_of(path) if path.exists() else iter(())
        kept = list(takewhile(lambda row: int(row["step"]) <= last_step, rows))
        self.n_rows = len(kept)  # that stay
        if not kept:
            path.unlink(missing_ok=True)
            return
        self.columns = list(kept[0])
        again = "".join(map(_line, [self.columns, *(row.values() for row in kept)]))
        if not whole_lines(path).startswith(again):  # in other units
            write_text(path, again)
        size = len(again.encode("utf-8", errors="surrogateescape"))
        self.file = Growing(path, size if path.stat().st_size > size else None)

    def write(self, row: Row) -> None:
        """Append a row; the first one comes with the heading, so that the file is never without one of them."""
        self.columns = self.columns or list(row)
        cells = ["" if (value := row.get(name)) is None else value for name in self.columns]
        if self.file is None:
            write_text(self.path, _line(self.columns) + _line(cells))
            self.file = Growing(self.path)
        else:
            self.file.append(_line(cells))
            self.file.flush()

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


def rows_of(path: Path) -> Iterator[dict[str, str]]:
    """Read the whole rows of the log of a run, in present units.

    Yields:
        The texts of the cells by the names of their columns; each is empty or a finite number.

    Raises:
        InputError: a row is none of a log.
        OSError: the file cannot be read.
    """
    for number, row in enumerate(csv.DictReader(whole_lines(path).splitlines()), start=2):
        if not _is_row(row):
            raise InputError(f"{path}, line {number} is not a row of a training log: correct it, or delete the file")
        yield in_present_units(row)


def _is_row(row: Mapping[str | None, Any]) -> bool:
    if None in row or None in row.values() or not row.keys() >= NEEDED or not row["step"].isdecimal():
        return False
    try:
        return all(math.isfinite(float(cell)) for cell in row.values() if cell)
    except ValueError:
        return False


def _line(cells: Iterable[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def check_installed(*, tensorboard: bool, wandb: bool) -> None:
    """Raise MissingPackageError if the package of a requested log is missing; called before the run starts."""
    for wanted, package, module in (
        (tensorboard, "tensorboard", "torch.utils.tensorboard"),
        (wandb, "wandb", "wandb"),
    ):
        try:
            if wanted:
                import_module(module)
        except ImportError:
            raise MissingPackageError(
                f'training.{package} needs a package that is not installed: pip install "equiforce[{package}]"'
            ) from None


class TensorBoardLog:
    """A TensorBoard log, shown by ``tensorboard --logdir RUN/tensorboard``."""

    def __init__(self, folder: Path):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"))

    def write(self, row: Row) -> None:
        for name, value in row.items():
            if value is not None:
                self.writer.add_scalar(name, value, int(row["step"] or 0))

    def close(self) -> None:
        self.writer.close()


class WandbLog:
    """A run of Weights & Biases."""

    def __init__(self, folder: Path, project: str, config: dict[str, Any]):
        import wandb

        self.run = wandb.init(project=project, name=folder.name, dir=str(folder), config=config)

    def write(self, row: Row) -> None:
        self.run.log({name: value for name, value in row.items() if value is not None}, step=int(row["step"] or 0))

    def close(self) -> None:
        self.run.finish()
