"""ml-peg's diatomics: curves of pairs of atoms from 0.18 to 6 Å.

It calls ``run_diatomics`` and ``aggregate_model_metrics`` of ml-peg 0.7.0 (``ml_peg/calcs/physicality/diatomics`` and
``ml_peg/analysis/physicality/diatomics``) with its 100 distances. Fewer elements are asked for: ml-peg has all 118 and
all 7021 pairs, here are ten and 55.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from ase.calculators.calculator import Calculator
from mlpeg import NAME, Model, prepare
from scores import NotApplicableError, Outcome, Task, plain, score

ELEMENTS = ("H", "C", "N", "O", "Na", "Al", "Si", "Cl", "Fe", "Cu")
QUICK = ("H", "O", "Si", "Cu")


def run(calculator: Calculator, task: Task) -> Outcome:
    """Compute the curves and ml-peg's five means over pairs; the values have the minimum of each curve."""
    prepare()
    from ml_peg.analysis.physicality.diatomics.analyse_diatomics import aggregate_model_metrics
    from ml_peg.calcs.physicality.diatomics import calc_diatomics

    elements = [symbol for symbol in (QUICK if task.quick else ELEMENTS) if symbol in task.elements]
    if not elements:
        raise NotApplicableError("the model knows none of the elements")
    calc_diatomics.ELEMENTS, calc_diatomics.OUT_PATH = elements, Path(task.folder)
    calc_diatomics.run_diatomics(NAME, Model(calculator))
    curves = pd.read_csv(Path(task.folder) / NAME / "diatomics.csv")
    scores = {name: score(value, "") for name, value in aggregate_model_metrics(curves).items()}
    scores["points without an energy"] = score(100 * curves.energy.isna().mean(), "%")
    return Outcome(scores, {pair: _minimum(curve) for pair, curve in curves.groupby("pair")})


def _minimum(curve: pd.DataFrame) -> dict[str, float | str | None]:
    """Where the curve is lowest, and how deep below its end."""
    curve = curve.sort_values("distance")
    if curve.energy.isna().all():
        return {"failed": "no energies"}
    lowest = int(np.nanargmin(curve.energy))
    depth = curve.energy.iloc[-1] - curve.energy.iloc[lowest]
    return {"distance, Å": plain(curve.distance.iloc[lowest]), "depth, eV": plain(depth)}
