"""MLIP Arena's hydrogen combustion: a gas of 128 H2 and 64 O2 that is heated to 3000 K.

The structure is the file of mlip-arena 0.2.0. The protocol is that of ``mlip_arena/tasks/combustion/flow.py`` and
``mlip_arena/tasks/md.py``, written here in plain ASE because theirs needs Prefect: Nosé-Hoover with a time constant of
25 fs, steps of 0.5 fs, 300 to 3000 K in the first third, 3000 K in the second, back to 300 K in the last, seed 0. Water
is an oxygen with two hydrogens among the neighbours of ASE's natural cutoffs. MLIP Arena's run takes 1 ns, that is two
million steps, and ``--picoseconds 1000`` asks for it. The default is short: it shows that heating goes well, and too
little time passes for a reaction. MLIP Arena's speed is left out: programs do not run in turn here.
"""

import importlib.util
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.md.npt import NPT
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary, ZeroRotation
from ase.neighborlist import NeighborList, natural_cutoffs
from scores import Outcome, Task, plain, require, score

TEMPERATURES = (300.0, 3000.0, 3000.0, 300.0)
TIME_STEP = 0.5  # fs
PICOSECONDS, QUICK_PICOSECONDS = 0.25, 0.02
MOST_WATER = 128


def run(calculator: Calculator, task: Task) -> Outcome:
    """Heat and cool the gas, and count the water."""
    require(task, "H", "O")
    length = task.picoseconds or (QUICK_PICOSECONDS if task.quick else PICOSECONDS)
    atoms, n_steps = gas(), round(1000 * length / TIME_STEP)
    atoms.calc = calculator
    generator = np.random.default_rng(seed=0)
    MaxwellBoltzmannDistribution(atoms, temperature_K=TEMPERATURES[0], rng=generator)
    Stationary(atoms)
    ZeroRotation(atoms)
    schedule = temperatures(n_steps)
    dynamics = NPT(
        atoms, timestep=TIME_STEP * units.fs, temperature_K=schedule[0], ttime=25 * units.fs, externalstress=None
    )
    dynamics.set_fraction_traceless(1.0)
    dynamics.attach(lambda: dynamics.set_temperature(temperature_K=schedule[dynamics.nsteps]))
    start, energy, highest = atoms.get_center_of_mass(), atoms.get_potential_energy(), []
    dynamics.attach(lambda: highest.append(atoms.get_temperature()))
    dynamics.run(n_steps)
    drift = np.linalg.norm(atoms.get_center_of_mass() - start)
    scores = {
        "yield of water": score(100 * water_molecules(atoms) / MOST_WATER, "%"),
        "drift of the centre of mass": score(drift, "Å"),
        "highest temperature": score(max(highest), "K"),
    }
    last = {"steps": n_steps, "energy, eV/atom": plain(atoms.get_potential_energy() / len(atoms))}
    return Outcome(scores, {"first": {"energy, eV/atom": plain(energy / len(atoms))}, "last": last})


def gas() -> Atoms:
    """Read the gas from the installed package, which is not imported."""
    package = importlib.util.find_spec("mlip_arena").submodule_search_locations[0]
    atoms = ase.io.read(Path(package) / "tasks" / "combustion" / "H256O128.extxyz")
    assert isinstance(atoms, Atoms)
    return atoms


def temperatures(n_steps: int) -> np.ndarray:
    """Return the temperature of each step in K: straight lines between the four, of equal length."""
    corners = np.arange(len(TEMPERATURES))
    return np.interp(np.linspace(0, len(TEMPERATURES) - 1, n_steps + 1), corners, TEMPERATURES)


def water_molecules(atoms: Atoms) -> int:
    """Count oxygens with exactly two hydrogen neighbours."""
    neighbors = NeighborList(natural_cutoffs(atoms), self_interaction=False, bothways=True)
    neighbors.update(atoms)
    oxygens = np.flatnonzero(atoms.symbols == "O")
    return sum(int(np.sum(atoms.symbols[neighbors.get_neighbors(i)[0]] == "H")) == 2 for i in oxygens)
