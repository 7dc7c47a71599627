"""The table at the end of a fine-tuning: errors before and after, on new data and on the old domain."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from equiforce.evaluate import Errors, errors, predict
from equiforce.potential import Potential
from equiforce.quantities import QUANTITIES
from equiforce.structure import Structure
from equiforce.terminal import Table

BEFORE, AFTER, SCRATCH = "start model", "fine-tuned", "from scratch"
OLD_DOMAIN = "old domain"
UNIMPROVED = (
    "training did not lower the validation loss, so the model file has the weights of the start model: lower "
    "optimizer.learning_rate, train longer, or give more data"
)


class Row(NamedTuple):
    """The errors of one model on one set."""

    data: str
    model: str
    errors: Errors


class Comparison(NamedTuple):
    """The errors of all models on all sets."""

    rows: tuple[Row, ...]
    seconds: float  # of training, which the model from scratch had too

    def as_dict(self) -> dict[str, Any]:
        """The errors as nested plain values: data, then model."""
        found: dict[str, Any] = {"seconds": round(self.seconds, 1)}
        for row in self.rows:
            found.setdefault(row.data, {})[row.model] = row.errors.as_dict()
        return found

    def of(self, data: str, model: str) -> Errors:
        """The errors of one model on one set; raises KeyError if there are none."""
        return {(row.data, row.model): row.errors for row in self.rows}[data, model]

    def notes(self, name: str) -> list[str]:
        """What went wrong, on new structures with this name."""
        found = {row.model: row.errors.total.forces for row in self.rows if row.data == name}
        before, after = found.get(BEFORE), found.get(AFTER)
        if before is None or after is None or after.rmse <= before.rmse:
            return []
        return [
            "the errors of forces are higher than those of the start model: lower optimizer.learning_rate, train "
            "longer, or give more data"
        ]

    def table(self) -> Table:
        """The errors as a table for the terminal: MAE and RMSE of each quantity that has labels."""
        measures = [q.logged for q in QUANTITIES if any(q.logged.key in row.errors.total for row in self.rows)]
        table = Table("before and after: MAE / RMSE")
        table.add_column("structures")
        table.add_column("model", no_wrap=True)
        for measure in measures:
            table.add_column(f"{measure.title}\n{measure.unit}", justify="right", no_wrap=True)
        last = ""
        for row in self.rows:
            if last not in ("", row.data):
                table.add_section()
            found = [row.errors.total.get(measure.key) for measure in measures]
            cells = ["" if one is None else f"{one.mae:.4g} / {one.rmse:.4g}" for one in found]
            name = f"{row.data} ({row.errors.n_structures})" if row.data != last else ""
            table.add_row(name, row.model, *cells)
            last = row.data
        return table


def compare(
    start: Potential,
    tuned: Potential,
    scratch: Potential | None,
    *,
    new: Sequence[Structure],
    name: str,
    old: Sequence[Structure],
    seconds: float,
) -> Comparison:
    """Compute the errors of a model before and after fine-tuning.

    Args:
        start: the start model, whose reference energies are at the level of the new data.
        tuned: the model after training.
        scratch: one that was trained on the new data from random weights; None without it.
        new: structures of the new data on which no model was trained.
        name: what these are, such as ``test``.
        old: structures of the old domain on which it was not trained; may be empty.
        seconds: of training.
    """
    both = [(BEFORE, start), (AFTER, tuned)]
    of_new = both if scratch is None else [*both, (SCRATCH, scratch)]
    rows = [
        Row(data, model, errors(structures, predict(potential, structures)))
        for data, structures, models in ((name, new, of_new), (OLD_DOMAIN, old, both))
        for model, potential in models
        if structures
    ]
    return Comparison(tuple(rows), seconds)
