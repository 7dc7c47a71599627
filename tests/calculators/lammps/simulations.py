"""Simulations in real LAMMPS, on as many ranks as wanted, and the atoms and models that they take."""

import os
import subprocess
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import molecule

from equiforce import model_file
from equiforce.potential import Potential
from tests.calculators.lammps.runs import LMP, MPIRUN
from tests.systems import SPECIES, structure_of

SECONDS = 120  # a run that takes longer hangs
BAR = 1.6021765e6  # of an eV/Å³, with the constants that LAMMPS has in units metal


def run(folder: Path, text: str, n_ranks: int = 1, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What LAMMPS says of an input."""
    (folder / "in.test").write_text(text, encoding="utf-8")
    command = [LMP, "-in", "in.test", "-log", "none", *arguments]
    if n_ranks > 1:
        command = [MPIRUN, "-np", str(n_ranks), *command]
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command,
        cwd=folder,
        env=settings,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SECONDS,
        check=False,
    )


def ran(folder: Path, text: str, n_ranks: int = 1, *arguments: str) -> str:
    """What LAMMPS says of an input that it must be able to run."""
    result = run(folder, text, n_ranks, *arguments)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return result.stdout


def errors(result: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in (result.stdout + result.stderr).splitlines() if line.startswith("ERROR")]


def results(output: str) -> dict[str, np.ndarray]:
    """The numbers in lines "RESULT name 1 2 3"."""
    lines = [line.split() for line in output.splitlines() if line.startswith("RESULT")]
    return {words[1]: np.array(words[2:], dtype=float) for words in lines}


def waters(n: int = 2, seed: int = 0) -> Atoms:
    """n³ molecules of water at its density, in a cube."""
    rng, edge, atoms = np.random.default_rng(seed), 3.107, Atoms()
    for place in np.ndindex(n, n, n):
        one = molecule("H2O")
        one.rotate(rng.uniform(0, 360), rng.normal(size=3))
        one.translate((np.array(place) + 0.5) * edge - one.positions.mean(axis=0))
        atoms += one
    atoms.set_cell([n * edge] * 3)
    atoms.pbc = True
    atoms.rattle(0.03, seed=seed)
    return atoms


def save_model(path: Path, potential: Potential) -> Path:
    model_file.save(path, potential, [structure_of(molecule("CH3CH2OH")), structure_of(waters(1))], {})
    return path


def write_data(path: Path, atoms: Atoms) -> Atoms:
    """Writes a data file with all of SPECIES as types; the atoms as LAMMPS will see them, its axes turned."""
    ase.io.write(path, atoms, format="lammps-data", specorder=SPECIES, masses=True, units="metal", atom_style="atomic")
    seen = ase.io.read(path, format="lammps-data", units="metal", atom_style="atomic")
    seen.pbc = atoms.pbc
    return seen
