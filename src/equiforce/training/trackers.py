"""Where the training log goes: always a CSV file, by option TensorBoard and Weights & Biases as well."""

import csv
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from equiforce.errors import InputError

Row = Mapping[str, float | int | None]


@runtime_checkable
class Tracker(Protocol):
    """Takes one row of numbers at each validation."""

    def write(self, row: Row) -> None: ...

    def close(self) -> None: ...


class CsvLog:
    """A CSV file with one row a validation; empty where a number does not exist.

    Args:
        path: the file.
        n_rows: of an earlier part of the run that stay; later ones are cut off, for they will be computed again.
    """

    def __init__(self, path: Path, n_rows: int = 0):
        self.path = path
        kept = path.read_text().splitlines()[: n_rows + 1] if n_rows and path.exists() else []
        self.n_rows = max(0, len(kept) - 1)
        path.write_text("".join(line + "\n" for line in kept))

    def write(self, row: Row) -> None:
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if self.n_rows == 0:
                writer.writerow(row)
            writer.writerow(["" if value is None else value for value in row.values()])
        self.n_rows += 1

    def close(self) -> None:
        pass


def check_installed(*, tensorboard: bool, wandb: bool) -> None:
    """Raises InputError where a log is asked for whose package is missing: before a run, not after its start."""
    for wanted, package, module in (
        (tensorboard, "tensorboard", "torch.utils.tensorboard"),
        (wandb, "wandb", "wandb"),
    ):
        try:
            if wanted:
                import_module(module)
        except ImportError:
            raise InputError(f'training.{package} needs another package: pip install "equiforce[{package}]"') from None


class TensorBoardLog:
    """Scalars for ``tensorboard --logdir RUN/tensorboard``."""

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
