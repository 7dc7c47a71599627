import numpy as np
import pytest
from ase.data import atomic_masses

from equiforce.calculators.lammps.masses import ISOTOPES, check_masses
from equiforce.elements import SYMBOLS
from equiforce.errors import InputError

H_N_C_O = ["H", "C", "N", "O"]
STANDARD = {symbol: float(atomic_masses[SYMBOLS.index(symbol)]) for symbol in ISOTOPES}


def check(elements: str, masses: list[float], species: list[str] = H_N_C_O) -> list[str]:
    return check_masses(elements.split(), masses, species, "pair_coeff")


@pytest.mark.parametrize(
    ("elements", "masses"),
    [
        ("H O", [1.008, 15.999]),
        ("H O", [1.0, 16.0]),
        ("H O", [2.014, 15.999]),  # heavy water
        ("H O", [2.014, 19.992 - 1.993]),  # with oxygen-18
        ("H C", [3.016, 13.003]),
        ("H O", [3.024, 11.967]),  # hydrogen mass repartitioning of water: oxygen is as light as carbon
        ("H O", [3.0, 12.015]),
        ("H O", [4.032, 9.951]),
        ("H H C C N O", [1.008, 4.032, 2.939, 12.011, 7.959, 12.975]),
        ("H O H", [4.0, 10.007, 1.008]),
        ("NULL O", [1.008, 15.999]),
        ("O NULL", [15.999, 15.999]),
        ("C", [0.0]),  # not known
        ("C", [np.nan]),
    ],
    ids=str,
)
def test_isotopes_and_heavy_hydrogen_pass(elements, masses):
    assert check(elements, masses) == []


def test_all_elements_and_isotopes_pass_beside_all_others():
    for symbol, numbers in ISOTOPES.items():
        assert check(symbol, [STANDARD[symbol]], list(ISOTOPES)) == []
        for number in numbers:
            assert len(check(symbol, [float(number)], list(ISOTOPES))) <= 1, (symbol, number)


@pytest.mark.parametrize(
    ("elements", "masses", "words"),
    [
        (
            "O H",
            [1.008, 15.999],
            "atom type 1 with mass 1.008 u is H (1.008 u) and not O (15.999 u) as pair_coeff says",
        ),
        ("H C O", [1.008, 15.999, 12.011], "atom type 2 with mass 15.999 u is O"),
        ("H C C", [1.008, 12.011, 14.007], "atom type 3 with mass 14.007 u is N"),
        ("O O", [2.014, 15.999], "atom type 1 with mass 2.014 u is H"),
        ("O C", [12.011, 12.0], "atom type 1 with mass 12.011 u is C"),
        ("NULL C", [1.008, 15.999], "atom type 2 with mass 15.999 u is O"),
    ],
)
def test_the_mass_of_another_element_is_refused(elements, masses, words):
    with pytest.raises(InputError, match="give the elements in the order of the atom types") as caught:
        check(elements, masses)
    assert words in str(caught.value)


@pytest.mark.parametrize("pair", ["Al Si", "Co Ni", "Mn Fe", "Cu Zn", "Pt Au", "I Te", "H He", "C N", "Ga Ge"])
def test_neighbors_in_the_periodic_table_are_told_apart(pair):
    one, other = pair.split()
    assert check(pair, [STANDARD[one], STANDARD[other]], [one, other]) == []
    with pytest.raises(InputError, match="as pair_coeff says"):
        check(pair, [STANDARD[other], STANDARD[one]], [one, other])


@pytest.mark.parametrize(
    ("elements", "masses", "species", "words"),
    [
        ("O", [10.0], ["H", "O"], "atom type 1 with mass 10 u is O according to pair_coeff, which has 15.999 u"),
        ("Si", [1.0], ["Si"], "atom type 1 with mass 1 u is Si according to pair_coeff"),
        ("Se", [79.904], ["Se", "Br"], "is an isotope of Se, but the mass is also that of Br"),
    ],
)
def test_what_is_doubtful_is_a_note(elements, masses, species, words):
    (note,) = check(elements, masses, species)
    assert words in note


def test_equal_masses_of_all_types_say_nothing_about_their_order():
    assert len(check("O H", [1.0, 1.0])) == 1
