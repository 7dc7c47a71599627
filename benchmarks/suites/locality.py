"""ml-peg's locality: atoms far away do not change the forces on acetone.

It calls ``smiles_to_ase``, ``test_ghost_atoms`` and ``test_rand_h`` of ml-peg 0.7.0
(``ml_peg/calcs/physicality/locality``): 20 neon atoms beyond 40 Å, and 30 times one hydrogen atom in a shell of 20 to
50 Å, in a box of 60 Å. The solute is put into the box as ml-peg's fixture does, and the scores are those of
``ml_peg/analysis/physicality/locality``; both are bound to pytest. The box is periodic: an atom beyond 30 Å may be near
an image.
"""

from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from mlpeg import NAME, prepare
from scores import Outcome, Task, plain, require, score

ACETONE, BOX = "CC(=O)C", 60.0


def run(calculator: Calculator, task: Task) -> Outcome:
    """Compute acetone alone, with neon, and with hydrogen."""
    require(task, "H", "C", "O", "Ne")
    prepare()
    from ml_peg.calcs.physicality.locality import calc_locality

    solute = calc_locality.smiles_to_ase(ACETONE)
    solute.set_cell([BOX] * 3)
    solute.center()
    solute.pbc = True
    solute.calc = calculator
    solute.get_forces()
    calc_locality.OUT_PATH = Path(task.folder)
    calc_locality.test_ghost_atoms({NAME: solute}, NAME)
    calc_locality.test_rand_h({NAME: solute}, NAME)
    ghosts = [change.max() for change in _changes(task, "system_ghost.xyz")]
    hydrogens = [change.mean() for change in _changes(task, "system_random_H.xyz")]
    scores = {
        "Ghost atoms max ΔF": score(max(ghosts), "meV/Å"),
        "Random hydrogen mean ΔF": score(np.mean(hydrogens), "meV/Å"),
        "Random hydrogen std ΔF": score(np.std(hydrogens), "meV/Å"),
    }
    forces = np.linalg.norm(solute.get_forces(), axis=1)
    return Outcome(scores, {"acetone": {"largest force, eV/Å": plain(forces.max())}})


def _changes(task: Task, name: str) -> list[np.ndarray]:
    """By how much the forces on the atoms of the solute change with each of its companions, in meV/Å."""
    frames: list[Atoms] = ase.io.read(Path(task.folder) / NAME / name, ":")
    alone = frames[0].get_forces()
    return [1000 * np.linalg.norm(alone - frame.get_forces()[: len(alone)], axis=1) for frame in frames[1:]]
