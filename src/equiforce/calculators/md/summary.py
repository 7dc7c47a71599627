"""The summary of a simulation."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from equiforce.calculators.md.output import LAST, THERMO, TRAJECTORY
from equiforce.calculators.md.state import STATE
from equiforce.terminal import Table


@dataclass(frozen=True, kw_only=True)
class MDSummary:
    """The summary of a molecular dynamics run, with the steps before a resume."""

    n_steps: int
    n_atoms: int
    time_ps: float
    ensemble: str
    mean_temperature: float  # K, over the steps after the first 20 %
    drift: float | None  # of the total energy, meV/atom/ps; None for all ensembles but nve
    steps_per_second: float
    ns_per_day: float
    n_neighbor_builds: int
    interrupted: bool
    folder: Path
    seed: int
    device: str
    departures: Mapping[str, tuple[int, str]]  # from the training data: the first step and a sentence, by kind
    outside: float  # the part of the compared steps that were outside of the training data

    def table(self) -> Table:
        """The summary as a table with units, for the terminal."""
        table = Table(self.title(), show_header=False, title_style="yellow" if self.departures else "")
        table.add_row("simulated", f"{self.n_steps} steps, {self.time_ps:.4g} ps, {self.n_atoms} atoms")
        table.add_row("mean temperature after the first 20 %", f"{self.mean_temperature:.1f} K")
        if self.drift is not None:
            table.add_row("drift of the total energy", f"{self.drift:.3g} meV/atom/ps")
        for step, sentence in sorted(self.departures.values()):
            where = f"at step {step}" if step else "from the start"
            table.add_row(f"left the training data {where}", sentence, style="yellow")
        if self.departures:
            table.add_row("outside of the training data", f"{100 * self.outside:.3g} % of the steps", style="yellow")
        table.add_row("speed", f"{self.steps_per_second:.1f} steps/s, {self.ns_per_day:.3g} ns/day")
        table.add_row("neighbour lists built", str(self.n_neighbor_builds))
        table.add_row("seed", str(self.seed))
        table.add_row("written", ", ".join(str(self.folder / name) for name in (TRAJECTORY, THERMO, LAST, STATE)))
        return table

    def title(self) -> str:
        """How the run ended, in a few words."""
        ended = "interrupted" if self.interrupted else "finished"
        return f"{ended}, but the run left the training data" if self.departures else ended

    def as_dict(self) -> dict[str, Any]:
        """The summary as plain types for JSON, with the units in the names of :class:`MDSummary`."""
        plain = asdict(self) | {"folder": str(self.folder)}
        plain["departures"] = [
            {"step": step, "what": what, "sentence": sentence} for what, (step, sentence) in self.departures.items()
        ]
        return plain
