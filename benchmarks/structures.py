"""Makes the structures that are timed: the same atoms on every machine and for every package, from no external data."""

import re
import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.io import read, write

HERE = Path(__file__).parent
FOLDER = HERE / ".structures"
SPECIES = ["H", "C", "O", "Si"]  # all models have these, so that one compiled file serves all structures
WATER_VOLUME = 29.9  # Å³ per molecule at 1 g/cm³
OH, HOH = 0.9572, np.radians(104.52)
SEED = 0


def acac(copies: int = 1) -> list[Atoms]:
    """Return acetylacetone (15 atoms); several copies are displaced by 0.05 Å, like the frames of a data set."""
    rng = np.random.default_rng(SEED)
    molecule = read(HERE / "structures" / "acac.xyz")
    if copies == 1:
        return [molecule]
    frames = [molecule.copy() for _ in range(copies)]
    for frame in frames:
        frame.positions += rng.normal(scale=0.05, size=frame.positions.shape)
    return frames


def water(n_molecules: int) -> Atoms:
    """Return a periodic box of water at 1 g/cm³, with oxygens near a grid and random orientations."""
    rng = np.random.default_rng(SEED)
    grid = np.array(box(n_molecules))
    spacing = WATER_VOLUME ** (1 / 3)
    sites = np.indices(grid).reshape(3, -1).T * spacing
    molecule = OH * np.array([[0, 0, 0], [np.sin(HOH / 2), np.cos(HOH / 2), 0], [-np.sin(HOH / 2), np.cos(HOH / 2), 0]])
    turned = np.einsum("nab,mb->nma", rotations(len(sites), rng), molecule)
    sites = sites + rng.uniform(-0.15, 0.15, size=sites.shape)
    positions = (sites[:, None] + turned).reshape(-1, 3)
    return Atoms("OHH" * n_molecules, positions=positions, cell=grid * spacing, pbc=True)


def crystal(n_atoms: int) -> Atoms:
    """Return silicon in the diamond structure, displaced by 0.05 Å."""
    cells = box(n_atoms // 8)
    atoms = bulk("Si", cubic=True) * cells
    atoms.rattle(0.05, seed=SEED)
    return atoms


def box(n: int) -> tuple[int, int, int]:
    """Return three factors of n that are as close to one another as possible."""
    triples = [
        (a, b, n // a // b)
        for a in range(1, round(n ** (1 / 3)) + 1)
        if n % a == 0
        for b in range(a, int((n // a) ** 0.5) + 1)
        if n // a % b == 0
    ]
    return min(triples, key=sum)


def rotations(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return rotation matrices that are uniformly distributed."""
    a, b, c, d = (q := rng.normal(size=(4, n))) / np.linalg.norm(q, axis=0)
    rows = [
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a - b * b + c * c - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a - b * b - c * c + d * d],
    ]
    return np.moveaxis(np.array(rows), 2, 0)


def make(name: str) -> list[Atoms]:
    """Return the frames of a name such as acac, acac5 (five frames), water64 (molecules) or crystal4000 (atoms)."""
    kind, number = re.fullmatch(r"([a-z]+)(\d*)", name).groups()
    if kind == "acac":
        return acac(int(number or 1))
    return [{"water": water, "crystal": crystal}[kind](int(number))]


def file_of(name: str) -> Path:
    """Return the extended XYZ file of a name, and write it if it does not exist."""
    path = FOLDER / f"{name}.xyz"
    if not path.exists():
        FOLDER.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=FOLDER) as temporary:  # another process may write the same file now
            draft = Path(temporary) / path.name
            write(draft, make(name), format="extxyz")
            draft.replace(path)
    return path
