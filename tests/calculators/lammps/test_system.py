"""The same atoms in LAMMPS' frame: no distance changes, no lattice, no handedness, no velocity."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.constraints import FixAtoms, FixBondLength

from equiforce.calculators.lammps.system import data_lines, into_lammps, system_of
from equiforce.errors import InputError
from equiforce.neighbors import find_pairs
from tests.calculators.lammps.runs import NOTHING, needs_lammps, run_lammps

SPECIES = ["H", "O", "Cu"]


def slab(order: tuple[int, int, int] = (0, 1, 2), turned: bool = False) -> Atoms:
    """A slab with no third cell vector; ``order`` puts the direction without period elsewhere."""
    atoms = fcc111("Cu", (2, 2, 3))
    atoms.rattle(0.1, seed=1)
    if turned:
        atoms.rotate(35, (1, 2, 3), rotate_cell=True)
    atoms.set_cell(atoms.cell[list(order)])
    atoms.pbc = np.array([True, True, False])[list(order)]
    return atoms


def crowd(cell: np.ndarray) -> Atoms:
    """A periodic cell with atoms in it and far outside of it."""
    inside = np.random.default_rng(3).uniform(-3.0, 4.0, (8, 3))
    return Atoms("CuOH2CuOHCu", scaled_positions=inside, cell=cell, pbc=True)


def wire(turned: bool = False) -> Atoms:
    atoms = Atoms("Cu3", [[0, 0, 0], [0.3, 0, 2.5], [0, 0.1, 5]], cell=[0, 0, 7.5], pbc=[False, False, True])
    if turned:
        atoms.rotate(50, (1, 1, 0), rotate_cell=True)
    return atoms


SKEW = np.array([[5.0, 0.4, -0.7], [1.1, 6.0, 0.5], [-0.8, 2.9, 4.5]])
STRUCTURES = {
    "atom": Atoms("Cu", [[1, 2, 3]]),
    "molecule": molecule("H2O"),
    "molecule in a box": molecule("CH3CH2OH", vacuum=3.0)[[2, 3, 4, 5]],
    "flat molecule": Atoms("Cu3", [[0, 0, 0], [2.5, 0, 0], [0, 2.5, 0]]),
    "tiny cell": Atoms("Cu", cell=[1.9, 2.0, 2.1], pbc=True),
    "primitive cell": bulk("Cu"),
    "crystal": bulk("Cu", cubic=True),
    "skewed": crowd(SKEW),
    "left-handed": crowd(SKEW[[1, 0, 2]]),
    "very skewed": crowd([[3, 0, 0], [8, 3, 0], [-7, 11, 3]]),
    "negative": crowd(-np.diag([5.0, 6.0, 7.0])),
    "slab": slab(),
    "slab along x": slab((2, 0, 1)),
    "slab along y": slab((1, 2, 0)),
    "turned slab": slab(turned=True),
    "left-handed slab": slab((1, 0, 2)),
    "wire": wire(),
    "turned wire": wire(turned=True),
}


def pairs(atoms: Atoms, cutoff: float = 4.5) -> np.ndarray:
    """Centre, neighbour and distance of all pairs of atoms and images of atoms."""
    found = find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, cutoff)
    order = np.lexsort((found.distances.round(6), found.neighbors, found.centers))
    return np.stack([found.centers, found.neighbors, found.distances], axis=1)[order]


def write(path, atoms: Atoms) -> None:
    path.write_text("\n".join(data_lines(system_of(atoms, SPECIES, "here"), "Müller's structure")) + "\n")


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> dict[str, Atoms]:
    """Every structure as LAMMPS sees it."""
    folder, text = tmp_path_factory.mktemp("seen"), ""
    for number, atoms in enumerate(STRUCTURES.values()):
        write(folder / f"{number}.data", atoms.copy())
        elements = " ".join(s for s in SPECIES if s in atoms.symbols)
        boundary = " ".join("p" if repeats else "m" for repeats in atoms.pbc)
        text += (
            f"clear\nunits metal\nboundary {boundary}\nread_data {number}.data\n{NOTHING}\nneighbor 0.5 bin\n"
            f"dump d all custom 1 {number}.dump id element xu yu zu\n"
            f"dump_modify d element {elements} sort id format float %.12g\nfix i all nve\nrun 0\n"
        )
    (folder / "in.lammps").write_text(text)
    run_lammps(folder / "in.lammps")
    return {name: ase.io.read(folder / f"{number}.dump") for number, name in enumerate(STRUCTURES)}


@needs_lammps
@pytest.mark.parametrize("name", STRUCTURES)
def test_lammps_reads_the_same_structure(name, seen):
    atoms = STRUCTURES[name]
    assert list(seen[name].symbols) == list(atoms.symbols)
    assert seen[name].pbc.tolist() == atoms.pbc.tolist()
    np.testing.assert_allclose(pairs(seen[name]), pairs(atoms), atol=1e-7)


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_frame_is_turned_and_never_mirrored(name):
    atoms = STRUCTURES[name]
    cell, rotation = into_lammps(atoms.cell.array, atoms.pbc)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) > 0
    assert (np.diag(cell) > 0).all()
    assert np.triu(cell, 1).tolist() == np.zeros((3, 3)).tolist()
    for i, j in ((1, 0), (2, 0), (2, 1)):
        assert abs(cell[i, j]) <= (0.5 + 1e-6) * cell[j, j]
        assert cell[i, j] == 0 or (atoms.pbc[i] and atoms.pbc[j])
    old = (atoms.cell.array @ rotation)[atoms.pbc]
    steps = old @ np.linalg.inv(cell)
    np.testing.assert_allclose(steps, steps.round(), atol=1e-9)
    in_lattice = steps.round()[:, atoms.pbc]
    assert abs(np.linalg.det(in_lattice)) == pytest.approx(1.0)


def test_a_frame_that_fits_is_left_alone():
    for atoms in (bulk("Cu", cubic=True), molecule("H2O"), wire(), fcc111("Cu", (2, 2, 2), vacuum=3.0)):
        _, rotation = into_lammps(atoms.cell.array, atoms.pbc)
        np.testing.assert_allclose(rotation, np.eye(3), atol=1e-12)


def test_velocities_are_turned_along():
    atoms = crowd(SKEW[[1, 0, 2]])
    atoms.set_momenta(np.random.default_rng(0).normal(size=(8, 3)))
    before = atoms.get_velocities() - atoms.get_momenta().sum(axis=0) / atoms.get_masses().sum()
    system = system_of(atoms, SPECIES, "here")
    _, rotation = into_lammps(atoms.cell.array, atoms.pbc)
    np.testing.assert_allclose(system.velocities, before @ rotation * 98.22694788, rtol=1e-6)  # Å/ps
    assert system.n_at_rest == 3


@pytest.mark.parametrize(
    ("atoms", "rotates", "n_at_rest"),
    [
        (molecule("H2O"), False, 6),
        (molecule("H2O"), True, 3),
        (molecule("H2"), False, 5),
        (Atoms("Cu"), False, 0),
        (Atoms("Cu"), True, 0),
        (bulk("Cu", cubic=True), False, 3),
        (wire(), False, 3),
    ],
)
def test_momenta_at_rest_are_counted(atoms, rotates, n_at_rest):
    system = system_of(atoms, SPECIES, "here", rotates=rotates)
    assert (system.n_at_rest, system.velocities) == (n_at_rest, None)


def test_held_atoms_rest():
    atoms = slab()
    atoms.set_momenta(np.ones((12, 3)))
    atoms.set_constraint([FixAtoms([0, 1, 2]), FixAtoms(mask=np.arange(12) == 2)])
    system = system_of(atoms, SPECIES, "here")
    assert system.fixed.tolist() == [0, 1, 2]
    assert (system.n_at_rest, system.without_drift, system.without_rotation) == (9, False, False)
    assert not system.velocities[:3].any()
    assert system.velocities[3:].all()
    atoms.set_momenta(np.eye(12)[:, :3], apply_constraint=False)
    assert system_of(atoms, SPECIES, "here").velocities is None


def test_types_follow_the_model_and_masses_the_atoms():
    atoms = Atoms("CuH2", [[0, 0, 0], [0, 0, 2], [0, 2, 0]])
    atoms.set_masses([63.5, 2.014, 2.014])
    system = system_of(atoms, SPECIES, "here")
    assert system.symbols == ["H", "Cu"]
    assert system.masses == [2.014, 63.5]
    assert system.types.tolist() == [2, 1, 1]


def bad(name: str) -> Atoms:
    atoms = Atoms("H2O", [[0, 0, 0], [0, 0, 1], [0, 1, 0]])
    if name == "gold":
        atoms.symbols[0] = "Au"
    elif name == "nan":
        atoms.positions[1, 2] = np.nan
    elif name == "flat":
        atoms.pbc = True
    elif name == "small":
        atoms.set_cell([0.2, 0.005, 5.0])
        atoms.pbc = True
    elif name == "isotope":
        atoms.set_masses([1.0, 2.0, 16.0])
    elif name == "massless":
        atoms.set_masses([1.0, 1.0, 0.0])
    else:
        atoms.set_constraint(FixBondLength(0, 1))
    return atoms


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gold", r"here: atom 0 .* element Au that the model does not know: it was trained on H, O, Cu"),
        ("nan", "here: atom 1 .* which is not a valid position"),
        ("flat", "here: the cell is flat"),
        ("small", "here: the cell is flat"),
        ("isotope", "here: the masses of H range from 1 to 2 u"),
        ("massless", "here: the masses of O range from 0 to 0 u"),
        ("bond", "here: the constraint FixBondLengths cannot be written into a LAMMPS input"),
    ],
)
def test_what_lammps_cannot_hold_is_refused(name, sentence):
    with pytest.raises(InputError, match=sentence):
        system_of(bad(name), SPECIES, "here")


def test_ase_reads_the_data_file(tmp_path):
    atoms = crowd(SKEW)
    atoms.set_momenta(np.random.default_rng(0).normal(size=(8, 3)))
    write(tmp_path / "a.data", atoms)
    read = ase.io.read(tmp_path / "a.data", format="lammps-data")
    assert list(read.symbols) == list(atoms.symbols)
    np.testing.assert_allclose(pairs(read), pairs(atoms), atol=1e-9)
    np.testing.assert_allclose(read.get_kinetic_energy(), atoms.get_kinetic_energy(), rtol=1e-9)
