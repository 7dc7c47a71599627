"""Hostile start files: what `equiforce md`, `relax` and `lammps` read must be right, warned about or refused."""

import argparse
import gzip
import random
import re
import struct
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.constraints import FixAtoms

from equiforce.calculators.ase import Calculator
from equiforce.calculators.md.start import read_start
from equiforce.calculators.soundness import refuse_unsound
from equiforce.calculators.untrained import untrained
from equiforce.errors import InputError
from tests.fuzz import harness

SPECIES = ["H", "C", "O", "Si", "Cu"]
FORMATS = {  # the formats of ASE, with an extension and the options of the writer
    "xyz": ("xyz", {}),
    "extxyz": ("xyz", {}),
    "cif": ("cif", {}),
    "vasp": ("vasp", {}),
    "lammps-data": ("data", {"masses": True, "velocities": True}),
    "traj": ("traj", {}),
    "proteindatabank": ("pdb", {}),
    "json": ("json", {}),
    "cube": ("cube", {}),
}
TRAJECTORIES = ("extxyz", "traj")
WITH_CELL = ("cif", "vasp", "lammps-data", "proteindatabank", "cube")  # do not know molecules without one
HOSTILE = (
    *(
        "nan",
        "inf",
        "-inf",
        "1e308",
        "-1e308",
        "1e-308",
        "0",
        "-1",
        "1e9",
        "99999999999999999999",
        "4611686018427387904",
    ),
    *(
        "1000000000",
        "2147483648",
        "X",
        "Uuo",
        "1_0",
        "0x10",
        "1,5",
        "",
        "*",
        "'",
        '"',
        "{}",
        "[1",
        "%s",
        "\N{MICRO SIGN}",
    ),
    *("true", "T F", "a=b", "# C", "None", "\N{ARABIC-INDIC DIGIT THREE}", "A" * 5000),
)
TOKEN = re.compile(rb"[^\s\"=:,(){}\[\]]+")
NEAR = 5e-3  # Å; coordinates of pdb files have three decimals


@cache
def structures() -> list[Atoms]:
    """A molecule that moves, a crystal, and a slab with fixed atoms."""
    ethanol = molecule("CH3CH2OH")
    ethanol.set_momenta(np.random.default_rng(0).normal(size=(9, 3)))
    silicon = bulk("Si", cubic=True)
    silicon.rattle(0.1, seed=0)
    slab = fcc111("Cu", (2, 2, 2), vacuum=5.0)
    slab.info.clear()
    slab.set_constraint(FixAtoms(range(4)))
    return [ethanol, silicon, slab]


@cache
def calculator() -> Calculator:
    torch.set_num_threads(1)
    return untrained(SPECIES, l_max=0, channels=2, n_layers=1, cutoff=4.0)


@cache
def sound(form: str, which: int, n_frames: int) -> tuple[bytes, list[Atoms]]:
    """A file that is right, and its frames."""
    atoms = structures()[which].copy()
    if form in WITH_CELL and atoms.cell.rank != 3:
        atoms.center(4.0)
    if form in WITH_CELL:
        atoms.pbc = True
    if form == "xyz":  # has no cell
        atoms.pbc = False
    frames = [atoms.copy() for _ in range(n_frames)]
    for number, frame in enumerate(frames[1:], 1):
        frame.rattle(0.05, seed=number)
    name, options = FORMATS[form]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"start.{name}"
        ase.io.write(file, frames if form in TRAJECTORIES else frames[0], format=form, **options)
        return file.read_bytes(), frames


def flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 20))):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    return data[: rng.randrange(len(data))] if rng.random() < 0.6 else b"".join(lines[: rng.randrange(len(lines))])


