"""The results of a study: one CSV file with a row for each run, which is always replaced as a whole."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from equiforce.errors import InputError
from equiforce.quantities import QUANTITIES, in_present_units
from equiforce.studies.runs import Row, error_columns, measured_columns


class ResultTable:
    """The file ``results.csv`` in the folder of a study; several processes, also on several machines, may add rows.

    Args:
        folder: the folder of the study.
        id_columns: the names of the first columns, which identify a run for a reader.
    """

    def __init__(self, folder: Path, id_columns: Sequence[str]):
        self.path = folder / "results.csv"
        self.columns = (*id_columns, *measured_columns())

    def written(self) -> int | None:
        """Return the time at which the file was last replaced (ns), or None if there is no file."""
        return self.path.stat().st_mtime_ns if self.path.exists() else None

    def rows(self) -> list[Row]:
        """Read all rows; numbers are converted, and an empty cell is None.

        Raises:
            InputError: the file has other columns.
        """
        if not self.path.exists():
            return []
        with self.path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            written = tuple(in_present_units(dict.fromkeys(reader.fieldnames or (), "")))
            if written != self._columns_of(written):
                raise InputError(
                    f"{self.path} has other columns than the table of this study: move it away, or name another folder"
                )
            rows = map(in_present_units, reader)
            return [{name: _value(name, row.get(name, "")) for name in self.columns} for row in rows]

    def _columns_of(self, written: Sequence[str]) -> tuple[str, ...]:
        """The columns that the file should have; a file of an older version lacks all those of a new quantity."""
        new = [quantity for quantity in QUANTITIES if not {*error_columns([quantity])} & {*written}]
        if len(new) == len(QUANTITIES):
            return self.columns
        return tuple(column for column in self.columns if column not in error_columns(new))

    def add(self, *rows: Row) -> None:
        """Add the rows of a run, and remove earlier rows with the same hash."""
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
