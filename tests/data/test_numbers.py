"""Numbers that are not what they say are refused in one sentence; all others keep their values."""

import io

import numpy as np
import pytest

from equiforce.data import numbers
from equiforce.data.numbers import ODD, flags, is_plain, not_numbers, read_array, real, short, whole
from equiforce.errors import InputError


@pytest.mark.parametrize("kind", ["f4", "f8", "i4", "i8", "u8", ">f8"])
def test_real_numbers_keep_their_values(kind):
    values = real(np.array([1, 2, 3], dtype=kind), "here", "it")
    assert values.dtype == np.float64
    assert values.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([1 + 2j]), r"here: it begins with \(1\+2j\), a complex number, whose imaginary part would be lost"),
        (np.array(["1.5"]), "here: it begins with '1.5', not a number: store it as a number"),
        ("1.5", "here: it is '1.5', not a number"),
        (np.array([True]), "here: it begins with True, not a number"),
        (np.array([1.0], dtype=np.float16), "here: it begins with 1.0, a number of 16 bits"),
        (np.array([1], dtype=np.uint8), "here: it begins with 1, a number of 8 bits"),
        (np.array([None, 1.0]), "here: it begins with None, not a number"),
        (np.array(["2020-01-01"], dtype="M8[s]"), "not a number"),
        ([[1.0], [1.0, 2.0]], "here: it is None, not a number"),
        (10**30, "not a number"),
    ],
)
def test_what_is_not_made_of_real_numbers(value, message):
    with pytest.raises(InputError, match=message):
        real(value, "here", "it")


def test_whole_numbers():
    assert whole(np.array([1.0, 8.0]), "here", "z").tolist() == [1, 8]
    assert whole(np.array([1, 8], dtype=np.uint8), "here", "z").dtype == np.int64
    for wrong in ([1, 6.9], [1, np.nan], [1, np.inf], [1, 1e300]):
        with pytest.raises(InputError, match=r"here: z is .* in place 1 \(counted from 0\), not a whole number"):
            whole(np.array(wrong), "here", "z")
    with pytest.raises(InputError, match="not a number"):
        whole(np.array(["C"]), "here", "z")


def test_flags():
    for right in ([True, False, True], [1, 0, 1], [1.0, 0.0, 1.0]):
        assert flags(right, "here", "pbc").tolist() == [True, False, True]
    for wrong in ("X Y Z", [1, 2, 0], ["T", "T", "T"], None):
        with pytest.raises(InputError, match=r"here: pbc is .*: give true or false, or 1 or 0, for each direction"):
            flags(wrong, "here", "pbc")


@pytest.mark.parametrize("text", ["1_000.5", "١٢", "１", "1\x0b2", "1\xa02", "1\x1f"])
def test_what_only_python_reads(text):
    float(text.split()[0])
    assert not is_plain(text)


def test_plain_texts():
    assert is_plain(" 1.5e-3\t-2  NaN")
    for text in ("energy=1_0", "energy=1\\2", 'energy=1"2', "energy=٣"):
        assert ODD.search(text)
    for text in ('Lattice="1 2" energy=-1.5e-3', "config_type=a_1 t=[1, 2]", 'a="1" b=2'):
        assert not ODD.search(text)


def test_values_are_shown_on_one_line():
    assert short(np.zeros((20, 3))).count("\n") == 0
    assert len(short("x" * 1000)) == 60
    assert short(np.float64(1.5)) == "1.5"


def saved(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def opened(content):
    return io.BufferedReader(io.BytesIO(content))


@pytest.mark.parametrize(
    "array", [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.eye(3)[:2]), np.array("eV"), np.zeros(0)]
)
def test_arrays_of_numpy(array):
    content = saved(array)
    np.testing.assert_array_equal(read_array(opened(content), len(content), "a.npy"), array)
    assert read_array(opened(saved(np.array([{}]))), 1000, "a.npy") is None


@pytest.mark.parametrize("shape", [(10**12,), (10**6, 10**6), (2**62, 2**62), (-1,), (3, 2), (1,)])
def test_a_header_that_lies_takes_no_memory(shape):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": shape})
    content = stream.getvalue() + np.zeros(3).tobytes()
    with pytest.raises(InputError, match=r"a\.npy says that it holds an array of the shape .*, but has 24 of them"):
        read_array(opened(content), len(content), "a.npy")


def test_an_array_that_does_not_fit_into_the_memory(monkeypatch):
    monkeypatch.setattr(numbers, "available", lambda device: 10.0)
    content = saved(np.zeros(100))
    with pytest.raises(InputError, match=r"a\.npy holds 0.0008 MB of numbers, but 1e-05 MB of memory are available"):
        read_array(opened(content), len(content), "a.npy")


def test_the_clause_about_a_value():
    assert not_numbers(1) is None
    assert not_numbers([1.0, 2.0]) is None
    assert not_numbers("high") == "not a number"
