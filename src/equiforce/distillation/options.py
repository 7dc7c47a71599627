"""The options of a distillation, apart from those of the training of the student."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from equiforce.options import option

HOTTEST = 1e5  # K
MOST_STRAIN = 0.3
MOST_PRESSURE = 1000.0  # GPa, of either sign
FEWEST_FRAMES = 10  # so that each part has at least one
MOST_NUMBERS = 100  # of a list
LONGER = 5  # how many times as many steps the student makes in a trajectory of a round; it is faster by more than this
SEEDS_APART = 104_729  # between two rounds; a prime, as that between two trajectories
ROUNDS = ("rounds is above 0", lambda o: o.rounds > 0)


@dataclass(frozen=True, kw_only=True)
class DistillOptions:
    """Which structures the teacher labels for the student, and how the student is compared with it.

    Raises:
        ValueError: a list of temperatures, strains or pressures has something else, or a number that is not possible.
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
    pressures: str | float | list[float] | None = option(
        None,
        "of further trajectories at constant pressure: one for each temperature and pressure, of each start structure "
        "that is periodic in all directions and holds no atom fixed; the shape of its cell stays",
        unit="GPa",
    )
    frames: int = option(
        300,
        "number of structures that the student learns from first, with those that are held out; they are the most "
        "different ones that were found",
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
    rounds: int = option(
        1,
        "after the first training: the student moves the atoms, the teacher labels the most different of the frames "
        "that the student visits, and the student learns from these too; the length of the training is shared equally "
        "by the first training and the rounds; 0: the student meets its own mistakes only when you use it",
        ge=0,
        le=100,
    )
    round_frames: int | None = option(
        None,
        "number of structures that are added in each round, with those that are held out; null: half of frames",
        ge=FEWEST_FRAMES,
        le=1_000_000,
        only_if=ROUNDS,
    )
    round_steps: int | None = option(
        None,
        f"of each trajectory of the student in a round, which has as many frames as one of the teacher or fewer; null: "
        f"{LONGER} times steps, which take less time because the student is faster",
        ge=10,
        le=10**10,
        only_if=ROUNDS,
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
        for value in self.gigapascals:
            if not abs(value) <= MOST_PRESSURE:
                raise ValueError(
                    f"distill.pressures has {value:g} GPa: give pressures from -{MOST_PRESSURE:g} to {MOST_PRESSURE:g}"
                )
        if self.steps < self.every:
            raise ValueError(
                f"distill.steps={self.steps} is below distill.every={self.every}, so no trajectory has a frame: give "
                "more steps"
            )

    @property
    def kelvin(self) -> list[float]:
        """The temperatures in K, each once and in rising order."""
        return sorted(set(_numbers(self.temperatures, "temperatures", "300,600 in K")))

    @property
    def linear_strains(self) -> list[float]:
        """The strains of the cells of the trajectories, in the given order."""
        return list(dict.fromkeys(_numbers(self.strains, "strains", "0,-0.02,0.02")))

    @property
    def gigapascals(self) -> list[float]:
        """The pressures in GPa, each once and in rising order; empty without any."""
        return [] if self.pressures is None else sorted(set(_numbers(self.pressures, "pressures", "0,5 in GPa")))

    @property
    def frames_of_round(self) -> int:
        """How many structures are added in each round."""
        return self.round_frames or max(FEWEST_FRAMES, self.frames // 2)

    def of_round(self, number: int) -> "DistillOptions":
        """The options by which the student samples in a round: longer trajectories, and other random numbers.

        Args:
            number: of the round, from 1.
        """
        steps = self.round_steps or LONGER * self.steps
        every = min(steps, max(self.every, steps // (self.steps // self.every)))
        seed = (self.seed + SEEDS_APART * number) % 2**31
        return replace(self, steps=steps, every=every, seed=seed)


def _numbers(given: str | float | Sequence[float], name: str, example: str) -> list[float]:
    """The numbers of an option that is one number, several, or a text such as ``300,600``."""
    words = re.split(r"[,\s]+", given.strip()) if isinstance(given, str) else [given]
    parts: Sequence[str | float] = given if isinstance(given, list | tuple) else words  # type: ignore[assignment]
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if not numbers or len(numbers) > MOST_NUMBERS or not all(map(math.isfinite, numbers)):
        raise ValueError(
            f"distill.{name}={str(given)[:60]!r} is not allowed: give numbers separated by commas, such as {example}"
        )
    return numbers
