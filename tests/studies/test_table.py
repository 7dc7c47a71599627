"""The table of results: whole at any time, whoever writes."""

import csv
import subprocess
import sys
import textwrap

import pytest

from equiforce.errors import InputError
from equiforce.studies.runs import measured_columns
from equiforce.studies.table import ResultTable


def row(hash_, **values):
    return dict.fromkeys(measured_columns(), "") | {"model": "l=1", "size": 3, "hash": hash_} | values


def remove_columns(path, name):
    """Remove the columns whose names contain this text."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [{column: text for column, text in r.items() if name not in column} for r in csv.DictReader(file)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def test_rows_come_back_as_they_went(tmp_path):
    table = ResultTable(tmp_path, ("model", "size"))
    assert table.rows() == []
    table.add(row("a", seconds=1.25, steps=7, config='{"x": "1, 2"}', date="2026"))
    table.add(row("12", model="l=0, wide"))
    first, second = table.rows()
    assert (first["size"], first["seconds"], first["steps"]) == (3, 1.25, 7)
    assert (first["config"], first["date"], first["test_stress_mae_GPa"]) == ('{"x": "1, 2"}', "2026", None)
    assert (second["model"], second["hash"]) == ("l=0, wide", "12")


def test_a_row_of_the_same_hash_is_replaced(tmp_path):
    table = ResultTable(tmp_path, ("model", "size"))
    table.add(row("a", steps=1))
    table.add(row("b", steps=2))
    table.add(row("a", steps=3))
    assert [(r["hash"], r["steps"]) for r in table.rows()] == [("b", 2), ("a", 3)]


def test_other_columns_are_refused(tmp_path):
    ResultTable(tmp_path, ("model", "size")).add(row("a"))
    with pytest.raises(InputError, match="has other columns than the table of this study: move it away"):
        ResultTable(tmp_path, ("task",)).rows()


@pytest.mark.parametrize("lost", ["test_forces_rmse_meV_per_A", "validation_energy_mae_meV_per_atom", "_mae"])
def test_a_file_without_some_or_all_columns_of_errors_is_refused(tmp_path, lost):
    """Only a quantity that is new to the table may lack its columns, and it lacks all of them."""
    table = ResultTable(tmp_path, ("model", "size"))
    table.add(row("a"))
    remove_columns(table.path, lost)
    with pytest.raises(InputError, match="has other columns than the table of this study"):
        table.rows()


def test_a_quantity_of_which_the_file_has_no_column_is_empty(tmp_path):
    table = ResultTable(tmp_path, ("model", "size"))
    table.add(row("a", test_forces_mae_meV_per_A=3.0))
    remove_columns(table.path, "stress")
    (known,) = table.rows()
    assert (known["test_forces_mae_meV_per_A"], known["test_stress_mae_GPa"]) == (3, None)


def test_stresses_of_an_older_file_become_gpa(tmp_path):
    table = ResultTable(tmp_path, ("model", "size"))
    table.add(row("a", test_stress_mae_GPa=10.0))
    table.path.write_text(table.path.read_text().replace("_GPa", "_meV_per_A3"))
    (known,) = table.rows()
    assert known["test_stress_mae_GPa"] == pytest.approx(1.6021766)


@pytest.mark.slow
def test_processes_that_write_at_once_lose_nothing(tmp_path):
    program = textwrap.dedent("""
        import sys
        from pathlib import Path
        from equiforce.studies.runs import measured_columns
        from equiforce.studies.table import ResultTable
        table = ResultTable(Path(sys.argv[1]), ("model",))
        for number in range(20):
            table.add(dict.fromkeys(measured_columns(), "") | {"model": "m", "hash": f"{sys.argv[2]}-{number}"})
    """)
    writers = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path), name]) for name in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(ResultTable(tmp_path, ("model",)).rows()) == 40
