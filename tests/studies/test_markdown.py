import pytest

from equiforce.studies.markdown import (
    assigned,
    code,
    counted,
    exponent_of_ten,
    listed,
    markdown_table,
    percent,
    plain,
    short,
)


def test_words():
    assert listed([1, 2.50, "x"]) == "1, 2.5, x"
    assert (counted(1, "run"), counted(3, "run")) == ("1 run", "3 runs")
    assert assigned({"model.l_max": 1, "a.b": [2]}) == "`model.l_max=1`, `a.b=[2]`"


def test_numbers():
    assert [exponent_of_ten(x) for x in (123.0, 9.99, 0.05)] == [2, 0, -2]
    assert [short(x) for x in (0.012345, 12.0, 123.4, 12345.6)] == ["0.0123", "12.0", "123", "12,346"]
    assert [percent(x) for x in (-0.123, 0.05, 0.0)] == ["−12 %", "+5 %", "+0 %"]


def test_a_bar_within_a_cell_is_no_border():
    assert markdown_table([["a", "b"], ["|x|", "2"]]) == "| a | b |\n|---|---|\n| \\|x\\| | 2 |"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("l = 1, small (x4) 8.0 meV/Å", "l = 1, small (x4) 8.0 meV/Å"),
        ("a|b", "a\\|b"),
        ("`x`", "\\`x\\`"),
        ("<b>", "\\<b\\>"),
        ("[a](http://x.y)", "\\[a\\](http\\://x.y)"),
        ("a_b _c_ *d*", "a_b \\_c\\_ \\*d\\*"),
        ("# a", "\\# a"),
        ("- a", "\\- a"),
        ("12. a", "12\\. a"),
        ("a\nb", "a\\\\nb"),
        ("$x$", "\\$x\\$"),
        (":smile:", "\\:smile:"),
        ("\x1b", "\\\\x1b"),
    ],
)
def test_names_are_no_markup(text, shown):
    assert plain(text) == shown


def test_code_may_contain_backticks():
    assert code("a=1") == "`a=1`"
    assert code("``x`") == "``` ``x` ```"
    assert assigned({"a`b": "<x>\n"}) == "``a`b=<x>\\n``"
