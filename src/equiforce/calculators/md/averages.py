"""Averages over the steps of a simulation, in a memory that does not grow with the number of steps."""

from typing import Any

import numpy as np

MOST_BLOCKS = 2048  # of these many blocks, pairs are joined; a run of fewer steps keeps every step
TRANSIENT = 0.2  # the part of a run that does not count in its mean temperature


class Averages:
    """Sums of temperature (K) and total energy (eV) over blocks of successive steps.

    A long run has fewer but longer blocks, so its mean over the last 80 % begins at a step that is right to 0.1 %.
    """

    def __init__(self) -> None:
        self.length = 1  # steps of a full block
        self.blocks: list[list[float]] = []  # of each block: steps, sum of temperatures, sum of energies

    def add(self, temperature: float, energy: float) -> None:
        """Count one step."""
        if not self.blocks or self.blocks[-1][0] == self.length:
            if len(self.blocks) == MOST_BLOCKS:
                pairs = zip(self.blocks[::2], self.blocks[1::2], strict=True)
                self.blocks = [[a + b for a, b in zip(one, other, strict=True)] for one, other in pairs]
                self.length *= 2
            self.blocks.append([0, 0.0, 0.0])
        block = self.blocks[-1]
        block[0] += 1
        block[1] += temperature
        block[2] += energy

    def mean_temperature(self) -> float:
        """The mean temperature in K, after the first 20 % of the steps."""
        counts, temperatures, _ = np.array(self.blocks).T
        first = int(TRANSIENT * counts.sum()) // self.length
        return float(temperatures[first:].sum() / counts[first:].sum())

    def slope_of_energy(self) -> float:
        """The slope of the total energy in eV per step, of a straight line through all steps."""
        counts, _, energies = np.array(self.blocks).T
        centres = self.length * np.arange(len(counts)) + (counts - 1) / 2
        return float(np.polyfit(centres, energies / counts, 1, w=np.sqrt(counts))[0])

    def to_dict(self) -> dict[str, Any]:
        """The sums as plain types for JSON."""
        return {"length": self.length, "blocks": self.blocks}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Averages":
        """The inverse of :meth:`to_dict`."""
        averages = cls()
        averages.length, averages.blocks = plain["length"], [list(block) for block in plain["blocks"]]
        sums = np.array(averages.blocks, dtype=np.float64).reshape(len(averages.blocks), 3)
        if type(averages.length) is not int or averages.length < 1 or not np.isfinite(sums).all():
            raise ValueError("these are no averages")
        return averages
