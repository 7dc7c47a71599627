from equiforce.studies.markdown import assigned, counted, exponent_of_ten, listed, markdown_table, percent, short


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
