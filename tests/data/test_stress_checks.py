"""A wrong order and a wrong unit of stresses are found by the structures themselves."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from equiforce.data.stress import ORDERS, in_all_orders
from equiforce.data.stress_checks import check_size, order_that_fits
from equiforce.errors import InputError
from equiforce.structure import Structure


def sheared_crystals(n, symbol="Cu"):
    """Strained and disordered crystals with the stresses of ASE's EMT potential."""
    rng, structures = np.random.default_rng(0), []
    for _ in range(n):
        atoms = bulk(symbol, cubic=True)
        if symbol == "Cu":
            atoms.symbols[0] = "Ni"
        strain = np.eye(3) + 0.04 * rng.normal(size=(3, 3))
        atoms.set_cell(atoms.cell.array @ (0.5 * (strain + strain.T)), scale_atoms=True)
        atoms.rattle(0.05, rng=rng)
        atoms.calc = EMT()
        stress = atoms.get_stress(voigt=False)
        structures.append(
            replace(Structure.from_ase(atoms, labels=False, source=f"frame {len(structures)}"), stress=stress)
        )
    return structures


@pytest.fixture(scope="module")
def crystals():
    return sheared_crystals(24)


@pytest.mark.parametrize("written", ORDERS)
@pytest.mark.parametrize("assumed", ORDERS)
def test_the_order_in_which_stresses_were_written_is_found(crystals, written, assumed):
    read = [replace(s, stress=_read_wrongly(s.stress, written, assumed)) for s in crystals]
    assert order_that_fits(read, assumed) == written


def _read_wrongly(stress, written, assumed):
    """The stress that results from reading components in the wrong order."""
    return in_all_orders(stress, written)[assumed]


def test_without_evidence_the_assumed_order_stays(crystals):
    few = [replace(s, stress=_read_wrongly(s.stress, "vasp", "ase")) for s in crystals[:3]]
    assert order_that_fits(few, "ase") == "ase"
    rng = np.random.default_rng(0)
    noise = [replace(s, stress=(m := rng.normal(size=(3, 3))) + m.T) for s in crystals]
    assert order_that_fits(noise, "ase") == "ase"
    assert order_that_fits([], "vasp") == "vasp"


def scaled(structures, factor):
    return [replace(s, stress=s.stress * factor) for s in structures]


def test_usual_stresses_need_no_word(crystals):
    assert check_size(crystals, "stress", "stress", False) == ("", "")
    assert check_size([], "stress", "stress", False) == ("", "")


@pytest.mark.parametrize(("unit", "per_gpa"), [("kbar", 10.0), ("GPa", 1.0)])
def test_absurd_stresses_are_refused_with_a_unit_that_fits(crystals, unit, per_gpa):
    wrong = scaled(crystals, 160.2 * per_gpa)
    with pytest.raises(
        InputError, match=rf"frame \d+: 'stress' amounts to .* GPa if .*data\.stress_unit={unit} \(then"
    ):
        check_size(wrong, "stress", "stress", False)
    remark, note = check_size(wrong, "stress", "stress", True)
    assert remark.startswith("stresses of up to ")
    assert not note


def test_a_virial_under_the_name_of_a_stress(crystals):
    virials = [replace(s, stress=s.stress * abs(np.linalg.det(s.cell))) for s in crystals]
    with pytest.raises(InputError, match="--virial-key stress if it is a virial in eV"):
        check_size(virials, "stress", "stress", False)


def test_doubtful_stresses_are_said(crystals):
    largest = max(np.abs(s.stress).max() for s in crystals)
    remark, note = check_size(scaled(crystals, 0.4 / largest), "stress", "stress", False)
    assert remark == "stresses of up to 64 GPa"
    assert not note
    remark, note = check_size(scaled(crystals, 1.0 / largest), "stress", "stress", False)
    assert "amounts to 160 GPa if it is in eV/Å³: if that is wrong, give its unit with" in note
    assert note.endswith("or confirm it with --set data.stress_unit=eV/Å^3")
