"""Make the ethanol reference data: geometries from GFN2-xTB dynamics, labels from PBE/def2-SVP.

There are three stages, and each continues an earlier run:

1. Langevin dynamics with GFN2-xTB (tblite) at 300, 600 and 1000 K, with a small torsional term that compensates
   GFN2-xTB's bias against the trans conformer. Every trajectory has its own seed, half of them start from
   trans and half from gauche, and no test frame shares a trajectory with a training frame.
2. Energies and forces of the frames and of the isolated atoms with PySCF: PBE, def2-SVP, density fitting.
3. ``--collect`` writes the finished frames to ``train.xyz`` and ``test_*.xyz``. It may run at any time, even
   while another process is still computing.

Units in the files: Å, eV and eV/Å. Energies are total energies, isolated atoms included.

    pip install pyscf tblite ase
    OMP_NUM_THREADS=1 python make_data.py             # everything (about an hour on one core)
    OMP_NUM_THREADS=1 python make_data.py --shard 0/2 # every second frame, to share the work
    python make_data.py --collect                     # write the files
    python make_data.py --check                       # forces against finite differences of the energy
"""

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

HERE = Path(__file__).resolve().parent
FUNCTIONAL = "PBE"
BASIS = "def2-svp"
ATOM_SPINS = {"H": 1, "C": 2, "O": 2}

# The angular grid limits the accuracy of the forces much more than the radial one: with 590 points on C and O the
# forces differ by 0.2 meV/Å from those of a far finer grid, with PySCF's level 3 (302 points) by 1.7 meV/Å.
FINE_GRID = {"H": (40, 302), "C": (60, 590), "O": (60, 590)}
COARSE_GRID_LEVEL = 0

TIME_STEP_FS = 0.5
FRICTION_PER_FS = 0.02
EQUILIBRATION_STEPS = 4000
STEPS_PER_FRAME = 120

# In GFN2-xTB trans is 67 meV above gauche, so that dynamics at 300 K would hardly visit it; in PBE/def2-SVP the
# difference is 14 meV. The term -A (1 - cos(C-C-O-H)) / 2 with this A (eV) brings GFN2-xTB close to PBE.
TORSION_AMPLITUDE = 0.07


@dataclass(frozen=True)
class FrameSet:
    """One output file: its number of frames, its temperature, and the seeds of its trajectories."""

    file: str
    temperature: int
    frames: int
    seeds: tuple[int, ...]
    block: int

    @property
    def config_type(self):
        return f"{self.temperature}K"


SETS = (
    FrameSet("train.xyz", 300, 400, (11, 12, 13, 14), 20),
    FrameSet("test_300K.xyz", 300, 100, (101, 102), 5),
    FrameSet("test_600K.xyz", 600, 100, (201, 202), 5),
    FrameSet("test_1000K.xyz", 1000, 100, (301, 302), 5),
)


