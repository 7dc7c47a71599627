import numpy as np
import pytest
from ase.data import chemical_symbols

from equiforce.elements import SYMBOLS, atomic_number, column, formula, most_similar, species_index, symbols_by_number
from equiforce.errors import InputError


def test_the_table_is_that_of_ase():
    assert list(SYMBOLS) == chemical_symbols
    assert all(atomic_number(symbol) == z for z, symbol in enumerate(SYMBOLS) if z)


def test_an_unknown_symbol_names_the_nearest():
    with pytest.raises(InputError, match=r"no chemical element 'Sl'.*did you mean"):
        atomic_number("Sl")
    with pytest.raises(InputError, match="no chemical element 'X'"):
        atomic_number("X")


def test_species_count_along_the_models_list():
    assert species_index(np.array([1, 8, 1, 6]), ["O", "H", "C"]).tolist() == [1, 0, 1, 2]
    assert species_index(np.array([], dtype=int), ["O"]).tolist() == []
    assert symbols_by_number(np.array([8, 1, 1, 6])) == ["H", "C", "O"]


@pytest.mark.parametrize(("number", "named"), [(7, "element N "), (0, "atomic number 0"), (200, "atomic number 200")])
def test_an_element_unknown_to_the_model(number, named):
    with pytest.raises(InputError, match=rf"a\.xyz, frame 3: atom 1 .*{named}.*H, O"):
        species_index(np.array([1, number]), ["H", "O"], "a.xyz, frame 3")


@pytest.mark.parametrize(
    ("numbers", "expected"), [([8, 1, 6, 1, 1, 1], "CH4O"), ([1, 8, 1], "H2O"), ([29] * 4, "Cu4"), ([6, 8, 8], "CO2")]
)
def test_a_formula_is_written_as_chemists_do(numbers, expected):
    assert formula(np.array(numbers)) == expected


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        ("H", 1), ("He", 18), ("Li", 1), ("B", 13), ("C", 14), ("Ne", 18), ("Al", 13), ("S", 16), ("Ca", 2), ("Sc", 3),
        ("Zn", 12), ("Ga", 13), ("Kr", 18), ("Mo", 6), ("Cs", 1), ("La", -1), ("Lu", -1), ("Hf", 4), ("Au", 11),
        ("Rn", 18), ("U", -2), ("Lr", -2), ("Rf", 4), ("Og", 18),
    ],
)  # fmt: skip
def test_columns_of_the_periodic_table(symbol, expected):
    assert column(symbol) == expected


def test_every_column_has_its_elements():
    sizes = {number: sum(column(symbol) == number for symbol in SYMBOLS[1:]) for number in (-2, -1, *range(1, 19))}
    main, transition = dict.fromkeys(range(13, 18), 6), dict.fromkeys(range(4, 13), 4)
    assert sizes == {-2: 15, -1: 15, 1: 7, 2: 6, 3: 2, **transition, **main, 18: 7}


@pytest.mark.parametrize(
    ("symbol", "known", "expected"),
    [
        ("Si", ["H", "C", "Ge", "P"], "Ge"),
        ("Si", ["H", "C", "P"], "C"),
        ("Si", ["H", "P", "O"], "P"),
        ("Si", ["Al", "P"], "Al"),
        ("Ge", ["Si", "Sn"], "Si"),
        ("Ge", ["C", "Pb"], "Pb"),
        ("C", ["Si", "Pb"], "Si"),
        ("Eu", ["Ca", "La", "Yb"], "La"),
    ],
)
def test_the_most_similar_element(symbol, known, expected):
    assert most_similar(symbol, known) == expected
