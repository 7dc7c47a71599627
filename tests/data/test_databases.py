"""Databases of JSON in which ASE would change numbers without a word are refused."""

import re

import ase.io
import pytest

from equiforce.data.databases import check_json
from equiforce.data.read import read
from equiforce.errors import InputError
from tests.data_sets import crystals


@pytest.mark.parametrize(
    ("pattern", "wrong", "message"),
    [
        (
            r'"energy": (\S+),',
            r'"energy": \1, "energy": 2.0,',
            "a.json has the key 'energy' twice in one entry: remove",
        ),
        (r'"int64", \[29,', r'"int64", [29.9,', "a.json has an array of int64 that holds 29.9: correct the file"),
        (r'"int64", \[29,', r'"int64", [true,', "a.json has an array of int64 that holds True"),
        (r'"float64", \[', r'"float64", ["1.0", ', "a.json has an array of float64 that holds '1.0'"),
        (r'"energy": \S+,', '"energy": "-1.0",', "frame 0: 'energy' is '-1.0', not a number"),
        (r"\[4\], ", "[1000000000], ", r"a.json has an array of the shape \[1000000000\] with 4 numbers"),
        (r'"int64", \[29,', '"float64", [6.9,', "a.json: 'numbers' is 6.9 in place 0 .*, not a whole number"),
        (
            r'"forces": .*',
            '"forces": {"__ndarray__": [[1], "complex128", [1, 0]]},',
            "a.json has complex numbers in 'forces'",
        ),
        (r"\[\[4, 3\], \"float64\", \[", r"[7, 8, [", "a.json has an array that is no shape, type and list"),
        (
            r'"ids": .*',
            '"ids": [1],',
            r"a.json has 2 entries, but its 'ids' are \[1\], so that ASE would leave some out",
        ),
        (r'"ids": .*', "", "a.json has 2 entries, but its 'ids' are None"),
        (r"\}", "", "a.json is not JSON .*: correct the file, or copy it again"),
    ],
)
def test_numbers_that_are_not_what_they_say(tmp_path, pattern, wrong, message):
    file = tmp_path / "a.json"
    ase.io.write(file, crystals(2))
    assert len(read(file)) == 2
    text = re.sub(r'"numbers": .*', '"numbers": {"__ndarray__": [[4], "int64", [29, 29, 29, 29]]},', file.read_text())
    file.write_text(text)
    assert len(read(file)) == 2
    file.write_text(re.sub(pattern, wrong, text, count=1))
    with pytest.raises(InputError, match=message):
        read(file)


def test_what_is_nested_too_deeply_is_refused():
    with pytest.raises(InputError, match="is not JSON"):
        check_json("a.json", "[" * 100_000)
