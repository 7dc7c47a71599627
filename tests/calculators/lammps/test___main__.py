import subprocess
import sys

import pytest

from equiforce.calculators.ase import Calculator
from tests.calculators.lammps.runs import MPIRUN, needs_lammps
from tests.calculators.lammps.simulations import SECONDS, results, save_model, waters, write_data
from tests.systems import potential_of

INPUT = """
units metal
read_data water.data
pair_style equiforce
pair_coeff * * {model} H C O
run 0 post no
print "RESULT energy $(pe:%.16g)"
"""


@pytest.mark.slow
@needs_lammps
def test_lammps_within_python_runs_an_input(tmp_path):
    save_model(tmp_path / "model.eqf", potential := potential_of(l_max=1, n_layers=2, channels=4))
    atoms = write_data(tmp_path / "water.data", waters())
    command = [
        MPIRUN,
        "-np",
        "2",
        sys.executable,
        "-m",
        "equiforce.calculators.lammps",
        "-in",
        "in.run",
        "-log",
        "none",
    ]

    def ran(model):
        (tmp_path / "in.run").write_text(INPUT.format(model=model))
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=False)

    result = ran("model.eqf")
    assert result.returncode == 0, result.stdout + result.stderr
    wanted = Calculator(potential).get_potential_energy(atoms)
    assert abs(results(result.stdout)["energy"][0] - wanted) < 1e-9 * abs(wanted)
    result = ran("none.eqf")
    assert result.returncode != 0
    assert (result.stdout + result.stderr).count("there is no model file none.eqf") == 1


@pytest.mark.slow
def test_an_input_must_be_named():
    command = [sys.executable, "-m", "equiforce.calculators.lammps", "-log", "none"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert result.returncode == 1
    assert "name the input" in result.stderr or "pip install" in result.stderr


BUG = """
import sys
from mpi4py import MPI
from equiforce.calculators.lammps import __main__, host

def broken(self, batch):
    raise ValueError("a bug in the model")

if MPI.COMM_WORLD.rank == 1:
    host.Host.compute = broken
__main__.main(sys.argv[1:])
"""


@pytest.mark.slow
@needs_lammps
def test_a_bug_in_the_model_stops_all_ranks(tmp_path):
    """The other rank waits for features of ghosts meanwhile."""
    save_model(tmp_path / "model.eqf", potential_of(l_max=1, n_layers=2, channels=4))
    write_data(tmp_path / "water.data", waters())
    (tmp_path / "in.run").write_text(INPUT.format(model="model.eqf"))
    command = [MPIRUN, "-np", "2", sys.executable, "-c", BUG, "-in", "in.run"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert result.returncode != 0
    said = result.stdout + result.stderr
    assert "Traceback" in said
    assert "ERROR on proc 1: equiforce, in step 0: ValueError: a bug in the model" in said
