"""Right labels of the effective-medium theory are not complained about, and each wrong one is named."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import units

from equiforce.data.against_forces import compare, energy_agreement
from equiforce.data.force_fit import fit
from equiforce.data.read import read
from tests.data_sets import crystals, labelled, molecules

HARTREE_PER_BOHR = units.Hartree / units.Bohr


def named(structures):
    return [replace(s, source=f"a.xyz, frame {i}") for i, s in enumerate(structures)]


@pytest.fixture(scope="module")
def copper():
    return named([labelled(atoms) for atoms in crystals(60)])


@pytest.fixture(scope="module")
def ethanol():
    return named([labelled(atoms) for atoms in molecules(40, name="CH3CH2OH")])


@pytest.fixture(scope="module")
def silicon():
    file = Path(__file__).parents[2] / "examples" / "silicon" / "train.xyz"
    return [s for s in read(file) if len(s) > 1]


@pytest.fixture(params=["copper", "ethanol"])
def data(request):
    return request.getfixturevalue(request.param)


def changed(structures, **changes):
    """Structures with labels multiplied by factors, or changed by functions."""
    new = []
    for s in structures:
        labels = {name: change(getattr(s, name)) if callable(change) else change * getattr(s, name)
                  for name, change in changes.items()}  # fmt: skip
        new.append(replace(s, **labels))
    return new


def test_right_labels_agree(data):
    fitted = fit(data)
    agreement = energy_agreement(fitted)
    assert agreement.correlation > 0.8
    assert agreement.ratio == pytest.approx(1, abs=0.35)
    assert agreement.within_compositions
    assert compare(fitted) == []


@pytest.mark.parametrize(
    "chosen", [slice(51), slice(20), slice(30), slice(-20, None), slice(None, None, 2), slice(None)]
)
def test_any_part_of_right_stresses_agrees_and_half_or_twice_of_them_does_not(silicon, chosen):
    part = silicon[chosen]
    assert compare(fit(part)) == []
    for factor in (0.5, 2):
        [found] = compare(fit(changed(part, stress=lambda stress, factor=factor: factor * stress)))
        ratio = float(re.search(r"stresses are ([\d.]+) times those that follow from the forces", found.sentence)[1])
        assert ratio == pytest.approx(factor, rel=0.1)
        assert not found.sure


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("mlearn_Ni_train", slice(100)),  # half of the energies are alike
        ("mlearn_Si_train", slice(-20, None)),
        ("mlearn_Mo_train", slice(-51, None)),  # most components of the stresses are small
        ("mlearn_Cu_train", slice(-51, None)),  # no forces but by rounding
        ("monbtaw_elemental", slice(-100, None)),
    ],
)
def test_what_a_part_of_published_data_does_not_decide_is_not_said(shared_data, name, chosen):
    structures = [s for s in read(shared_data / f"{name}.xyz") if len(s) > 1][chosen]
    assert compare(fit(structures)) == []


def test_a_ratio_of_energies_may_be_one_only_if_it_is(ethanol):
    assert energy_agreement(fit(ethanol)).may_be_one
    for factor in (0.2, 5):
        agreement = energy_agreement(fit(changed(ethanol, energy=factor)))
        assert not agreement.may_be_one
        assert agreement.ratio == pytest.approx(factor, rel=0.35)


def test_gradients_stored_as_forces(data):
    [found] = compare(fit(changed(data, forces=-1)))
    assert found.sure
    assert found.sentence.startswith("a.xyz: energies fall where the forces say that they rise (rank correlation -")
    assert found.sentence.endswith("as if gradients were stored as forces: multiply the forces of the file by -1")


@pytest.mark.parametrize(
    ("energy", "forces", "reason", "sure"),
    [
        (1.0, 1 / HARTREE_PER_BOHR, "energies were in eV and forces in Hartree/Bohr", True),
        (1 / units.Hartree, 1.0, "energies were in Hartree and forces in eV/Å", True),
        (units.mol / units.kcal, 1.0, "energies were in kcal/mol and forces in eV/Å", True),
        (1 / 9, 1.0, "energies were per atom", True),
        (1 / units.Hartree, 1 / HARTREE_PER_BOHR, "energies were in Hartree and forces in Hartree/Bohr", False),
    ],
)
def test_energies_and_forces_in_units_that_do_not_fit(ethanol, energy, forces, reason, sure):
    [found] = compare(fit(changed(ethanol, energy=energy, forces=forces)))
    assert f"times as much as the forces say, as if {reason}: state the units" in found.sentence
    assert found.sure is sure


def test_stress_with_the_other_sign_and_in_another_unit(copper):
    [found] = compare(fit(changed(copper, stress=-1)))
    assert found.sure
    assert "stresses have the opposite sign" in found.sentence
    assert "data.stress_positive_under=compression" in found.sentence
    for unit in ("GPa", "kbar"):
        size = units.GPa if unit == "GPa" else 1e3 * units.bar
        [found] = compare(fit(changed(copper, stress=1 / size)))
        assert found.sure
        assert f"as if they were in {unit}: state their unit with data.stress_unit" in found.sentence


@pytest.mark.parametrize(
    ("order", "name"), [("xx yy zz xy yz xz", "vasp"), ("xx yy zz xy xz yz", "lammps"), ("xx yy zz yz xy xz", None)]
)
def test_six_stresses_in_another_order(copper, order, name):
    """What is written in another order and read as xx yy zz yz xz xy."""

    def reread(stress):
        six = [stress["xyz".index(a), "xyz".index(b)] for a, b in order.split()]
        return np.array(six)[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3)

    [found] = compare(fit(changed(copper, stress=reread)))
    assert found.sure
    how = f"are in the order of {name}: set data.stress_order={name} if" if name else "are exchanged: correct the file"
    assert f"off-diagonal components of the stress {how}" in found.sentence


def test_forces_of_other_atoms_do_not_follow_from_the_positions(copper):
    rng = np.random.default_rng(0)
    [found] = compare(fit(changed(copper, forces=lambda f: f[rng.permutation(len(f))])))
    assert not found.sure
    assert "a.xyz: forces do not follow from the positions (a fit explains" in found.sentence


def test_forces_that_are_zero_instead_of_absent(ethanol):
    some = [replace(s, forces=np.zeros_like(s.forces)) if i in (7, 9) else s for i, s in enumerate(ethanol)]
    [found] = compare(fit(some))
    assert not found.sure
    assert "all forces are zero although similar frames have forces" in found.sentence
    assert found.sentence.startswith(("a.xyz, frame 7 (and 1 more", "a.xyz, frame 9 (and 1 more"))


def test_energies_of_other_frames_do_not_follow_from_the_forces(ethanol):
    energies = np.random.default_rng(0).permutation([s.energy for s in ethanol])
    [found] = compare(fit([replace(s, energy=energy) for s, energy in zip(ethanol, energies, strict=True)]))
    assert not found.sure
    assert "a.xyz: energies do not follow from the forces (rank correlation" in found.sentence


def test_energies_of_two_levels_of_theory_form_two_groups(ethanol):
    """Which overlap, so that they are seen only beside the energies that the forces imply."""
    [found] = compare(fit([replace(s, energy=s.energy + 3.0 * (i % 2)) for i, s in enumerate(ethanol)]))
    assert not found.sure
    assert "the energies of C2H6O form two groups that are 0.3" in found.sentence
    assert "although the forces are alike" in found.sentence


def test_one_structure_with_huge_forces_does_not_spoil_the_comparison(copper):
    one = changed(copper[:1], forces=1000) + copper[1:]
    assert fit(one).explained > 0.95
    assert energy_agreement(fit(one)).correlation > 0.8


def test_few_labels_are_not_compared(ethanol):
    few = [replace(s, energy=None) for s in ethanol[8:]] + ethanol[:8]
    assert energy_agreement(fit(few)) is None
    assert compare(fit(changed(ethanol[:12], forces=-1))) == []  # fewer forces than coefficients
