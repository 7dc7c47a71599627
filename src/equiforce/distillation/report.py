"""What is reported at the end of a distillation: tables for the terminal, values for programs, and a page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from equiforce.coverage import Ranges
from equiforce.distillation import origin
from equiforce.distillation.comparison import Simulated, Speed
from equiforce.distillation.options import DistillOptions
from equiforce.distillation.rounds import HEADINGS, Round
from equiforce.evaluate import Errors, Metric
from equiforce.quantities import QUANTITIES
from equiforce.studies.markdown import markdown_table, plain
from equiforce.terminal import Table
from equiforce.training.verdict import Verdict

LEAST_GAIN = 1.5
LARGE_DRIFT = 1.0  # meV/atom/ps; sound potentials stay far below with a sound time step
ABOVE_NOISE, OF_PEAK = 2.0, 0.1  # a difference of g(r) counts if it is above both
SHOWN_PAIRS = 3
HEAD_OF_ERRORS = ["", "MAE", "RMSE", "unit"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """The results of a distillation."""

    folder: Path
    model: Path  # the student
    teacher: Mapping[str, Any]
    options: DistillOptions
    timestep: float  # fs
    n_frames: Mapping[str, int]  # of each part
    n_violent: int
    stopped: Sequence[str]  # the trajectories of the teacher that went wrong
    speeds: Sequence[Speed]
    held_out: Errors  # of the student against the teacher
    references: Mapping[str, Errors]  # of the teacher and the student against the labels of the start structures
    ranges: Ranges
    simulated: Sequence[Simulated]
    verdict: Verdict | None  # on the training
    training: Mapping[str, Any] = field(default_factory=dict)  # the last one
    rounds: Sequence[Round] = ()

    @property
    def gain(self) -> float:
        """The smallest gain in speed over the timed structures."""
        return min(speed.gain for speed in self.speeds)

    def warnings(self) -> list[str]:
        """What the user should know before using the student, each as a sentence."""
        return [*self._about_sampling(), *self._about_speed(), *(w for s in self.simulated for w in _of_dynamics(s))]

    def _about_sampling(self) -> Iterator[str]:
        if self.stopped:
            n = len(self.stopped)
            yield (
                f"{n} trajector{'y' if n == 1 else 'ies'} of the teacher went wrong and ended early "
                f"({self.stopped[0]}): lower the temperatures or the time step"
            )
        n_all = sum(self.n_frames.values())
        wanted = self.options.frames + len(self.rounds) * self.options.frames_of_round
        if n_all < 0.9 * wanted:
            yield (
                f"only {n_all} of the {wanted} frames were found: give more steps or copies, or a "
                "smaller distance between frames (every)"
            )
        if self.verdict is not None and self.verdict.train_longer:
            yield (
                "the student was still learning: give the same command with a larger --time, or more "
                "training.max_steps, and --overwrite, and its training goes on"
            )
        elif self.verdict is not None and self.verdict.kind == "gap":
            yield (
                f"more frames would help the student most ({self.verdict.text}): give more frames and steps, with a "
                "new --folder"
            )

    def _about_speed(self) -> Iterator[str]:
        slowest = min(self.speeds, key=lambda speed: speed.gain)
        if slowest.gain < LEAST_GAIN:
            yield (
                f"the student is only {slowest.gain:.2g} times as fast as its teacher on {slowest.n_atoms} atoms: take "
                "a smaller one, such as --set model.channels=16 or model.l_max=0"
            )

    def as_dict(self) -> dict[str, Any]:
        """The results as plain types for JSON, with units in the names."""
        return {
            "folder": str(self.folder),
            "model": str(self.model),
            "teacher": dict(self.teacher),
            "options": asdict(self.options),
            "timestep_fs": self.timestep,
            "n_frames": dict(self.n_frames),
            "n_violent": self.n_violent,
            "stopped": list(self.stopped),
            "speeds": [asdict(speed) | {"gain": speed.gain} for speed in self.speeds],
            "held_out": self.held_out.as_dict(),
            "references": {name: errors.as_dict() for name, errors in self.references.items()},
            "rounds": [one.as_dict() for one in self.rounds],
            "ranges": self.ranges.to_dict(),
            "simulated": [_plain(simulated) for simulated in self.simulated],
            "training": dict(self.training),
            "warnings": self.warnings(),
        }

    def tables(self) -> list[Table]:
        """The results as tables for the terminal."""
        speed = Table("speed: energy and forces, medians of calls in turn")
        _fill(speed, self._speed_rows())
        held_out = Table(f"the student against its teacher, on {self.held_out.n_structures} frames that were held out")
        _fill(held_out, [HEAD_OF_ERRORS, *_rows_of(self.held_out)])
        tables = [speed, held_out]
        if self.rounds:
            tables.insert(
                0, Table("rounds: forces against the teacher on frames that the student visited, RMSE in meV/Å")
            )
            _fill(tables[0], self._round_rows())
        if self.references:
            reference = Table("errors against the labels of the start structures (RMSE)")
            _fill(reference, self._reference_rows())
            tables.append(reference)
        covered = Table("what the student was trained on", show_header=False)
        for row in self._range_rows():
            covered.add_row(*row)
        dynamics = Table("the student's own molecular dynamics")
        _fill(dynamics, self._dynamics_rows())
        return [*tables, covered, dynamics]

    def _speed_rows(self) -> list[list[str]]:
        rows = [["structure", "atoms", "teacher, ms", "student, ms", "times as fast"]]
        rows += [
            [s.structure, str(s.n_atoms), f"{s.teacher_ms:.3g}", f"{s.student_ms:.3g}", f"{s.gain:.1f}"]
            for s in self.speeds
        ]
        return rows

    def _round_rows(self) -> list[list[str]]:
        return [list(HEADINGS), *(one.cells() for one in self.rounds)]

    def _reference_rows(self) -> list[list[str]]:
        names = list(self.references)
        rows = [["", *names, "unit"]]
        for quantity in QUANTITIES:
            measure = quantity.logged
            found = [self.references[name].total.get(measure.key) for name in names]
            if all(metric is not None for metric in found):
                rows.append([measure.title, *(f"{m.rmse:.4g}" for m in found if m), measure.unit])
                if measure.per_atom and all(m is not None and m.n > 1 for m in found):
                    cells = [f"{_scatter(m):.4g}" for m in found if m]
                    rows.append([f"{measure.title}, without its mean", *cells, measure.unit])
        return rows

    def _range_rows(self) -> list[tuple[str, str]]:
        kelvin = ", ".join(f"{value:g}" for value in self.options.kelvin)
        pressures = ", ".join(f"{value:g}" for value in self.options.gigapascals)
        parts = ", ".join(f"{n} for {part}" for part, n in self.n_frames.items())
        constant = [("constant pressures", f"{pressures} GPa")] if pressures else []
        return [("frames", parts), ("temperatures", f"{kelvin} K"), *constant, *self.ranges.rows()]

    def _dynamics_rows(self) -> list[list[str]]:
        head = "structure", "K", "steps", "outside of its data", "drift, meV/atom/ps", "largest difference of g(r)"
        rows = [list(head)]
        for s in self.simulated:
            drift = "–" if s.drift is None else f"{s.drift:.2g}"
            radial = "; ".join(
                f"{d.pair} {d.largest:.2f} at {d.distance:.2f} Å (peak {d.peak:.1f}, noise {s.noise[d.pair]:.2f})"
                for d in s.radial[:SHOWN_PAIRS]
            )
            outside = s.stopped or f"{100 * s.outside:.3g} % of the steps"
            rows.append([s.structure, f"{s.temperature:g}", str(s.steps), outside, drift, radial or "–"])
        return rows

    def page(self) -> str:
        """The results as a page of Markdown."""
        held_out = [HEAD_OF_ERRORS, *_rows_of(self.held_out)]
        parts = [
            f"# {plain(self.model.name)}, distilled from {plain(self.teacher['name'])}",
            "\n".join(f"- {name}: {plain(text)}" for name, text in origin.rows(dict(self.teacher))),
            *(["## Warnings", "\n".join(f"- {plain(w)}" for w in self.warnings())] if self.warnings() else []),
            *self._page_of_rounds(),
            "## Speed",
            "A step of molecular dynamics: energy and forces with a neighbour list that is still valid. Teacher and "
            "student were timed in turn, and medians are shown.",
            _markdown(self._speed_rows()),
            "## Errors against the teacher, on frames that were held out",
            _markdown(held_out),
            *self._page_of_references(),
            "## What the student was trained on",
            _markdown([["", ""], *map(list, self._range_rows())]),
            "## Its own molecular dynamics at the highest temperature",
            "The steps are at constant temperature; the drift is that of the total energy at constant energy after it. "
            "The noise is the difference between the two halves of the teacher's trajectory.",
            _markdown(self._dynamics_rows()),
        ]
        return "\n\n".join(parts) + "\n"

    def _page_of_rounds(self) -> list[str]:
        if not self.rounds:
            return []
        ended = [
            f"- round {one.number}, {name}: {plain(why)}" for one in self.rounds for name, _, why in one.reached if why
        ]
        return [
            "## Rounds",
            "The student moved the atoms, and the teacher labelled frames that it visited. Errors are root mean "
            "squares of the forces in meV/Å on these frames, before and after the student was trained on frames of "
            "this round. Those that were held out are an even selection; those to learn from are extremes.",
            _markdown(self._round_rows()),
            *(["These trajectories were stopped:", "\n".join(ended)] if ended else []),
        ]

    def _page_of_references(self) -> list[str]:
        if not self.references:
            return []
        return [
            "## Errors against the labels of the start structures",
            "These are root mean squares. Energies of another level of theory have another zero, which the row without "
            "the mean leaves out.",
            _markdown(self._reference_rows()),
        ]


def _of_dynamics(simulated: Simulated) -> Iterator[str]:
    """What is wrong with a simulation of the student, each as a sentence."""
    where = f"at {simulated.temperature:g} K the student's dynamics of {simulated.structure}"
    if simulated.stopped:
        yield f"{where} went wrong: {simulated.stopped}"
        return
    if simulated.outside:
        first = next(iter(simulated.departures.values()))
        yield f"{where} is outside of its training data in {100 * simulated.outside:.3g} % of the steps: {first}"
    if simulated.drift is not None and abs(simulated.drift) > LARGE_DRIFT:
        yield f"{where} does not keep its energy, which drifts by {simulated.drift:.3g} meV/atom/ps"
    for found in simulated.radial:
        if found.largest > max(ABOVE_NOISE * simulated.noise[found.pair], OF_PEAK * found.peak):
            yield (
                f"{where} has another g(r) of {found.pair} than the teacher: it differs by {found.largest:.2f} at "
                f"{found.distance:.2f} Å, where the two halves of the teacher's trajectory differ by "
                f"{simulated.noise[found.pair]:.2f} at most"
            )
            return


def _plain(simulated: Simulated) -> dict[str, Any]:
    return asdict(simulated) | {"radial": [difference._asdict() for difference in simulated.radial]}


def _rows_of(errors: Errors) -> list[list[str]]:
    """The errors in total, then those of the forces in each group."""
    measures = [quantity.logged for quantity in QUANTITIES]
    rows = [
        [measure.title, f"{metric.mae:.4g}", f"{metric.rmse:.4g}", measure.unit]
        for measure in measures
        if (metric := errors.total.get(measure.key)) is not None
    ]
    for group, metrics in errors.by_group.items():
        if (metric := metrics.forces) is not None:
            unit = next(measure.unit for measure in measures if measure.key == "forces")
            rows.append([f"forces, {group}", f"{metric.mae:.4g}", f"{metric.rmse:.4g}", unit])
    return rows


def _scatter(metric: Metric) -> float:
    """The root mean square of errors about their mean."""
    return float(max(metric.rmse**2 - metric.bias**2, 0.0) ** 0.5)


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    return markdown_table([[plain(cell) for cell in row] for row in rows])


def _fill(table: Table, rows: Sequence[Sequence[str]]) -> None:
    for heading in rows[0]:
        table.add_column(heading)
    for row in rows[1:]:
        table.add_row(*row)
