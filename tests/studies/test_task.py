"""What a task draws from its files, and which errors it prints."""

from dataclasses import replace

import pytest

from equiforce.data.read import ReadOptions
from equiforce.errors import InputError
from equiforce.option_values import read_options
from equiforce.studies.task import Drawn, Task
from tests.data_sets import molecules, write

VALUES = {
    "pool": ["pool.xyz"],
    "train": 5,
    "validation": 3,
    "tests": {"a": ["a.xyz"], "b": ["b.xyz"]},
    "errors": {"energy": "MAE meV", "forces": "RMSE meV/Å"},
}


def task(**changes):
    return read_options(Task, VALUES | changes, "tasks.t", "b.yaml, task t")


@pytest.fixture
def folder(tmp_path):
    frames, (a, b) = molecules(14), (molecules(3, seed=1), molecules(2, seed=2))
    # a copy within the pool, and a copy of a frame of each test set
    write(tmp_path / "pool.xyz", [*frames, frames[0], a[1], b[0]])
    write(tmp_path / "a.xyz", a)
    write(tmp_path / "b.xyz", b)
    return tmp_path


def test_parts_are_apart_and_hold_no_copies(folder):
    drawn = Drawn.of(task(), folder, ReadOptions())
    assert (len(drawn.train), len(drawn.validation)) == (5, 3)
    assert not set(drawn.train) & set(drawn.validation)
    assert set(drawn.train) | set(drawn.validation) < set(range(14))
    assert drawn.n_copies == 3
    assert drawn.n_tests == {"a": 3, "b": 2}


def test_all_that_validation_leaves_is_trained_on(folder):
    drawn = Drawn.of(task(train=None), folder, ReadOptions())
    assert sorted([*drawn.train, *drawn.validation]) == list(range(14))


def test_smaller_parts_lie_within_larger_ones(folder):
    small, large = (set(Drawn.of(task(train=n), folder, ReadOptions()).train) for n in (2, 8))
    assert small < large


def test_isolated_atoms_stay_in_the_pool_and_out_of_the_parts(folder):
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    atom = Atoms("H", info={"config_type": "IsolatedAtom"})
    atom.calc = SinglePointCalculator(atom, energy=1.0)
    write(folder / "pool.xyz", [atom, *molecules(8)])
    drawn = Drawn.of(task(), folder, ReadOptions())
    assert sorted([*drawn.train, *drawn.validation]) == list(range(1, 9))


def test_other_labels_are_other_data(folder):
    before = Drawn.of(task(), folder, ReadOptions())
    frames = molecules(2, seed=2)
    frames[1].calc.results["energy"] += 1.0
    write(folder / "b.xyz", frames)
    after = Drawn.of(task(), folder, ReadOptions())
    assert after.fingerprint != before.fingerprint
    assert after.train == before.train


def test_what_is_printed_comes_from_the_table_in_its_unit():
    described = task(
        errors={"energy": "RMSE meV/molecule", "forces": "MAE meV/Å", "stress": "MAE GPa"}, molecule=3
    ).printed_errors
    assert (described["energy"].column, described["energy"].factor) == ("test_energy_rmse_meV_per_atom", 3)
    assert (described["forces"].column, described["forces"].factor) == ("test_forces_mae_meV_per_A", 1)
    assert described["stress"].column == "test_stress_mae_GPa"
    assert described["stress"].factor == 1
    assert str(described["stress"]) == "MAE, GPa"
    assert task(errors={"energy": "MAE meV/atom"}).printed_errors["energy"].column == "test_energy_mae_meV_per_atom"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool": []}, "b.yaml, task t: pool is empty"),
        ({"errors": {}}, "errors is empty"),
        ({"errors": {"energy": "MAE eV"}}, r"errors has energy: MAE eV, which is not known: write energy: MAE or RMSE"),
        ({"errors": {"energy": "MEAN meV"}}, "energy: MEAN meV, which is not known"),
        ({"errors": {"dipole": "MAE meV"}}, "dipole: MAE meV, which is not known"),
        ({"errors": {"energy": "MAE meV/molecule"}}, "set molecule to its number of atoms"),
        ({"molecule": 3}, "molecule changes nothing unless an error is in meV/molecule"),
        ({"test": {}}, "no option tasks.t.test: did you mean tasks.t.tests"),
        ({"steps": 0}, "tasks.t.steps=0 is not allowed"),
    ],
)
def test_mistakes_are_told_in_a_sentence(changes, message):
    with pytest.raises(InputError, match=message):
        task(**changes)


def test_a_small_pool_is_told(folder):
    with pytest.raises(InputError, match=r"the pool has 14 different structures .* too few for 23 to train"):
        Drawn.of(replace(task(), train=20), folder, ReadOptions())
