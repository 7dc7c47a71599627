"""The table of results: whole at any time, whoever writes."""

import csv
import re
import subprocess
import sys
import textwrap

import pytest

from equiforce.errors import InputError
from equiforce.studies.runs import ABOUT_TRAINING, DONE, Run, measured_columns
from equiforce.studies.table import ResultTable


def row(hash_, **values):
    empty = dict.fromkeys(measured_columns(), "")
    measured = dict.fromkeys((*ABOUT_TRAINING, "seconds", "test_energy_mae_meV_per_atom"), 1)
    about = {"state": DONE, "date": "2026", "equiforce": "0", "torch": "2", "config": "{}", "hash": hash_}
    return empty | measured | about | {"model": "l=1", "size": 3} | values


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
        about = dict.fromkeys(("date", "equiforce", "torch"), "x") | {"config": "{}"}
        row = dict.fromkeys(measured_columns(), "") | about | {"model": "m", "state": "diverged"}
        for number in range(20):
            table.add(row | {"hash": f"{sys.argv[2]}-{number}"})
    """)
    writers = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path), name]) for name in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(ResultTable(tmp_path, ("model",)).rows()) == 40


CUT = "it was cut or edited"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b",2026,", b",", r"line 3: it has \d+ cells instead of \d+, so " + CUT),
        (b",2026,", b",2026,5,", r"line 3: it has \d+ cells instead of \d+, so " + CUT),
        (b",2026,", b",,", "line 3: date is empty, so " + CUT),
        (b",2026,", b",20\x0026,", "line 3: it has a zero byte"),
        (b",2026,", b",20\xff26,", "line 3: it is not text in UTF-8"),
        (b",7,7.5,", b",7,,", "line 3: validation_loss is empty, so " + CUT),
        (b",7,7.5,", b",7,7_5,", "line 3: validation_loss is '7_5', which is no number of at least 0"),
        (b",7,7.5,", b",-7,7.5,", "line 3: best_step is '-7', which is no number of at least 0"),
        (b",7,7.5,", b",7,nan,", "line 3: validation_loss is 'nan', which is no number of at least 0"),
        (b",done,", b",don,", "line 3: state is 'don', which is neither done nor diverged"),
        (b"b,{}", b"b,{", "line 3: config is not JSON, so " + CUT),
        (b"b,{}", b'b,"{}', "line 3: " + CUT),
        (b"b,{}", b"a,{}", "line 3: its run a has a row in line 2 already"),
    ],
)
def test_a_file_that_was_cut_or_edited_is_refused_with_the_line(tmp_path, old, new, message):
    table = ResultTable(tmp_path, ("model", "size"))
    table.add(row("a"))
    table.add(row("b", best_step=7, validation_loss=7.5))
    before, line = table.path.read_bytes().rstrip(b"\n").rsplit(b"\n", 1)
    assert line.count(old) == 1
    table.path.write_bytes(before + b"\n" + line.replace(old, new) + b"\n")
    with pytest.raises(InputError, match=rf"{table.path}, {message}.*; restore the file from a copy, or delete"):
        table.rows()
    edited = table.path.read_bytes()
    with pytest.raises(InputError, match="line 3"):
        table.add(row("c"))
    assert table.path.read_bytes() == edited


def test_a_file_that_is_cut_anywhere_is_refused_or_has_whole_rows(tmp_path):
    table = ResultTable(tmp_path, ("model", "size"))
    table.add(row("a", config='{"x": "1, 2"}'))
    table.add(row("b", config='{"x": "1, 2"}'))
    content, rows = table.path.read_bytes(), table.rows()
    kept = []
    ends = [i for i, byte in enumerate(content) if byte == ord("\n")]
    near = {end + shift for end in ends for shift in (-2, -1, 0, 1)} - {len(content)}
    for size in sorted({*range(0, len(content), 97), *near}):
        table.path.write_bytes(content[:size])
        try:
            found = table.rows()
        except InputError:
            continue
        assert found == rows[: len(found)]
        kept.append(len(found))
    assert kept == [0, 0, 1, 1, 2]  # with and without the end of the last line


def run_of(hash_, name="l=1", **values):
    run = Run(id_values={"model": name, "size": 3}, options={}, train=(), test=(), fingerprint="")
    run.__dict__["hash"] = hash_  # which is cached
    return run, row(hash_, model=name, config=run.config, **values)


def test_a_row_that_fits_no_run_of_its_hash_is_refused(tmp_path):
    table = ResultTable(tmp_path, ("model", "size"))
    run, its_row = run_of("a")
    table.add(its_row)
    assert [r["hash"] for r in table.rows_of([run])] == ["a"]
    table.add(its_row | {"config": its_row["config"].replace('"seed": 0', '"seed": 1')})
    with pytest.raises(InputError, match="line 2: its hash a belongs to other options than those in the column conf"):
        table.rows_of([run])
    table.add(its_row | {"size": 5})
    with pytest.raises(InputError, match="line 2: size is 5, but its hash a belongs to model l=1, size 3"):
        table.rows_of([run])
    assert table.rows_of([run_of("other")[0]]) == []


def test_a_name_that_looks_like_a_number_stays_a_name(tmp_path):
    table = ResultTable(tmp_path, ("model", "size"))
    run, its_row = run_of("a", name="1e3")
    table.add(its_row)
    assert [r["model"] for r in table.rows_of([run])] == ["1e3"]


def test_a_run_without_the_row_of_a_test_set_is_not_done(tmp_path):
    table = ResultTable(tmp_path, ("model", "test"))
    values = {"id_values": {"model": "m", "test": "cold"}, "further_tests": {"hot": ("f.xyz",)}}
    run = Run(**values, options={}, train=(), test=(), fingerprint="")
    first = row(run.hash, model="m", config=run.config)
    first.pop("size")
    table.add(first | {"test": "cold"})
    assert table.rows_of([run]) == []
    table.add(first | {"test": "cold"}, first | {"test": "hot"})
    assert [r["test"] for r in table.rows_of([run])] == ["cold", "hot"]


def test_names_are_no_formulas(tmp_path):
    for name in ("=1+1", "+1", "-1", "@x", "'", "'=1", "3", "1e5", "a,b", 'a"b'):
        table = ResultTable(tmp_path / f"{ord(name[0])}{len(name)}", ["model", "size"])
        table.add(row("a", model=name))
        assert [one["model"] for one in table.rows()] == [name]
        assert not re.search(r"(?m)^[=+@-]", table.path.read_text(encoding="utf-8"))
