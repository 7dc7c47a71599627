"""Starts that nothing can begin from are refused, by md, relax and lammps in the same words; all others are not."""

import time

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111, molecule

import equiforce
from equiforce import model_file
from equiforce.calculators import soundness
from equiforce.calculators.lammps.prepare import prepare
from equiforce.calculators.md import MDOptions, run_md
from equiforce.calculators.relax import relax
from equiforce.calculators.relax_options import RelaxOptions
from equiforce.calculators.soundness import refuse_unsound
from equiforce.errors import InputError

SPECIES = ["H", "O", "Si", "Cu"]


def water(**arrays) -> Atoms:
    atoms = molecule("H2O")
    for name, values in arrays.items():
        atoms.set_array(name, np.array(values, dtype=float))
    return atoms


def moving(speed: float) -> Atoms:
    """Water, one of whose hydrogen atoms moves at a speed in Å/fs."""
    return water(momenta=[[0, 0, 0], [0, 0, 0], [1.008 * speed / units.fs, 0, 0]])


def crystal(edges, pbc=(True, True, True)) -> Atoms:
    return Atoms("Si", cell=edges, pbc=pbc)


REFUSED = {
    "no atoms": (Atoms(), "the start structure has no atoms"),
    "dummy": (Atoms("HX", [[0, 0, 0], [0, 0, 1]]), r"atom 1 \(counted from 0\) is a dummy \(X\) and no element"),
    "element": (Atoms("Au"), "an element Au that the model does not know"),
    "position": (Atoms("H", [[0, np.nan, 0]]), "atom 0 .* is not a valid position"),
    "infinite": (Atoms("H", [[0, np.inf, 0]]), "atom 0 .* is not a valid position"),
    "cell": (crystal([3, np.nan, 3]), "the cell holds a value that is not finite"),
    "no vector": (crystal([3, 3, 0]), "the cell is flat"),
    "no volume": (crystal([[3, 0, 0], [0, 3, 0], [3, 3, 0]]), "the cell is flat"),
    "small cell": (crystal([0.5, 3, 3]), r"atom 0 \(Si, .*and its own image are 0.5 Å apart, and the limit is 0.67 Å"),
    "coincident": (Atoms("H2", np.zeros((2, 3))), r"atom 0 .* and atom 1 .* are 0 Å apart, and the limit is 0.19"),
    "close": (Atoms("H2", [[0, 0, 0], [0, 0, 0.15]]), "are 0.15 Å apart"),
    "crowd": (Atoms("H100000", np.zeros((100_000, 3))), "100000 atoms lie within a cube of 2 Å, among them atom 0"),
    "no mass": (water(masses=[16, 1, 0]), r"atom 2 \(H, .* has a mass of 0 u, which is not between 0.1 and 10000 u"),
    "negative mass": (water(masses=[-16, 1, 1]), "a mass of -16 u"),
    "no number as mass": (water(masses=[16, np.nan, 1]), "a mass of nan u"),
    "heavy": (water(masses=[1e30, 1, 1]), "a mass of 1e"),
    "momentum": (water(momenta=[[0, 0, np.nan], [0] * 3, [0] * 3]), r"atom 0 \(O, .* moves at nan Å/fs"),
    "fast": (moving(1e4), r"atom 2 \(H, .* moves at 1e\+04 Å/fs, and the limit is 10 Å/fs"),
    "overflow": (moving(1e300), "moves at inf Å/fs"),
    "hot": (moving(0.5), r"velocities are those of .* K, and the limit is 10,000 K \(atom 2 \(H, .* at 0.5 Å/fs\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_nothing_can_start_from_is_refused(case):
    atoms, sentence = REFUSED[case]
    began = time.process_time()
    with pytest.raises(InputError, match=sentence):
        refuse_unsound(atoms, atoms, SPECIES, temperature=300.0, cutoff=5.0)
    assert time.process_time() - began < 1.0


def cascade() -> Atoms:
    """A crystal, one of whose atoms has 1 keV."""
    atoms = bulk("Cu", cubic=True) * (8, 8, 8)
    atoms.set_momenta([[np.sqrt(2 * 63.546 * 1000.0), 0, 0]] + [[0, 0, 0]] * (len(atoms) - 1))
    return atoms


def drifting() -> Atoms:
    atoms = water()
    atoms.set_velocities(np.full((3, 3), 1.0 / units.fs))
    return atoms


SOUND = {
    "atom": Atoms("H"),
    "water": water(),
    "far apart": Atoms("HO", [[0, 0, 0], [900, 0, 0]]),
    "slab without a third vector": Atoms("Cu", cell=[2.5, 2.5, 0], pbc=[True, True, False]),
    "slab and a far atom": fcc111("Cu", (2, 2, 3), vacuum=4.0, periodic=False) + Atoms("H", [[0, 0, 5000]]),
    "any cell where nothing repeats": Atoms("H", cell=[1e300, np.nan, 0]),
    "compressed": bulk("Cu", a=2.4),
    "heavy hydrogen": water(masses=[11.967, 3.024, 3.024]),
    "cascade": cascade(),
    "drift": drifting(),
    "outside of its cell": Atoms("Cu", [[1e6, -1e6, 3]], cell=[2.5, 2.6, 2.7], pbc=True),
}


@pytest.mark.parametrize("case", SOUND)
def test_what_is_unusual_only_is_not_refused(case):
    atoms = SOUND[case]
    before = atoms.copy()
    refuse_unsound(atoms, atoms, SPECIES, temperature=300.0, cutoff=5.0)
    np.testing.assert_array_equal(atoms.positions, before.positions)
    np.testing.assert_array_equal(atoms.get_momenta(), before.get_momenta())


def test_velocities_have_no_effect_on_a_relaxation():
    for speed in (0.5, 1e4):
        refuse_unsound(moving(speed), "hot.xyz", SPECIES)


def test_a_list_of_neighbours_that_fits_into_no_memory_is_refused(monkeypatch):
    monkeypatch.setattr(soundness, "available", lambda _: 1e7)
    atoms = bulk("Cu", cubic=True) * (8, 8, 8)
    with pytest.raises(InputError, match=r"2,048 atoms have about .* pairs within 6 Å, whose list alone needs .* MB"):
        refuse_unsound(atoms, "large.xyz", SPECIES, cutoff=6.0)
    refuse_unsound(atoms, "large.xyz", SPECIES)  # LAMMPS may have other memory
    monkeypatch.setattr(soundness, "available", lambda _: None)
    refuse_unsound(atoms, "large.xyz", SPECIES, cutoff=6.0)


@pytest.mark.parametrize("case", ["close", "dummy", "no mass"])
def test_md_relax_and_lammps_say_the_same(case, tmp_path, plain_torch):
    potential = equiforce.untrained(SPECIES, l_max=0, channels=2, n_layers=1, cutoff=4.0).potential
    model_file.save(tmp_path / "m.eqf", potential, [], {})
    start = tmp_path / "start.traj"
    ase.io.write(start, REFUSED[case][0])
    said = []
    for begin in (
        lambda: run_md(potential, start, MDOptions(), tmp_path / "md"),
        lambda: relax(potential, start, RelaxOptions(), tmp_path / "relax"),
        lambda: prepare(tmp_path / "m.eqf", start, tmp_path / "in.lammps", MDOptions()),
    ):
        with pytest.raises(InputError, match=r"start\.traj: ") as error:
            begin()
        said.append(str(error.value))
    assert len(set(said)) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.eqf", "start.traj"]