def replace_atomically(path, write_to):
    """Call ``write_to(temporary path)`` and rename the file, so that nobody reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    write_to(temporary)
    os.replace(temporary, path)


def write_frames(path, frames):
    replace_atomically(path, lambda temporary: write(temporary, frames, format="extxyz"))


# --- geometries ---------------------------------------------------------------------------------------------


def torsion_atoms(atoms):
    """Return the indices C, C, O, H of the torsion that distinguishes trans from gauche."""
    distances = atoms.get_all_distances()
    oxygen = atoms.symbols.search("O")[0]
    hydroxyl = min(atoms.symbols.search("H"), key=lambda i: distances[oxygen, i])
    inner, outer = sorted(atoms.symbols.search("C"), key=lambda i: distances[oxygen, i])
    return [outer, inner, oxygen, hydroxyl]


def dynamics_calculator(atoms):
    """Return a calculator of GFN2-xTB plus the torsional term."""
    from ase.geometry import get_dihedrals, get_dihedrals_derivatives
    from tblite.ase import TBLite

    torsion = torsion_atoms(atoms)

    class BalancedGFN2(TBLite):
        def calculate(self, atoms=None, properties=("energy",), system_changes=()):
            super().calculate(atoms, properties, system_changes)
            bonds = np.diff(atoms.positions[torsion], axis=0)[:, None]
            angle = np.radians(get_dihedrals(*bonds)[0])
            slope = np.radians(get_dihedrals_derivatives(*bonds)[0])
            energy = -TORSION_AMPLITUDE * (1.0 - np.cos(angle)) / 2.0
            for key in ("energy", "free_energy"):
                if key in self.results:
                    self.results[key] += energy
            self.results["forces"][torsion] += TORSION_AMPLITUDE * np.sin(angle) / 2.0 * slope

    return BalancedGFN2(method="GFN2-xTB", verbosity=0)


def relaxed_conformer(gauche):
    """Return relaxed trans or gauche ethanol (C-C-O-H at 180 or about 60 degrees), with its calculator."""
    from ase.optimize import BFGS

    atoms = molecule("CH3CH2OH")
    if gauche:
        torsion = torsion_atoms(atoms)
        atoms.set_dihedral(*torsion, 60.0, indices=torsion[3:])
    atoms.calc = dynamics_calculator(atoms)
    BFGS(atoms, logfile=None).run(fmax=0.01, steps=200)
    return atoms


def run_dynamics(seed, temperature, frames, gauche):
    """Return ``frames`` snapshots of one trajectory with a thermostat, with the centre of mass at the origin."""
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

    rng = np.random.default_rng(seed)
    atoms = relaxed_conformer(gauche)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
    dynamics = Langevin(
        atoms,
        TIME_STEP_FS * units.fs,
        temperature_K=temperature,
        friction=FRICTION_PER_FS / units.fs,
        fixcm=False,
        rng=rng,
    )
    dynamics.run(EQUILIBRATION_STEPS)
    snapshots = []
    for _ in range(frames):
        dynamics.run(STEPS_PER_FRAME)
        snapshot = Atoms(atoms.symbols, atoms.positions - atoms.get_center_of_mass())
        snapshots.append(snapshot)
    return snapshots


def geometries(frame_set, work):
    """Return all frames of a set, taken in turn from its trajectories, so that the first frames sample all of them."""
    per_run = frame_set.frames // len(frame_set.seeds)
    runs = []
    for number, seed in enumerate(frame_set.seeds):
        path = work / "dynamics" / f"{frame_set.config_type}_seed{seed}.xyz"
        if not path.exists():
            started = time.time()
            snapshots = run_dynamics(seed, frame_set.temperature, per_run, gauche=number % 2 == 1)
            write_frames(path, snapshots)
            print(f"dynamics {path.stem}: {len(snapshots)} frames, {time.time() - started:.0f} s", flush=True)
        runs.append(read(path, ":"))
    return [run[i] for i in range(per_run) for run in runs]


# --- labels -------------------------------------------------------------------------------------------------


def caching_integrator():
    """Return a PySCF integrator that keeps the orbitals on the grid, which do not change during one SCF run."""
    from pyscf.dft import numint

    class CachingNumInt(numint.NumInt):
        def __init__(self):
            super().__init__()
            self.blocks = {}

        def eval_ao(self, mol, coords, deriv=0, **options):
            if deriv != 1:
                return super().eval_ao(mol, coords, deriv, **options)
            key = coords.ctypes.data, len(coords)
            if key not in self.blocks:
                options["out"] = numint._empty_aligned(4 * len(coords) * mol.nao)
                # The coordinates are kept too, because the key is an address and is only valid while they exist.
                self.blocks[key] = coords, super().eval_ao(mol, coords, deriv, **options)
            return self.blocks[key][1]

    return CachingNumInt()


def ground_state(atoms, spin=0, grid=FINE_GRID):
    """Return the converged Kohn-Sham solution, computed first on a cheap coarse grid and then on the fine one."""
    from pyscf import dft, gto

    mol = gto.M(
        atom=list(zip(atoms.get_chemical_symbols(), atoms.positions, strict=True)),
        basis=BASIS,
        spin=spin,
        unit=units.Bohr,
        verbose=0,
    )
    solver = (dft.UKS if spin else dft.RKS)(mol, xc=FUNCTIONAL).density_fit()
    solver.with_df.build()
    solver.grids.level = COARSE_GRID_LEVEL
    solver.conv_tol = 1e-5
    solver.kernel()
    guess = solver.make_rdm1()

    solver.grids = dft.Grids(mol)
    solver.grids.atom_grid = grid
    solver._numint = caching_integrator()
    solver.conv_tol = 1e-10
    solver.conv_tol_grad = 1e-5
    solver.kernel(dm0=guess)
    if not solver.converged:
        solver = solver.newton()
        solver.kernel(dm0=solver.make_rdm1())
    if not solver.converged:
        raise RuntimeError(f"SCF did not converge for {atoms}")
    return solver


def energy_and_forces(atoms, grid=FINE_GRID):
    """Compute energy (eV) and forces (eV/Å), which are exact derivatives of the energy on its finite grid."""
    solver = ground_state(atoms, grid=grid)
    gradient = solver.nuc_grad_method()
    gradient.grid_response = True
    forces = -gradient.kernel() * (units.Hartree / units.Bohr)
    return solver.e_tot * units.Hartree, forces


def label(atoms, energy, forces, config_type):
    labelled = Atoms(atoms.symbols, atoms.positions)
    labelled.info["config_type"] = config_type
    labelled.calc = SinglePointCalculator(labelled, energy=round(float(energy), 8), forces=forces)
    return labelled


def atom_ground_state(atom, attempts=5):
    """Return the lowest state of an open-shell atom; SCF continues if it has stopped at a saddle point."""
    solver = ground_state(atom, spin=ATOM_SPINS[atom.symbols[0]])
    for _ in range(attempts):
        orbitals, _, stable, _ = solver.stability(return_status=True)
        if stable:
            break
        solver = solver.newton()
        solver.kernel(orbitals, solver.mo_occ)
    return solver


def label_isolated_atom(symbol, path):
    atom = Atoms(symbol, [[0.0, 0.0, 0.0]])
    energy = atom_ground_state(atom).e_tot * units.Hartree
    write_frames(path, [label(atom, energy, np.zeros((1, 3)), "IsolatedAtom")])
    print(f"isolated {symbol}: {energy:.6f} eV", flush=True)


def atom_path(work, symbol):
    return work / "labels" / f"atom_{symbol}.xyz"


def frame_path(work, frame_set, index):
    return work / "labels" / f"{Path(frame_set.file).stem}_{index:04d}.xyz"


def schedule():
    """Yield (set, index) of all frames, a block of every set in turn, so that unfinished data are balanced."""
    blocks = max(frame_set.frames // frame_set.block for frame_set in SETS)
    for number in range(blocks):
        for frame_set in SETS:
            for index in range(number * frame_set.block, (number + 1) * frame_set.block):
                yield frame_set, index


def compute(work, shard, shards):
    for symbol in ATOM_SPINS:
        if not atom_path(work, symbol).exists():
            label_isolated_atom(symbol, atom_path(work, symbol))
    frames = {frame_set: geometries(frame_set, work) for frame_set in SETS}
    todo = [task for number, task in enumerate(schedule()) if number % shards == shard]
    todo = [task for task in todo if not frame_path(work, *task).exists()]
    started = time.time()
    for done, (frame_set, index) in enumerate(todo, start=1):
        atoms = frames[frame_set][index]
        energy, forces = energy_and_forces(atoms)
        write_frames(frame_path(work, frame_set, index), [label(atoms, energy, forces, frame_set.config_type)])
        pace = (time.time() - started) / done
        print(
            f"{done}/{len(todo)} {frame_path(work, frame_set, index).stem} E={energy:.4f} eV "
            f"net force {abs(forces.sum(axis=0)).max():.1e} eV/Å, {pace:.2f} s/frame, "
            f"{pace * (len(todo) - done) / 60:.0f} min left",
            flush=True,
        )


# --- output and checks --------------------------------------------------------------------------------------


def collect(work):
    for frame_set in SETS:
        paths = [frame_path(work, frame_set, index) for index in range(frame_set.frames)]
        if frame_set.file == "train.xyz":
            paths = [atom_path(work, symbol) for symbol in ATOM_SPINS] + paths
        frames = [read(path) for path in paths if path.exists()]
        if frames:
            write_frames(HERE / frame_set.file, frames)
        print(f"{frame_set.file}: {len(frames)} of {len(paths)} frames", flush=True)


def check(work):
    """Compare forces with five-point differences of the energy and with those of a much finer grid."""
    step = 0.005
    atoms = geometries(SETS[0], work)[0]
    energy, forces = energy_and_forces(atoms)
    worst = 0.0
    for index in range(len(atoms)):
        axis = index % 3
        energies = {}
        for shift in (-2, -1, 1, 2):
            moved = atoms.copy()
            moved.positions[index, axis] += shift * step
            energies[shift] = ground_state(moved).e_tot * units.Hartree
        slope = (energies[-2] - 8 * energies[-1] + 8 * energies[1] - energies[2]) / (12 * step)
        deviation = abs(forces[index, axis] + slope)
        worst = max(worst, deviation)
        print(f"atom {index} axis {axis}: force {forces[index, axis]:+.6f}, difference {deviation:.1e} eV/Å")
    fine_energy, fine_forces = energy_and_forces(atoms, grid=(120, 974))
    print(f"finite differences: largest deviation {worst:.1e} eV/Å")
    print(
        f"grid (120, 974): energy {abs(energy - fine_energy):.1e} eV, forces within "
        f"{abs(forces - fine_forces).max():.1e} eV/Å"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=HERE / ".work", help="cache of finished frames")
    parser.add_argument("--shard", default="0/1", help="I/N: compute only every N-th frame, starting at I")
    parser.add_argument("--collect", action="store_true", help="write the files from the frames done so far")
    parser.add_argument("--check", action="store_true", help="check the forces of one frame, then stop")
    options = parser.parse_args()
    if options.check:
        check(options.work)
    elif options.collect:
        collect(options.work)
    else:
        shard, shards = (int(part) for part in options.shard.split("/"))
        compute(options.work, shard, shards)
        collect(options.work)


if __name__ == "__main__":
    main()
