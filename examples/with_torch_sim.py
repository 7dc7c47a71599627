"""Runs molecular dynamics of three molecules in one batch with torch-sim.

python examples/with_torch_sim.py [model.eqf]

Without a model file, an untrained model is used. torch-sim's units of time, energy and length here are ps, eV and Å.
"""

import sys

import torch_sim as ts
from ase.build import molecule

import equiforce
from equiforce.calculators.torch_sim import TorchSimModel

file = sys.argv[1] if len(sys.argv) > 1 else None
model = TorchSimModel(file or equiforce.untrained(["H", "C", "O"], l_max=1, channels=8, n_layers=2).potential)

names = ["H2O", "CH3OH", "CH3CH2OH"]
systems = [molecule(name) for name in names]
nve = ts.Integrator.nve if hasattr(ts, "Integrator") else ts.nve  # newer and older torch-sim
state = ts.integrate(systems, model, integrator=nve, n_steps=50, temperature=300.0, timestep=0.0005)

for name, energy, atoms in zip(names, state.energy, state.to_atoms(), strict=True):
    print(f"{name:9} {len(atoms)} atoms  {energy:10.4f} eV")
