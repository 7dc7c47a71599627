"""ml-peg's extensivity: two slabs 100 Å apart have the sum of their energies.

It calls ``test_extensivity`` of ml-peg 0.7.0 (``ml_peg/calcs/physicality/extensivity``), whose slabs of aluminium and
nickel have 128 atoms each. The score is that of ``ml_peg/analysis/physicality/extensivity``, whose functions are bound
to pytest.
"""

from pathlib import Path

import ase.io
from ase.calculators.calculator import Calculator
from mlpeg import NAME, Model, prepare
from scores import Outcome, Task, plain, require, score


def run(calculator: Calculator, task: Task) -> Outcome:
    """Compute both slabs alone and together."""
    require(task, "Al", "Ni")
    prepare()
    from ml_peg.calcs.physicality.extensivity import calc_extensivity

    calc_extensivity.OUT_PATH = Path(task.folder)
    calc_extensivity.test_extensivity((NAME, Model(calculator)))
    frames = ase.io.read(Path(task.folder) / NAME / "slabs.xyz", ":")
    aluminium, nickel, both = (frame.get_potential_energy() for frame in frames)
    energies = {"Al": aluminium, "Ni": nickel, "both": both}
    values = {
        name: {"energy, eV/atom": plain(e / len(f))} for f, (name, e) in zip(frames, energies.items(), strict=True)
    }
    return Outcome({"ΔE": score(1000 * abs(both - aluminium - nickel), "meV")}, values)
