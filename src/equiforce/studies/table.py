"""The results of a study: one CSV file, a row for each run, written whole or not at all."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from equiforce.errors import InputError
from equiforce.studies.runs import MEASURED, Row


class ResultTable:
    """``results.csv`` in the folder of a study. Several processes may add to it, on one machine or on several.

    Args:
        folder: of the study.
        labels: the names of the first columns, which tell runs apart.
    """

    def __init__(self, folder: Path, labels: Sequence[str]):
        self.path = folder / "results.csv"
        self.columns = (*labels, *MEASURED)

    def written(self) -> int | None:
        """When the file was last replaced, or None."""
        return self.path.stat().st_mtime_ns if self.path.exists() else None

    def rows(self) -> list[Row]:
        """What is known by now: numbers as numbers, None where there is nothing.

        Raises:
            InputError: the file has other columns.
        """
        if not self.path.exists():
            return []
        with self.path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != self.columns:
                raise InputError(
                    f"{self.path} has other columns than the table of this study: move it away, or name another folder"
                )
            return [{name: _value(name, text) for name, text in row.items()} for row in reader]

    def add(self, *rows: Row) -> None:
        """Adds the rows of a run, in place of earlier ones of the same hash."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock")):
            kept = [old for old in self.rows() if old["hash"] not in {row["hash"] for row in rows}]
            text = io.StringIO()
            writer = csv.DictWriter(text, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows([*kept, *rows])
            unfinished = self.path.with_suffix(".part")
            unfinished.write_text(text.getvalue(), encoding="utf-8")
            unfinished.replace(self.path)


def _value(name: str, text: str) -> str | int | float | None:
    if name in ("hash", "config", "machine", "date", "equiforce", "torch", "state"):
        return text
    if not text:
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
