"""The options of molecular dynamics."""

from dataclasses import dataclass
from typing import Literal

from equiforce.options import option

Coupling = Literal["isotropic", "semi-isotropic", "anisotropic", "full"]
MOST_STEPS = 10**12
NVT = "langevin"  # what the ensemble nvt means


@dataclass(frozen=True, kw_only=True)
class MDOptions:
    """The options of a molecular dynamics run; the ensemble ``nvt`` becomes ``langevin``."""

    ensemble: Literal["nve", "nvt", "langevin", "bussi", "npt"] = option(
        "langevin",
        "langevin thermalises every mode, even of a single molecule, and nvt is another name of it; bussi (stochastic "
        "rescaling) hardly disturbs the dynamics; nve shows whether energy is conserved; npt (Martyna-Tobias-Klein) "
        "finds the density",
    )
    temperature: float = option(
        300.0,
        "room temperature; nve only sets the initial velocities, and about half of their energy becomes potential "
        "energy",
        unit="K",
        ge=0.0,
        le=1e6,
    )
    pressure: float = option(
        0.0,
        "1 bar is 0.0001 GPa, which a condensed phase does not notice; npt only",
        unit="GPa",
        ge=-1e5,
        le=1e5,
        only_if=("ensemble is npt", lambda o: o.ensemble == "npt"),
    )
    coupling: Coupling = option(
        "isotropic",
        "isotropic keeps the shape of the cell, for liquids; semi-isotropic scales x and y together and z by itself, "
        "for membranes and interfaces; anisotropic scales x, y and z each by itself; full also shears "
        "the cell; npt only",
        only_if=("ensemble is npt", lambda o: o.ensemble == "npt"),
    )
    timestep: float = option(
        0.5,
        "length of a step; bonds of hydrogen oscillate in 10 fs and need 20 steps each time; 1 to 2 fs suffice "
        "without hydrogen",
        unit="fs",
        gt=0.0,
        le=100.0,
    )
    steps: int = option(
        10_000,
        "number of steps; 10,000 are 5 ps at 0.5 fs: long enough to see whether a potential is stable",
        ge=0,
        le=MOST_STEPS,
    )
    friction: float = option(
        5.0,
        "of the thermostat; 5 thermalises within 0.2 ps; use 0.1 to 1 where time correlations matter; langevin only",
        unit="1/ps",
        gt=0.0,
        le=1e5,
        only_if=("ensemble is langevin (or nvt)", lambda o: o.ensemble == "langevin"),
    )
    tdamp: float = option(
        100.0,
        "relaxation time of the thermostat; bussi and npt only",
        unit="fs",
        gt=0.0,
        le=1e9,
        only_if=("ensemble is bussi or npt", lambda o: o.ensemble in {"bussi", "npt"}),
    )
    pdamp: float = option(
        1000.0,
        "relaxation time of the barostat, ten times that of the thermostat; npt only",
        unit="fs",
        gt=0.0,
        le=1e9,
        only_if=("ensemble is npt", lambda o: o.ensemble == "npt"),
    )
    fixed: str | int | list[str | int] = option(
        "",
        "atoms that do not move, separated by commas: elements (Cu), numbers counted from 0 (7), ranges (0-11) or "
        "sides of a plane in Å (z<5); atoms that the start file holds fixed stay fixed too",
    )
    trajectory_every: int = option(
        100,
        "between frames of the trajectory; 50 fs at 0.5 fs, after which frames are nearly independent",
        unit="steps",
        ge=1,
        le=MOST_STEPS,
    )
    thermo_every: int = option(100, "between lines of the table and of thermo.csv", unit="steps", ge=1, le=MOST_STEPS)
    save_every: float = option(
        1.0,
        "the state is saved so often, and a run that is killed loses no more than this when it is resumed",
        unit="min",
        ge=0.0,
        le=1e6,
    )
    seed: int | None = option(
        None,
        "of the velocities and of the thermostat; null draws a seed and prints it; the same seed and start repeat "
        "a run, and a run that starts from the last structure of another gets other random numbers",
        ge=0,
        le=2**63 - 1,
    )
    skin: float = option(
        0.5,
        "the neighbour list reaches this far beyond the cutoff, and stays valid for tens of steps at room temperature",
        unit="Å",
        ge=0.0,
        le=20.0,
    )
    stop_on_escape: bool = option(
        True, "an atom that has lost all neighbours mostly means a broken potential; turn it off to study evaporation"
    )
    max_memory: float | None = option(
        None,
        "null: the memory that is free at the start; a system that needs more is computed in chunks, slowly",
        unit="GB",
        gt=0.0,
        le=1e6,
    )

    def __post_init__(self) -> None:
        if self.ensemble == "nvt":
            object.__setattr__(self, "ensemble", NVT)
