"""The table of results: whole at any time, whoever writes."""

import subprocess
import sys
import textwrap

import pytest

from equiforce.errors import InputError
from equiforce.studies.runs import measured_columns
from equiforce.studies.table import ResultTable


def row(hash_, **values):
    return dict.fromkeys(measured_columns(), "") | {"model": "l=1", "size": 3, "hash": hash_} | values


def test_rows_come_back_as_they_went(tmp_path):
    table = ResultTable(tmp_path, ("model", "size"))
    assert table.rows() == []
    table.add(row("a", seconds=1.25, steps=7, config='{"x": "1, 2"}', date="2026"))
    table.add(row("12", model="l=0, wide"))
    first, second = table.rows()
    assert (first["size"], first["seconds"], first["steps"]) == (3, 1.25, 7)
    assert (first["config"], first["date"], first["test_stress_mae_meV_per_A3"]) == ('{"x": "1, 2"}', "2026", None)
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
