"""Runs path-integral molecular dynamics of a water molecule with i-PI.

python examples/ipi/run.py [model.eqf]

The folder ipi_water holds the input and the output of i-PI. Without a model file, an untrained model is used.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import equiforce
from equiforce import model_file

here, folder = Path(__file__).parent, Path("ipi_water")
folder.mkdir(exist_ok=True)
for name in ("input.xml", "driver.py", "water.xyz"):
    shutil.copy(here / name, folder)
if len(sys.argv) > 1:
    shutil.copy(sys.argv[1], folder / "model.eqf")
else:
    potential = equiforce.untrained(["H", "O"], l_max=1, channels=8, n_layers=2).potential
    structures = equiforce.read(here / "water.xyz", labels_required=False)
    model_file.save(folder / "model.eqf", potential, structures, about={})

i_pi = Path(sys.executable).with_name("i-pi")
subprocess.run([i_pi, "input.xml"], cwd=folder, check=True)
print((folder / "water.out").read_text())