def with_zeros(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes(rng.choice((8, 100))) + data[at + 8 :]


def with_more(data: bytes, rng: random.Random) -> bytes:
    return data + rng.choice((b"\n", b"3\n\nH", bytes(50), rng.randbytes(50), b"nan nan nan\n", data[:50]))


def with_other_lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    if rng.random() < 0.5:
        lines[one], lines[other] = lines[other], lines[one]
    else:
        lines[one : one + 1] = rng.choice(([], [lines[one]] * 2, [lines[one]] * 1000, [lines[one], b"\n"]))
    return b"".join(lines)


def with_integer(data: bytes, rng: random.Random) -> bytes:
    """With another integer where a trajectory of ASE has its numbers, or where other files have bytes."""
    at = rng.choice((24, 32, 40, 48, 8 * rng.randrange(6, len(data) // 8)))
    value = rng.choice((-1, 0, 1, 2**31, 2**40, 2**63 - 1, -(2**63), len(data)))
    return data[:at] + struct.pack("<q", value) + data[at + 8 :]


def with_tokens(data: bytes, rng: random.Random) -> bytes:
    scaled = rng.random() < 0.3
    for _ in range(rng.choice((1, 1, 2, 5))):
        token = rng.choice(list(TOKEN.finditer(data)))
        if scaled and re.fullmatch(rb"-?\d+\.?\d*", token[0]):
            new = repr(float(token[0]) * rng.choice((-1, 10, 1000, 1e-3, 0))).encode()
        else:
            new = rng.choice(HOSTILE).encode()
        data = data[: token.start()] + new + data[token.end() :]
    return data


FAULTS = (flipped, cut, cut, with_zeros, with_more, with_other_lines, with_integer, *(4 * (with_tokens,)))


def wrapped(data: bytes, name: str, rng: random.Random) -> tuple[bytes, str]:
    """The file in another form: compressed, in another encoding, with another extension."""
    form = rng.randrange(12)
    if form == 0:
        return gzip.compress(data), f"{name}.gz"
    if form == 1 and b"Ulm" not in data:
        return data.decode("latin-1").encode("utf-16"), name
    if form == 2 and b"Ulm" not in data:
        return data.replace(b"\n", b"\r\n"), name
    if form == 3:
        return data, f"start.{rng.choice(('xyz', 'cif', 'traj', 'npz', 'db', 'data', 'out', 'POSCAR'))}"
    return data, name


def attack(rng: random.Random, folder: Path) -> str:
    form = rng.choice(list(FORMATS))
    data, frames = sound(form, rng.randrange(3), rng.choice((1, 3)) if form in TRAJECTORIES else 1)
    fault = None
    if rng.random() < 0.97:
        fault = rng.choice(FAULTS)
        data = fault(data, rng)
    name = f"start.{FORMATS[form][0]}"
    if fault:
        data, name = wrapped(data, name, rng)
    path = folder / name
    path.write_bytes(data)
    try:
        return judged(path, form, fault, frames)
    finally:
        path.unlink()


def judged(path: Path, form: str, fault: Callable | None, frames: list[Atoms]) -> str:
    """Read the file as a start; say how that ended, and raise AssertionError if the result is silently wrong."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            atoms, remarks = read_start(path)
            refuse_unsound(atoms, path, SPECIES, temperature=300.0, cutoff=4.5)
        except InputError as error:
            return of_refusal(error, path, fault)
        atoms.calc = Calculator(calculator().potential)
        energy = atoms.get_potential_energy()
    assert np.isfinite(energy), "the energy is not finite"
    assert not [each for each in said if issubclass(each.category, RuntimeWarning)], f"numpy warns: {said[0].message}"
    remarks = [remark for remark in remarks if "last of several" not in remark and "data file of LAMMPS" not in remark]
    if same(atoms, frames[-1]):
        return "right"
    assert fault, f"a sound file was read as {atoms}"
    if remarks or said:
        return "warned"
    if fault is cut:  # perhaps between two frames
        assert any(same(atoms, frame) for frame in frames), f"{form}: a cut file was read in silence as {atoms}"
        return "right"
    return "as the file says"


def of_refusal(error: InputError, path: Path, fault: Callable | None) -> str:
    assert fault, f"a sound file was refused: {error}"
    assert not isinstance(error.__cause__, MemoryError), f"memory was allocated first: {error}"
    assert str(path) in str(error), f"the file is not named: {error}"
    assert "\n" not in str(error), f"more than a line: {error}"
    return "refused"


def same(atoms: Atoms, wanted: Atoms) -> bool:
    if len(atoms) != len(wanted) or (atoms.numbers != wanted.numbers).any():
        return False
    found, right = (each.get_all_distances(mic=bool(each.pbc.any())) for each in (atoms, wanted))
    return bool(np.abs(found - right).max() < NEAR)


@pytest.mark.slow
def test_a_hostile_start_is_right_warned_about_or_refused(tmp_path, fuzz_seconds):
    calculator()
    tally = harness.run(attack, tmp_path, seconds=fuzz_seconds("starts"))
    print(tally)
    assert not tally.failures, str(tally)
    assert {"refused", "right", "warned", "as the file says"} <= tally.counts.keys()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tries", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    calculator()
    with tempfile.TemporaryDirectory() as name:
        print(harness.run(attack, Path(name), tries=arguments.tries, seed=arguments.seed))
