"""What options are called elsewhere: each row leads to an option that exists, and the page shows the table.

After a change of the table, ``python -m tests.test_counterparts`` writes it into the page.
"""

from dataclasses import fields
from pathlib import Path

import pytest

from equiforce.calculators.md import MDOptions
from equiforce.config import SECTIONS
from equiforce.counterparts import ELSEWHERE, PROGRAMS, TABLE, by_name, markdown, rows
from equiforce.models import REGISTRY, RESERVED

PAGE = Path(__file__).parents[1] / "docs" / "coming-from-nequip-or-mace.md"
START, END = "<!-- options: written by tests/test_counterparts.py -->\n", "<!-- end of options -->"
ALL = [row for part in rows().values() for row in part]


def options():
    classes = {**SECTIONS, "md": MDOptions}
    known = {f"{section}.{entry.name}" for section, cls in classes.items() for entry in fields(cls)}
    known |= {f"model.{entry.name}" for kind in ("nequip", "allegro") for entry in fields(REGISTRY[kind].config_class)}
    return known | {f"model.{name}" for name in RESERVED}


def with_table(page):
    before, _, rest = page.partition(START)
    return f"{before}{START}\n{markdown()}\n{END}{rest.partition(END)[2]}"


def test_every_counterpart_is_an_option():
    assert {option for row in ALL for option in row.ours} <= options()


@pytest.mark.parametrize("row", ALL, ids=lambda row: next(iter(row.names.values()))[0])
def test_a_row_has_names_of_known_programs_and_says_why_there_is_no_counterpart(row):
    assert set(row.names) <= {*PROGRAMS, ELSEWHERE}
    assert all(row.names.values())
    assert row.ours or row.remark


def test_every_line_of_the_table_is_read():
    assert sum(line.count(" = ") for line in TABLE.splitlines()) == len(ALL)
    assert len([line for line in TABLE.splitlines() if line.startswith("== ")]) == len(rows())


def test_names_are_found_however_they_are_spelled():
    (found,) = by_name()["rmax"]
    assert found.ours == ("model.cutoff",)
    assert by_name()["rmax"][found] == ["nequip", "nequip-allegro", "MACE", ELSEWHERE]


def test_the_page_shows_the_table():
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page), "run python -m tests.test_counterparts"
    for name in ("`r_max`", "`hidden_irreps`", "`correlation`"):
        assert name in page


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
