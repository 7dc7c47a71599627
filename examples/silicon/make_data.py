"""Make the silicon reference data: strained and rattled 8-atom cells with energies, forces and stress.

The labels come from Quantum ESPRESSO's ``pw.x`` (PBE, norm-conserving pseudopotential, plane waves). A work folder
keeps finished frames, so that a stopped run can be continued.

Units in the files: Å, eV, eV/Å and eV/Å³. Stress has ASE's sign: positive under tension, so that a compressed
cell has a negative trace. Energies are total energies of pseudo-atoms; the isolated atom gives their reference.

    apt-get install quantum-espresso quantum-espresso-data libopenblas0-pthread && pip install ase
    OMP_NUM_THREADS=1 python make_data.py   # everything (about 20 minutes on one core)
    python make_data.py --collect           # write the files from the frames done so far
    python make_data.py --check             # forces and stress against finite differences of the energy
"""

import argparse
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

HERE = Path(__file__).resolve().parent
PSEUDOPOTENTIAL = "Si.pbe-rrkj.UPF"
CUTOFF_RY = 26.0
LATTICE_CONSTANT = 5.47

# The stress on this shifted mesh differs by 0.3 kbar from that on a 5x5x5 mesh; without the shift, at the same cost,
# by 1.2 kbar.
K_MESH = "3 3 3 1 1 1"

RATTLE = (0.05, 0.10, 0.15)
MAX_STRAIN = 0.04
MAX_VOLUME_CHANGE = 0.08
SHORTEST_BOND = 2.0
FRAMES = {"train": (93, 1), "test": (40, 2)}
PERFECT_VOLUMES = np.linspace(0.92, 1.08, 7)
ISOLATED_BOX = (11.0, 11.5, 12.0)


def replace_atomically(path, frames):
    """Write a temporary file and rename it, so that nobody reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    write(temporary, frames, format="extxyz")
    os.replace(temporary, path)


# --- geometries ---------------------------------------------------------------------------------------------


def conventional_cell(volume_ratio=1.0):
    return bulk("Si", "diamond", a=LATTICE_CONSTANT * volume_ratio ** (1 / 3), cubic=True)


def deformed_cell(rng, sigma):
    """Return a cell of random volume and shape, with atoms displaced by Gaussians of width ``sigma`` (Å)."""
    atoms = conventional_cell()
    strain = rng.uniform(-MAX_STRAIN, MAX_STRAIN, (3, 3))
    deformation = np.eye(3) + np.triu(strain) + np.triu(strain, 1).T
    volume_ratio = rng.uniform(1.0 - MAX_VOLUME_CHANGE, 1.0 + MAX_VOLUME_CHANGE)
    deformation *= (volume_ratio / np.linalg.det(deformation)) ** (1 / 3)
    atoms.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
    displacements = rng.normal(0.0, sigma, (len(atoms), 3))
    atoms.positions += displacements - displacements.mean(axis=0)
    return atoms


def shortest_distance(atoms):
    return atoms.get_all_distances(mic=True)[np.triu_indices(len(atoms), 1)].min()


def geometries(name):
    """Return all frames of ``train`` or ``test``, with the three amplitudes of displacement in turn."""
    count, seed = FRAMES[name]
    rng = np.random.default_rng(seed)
    frames = []
    if name == "train":
        for volume_ratio in PERFECT_VOLUMES:
            atoms = conventional_cell(volume_ratio)
            atoms.info["config_type"] = "perfect"
            frames.append(atoms)
    for number in range(count):
        sigma = RATTLE[number % len(RATTLE)]
        atoms = deformed_cell(rng, sigma)
        # Independent displacements sometimes bring neighbours closer together than thermal motion does.
        while shortest_distance(atoms) < SHORTEST_BOND:
            atoms = deformed_cell(rng, sigma)
        atoms.info["config_type"] = f"rattle_{sigma:.2f}"
        frames.append(atoms)
    return frames


# --- labels -------------------------------------------------------------------------------------------------


def pw_input(atoms, options, isolated=False, cutoff=CUTOFF_RY):
    system = "occupations='fixed'"
    k_points = f"K_POINTS automatic\n{K_MESH}"
    if isolated:
        # Two of the three p states are filled, which breaks the symmetry; so nosym and a box of three lengths are used.
        system = "nspin=2, tot_magnetization=2, starting_magnetization(1)=0.5, nosym=.true., occupations='fixed'"
        k_points = "K_POINTS gamma"
    cell = "\n".join(" ".join(f"{x:.12f}" for x in row) for row in atoms.cell.array)
    positions = "\n".join("Si " + " ".join(f"{x:.12f}" for x in row) for row in atoms.positions)
    return f"""&control
  calculation='scf', tstress=.true., tprnfor=.true., disk_io='none',
  pseudo_dir='{options.pseudo_dir}', outdir='.'
/
&system
  ibrav=0, nat={len(atoms)}, ntyp=1, ecutwfc={cutoff}, {system}
/
&electrons
  conv_thr=1e-10, electron_maxstep=200, mixing_beta={0.3 if isolated else 0.7}
