"""Writes the page of a learning curve from its rows: method and results in sentences, tables and figures."""

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from equiforce.quantities import Quantity, by_rank
from equiforce.report import ModelCurve, learning_curve_plot
from equiforce.storage.whole import write_text
from equiforce.studies.learning_curve import LearningCurve
from equiforce.studies.markdown import (
    assigned,
    code,
    counted,
    exponent_of_ten,
    listed,
    markdown_table,
    percent,
    plain,
    short,
)
from equiforce.studies.power_law import (
    SIGNIFICANT,
    CurveDifference,
    ErrorsOfRuns,
    Estimate,
    compare,
    fit_power_law,
    found_in_words,
    halves,
    holm,
    number,
)
from equiforce.studies.runs import DIVERGED, DONE, Row, column_of_test
from equiforce.studies.table import write_fits
from equiforce.terminal import one_line

LARGE_GAIN = 0.05  # relative; if twice the budget lowers an error by more, training had not converged
EMPTY = "–"


class Section(NamedTuple):
    """A section of the page with its figure, for the errors of one quantity."""

    column: str  # of the table
    name: str
    unit: str
    axis: str

    @classmethod
    def all(cls) -> list["Section"]:
        """Return a section for each quantity with a headline."""
        return [
            cls(column_of_test(q, "mae"), q.name, q.logged.unit, f"{q.headline.error} ({q.logged.unit})")
            for q in by_rank()
            if q.headline
        ]


def write_page(curve: LearningCurve, rows: Sequence[Row], folder: Path) -> list[Path]:
    """Write ``README.md``, ``fits.csv``, and a figure for each quantity that has results.

    Args:
        curve: the study, finished or not.
        rows: all of its rows, as :func:`equiforce.studies.work.results` returns them.
        folder: the folder of the study, which is created if it is missing.

    Returns:
        The paths of the files.

    Raises:
        InputError: an error is not a positive number, or a model diverged with all learning rates.
    """
    page = _Page(curve, rows)
    files = [folder / "README.md", folder / "fits.csv"]
    for section in page.shown:
        paths = [folder / f"{section.name}{suffix}" for suffix in (".png", ".svg")]
        page.plot(section, paths)
        files += paths
    write_text(files[0], page.text())
    write_fits(files[1], page.laws)
    return files


