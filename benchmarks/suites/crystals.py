"""matcalc's calculators on 30 elemental crystals, beside PBE's volumes and bulk moduli.

The structures and the reference values are those that ASE ships in ``ase.collections.dcdft``: the relaxed structures of
the Delta project, with volumes and bulk moduli of WIEN2k, which computes PBE without pseudopotentials (K. Lejaeghere et
al., Science 351, aad3000 (2016)). matcalc's own benchmark data are downloaded, and are not used. Every calculator of
matcalc 0.7.0 is called as its users call it, with forces below 0.01 eV/Å. Phonons have supercells of 8 Å, where matcalc
takes 20 Å by default. For shear moduli and heat capacities the collection has no reference.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from ase.calculators.calculator import Calculator
from ase.collections import dcdft
from scores import NotApplicableError, Outcome, Task, mean, plain, score

# metals and semiconductors with small cells; the magnetic ones are only as magnetic as the training data were
# fmt: off
CRYSTALS = (
    "Be", "Na", "Mg", "Al", "Si", "K", "Ca", "Sc", "Ti", "V", "Fe", "Ni", "Cu", "Zn", "Ge",
    "Sr", "Y", "Zr", "Nb", "Mo", "Ru", "Rh", "Pd", "Ag", "Ba", "Hf", "W", "Pt", "Au", "Pb",
)
# fmt: on
QUICK = ("Mg", "Al", "Si", "Fe", "Cu")
FORCE = 0.01  # eV/Å
SUPERCELL = 8.0  # Å
TEMPERATURE = 300.0  # K
ERRORS = (RuntimeError, ValueError, ArithmeticError)

Values = dict[str, float | str | None]


def relaxation(calculator: Calculator, task: Task) -> Outcome:
    """Relax atoms and cell, from the structure of PBE."""
    from matcalc import RelaxCalc

    def values(structure: Any, reference: dict[str, float]) -> Values:
        found = RelaxCalc(calculator, fmax=FORCE).calc(structure)
        volume = found["volume"] / len(structure)
        error = 100 * (volume / reference["wien2k_volume"] - 1)
        converged = float(found["is_converged"])
        return {"volume, Å³/atom": volume, "error of volume, %": error, "converged": converged}

    rows = _of_all(values, task)
    scores = {
        "MAE of volume": score(mean(abs(x) for x in _column(rows, "error of volume, %")), "%"),
        "mean error of volume": score(mean(_column(rows, "error of volume, %")), "%"),
        "converged": score(100 * mean(_column(rows, "converged")), "%"),
    }
    return Outcome(scores | _failed(rows), rows)


def eos(calculator: Calculator, task: Task) -> Outcome:
    """Fit Birch and Murnaghan's equation of state to eleven volumes."""
    from matcalc import EOSCalc

    def values(structure: Any, reference: dict[str, float]) -> Values:
        found = EOSCalc(calculator, fmax=FORCE).calc(structure)
        modulus = found["bulk_modulus_bm"]
        return {"K, GPa": modulus, "error of K, GPa": modulus - reference["wien2k_B"], "R²": found["r2_score_bm"]}

    rows = _of_all(values, task)
    scores = {
        "MAE of bulk modulus": score(mean(abs(x) for x in _column(rows, "error of K, GPa")), "GPa"),
        "mean error of bulk modulus": score(mean(_column(rows, "error of K, GPa")), "GPa"),
        "smallest R² of a fit": score(min(_column(rows, "R²"), default=math.nan), ""),
    }
    return Outcome(scores | _failed(rows), rows)


def elasticity(calculator: Calculator, task: Task) -> Outcome:
    """Fit elastic tensors to stresses of 24 deformed cells; the moduli are those of Voigt, Reuss and Hill."""
    from matcalc import ElasticityCalc

    def values(structure: Any, reference: dict[str, float]) -> Values:
        found = ElasticityCalc(calculator, fmax=FORCE, units_GPa=True).calc(structure)
        bulk, shear = found["bulk_modulus_vrh"], found["shear_modulus_vrh"]
        return {"K, GPa": bulk, "error of K, GPa": bulk - reference["wien2k_B"], "G, GPa": shear}

    rows = _of_all(values, task)
    scores = {
        "MAE of bulk modulus": score(mean(abs(x) for x in _column(rows, "error of K, GPa")), "GPa"),
        "mean shear modulus": score(mean(_column(rows, "G, GPa")), "GPa"),
        "shear modulus below 0": score(100 * mean(x < 0 for x in _column(rows, "G, GPa")), "%"),
    }
    return Outcome(scores | _failed(rows), rows)


def phonons(calculator: Calculator, task: Task) -> Outcome:
    """Compute heat capacities at 300 K, and count crystals with imaginary modes."""
    from matcalc import PhononCalc

    def values(structure: Any, _: dict[str, float]) -> Values:
        job = PhononCalc(calculator, fmax=FORCE, min_length=SUPERCELL, write_phonon=False)
        found = job.calc(structure)
        thermal, frequencies = found["thermal_properties"], found["frequencies"]
        at = int(np.argmin(np.abs(np.asarray(thermal["temperatures"]) - TEMPERATURE)))
        imaginary = float(frequencies.min() < job.imaginary_freq_tol)
        capacity = thermal["heat_capacity"][at] / len(structure)
        return {"CV, J/(K mol)": capacity, "highest frequency, THz": frequencies.max(), "imaginary": imaginary}

    rows = _of_all(values, task)
    scores = {
        "mean heat capacity": score(mean(_column(rows, "CV, J/(K mol)")), "J/(K mol)"),
        "mean highest frequency": score(mean(_column(rows, "highest frequency, THz")), "THz"),
        "crystals with imaginary modes": score(100 * mean(_column(rows, "imaginary")), "%"),
    }
    return Outcome(scores | _failed(rows), rows)


def _of_all(values: Callable[[Any, dict[str, float]], Values], task: Task) -> dict[str, Values]:
    """Compute every crystal that the model knows; one that fails has the reason."""
    rows: dict[str, Values] = {}
    for symbol, structure in _structures(task):
        try:
            found = values(structure, dcdft.data[symbol])
            rows[symbol] = {name: plain(value) for name, value in found.items()}  # type: ignore[arg-type]
        except ERRORS as error:
            rows[symbol] = {"failed": f"{type(error).__name__}: {error}"}
        print(symbol, rows[symbol], flush=True)
    if not rows:
        raise NotApplicableError("the model knows none of the crystals")
    return rows


def _structures(task: Task) -> Iterator[tuple[str, Any]]:
    """Yield primitive cells."""
    from pymatgen.io.ase import AseAtomsAdaptor

    for symbol in QUICK if task.quick else CRYSTALS:
        if symbol in task.elements:
            yield symbol, AseAtomsAdaptor.get_structure(dcdft[symbol]).get_primitive_structure()


def _column(rows: dict[str, Values], name: str) -> list[float]:
    """The numbers of a column; crystals without one are left out."""
    return [value for row in rows.values() if isinstance(value := row.get(name), float)]


def _failed(rows: dict[str, Values]) -> dict[str, dict[str, Any]]:
    return {"failed": score(100 * mean("failed" in row for row in rows.values()), "%")}
