"""The options of a relaxation."""

from dataclasses import dataclass
from typing import Literal

from equiforce.options import option

Cell = Literal["fixed", "isotropic", "anisotropic", "full", "in-plane"]


@dataclass(frozen=True, kw_only=True)
class RelaxOptions:
    """The options of a relaxation to a minimum of the energy, or of the enthalpy if the cell relaxes too."""

    fmax: float = option(
        0.01,
        "the largest force on an atom at the end; phonons need 0.001, and float32 models seldom reach 0.0001",
        unit="eV/Å",
        gt=0.0,
        le=1e6,
    )
    steps: int = option(1000, "the largest number of steps; most relaxations need 20 to 200", ge=0, le=10**9)
    cell: Cell = option(
        "fixed",
        "fixed relaxes the atoms alone; isotropic scales the cell; anisotropic also changes its proportions; full also "
        "shears it; in-plane leaves z as it is, for slabs",
    )
    pressure: float = option(
        0.0,
        "pressure at which the cell relaxes; 1 bar is 0.0001 GPa",
        unit="GPa",
        ge=-1e5,
        le=1e5,
        only_if=("cell is not fixed", lambda o: o.cell != "fixed"),
    )
    optimizer: Literal["lbfgs", "fire"] = option(
        "lbfgs", "lbfgs needs the fewest steps; fire is slower, but does not overshoot from starts far from a minimum"
    )
    fixed: str | int | list[str | int] = option(
        "",
        "atoms that do not move, as in equiforce md: elements (Cu), numbers from 0 (7), ranges (0-11), planes (z<5)",
    )
    max_memory: float | None = option(
        None,
        "null: the memory that is free at the start; a system that needs more is computed in chunks, slowly",
        unit="GB",
        gt=0.0,
        le=1e6,
    )
