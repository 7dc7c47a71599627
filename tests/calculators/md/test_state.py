"""The state of a simulation on disk."""

import json
import random
from dataclasses import asdict, replace

import numpy as np
import pytest
from ase.build import molecule
from ase.constraints import FixAtoms

import equiforce
from equiforce.calculators.md.options import MDOptions
from equiforce.calculators.md.state import STATE, State, fingerprint, read_state
from equiforce.errors import InputError
from equiforce.storage.folders import LOCK

HEADER = {
    "step": 3,
    "options": asdict(MDOptions(steps=9, seed=1)),
    "model": "",
    "fingerprint": "abc",
    "device": "cpu",
    "generator": np.random.default_rng(1).bit_generator.state,
    "integrator": {"_eps": 0.1 + 0.2},
    "averages": {},
    "watch": {},
    "sizes": {"trajectory.xyz": 12, "thermo.csv": 3},
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


def write(state, folder):
    (folder / STATE).write_bytes(state.to_bytes())


def test_a_state_is_read_as_it_was_written(state, tmp_path):
    write(state, tmp_path)
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


def test_a_run_that_was_killed_before_it_began_is_told_how_to_start(tmp_path):
    (tmp_path / LOCK).touch()
    with pytest.raises(InputError, match=r"nothing of a run is in .* yet, .*: give the command that started it again"):
        read_state(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "pickle", "header", "newer"])
def test_a_damaged_state_is_refused(damage, state, tmp_path):
    write(state, tmp_path)
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


@pytest.mark.parametrize(
    "wrong",
    [
        {"step": -1},
        {"step": 10},
        {"step": True},
        {"sizes": {"trajectory.xyz": -1, "thermo.csv": 3}},
        {"sizes": {"../elsewhere": 0, "thermo.csv": 3}},
        {"sizes": {"trajectory.xyz": 1.5, "thermo.csv": 3}},
        {"options": {"steps": 9}},
        {"options": asdict(MDOptions(steps=9)) | {"timestep": -1.0}},
        {"options": asdict(MDOptions(steps=9)) | {"timestep": "fast"}},
    ],
)
def test_numbers_out_of_their_range_are_refused(wrong, state, tmp_path):
    write(replace(state, header={**HEADER, **wrong}), tmp_path)
    with pytest.raises(InputError, match="is damaged"):
        read_state(tmp_path)


@pytest.mark.parametrize("name", ["positions", "momenta", "cell"])
def test_atoms_must_be_somewhere(name, state, tmp_path):
    for value in (np.nan, np.inf):
        values = getattr(state, name).copy()
        values[0, 0] = value
        write(replace(state, **{name: values}), tmp_path)
        with pytest.raises(InputError, match="is damaged"):
            read_state(tmp_path)


def test_another_number_is_noticed_by_the_checksum(state, tmp_path):
    write(state, tmp_path)
    with np.load(tmp_path / STATE) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["positions"][1, 1] += 1e-9
    np.savez(tmp_path / STATE, **arrays)
    with pytest.raises(InputError, match="is damaged"):
        read_state(tmp_path)
    header = json.loads(str(arrays["header"]))  # as 0.1.0 wrote it
    arrays |= {"header": np.array(json.dumps({**header, "format": 1}))}
    np.savez(tmp_path / STATE, **{name: values for name, values in arrays.items() if name != "checksum"})
    assert not read_state(tmp_path).has_checksum


def test_flipped_bits_are_noticed(state, tmp_path):
    content, rng, refused = state.to_bytes(), random.Random(0), 0
    for _ in range(300):
        changed = bytearray(content)
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        (tmp_path / STATE).write_bytes(changed)
        try:
            found = read_state(tmp_path)
        except InputError:
            refused += 1
        else:  # a date or a mode in the archive
            assert found.to_bytes() == content
    assert refused > 200


def test_a_fingerprint_tells_weights_and_options_apart():
    def potential(seed, cutoff=4.0):
        return equiforce.untrained(["O"], l_max=0, channels=4, n_layers=1, cutoff=cutoff, seed=seed).potential

    assert fingerprint(potential(0)) == fingerprint(potential(0))
    assert len({fingerprint(potential(0)), fingerprint(potential(1)), fingerprint(potential(0, 4.5))}) == 3


def test_a_state_that_is_compressed_is_not_unpacked(state, tmp_path):
    write(state, tmp_path)
    with np.load(tmp_path / STATE) as file:
        arrays = dict(file)
    np.savez_compressed(tmp_path / STATE, **arrays)
    with pytest.raises(InputError, match="is damaged"):
        read_state(tmp_path)
