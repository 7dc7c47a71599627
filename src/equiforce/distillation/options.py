"""The options of a distillation, apart from those of the training of the student."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from equiforce.options import option

HOTTEST = 1e5  # K
MOST_STRAIN = 0.3
FEWEST_FRAMES = 10  # so that each part has at least one
MOST_NUMBERS = 100  # of a list


@dataclass(frozen=True, kw_only=True)
class DistillOptions:
    """Which structures the teacher labels for the student, and how the student is compared with it.

    Raises:
        ValueError: a list of temperatures or strains has something else, or a number that is not possible.
    """

    temperatures: str | float | list[float] = option(
        "300,600,1000",
        "of the teacher's molecular dynamics, one trajectory for each start structure; the highest one is that up to "
        "which the student can be trusted",
        unit="K",
    )
    strains: str | float | list[float] = option(
        "0,-0.02,0.02",
        "of the lengths of the cell along its periodic directions, one for each trajectory in turn, so that the "
        "student knows other volumes too",
    )
    frames: int = option(
        300,
        "number of structures that the student learns from, with those that are held out; they are the most different "
        "ones that were found",
        ge=FEWEST_FRAMES,
        le=1_000_000,
    )
    steps: int = option(2000, "of each trajectory of the teacher", ge=10, le=10**9)
    every: int = option(10, "between two frames of a trajectory", unit="steps", ge=1, le=10**6)
    timestep: float | None = option(
        None,
        "null: 0.5 fs with hydrogen, longer with the square root of the lightest mass, and at most 2 fs",
        unit="fs",
        gt=0.0,
        le=100.0,
    )
    friction: float = option(10.0, "of the thermostat; thermalises within 0.1 ps", unit="1/ps", gt=0.0, le=1e5)
    copies: int = option(20, "disturbed copies of each start structure, beside the trajectories", ge=0, le=100_000)
    rattle: float = option(
        0.08,
        "largest standard deviation by which the atoms of a copy are moved; that of each copy lies between a quarter "
        "of it and all of it; 0.15 Å would stretch a stiff bond as much as 10,000 K do",
        unit="Å",
        gt=0.0,
        le=2.0,
        only_if=("copies is above 0", lambda o: o.copies > 0),
    )
    strain: float = option(
        0.04,
        "largest strain of the cell of a copy, with shear; only along periodic directions",
        ge=0.0,
        le=MOST_STRAIN,
        only_if=("copies is above 0", lambda o: o.copies > 0),
    )
    largest_force: float = option(
        30.0,
        "frames with a larger force on an atom are left out, because the student would spend its weights on them",
        unit="eV/Å",
        gt=0.0,
        le=1e6,
    )
    held_out: float = option(
        0.2,
        "part of the frames that is held out, half of it for validation and half for the test; of a trajectory it is "
        "the end, so that no frame of the test has a neighbour in time in the training set",
        ge=0.05,
        le=0.5,
    )
    check_steps: int = option(
        1000,
        "of the student's own dynamics at the highest temperature, at constant temperature and then at constant energy",
        ge=10,
        le=10**9,
    )
    seed: int = option(0, "of velocities, thermostats and disturbed copies", ge=0, le=2**31)

    def __post_init__(self) -> None:
        for value in self.kelvin:
            if not 0 < value <= HOTTEST:
                raise ValueError(f"distill.temperatures has {value:g} K: give temperatures above 0 and up to 100,000 K")
        for value in self.linear_strains:
            if not abs(value) <= MOST_STRAIN:
                raise ValueError(f"distill.strains has {value:g}: give strains from -{MOST_STRAIN} to {MOST_STRAIN}")
        if self.steps < self.every:
            raise ValueError(
                f"distill.steps={self.steps} is below distill.every={self.every}, so no trajectory has a frame: give "
                "more steps"
            )

    @property
    def kelvin(self) -> list[float]:
        """The temperatures in K, each once and in rising order."""
        return sorted(set(_numbers(self.temperatures, "temperatures")))

    @property
    def linear_strains(self) -> list[float]:
        """The strains of the cells of the trajectories, in the given order."""
        return list(dict.fromkeys(_numbers(self.strains, "strains")))


def _numbers(given: str | float | Sequence[float], name: str) -> list[float]:
    """The numbers of an option that is one number, several, or a text such as ``300,600``."""
    words = re.split(r"[,\s]+", given.strip()) if isinstance(given, str) else [given]
    parts: Sequence[str | float] = given if isinstance(given, list | tuple) else words  # type: ignore[assignment]
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if not numbers or len(numbers) > MOST_NUMBERS or not all(map(math.isfinite, numbers)):
        raise ValueError(
            f"distill.{name}={str(given)[:60]!r} is not allowed: give numbers separated by commas, such as 300,600"
        )
    return numbers
