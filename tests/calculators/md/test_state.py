"""The state of a simulation on disk."""

import json

import numpy as np
import pytest
from ase.build import molecule
from ase.constraints import FixAtoms

import equiforce
from equiforce.calculators.md.state import STATE, State, fingerprint, read_state, write_safely
from equiforce.errors import InputError

HEADER = {
    "step": 3,
    "options": {"steps": 9},
    "model": "",
    "fingerprint": "abc",
    "device": "cpu",
    "generator": np.random.default_rng(1).bit_generator.state,
    "integrator": {"_eps": 0.1 + 0.2},
    "averages": {},
    "watch": {},
    "sizes": {"trajectory.xyz": 12},
}


@pytest.fixture
def state() -> State:
    start = molecule("H2O", cell=[5, 6, 7], pbc=True)
    start.set_constraint(FixAtoms([1]))
    start.set_array("site", np.array(["a", "b", "c"]))
    start.info = {"origin": "a file", "charge": 1, "dipole": np.ones(3), "an object": object()}
    rng = np.random.default_rng(0)
    positions, momenta = rng.normal(size=(2, 3, 3))
    return State(
        header=HEADER,
        start=start,
        positions=positions,
        momenta=momenta,
        cell=start.cell.array / 3,
        listed=(positions + 1, start.cell.array),
    )


def test_a_state_is_read_as_it_was_written(state, tmp_path):
    state.write(tmp_path)
    found = read_state(tmp_path)
    assert {name: found.header[name] for name in HEADER} == HEADER
    for name in ("positions", "momenta", "cell"):
        np.testing.assert_array_equal(getattr(found, name), getattr(state, name))
    np.testing.assert_array_equal(found.listed[0], state.listed[0])
    assert found.start == state.start
    assert list(found.start.arrays["site"]) == ["a", "b", "c"]
    assert (found.start.info["origin"], found.start.info["charge"]) == ("a file", 1)
    np.testing.assert_array_equal(found.start.constraints[0].index, [1])
    rng = np.random.default_rng(5)
    rng.bit_generator.state = found.header["generator"]
    assert rng.random() == np.random.default_rng(1).random()


def test_a_folder_without_a_run_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=f"there is no run to continue in .*, because it has no {STATE}"):
            read_state(folder)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "pickle", "header", "newer"])
def test_a_damaged_state_is_refused(damage, state, tmp_path):
    state.write(tmp_path)
    path = tmp_path / STATE
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("nothing")
    elif damage == "pickle":
        np.savez(path, header=np.array([{"step": 1}], dtype=object))
    elif damage == "header":
        np.savez(path, header=np.array(json.dumps({"format": 1, "step": "3"})))
    else:
        np.savez(path, header=np.array(json.dumps({"format": 99})))
    with pytest.raises(InputError, match="written by a newer equiforce" if damage == "newer" else "is damaged"):
        read_state(tmp_path)


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    write_safely(path, b"new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "a.part").mkdir()  # nothing can be written
    with pytest.raises(OSError, match=r"a\.part"):
        write_safely(path, b"newer")
    assert path.read_text() == "new"


def test_a_fingerprint_tells_weights_and_options_apart():
    def potential(seed, cutoff=4.0):
        return equiforce.untrained(["O"], l_max=0, channels=4, n_layers=1, cutoff=cutoff, seed=seed).potential

    assert fingerprint(potential(0)) == fingerprint(potential(0))
    assert len({fingerprint(potential(0)), fingerprint(potential(1)), fingerprint(potential(0, 4.5))}) == 3