/
ATOMIC_SPECIES
Si 28.0855 {PSEUDOPOTENTIAL}
CELL_PARAMETERS angstrom
{cell}
ATOMIC_POSITIONS angstrom
{positions}
{k_points}
"""


def parse_output(text, atoms):
    """Read energy (eV), forces (eV/Å) and stress (eV/Å³, ASE's sign) from the output of ``pw.x``."""
    if "convergence has been achieved" not in text or "JOB DONE" not in text:
        raise RuntimeError("pw.x did not converge:\n" + text[-2000:])
    energy = float(re.findall(r"^!\s+total energy\s+=\s+(\S+) Ry", text, re.MULTILINE)[-1]) * units.Ry
    force_lines = re.findall(r"atom\s+\d+ type\s+\d+\s+force =\s+(\S+)\s+(\S+)\s+(\S+)", text)[: len(atoms)]
    forces = np.array(force_lines, dtype=float) * (units.Ry / units.Bohr)
    printed = text[text.index("total   stress") :].splitlines()[1:4]
    pressure_tensor = np.array([line.split()[:3] for line in printed], dtype=float)
    # pw.x's sign is positive under compression.
    stress = -pressure_tensor * (units.Ry / units.Bohr**3)
    return energy, forces, stress


def run_pw(atoms, options, **settings):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pw.in").write_text(pw_input(atoms, options, **settings))
        command = [options.pw, "-in", "pw.in"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return parse_output(done.stdout, atoms)


def label(atoms, options, **settings):
    energy, forces, stress = run_pw(atoms, options, **settings)
    periodic = atoms.pbc.all()
    labelled = Atoms(atoms.symbols, atoms.positions, cell=atoms.cell if periodic else None, pbc=periodic)
    labelled.info["config_type"] = atoms.info["config_type"]
    results = {"energy": round(energy, 8), "forces": forces}
    if periodic:
        results["stress"] = np.round(stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], 9)
    labelled.calc = SinglePointCalculator(labelled, **results)
    return labelled


def isolated_atom(options):
    """One spin-polarised atom in a box so large that its images hardly matter; written without the box."""
    atom = Atoms("Si", positions=[[0.0, 0.0, 0.0]], cell=ISOLATED_BOX)
    atom.info["config_type"] = "IsolatedAtom"
    return label(atom, options, isolated=True)


# --- stages -------------------------------------------------------------------------------------------------


def frame_path(work, name, index):
    return work / "labels" / f"{name}_{index:04d}.xyz"


def schedule():
    """Return (name, index) of all frames, with training and test frames mixed in proportion to their numbers."""
    totals = {name: len(geometries(name)) for name in FRAMES}
    order = [("train", index, index / totals["train"]) for index in range(totals["train"])]
    order += [("test", index, index / totals["test"]) for index in range(totals["test"])]
    return [(name, index) for name, index, _ in sorted(order, key=lambda entry: entry[2])]


def compute(options):
    atom_path = options.work / "labels" / "atom_Si.xyz"
    if not atom_path.exists():
        replace_atomically(atom_path, [isolated_atom(options)])
    frames = {name: geometries(name) for name in FRAMES}
    todo = [task for task in schedule() if not frame_path(options.work, *task).exists()]
    started = time.time()
    for done, (name, index) in enumerate(todo, start=1):
        labelled = label(frames[name][index], options)
        replace_atomically(frame_path(options.work, name, index), [labelled])
        pace = (time.time() - started) / done
        print(
            f"{done}/{len(todo)} {name}_{index:04d} E={labelled.get_potential_energy():.4f} eV "
            f"{pace:.1f} s/frame, {pace * (len(todo) - done) / 60:.0f} min left",
            flush=True,
        )


def collect(options):
    for name in FRAMES:
        paths = [frame_path(options.work, name, index) for index in range(len(geometries(name)))]
        if name == "train":
            paths.insert(0, options.work / "labels" / "atom_Si.xyz")
        frames = [read(path) for path in paths if path.exists()]
        if frames:
            replace_atomically(HERE / f"{name}.xyz", frames)
        print(f"{name}.xyz: {len(frames)} of {len(paths)} frames", flush=True)


def strained(atoms, row, column, amount):
    strain = np.zeros((3, 3))
    strain[row, column] += amount / 2
    strain[column, row] += amount / 2
    copy = atoms.copy()
    copy.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return copy


def check(options, step=0.004, shift=0.01):
    """Compare with finite differences at the cutoff of the data, and at twice this cutoff, without Pulay stress."""
    atoms = geometries("train")[len(PERFECT_VOLUMES) + 1]
    for cutoff in (CUTOFF_RY, 2 * CUTOFF_RY):
        _, forces, stress = run_pw(atoms, options, cutoff=cutoff)
        for row, column in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
            energies = [
                run_pw(strained(atoms, row, column, sign * step), options, cutoff=cutoff)[0] for sign in (1, -1)
            ]
            slope = (energies[0] - energies[1]) / (2 * step) / atoms.get_volume()
            print(
                f"{cutoff} Ry stress[{row},{column}] {stress[row, column] / units.GPa * 10:+9.3f} kbar, "
                f"finite difference {slope / units.GPa * 10:+9.3f} kbar",
                flush=True,
            )
        for index in range(3):
            energies = []
            for sign in (1, -1):
                moved = atoms.copy()
                moved.positions[index, index] += sign * shift
                energies.append(run_pw(moved, options, cutoff=cutoff)[0])
            slope = -(energies[0] - energies[1]) / (2 * shift)
            print(
                f"{cutoff} Ry force on atom {index}, axis {index}: {forces[index, index]:+.5f} eV/Å, "
                f"finite difference {slope:+.5f}",
                flush=True,
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=HERE / ".work", help="cache of finished frames")
    parser.add_argument("--pw", default="pw.x", help="Quantum ESPRESSO's pw.x")
    parser.add_argument("--pseudo-dir", default="/usr/share/espresso/pseudo", help="folder of pseudopotentials")
    parser.add_argument("--collect", action="store_true", help="write the files from the frames done so far")
    parser.add_argument("--check", action="store_true", help="compare with finite differences, then stop")
    options = parser.parse_args()
    if options.check:
        check(options)
        return
    if not options.collect:
        compute(options)
    collect(options)


if __name__ == "__main__":
    main()
