"""Writers of the training log: a CSV file always, TensorBoard and Weights & Biases on request."""

import csv
from collections.abc import Mapping
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from equiforce.errors import MissingPackageError
from equiforce.quantities import in_present_units

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
        n_rows: the number of rows from an earlier part of the run that stay. Later rows are deleted, because the
            resumed run computes them again.
    """

    def __init__(self, path: Path, n_rows: int = 0):
        self.path = path
        kept: list[dict[str, str]] = []
        if n_rows and path.exists():
            with path.open(encoding="utf-8", newline="") as file:
                kept = [in_present_units(row) for row in islice(csv.DictReader(file), n_rows)]
        self.columns = list(kept[0]) if kept else None  # of an older version, which may lack new ones
        path.write_text("", encoding="utf-8")
        self.n_rows = 0
        for row in kept:
            self._append(row)

    def write(self, row: Row) -> None:
        row = row if self.columns is None else {name: row.get(name) for name in self.columns}
        self._append({name: "" if value is None else value for name, value in row.items()})

    def _append(self, cells: Mapping[str, object]) -> None:
        with self.path.open("a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if self.n_rows == 0:
                writer.writerow(cells)
            writer.writerow(cells.values())
        self.n_rows += 1

    def close(self) -> None:
        pass


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
