"""The frames with the largest errors."""

import dataclasses
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

import equiforce
from equiforce.evaluate import errors
from equiforce.worst_frames import print_worst_frames, table, worst_frames
from tests.data_sets import TINY, crystals, labelled, molecules


@pytest.fixture(scope="module")
def predicted():
    potential = equiforce.untrained(["H", "O", "Cu"], **TINY).potential
    atoms = [*crystals(3), *molecules(4)]
    structures = [
        dataclasses.replace(labelled(a), source=f"/data/{a.get_chemical_formula()}.xyz, frame {i}", group="[hot]")
        for i, a in enumerate(atoms)
    ]
    return structures, equiforce.predict(potential, structures)


def test_the_worst_frames_are_those_with_the_largest_force_errors(predicted):
    structures, predictions = predicted
    found = worst_frames(structures, predictions, 3)
    sizes = [errors([s], [p]).total.forces.rmse for s, p in zip(structures, predictions, strict=True)]
    expected = [structures[i].source for i in np.argsort(sizes)[::-1][:3]]
    assert [frame.source for frame in found] == expected
    assert found[0].errors.forces.rmse == max(sizes)
    assert {frame.composition for frame in worst_frames(structures, predictions, 9)} == {"Cu4", "H2O"}


def test_energies_decide_where_there_are_no_forces(predicted):
    structures, predictions = predicted
    without = [dataclasses.replace(s, forces=None) for s in structures]
    found = worst_frames(without, predictions, 9)
    sizes = [frame.errors.energy_per_atom.rmse for frame in found]
    assert sizes == sorted(sizes, reverse=True)
    assert worst_frames([dataclasses.replace(s, energy=None, stress=None) for s in without], predictions) == []


def test_the_table_has_units_and_short_names(predicted):
    text = StringIO()
    Console(file=text, width=100).print(table(worst_frames(*predicted, 9), "the largest errors"))
    for part in ("RMSE, meV/Å", "RMSE, meV/atom", "Cu4.xyz, frame 0", "Cu4", "[hot]"):
        assert part in text.getvalue()
    assert "/data" not in text.getvalue()


def test_a_single_structure_is_not_repeated(predicted):
    text = StringIO()
    structures, predictions = predicted
    print_worst_frames(structures[:1], predictions[:1], Console(file=text))
    assert text.getvalue() == ""
    print_worst_frames(structures, predictions, Console(file=text))
    assert "the largest errors among 7 structures" in text.getvalue()
