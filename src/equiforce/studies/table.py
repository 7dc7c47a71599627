"""The results of a study: one CSV file with a row for each run, which is always replaced as a whole."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from equiforce.errors import InputError
from equiforce.quantities import QUANTITIES, in_present_units
from equiforce.storage.faults import told
from equiforce.storage.folders import held
from equiforce.storage.whole import write_text
from equiforce.studies.power_law import PowerLaw
from equiforce.studies.runs import ABOUT_TRAINING, DIVERGED, DONE, Row, Run, error_columns, measured_columns

TEXTS = ("model", "task", "test", "state", "machine", "date", "equiforce", "torch", "hash", "config")
NEVER_EMPTY = ("date", "equiforce", "torch", "hash", "config")
MEASURED = (*ABOUT_TRAINING, "seconds")  # in the row of a run that did not diverge
MEND = "restore the file from a copy, or delete this line, and the same command trains its run again"

NAMES = ("task", "model", "test")  # columns of texts that users choose
FORMULA = ("=", "+", "-", "@", "'")  # a spreadsheet computes a text that begins so; a quotation mark prevents it


class ResultTable:
    """The file ``results.csv`` in the folder of a study; several processes, also on several machines, may add rows.

    Args:
        folder: the folder of the study.
        id_columns: the names of the first columns, which identify a run for a reader.
    """

    def __init__(self, folder: Path, id_columns: Sequence[str]):
        self.path = folder / "results.csv"
        self.id_columns = tuple(id_columns)
        self.columns = (*id_columns, *measured_columns())

    def written(self) -> int | None:
        """Return the time at which the file was last replaced (ns), or None if there is no file."""
        return self.path.stat().st_mtime_ns if self.path.exists() else None

    def rows(self) -> list[Row]:
        """Read all rows; numbers are converted, and an empty cell is None.

        Raises:
            InputError: the file has other columns, or it was cut or edited.
        """
        return list(self._numbered().values())

    def rows_of(self, runs: Sequence[Run]) -> list[Row]:
        """Read the rows of these runs, and compare what they say with the runs.

        Returns:
            The rows of the runs that have one for each of their test sets.

        Raises:
            InputError: as for :meth:`rows`, or a row says other options or another name than the run with its hash.
        """
        own = {run.hash: run for run in runs}
        found: dict[str, list[Row]] = {}
        for line, row in self._numbered().items():
            if (run := own.get(row["hash"])) is not None:
                self._compare(line, row, run)
                found.setdefault(run.hash, []).append(row)
        kept = [rows for rows in found.values() if _is_complete(own[rows[0]["hash"]], rows)]
        return [row for rows in kept for row in rows]

    def _compare(self, line: int, row: Row, run: Run) -> None:
        """Refuse a row that says something else than the run with its hash."""
        if row["config"] != run.config:
            self._refuse(line, f"its hash {run.hash} belongs to other options than those in the column config")
        for name, value in run.id_values.items():
            among = run.tests if name == "test" else (value,)
            if name != "n_test" and str(row[name]) not in map(str, among):
                self._refuse(line, f"{name} is {row[name]}, but its hash {run.hash} belongs to {run}")

    def _numbered(self) -> dict[int, Row]:
        """All rows, each with the number of its line."""
        if not self.path.exists():
            return {}
        lines = self._lines()
        number, header = next(lines, (1, []))
        written = tuple(in_present_units(dict.fromkeys(header, "")))
        if len(set(header)) < len(header) or written != self._columns_of(written):
            raise InputError(
                f"{self.path} has other columns than the table of this study: move it away, or name another folder"
            )
        found: dict[int, Row] = {}
        seen: dict[tuple[str, str], int] = {}
        for number, cells in lines:
            if len(cells) != len(header):
                self._refuse(number, f"it has {len(cells)} cells instead of {len(header)}, so it was cut or edited")
            row = self._row(number, dict(zip(header, cells, strict=True)))
            first = seen.setdefault((row["hash"], row.get("test", "")), number)
            if first != number:
                self._refuse(number, f"its run {row['hash']} has a row in line {first} already")
            found[number] = row
        return found

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        """The cells of each line that is not empty."""
        content = self.path.read_bytes()
        for number, line in enumerate(content.split(b"\n"), 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                self._refuse(number, "it is not text in UTF-8")
            if b"\0" in line:
                self._refuse(number, "it has a zero byte")
        reader = csv.reader(io.StringIO(content.decode(), newline=""), strict=True)
        try:
            for cells in reader:
                if cells:
                    yield reader.line_num, cells
        except csv.Error as error:
            self._refuse(reader.line_num, f"it was cut or edited ({error})")

    def _row(self, number: int, written: Mapping[str, str]) -> Row:
        """The values of a line, which are of the right kind."""
        row: Row = {}
        name, text = "", ""
        try:
            for name, text in written.items():
                if name not in TEXTS:
                    _number(text)
            cells = in_present_units(written)
            row = {
                name: cells.get(name, "") if name in TEXTS else _number(cells.get(name, "")) for name in self.columns
            }
        except ValueError:
            self._refuse(number, f"{name} is {text!r}, which is no number of at least 0")
        row |= {name: row[name].removeprefix("'") for name in NAMES if name in row}
        needed = NEVER_EMPTY if row["state"] == DIVERGED else (*NEVER_EMPTY, *MEASURED)
        if row["state"] not in (DONE, DIVERGED):
            self._refuse(number, f"state is {row['state']!r}, which is neither {DONE} nor {DIVERGED}")
        if empty := [name for name in (*self.id_columns, *needed) if row[name] in ("", None)]:
            self._refuse(number, f"{empty[0]} is empty, so it was cut or edited")
        if row["state"] == DONE and not any(row[name] is not None for name in error_columns()):
            self._refuse(number, "it has no errors, so it was cut or edited")
        try:
            json.loads(row["config"])
        except ValueError:
            self._refuse(number, "config is not JSON, so it was cut or edited")
        return row

    def _refuse(self, number: int, what: str) -> NoReturn:
        raise InputError(f"{self.path}, line {number}: {what}; {MEND}")

    def _columns_of(self, written: Sequence[str]) -> tuple[str, ...]:
        """The columns that the file should have; a file of an older version lacks all those of a new quantity."""
        new = [quantity for quantity in QUANTITIES if not {*error_columns([quantity])} & {*written}]
        if len(new) == len(QUANTITIES):
            return self.columns
        return tuple(column for column in self.columns if column not in error_columns(new))

    def add(self, *rows: Row) -> None:
        """Add the rows of a run, and remove earlier rows with the same hash.

        Raises:
            InputError: the file cannot be written, or it was cut or edited.
        """
        with told(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)  # of the lock
        with held(self.path.with_suffix(".lock"), wait=True):
            kept = [old for old in self.rows() if old["hash"] not in {row["hash"] for row in rows}]
            text = io.StringIO()
            writer = csv.DictWriter(text, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows({n: as_text(v) if n in NAMES else v for n, v in row.items()} for row in (*kept, *rows))
            write_text(self.path, text.getvalue())


def write_fits(path: Path, laws: Mapping[tuple[str, str], PowerLaw | None]) -> None:
    """Write one line for each column of errors and model; the prefactor has the unit in the name of the column."""
    estimates, text = ("exponent", "prefactor", "early", "late", "curvature"), io.StringIO()
    header = ["model", "quantity", *(f"{e}{end}" for e in estimates for end in ("", "_low", "_high"))]
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*header, "smallest", "largest", "n_sizes", "n_seeds", "n_runs"])
    for (column, model), law in laws.items():
        if law is None:
            continue
        numbers = [x for name in estimates for x in (getattr(law, name) or (None,) * 3)[:3]]
        cells = ["" if x is None else f"{x:.6g}" for x in numbers]
        counts = [law.sizes[0], law.sizes[-1], len(law.sizes), law.n_seeds, law.n_runs]
        table.writerow([as_text(model), column, *cells, *counts])
    write_text(path, text.getvalue())


def as_text(name: object) -> object:
    """The name as a cell that no spreadsheet computes."""
    return f"'{name}" if str(name).startswith(FORMULA) else name


def _is_complete(run: Run, rows: Sequence[Row]) -> bool:
    """Whether a run has a row for each of its test sets; one that diverged has one row."""
    if "test" not in run.id_values or rows[0]["state"] == DIVERGED:
        return True
    return {*run.tests} <= {row["test"] for row in rows}


def _number(text: str) -> int | float | None:
    """The number of a cell; None if it is empty."""
    if not text:
        return None
    value = int(text) if text.isdecimal() else float(text)
    if not (math.isfinite(value) and value >= 0) or text != text.strip() or "_" in text:
        raise ValueError(text)
    return value
