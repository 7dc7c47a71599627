"""ml-peg's iron: properties of the body-centred cubic metal beside PBE.

It calls the functions of ml-peg 0.7.0 (``ml_peg/calcs/bulk_crystal/iron_properties``) for the equation of state, the
Bain path, elastic constants, the vacancy, surfaces and traction, and its ``compute_metrics`` with PBE's values
(``ml_peg/analysis/bulk_crystal/iron_properties``). Left out are the surface (111), of 1620 atoms, and the stacking
faults, whose 34 relaxations of 180 and 720 atoms take hours on a CPU; the MAE of surfaces is that of the other three.
ml-peg relaxes to 1e-5 eV/Å and strains by 1e-5: what single precision makes of that is part of the score.
"""

from typing import Any

from ase.calculators.calculator import Calculator
from mlpeg import prepare
from scores import Outcome, Task, plain, require, score

UNITS = {"BCC-FCC ΔE error": "meV", "Surface MAE": "J/m²"}
LEFT_OUT = ("111",)


def run(calculator: Calculator, task: Task) -> Outcome:
    """Compute the errors beside PBE; quick is the equation of state."""
    require(task, "Fe")
    prepare()
    from ml_peg.analysis.bulk_crystal.iron_properties.analyse_iron_properties import compute_metrics
    from ml_peg.calcs.bulk_crystal.iron_properties import calc_iron_properties as iron

    found: dict[str, Any] = {"eos": iron.run_eos_calculation(calculator)}
    if not task.quick:
        a = found["eos"]["a0"]
        iron.SURFACE_CONFIG = {name: one for name, one in iron.SURFACE_CONFIG.items() if name not in LEFT_OUT}
        found["bain_path"] = iron.run_bain_path_calculation(calculator, a)
        found["surfaces"] = iron.run_surface_calculations(calculator, a)
        for plane in ("100", "110"):
            found[f"ts_{plane}"] = iron.run_ts_calculation(calculator, a, plane)
        found["vacancy"] = iron.run_vacancy_calculation(calculator, a)
        found["elastic"] = iron.run_elastic_calculation(calculator, a)
    scores = {name: score(value, UNITS.get(name, "%")) for name, value in compute_metrics(found).items()}
    return Outcome(scores, {part: _numbers(content) for part, content in found.items()})


def _numbers(content: dict[str, Any]) -> dict[str, float | str | None]:
    return {name: plain(value) for name, value in content.items() if not isinstance(value, list)}