class _Page:
    """The page of a study; each method writes a part of it."""

    def __init__(self, curve: LearningCurve, rows: Sequence[Row]):
        self.curve, self.options, self.rows = curve, curve.options, list(rows)
        self.done, self.known = curve.curve(rows), {row["hash"]: row for row in rows}
        self.models = list(self.options.models)
        several = len(self.options.learning_rates) > 1
        self.scanned = sorted(self.options.scan_sizes or self.options.sizes) if several else []
        self.errors = {
            (column_of_test(quantity, metric), model): self._errors(quantity, metric, model)
            for quantity in by_rank()
            for metric in ("mae", "rmse")
            for model in self.models
        }
        self.laws = {key: fit_power_law(errors) for key, errors in self.errors.items()}
        self.shown = [s for s in Section.all() if any(self.errors[s.column, model] for model in self.models)]
        self.differences = {section: self._differences(section) for section in self.shown}

    def _errors(self, quantity: Quantity, metric: str, model: str) -> ErrorsOfRuns:
        column = column_of_test(quantity, metric)
        rows = [row for row in self.done if isinstance(row[column], int | float)]
        if not quantity.headline and len(rows) < len(self.done):
            return {}  # errors of only some runs give no curve
        return {(row["size"], row["seed"]): row[column] for row in rows if row["model"] == model}

    def text(self) -> str:
        command = f"    equiforce study learning-curve {shlex.quote(one_line(self.curve.name))} --data FOLDER"
        parts = [f"# {plain(self.options.title)}", command, *self._state(), *self._in_short(), *self._method()]
        for section in self.shown:
            parts += [
                f"## {section.name.capitalize()}",
                f"![{section.axis} against the number of training structures]({section.name}.png)",
                *self._table_of_errors(section),
                *self._table_of_exponents(section),
                *self._table_of_differences(section),
            ]
        return "\n\n".join([*parts, *self._doubled(), *self._limits()]) + "\n"

    def plot(self, section: Section, paths: Sequence[Path]) -> None:
        curves, intervals = [], False
        for model in self.models:
            errors, law = self.errors[section.column, model], self.laws[section.column, model]
            intervals |= law is not None and law.exponent.low is not None
            label = model if law is None else f"{model}: {law.exponent.shown()}"
            line = None if law is None else (law.prefactor.value, law.exponent.value)
            curves.append(ModelCurve(label, [size for size, _ in errors], list(errors.values()), line))
        legend = "exponent (95 % interval)" if intervals else "exponent" if any(c.law for c in curves) else ""
        title = f"{self.options.title}: {section.name}"
        learning_curve_plot(paths, curves, title=title, error=section.axis, legend=legend)

    def _state(self) -> list[str]:
        n_done, n_all = len(self.rows), self.curve.count()
        return [] if n_done >= n_all else [f"**unfinished: {n_done} of {n_all} runs**"]

    def _method(self) -> list[str]:
        o, subsets = self.options, self.curve.subsets
        pool, test = (listed(map(code, names)) for names in (o.pool, o.test))
        copies = f"; {subsets.n_copies} more are copies and left out" if subsets.n_copies else ""
        budget, unit = (o.steps, "gradient steps") if o.epochs is None else (o.epochs, "passes over the subset")
        each = f" for {listed(o.sizes)} structures" if isinstance(budget, list) else ""
        points = [
            f"Data: the pool is {pool}, {len(subsets.candidates)} structures to train on and "
            f"{len(subsets.validation)} to validate with, the same for all runs{copies}. All runs are tested on the "
            f"{subsets.n_test} structures of {test}. Fingerprint: {subsets.fingerprint}.",
            f"Sizes: {listed(o.sizes)} training structures; a subset contains all smaller subsets of its seed.",
            f"Seeds of weights, order and subset: {listed(o.seeds)}.",
            f"Budget: {listed(budget if isinstance(budget, list) else [budget])} {unit}{each}.",
            self._rates_in_words(),
            *([f"All models: {assigned(o.common)}."] if o.common else []),
            *self._costs(),
        ]
        return ["## What was done", "\n".join(f"- {point}" for point in points), self._table_of_models()]

    def _rates_in_words(self) -> str:
        rates, scanned = self.options.learning_rates, self.scanned
        if len(rates) == 1:
            return f"Learning rate: {rates[0]:g}; no other rate was tried."
        others = "" if scanned == self.options.sizes else "; other sizes use the rate of the nearest of these sizes"
        return (
            f"Learning rates: {listed(rates)} were tried with seed {self.options.seeds[0]} at {listed(scanned)} "
            f"structures, and the rate with the lowest validation loss is used{others}."
        )

    def _costs(self) -> list[str]:
        timed = [row for row in self.rows if isinstance(row["seconds"], int | float)]
        if not timed:
            return []
        hours = sum(row["seconds"] for row in timed) / 3600
        core_hours = sum(row["seconds"] * row["threads"] for row in timed) / 3600
        machines = [
            f"{plain(name)} ({counted(n, 'run')})" for name, n in Counter(row["machine"] for row in timed).items()
        ]
        lost = len(self.rows) - len(timed)
        without = f", without {counted(lost, 'run')} whose time is unknown" if lost else ""
        versions = [f"{name} {listed(sorted({str(row[name]) for row in timed}))}" for name in ("equiforce", "torch")]
        return [
            f"Machines: {listed(machines, '; ')}. Training took {short(hours)} hours, or {short(core_hours)} core "
            f"hours (hours × threads){without}. Versions: {listed(versions)}."
        ]

    def _table_of_models(self) -> str:
        table = [["model", "options", "weights", *(f"learning rate at {size}" for size in self.scanned)]]
        for model, options in self.options.models.items():
            weights = sorted({row["n_weights"] for row in self.rows if row["model"] == model and row["n_weights"]})
            rates = [self.curve.rate(model, size, self.known) for size in self.scanned]
            chosen = [EMPTY if rate is None else f"{rate:g}" for rate in rates]
            table.append([plain(model), assigned(options), listed(f"{n:,}" for n in weights) or EMPTY, *chosen])
        return markdown_table(table)

    def _table_of_errors(self, section: Section) -> list[str]:
        table = [["model", *map(str, self.options.sizes)]]
        for model in self.models:
            errors = self.errors[section.column, model].items()
            cells = ([error for (size, _), error in errors if size == wanted] for wanted in self.options.sizes)
            table.append([plain(model), *map(self._cell, cells)])
        return [
            f"MAE on the test set in {section.unit} by the number of training structures: mean over seeds ± standard "
            "deviation.",
            markdown_table(table),
        ]

    def _cell(self, values: list[float]) -> str:
        if not values:
            return EMPTY
        mean, spread = float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        # three digits of the mean, or more to show one digit of the spread
        digits = max(0, 2 - exponent_of_ten(mean), -exponent_of_ten(spread) if spread else 0)
        n_all = len(self.options.seeds)
        part = f" ({len(values)} of {counted(n_all, 'seed')})" if len(values) < n_all else ""
        return f"{mean:.{digits}f}" + (f" ± {spread:.{digits}f}" if len(values) > 1 else "") + part

    def _table_of_exponents(self, section: Section) -> list[str]:
        laws = {model: self.laws[section.column, model] for model in self.models}
        if not any(laws.values()):
            return ["No model has runs at two sizes yet, so there are no exponents and no differences."]
        table = [["model", "exponent", "early", "late", "late − early", "sizes", "runs"]]
        for model, law in laws.items():
            if law is None:
                table.append([plain(model), *[EMPTY] * 6])
            else:
                numbers = (law.exponent, law.early, law.late, law.curvature)
                sizes = "all" if law.sizes == tuple(self.options.sizes) else listed(law.sizes)
                table.append([plain(model), *map(_shown, numbers), sizes, str(law.n_runs)])
        early, late = halves(self.options.sizes)
        whole = f" Early sizes are {listed(early)}, late sizes are {listed(late)}." if len(early) > 1 else ""
        return [
            f"Exponents b of error = a × size^b, least squares over all runs, with 95 % intervals.{whole}",
            markdown_table(table),
            *self._bends({model: law.curvature for model, law in laws.items() if law and law.curvature}),
        ]

    @staticmethod
    def _bends(bends: dict[str, Estimate]) -> list[str]:
        sure = {
            model: bend.value
            for model, bend in bends.items()
            if bend.low is not None and bend.high is not None and bend.low * bend.high > 0
        }
        sentences = [
            f"{curves} towards large sizes: {listed(map(plain, names), '; ')}."
            for curves, names in (
                ("Curves that flatten", [m for m, value in sure.items() if value > 0]),
                ("Curves that steepen", [m for m, value in sure.items() if value < 0]),
            )
            if names
        ]
        return [" ".join([*sentences, "One exponent does not describe these curves."])] if sentences else []

    def _differences(self, section: Section) -> list[tuple[str, CurveDifference | None, float | None, float | None]]:
        """Return the name, the comparison, and the corrected p values of slope and shift of each pair of models."""
        pairs = self.options.pairs
        column = section.column
        found = [compare(self.errors[column, first], self.errors[column, second]) for first, second in pairs]
        slopes, shifts = (holm([getattr(c, name).p if c else None for c in found]) for name in ("exponent", "ratio"))
        names = [plain(f"{second} against {first}") for first, second in pairs]
        return list(zip(names, found, slopes, shifts, strict=True))

    def _in_short(self) -> list[str]:
        parts = []
        for section in self.shown:
            lines = [
                f"- {name}: {c.slope_in_words(slope)}; {c.shift_in_words(shift)}."
                for name, c, slope, shift in self.differences[section]
                if c is not None and slope is not None and shift is not None
            ]
            if lines:
                parts += [f"{section.name.capitalize()}, exponents and errors of models:", "\n".join(lines)]
        return ["## In short", *parts] if parts else []

    def _table_of_differences(self, section: Section) -> list[str]:
        if not self.options.pairs or not any(self.laws[section.column, model] for model in self.models):
            return []
        table = [["", "slope", "shift", "slope, late sizes", "found"]]
        differences = self.differences[section]
        for name, c, slope, shift in differences:
            words = ["cannot be said: fewer than two sizes in common", EMPTY, EMPTY]
            if c is not None:
                part = "" if c.sizes == tuple(self.options.sizes) else f" (sizes {listed(c.sizes)})"
                words = [c.slope_in_words(slope) + part, c.shift_in_words(shift), _shown(c.late)]
            table.append([name, *words, found_in_words(slope, shift)])
        n = sum(slope is not None for _, _, slope, _ in differences)
        return [
            "The slope is the difference of exponents (positive: steeper), the shift is the ratio of errors at the "
            "geometric mean size, both from runs of the same size and seed. P values are corrected (Holm) for the "
            f"number of pairs that can be compared, {n}; a difference with p ≤ {SIGNIFICANT:g} counts as found. "
            "Intervals are not corrected.",
            markdown_table(table),
        ]

    def _doubled(self) -> list[str]:
        if not self.options.doubled:
            return []
        size, seed = self.options.sizes[-1], self.options.seeds[0]
        twice = {row["model"]: row for row in self.rows if row["budget"] == 2 and row["state"] == DONE}
        once = {row["model"]: row for row in self.done if row["size"] == size and row["seed"] == seed}
        both = [model for model in self.models if model in twice and model in once]
        parts = ["## Twice the budget", f"Errors at {size} structures, seed {seed}, after one and two budgets:"]
        if not both:
            return [*parts[:1], f"Not known yet: no model has both runs at {size} structures, seed {seed}."]
        table = [
            ["model", *(f"{q.name} ({q.unit}), {column}" for q in self.shown for column in ("once", "twice", "change"))]
        ]
        for model in both:
            pairs = [(once[model][q.column], twice[model][q.column]) for q in self.shown]
            table.append([plain(model), *(text for a, b in pairs for text in (short(a), short(b), percent(b / a - 1)))])
        sentences = [self._gained(q, {m: twice[m][q.column] / once[m][q.column] for m in both}) for q in self.shown]
        missing = [model for model in self.models if model not in both]
        unknown = [f"Not known yet: {listed(map(plain, missing), '; ')}."] if missing else []
        return [*parts, markdown_table(table), *sentences, *unknown]

    def _gained(self, section: Section, ratios: dict[str, float]) -> str:
        """Name the models that gain much from twice the budget, and the late exponent that they would have with it."""
        gains, largest, name = [], self.options.sizes[-1], section.name.capitalize()
        for model, ratio in ratios.items():
            errors, law = self.errors[section.column, model], self.laws[section.column, model]
            if ratio < 1 - LARGE_GAIN and law is not None and law.late is not None:
                gained = {cell: error * (ratio if cell[0] == largest else 1) for cell, error in errors.items()}
                with_gain = fit_power_law(gained, n_draws=0)
                assert with_gain is not None
                assert with_gain.late is not None
                exponents = f"{number(law.late.value, 2)} to {number(with_gain.late.value, 2)}"
                gains.append(f"{plain(model)} ({percent(ratio - 1)}; late exponent {exponents})")
            elif ratio < 1 - LARGE_GAIN:
                gains.append(f"{plain(model)} ({percent(ratio - 1)})")
        if not gains:
            return f"{name}: no model gained more than {100 * LARGE_GAIN:g} %."
        return (
            f"{name}: more than {100 * LARGE_GAIN:g} % lower for {listed(gains, '; ')}. These models had not converged "
            "at the largest size, so their measured late exponent is too flat. The second exponent is the one that "
            "they would have if all seeds gained as much at the largest size, and nothing at smaller sizes."
        )

    def _limits(self) -> list[str]:
        o, state = self.options, self._state()
        few = [
            *([f"Unfinished: {len(self.rows)} of {self.curve.count()} runs."] if state else []),
            *(f"Missing of {text}." for text in self._missing()),
            *self._diverged(),
            *self._edges(),
        ]
        if len(o.seeds) == 1:
            few.append(
                "One seed does not show the noise: there are no intervals, and no difference can be established."
            )
        if len(halves(o.sizes)[0]) < 2:
            few.append(f"Whether the curves bend is unknown: they have only {counted(len(o.sizes), 'size')}.")
        few += [
            "Intervals describe the scatter of seeds (weights, order and subset). They do not include the choice of "
            f"the {self.curve.subsets.n_test} test structures, which are the same for all runs.",
            "If no difference was found, there may still be one within the interval.",
        ]
        return ["## What cannot be said", "\n".join(f"- {point}" for point in few)]

    def _missing(self) -> Iterable[str]:
        """Yield the missing runs of each model, grouped by sizes with the same number of missing seeds."""
        o, n = self.options, len(self.options.seeds)
        n_at = Counter((row["model"], row["size"]) for row in self.done)
        for model in self.models:
            lacks = [(n - n_at[model, size], size) for size in o.sizes]
            if all(lack == n for lack, _ in lacks):
                yield f"{plain(model)}: every run of the curve"
                continue
            texts = [
                f"{lack} of {counted(n, 'seed')} at {listed(size for _, size in group)}"
                for lack, group in groupby(lacks, key=lambda pair: pair[0])
                if lack
            ]
            if texts:
                yield f"{plain(model)}: {'; '.join(texts)}"

    def _diverged(self) -> list[str]:
        columns = self.curve.id_columns
        lost = [plain(", ".join(f"{x} {row[x]}" for x in columns)) for row in self.rows if row["state"] == DIVERGED]
        return [f"Diverged: {'; '.join(lost)}."] if lost else []

    def _edges(self) -> list[str]:
        """Name the models whose best learning rate is the lowest or highest one, so that a better one may exist."""
        sentences, rates = [], self.options.learning_rates
        for name, edge in (("lowest", min(rates)), ("highest", max(rates))):
            sizes = {m: [s for s in self.scanned if self.curve.rate(m, s, self.known) == edge] for m in self.models}
            at = [f"{plain(model)} at {listed(sizes[model])}" for model in self.models if sizes[model]]
            if at:
                sentences.append(f"The {name} learning rate tried, {edge:g}, was the best for {listed(at, '; ')}.")
        return [" ".join([*sentences, "A rate beyond this range may be better."])] if sentences else []


def _shown(estimate: Estimate | None) -> str:
    return EMPTY if estimate is None else estimate.shown()
