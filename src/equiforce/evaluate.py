"""Predictions for many structures, and their errors with respect to the labels, with units."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from equiforce.ase_atoms import AseAtoms
from equiforce.chunks import ChunkedPotential
from equiforce.elements import SYMBOLS
from equiforce.graph import AtomicGraph, Prediction, batch
from equiforce.labels import Labels, residual
from equiforce.neighbors import build_graph
from equiforce.potential import Potential, evaluating
from equiforce.quantities import FORCES, QUANTITIES, Measure, Quantity, requested
from equiforce.structure import Structure
from equiforce.terminal import Console, Table, say, track


@overload
def predict(
    potential: Potential,
    structures: Structure | AseAtoms,
    *,
    max_edges: int = ...,
    max_memory: float | None = ...,
    console: Console | None = ...,
) -> Prediction: ...
@overload
def predict(
    potential: Potential,
    structures: Iterable[Structure | AseAtoms],
    *,
    max_edges: int = ...,
    max_memory: float | None = ...,
    console: Console | None = ...,
) -> list[Prediction]: ...


def predict(
    potential: Potential,
    structures: Structure | AseAtoms | Iterable[Structure | AseAtoms],
    *,
    max_edges: int = 20_000,
    max_memory: float | None = None,
    console: Console | None = None,
) -> Prediction | list[Prediction]:
    """Predict energy, forces, stress and all other quantities of structures.

    No gradients are recorded, and the training or evaluation mode of the potential does not change.

    Args:
        potential: the potential, which computes on its own device.
        structures: one or more structures, as :class:`equiforce.Structure` or as ASE atoms.
        max_edges: the largest number of edges and atoms together in a batch, which limits the memory. A larger
            structure is its own batch.
        max_memory: the memory limit in GB. A batch that needs more is computed in chunks. None takes the available
            memory.
        console: shows the needed memory and a progress bar; None shows nothing.

    Returns:
        The prediction for a single structure, or a list of predictions in the order of the structures. Tensors are on
        the CPU: ``energy`` [1] and ``energies`` [atoms] in eV, ``forces`` [atoms 3] in eV/Å, ``virial`` [1 3 3] in eV
        and ``stress`` [1 3 3] in eV/Å³. The last two are None unless the structure is periodic and has a volume.

    Raises:
        InputError: a structure contains an element that the potential does not know, or does not fit into memory even
            in chunks.
    """
    if isinstance(structures, Structure | AseAtoms):
        return _predict_all(potential, [_as_structure(structures, "")], max_edges, max_memory, console)[0]
    several = [_as_structure(one, f"structure {number} (counted from 0)") for number, one in enumerate(structures)]
    return _predict_all(potential, several, max_edges, max_memory, console)


def _as_structure(given: Structure | AseAtoms, source: str) -> Structure:
    return given if isinstance(given, Structure) else Structure.from_ase(given, labels=False, source=source)


def _predict_all(
    potential: Potential,
    structures: Sequence[Structure],
    max_edges: int,
    max_memory: float | None,
    console: Console | None,
) -> list[Prediction]:
    predictions: dict[int, Prediction] = {}
    compute = ChunkedPotential(potential, max_memory)
    if console is not None and structures:
        largest = build_graph(max(structures, key=len), potential.species, potential.cutoff)
        n_in_batch = max(1, min(len(structures), max_edges // (largest.n_edges + largest.n_atoms)))
        plan = compute.plan(batch([largest] * n_in_batch))
        say(console, f"memory: {plan.describe()}")
    with evaluating(potential):
        for indices, graph, with_volume in _batches(potential, structures, max_edges, console):
            wanted = requested(q for q in QUANTITIES if with_volume or not q.needs_volume)
            prediction = compute(graph.to(potential.device), **wanted)
            predictions.update(zip(indices, prediction.split(graph.atoms_per_structure().tolist()), strict=True))
    return [predictions[index] for index in range(len(structures))]


def has_volume(structure: Structure) -> bool:
    """Whether a structure has a stress, which needs a periodic direction and a cell with a volume."""
    return bool(structure.pbc.any() and np.linalg.det(structure.cell) != 0)


def _batches(
    potential: Potential, structures: Sequence[Structure], max_edges: int, console: Console | None
) -> Iterator[tuple[list[int], AtomicGraph, bool]]:
    """Yield batches of structures that either all have a volume or all have none.

    Yields:
        The indices of the structures, their graph, and whether they have a volume.
    """
    waiting: dict[bool, list[tuple[int, AtomicGraph]]] = {True: [], False: []}

    def release(with_volume: bool) -> tuple[list[int], AtomicGraph, bool]:
        indices, graphs = zip(*waiting[with_volume], strict=True)
        waiting[with_volume].clear()
        return list(indices), batch(graphs), with_volume

    # a bar in a file would only be in the way
    visible = console is not None and console.is_terminal
    for index, structure in enumerate(track(structures, "predicting", console, visible=visible)):
        graph, with_volume = build_graph(structure, potential.species, potential.cutoff), has_volume(structure)
        # Atoms count as well, because isolated atoms have no edges and a batch of them would have no limit.
        size = sum(other.n_edges + other.n_atoms for _, other in waiting[with_volume])
        if waiting[with_volume] and size + graph.n_edges + graph.n_atoms > max_edges:
            yield release(with_volume)
        waiting[with_volume].append((index, graph))
    yield from (release(with_volume) for with_volume in (True, False) if waiting[with_volume])


class Metric(NamedTuple):
    """The errors of ``n`` predicted numbers."""

    mae: float
    rmse: float
    max: float
    bias: float  # the mean of prediction − label
    n: int

    @property
    def is_biased(self) -> bool:
        """Whether the bias is more than two standard errors from zero."""
        if self.n < 2:
            return False
        variance = max(self.rmse**2 - self.bias**2, 0.0)
        return abs(self.bias) > 2 * (variance / (self.n - 1)) ** 0.5

    @classmethod
    def of(cls, differences: Sequence[np.ndarray], scale: float) -> "Metric | None":
        """The errors of differences prediction − label, multiplied by ``scale``; None if there are no differences."""
        if not differences:
            return None
        scaled = scale * np.concatenate([np.ravel(part) for part in differences])
        size = np.abs(scaled)
        return cls(
            mae=float(size.mean()),
            rmse=float(np.sqrt((size**2).mean())),
            max=float(size.max()),
            bias=float(scaled.mean()),
            n=size.size,
        )


class Metrics(dict[str, Metric]):
    """Errors over a set of structures by the key of their measure, which is also an attribute: ``metrics.forces``.

    If no structure has the label, the key is missing and the attribute is None.
    """

    def __getattr__(self, key: str) -> Metric | None:
        if key not in (measure.key for _, measure in _measures()):
            raise AttributeError(f"there is no measure of errors {key!r}")
        return self.get(key)


def _measures() -> list[tuple[Quantity, Measure]]:
    return [(quantity, measure) for quantity in QUANTITIES for measure in quantity.measures]


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Errors over all structures, over each group (``config_type``), and of the forces on each element."""

    n_structures: int
    total: Metrics
    by_group: dict[str, Metrics]
    forces_by_element: dict[str, Metric]

    def as_dict(self) -> dict[str, Any]:
        """The errors as nested plain values for a JSON file, with a block of units."""

        def plain(metrics: Metrics) -> dict[str, dict[str, float]]:
            return {name: metric._asdict() for name, metric in metrics.items()}

        return {
            "n_structures": self.n_structures,
            "units": {measure.key: measure.unit for _, measure in _measures()},
            "total": plain(self.total),
            "by_group": {group: plain(metrics) for group, metrics in self.by_group.items()},
            "forces_by_element": {element: metric._asdict() for element, metric in self.forces_by_element.items()},
        }

    def table(self) -> Table:
        """The errors as a table for the terminal, with the unit of each row."""
        sections = [[row for row in rows if row.metric is not None] for rows in self._sections()]
        biased = any(row.metric.is_biased for rows in sections for row in rows if row.metric)
        structures = "1 structure" if self.n_structures == 1 else f"{self.n_structures} structures"
        table = Table(f"errors over {structures} (prediction − label)")
        table.add_column("")
        for heading in ("MAE", "RMSE", "max", *(("bias",) if biased else ())):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("unit", no_wrap=True)
        table.add_column("values", justify="right", no_wrap=True)
        for rows in sections:
            for row in rows:
                table.add_row(*row.cells(biased))
            table.add_section()
        return table

    def _sections(self) -> Iterator[list["_Row"]]:
        yield [_Row(measure.title, self.total.get(measure.key), measure.unit) for _, measure in _measures()]
        yield [_Row(f"forces on {name}", metric, FORCES.logged.unit) for name, metric in self.forces_by_element.items()]
        logged = [quantity.logged for quantity in QUANTITIES]
        for group, metrics in self.by_group.items():
            yield [_Row(f"{group}: {one.title}", metrics.get(one.key), one.unit) for one in logged]


class _Row(NamedTuple):
    """A row of the table of errors."""

    title: str
    metric: Metric | None
    unit: str

    def cells(self, with_bias: bool) -> list[str]:
        """The texts of the row; a bias that may be zero is left empty."""
        assert self.metric is not None
        mae, rmse, largest, bias = (f"{value:.4g}" for value in self.metric[:4])
        shown = [bias if self.metric.is_biased else ""] if with_bias else []
        return [self.title, mae, rmse, largest, *shown, self.unit, str(self.metric.n)]


def errors(structures: Sequence[Structure], predictions: Sequence[Prediction]) -> Errors:
    """Compute the errors of predictions.

    Args:
        structures: the structures; a structure without a label does not count for this quantity.
        predictions: the prediction for each structure.

    Returns:
        The errors.
    """
    pairs = list(zip(structures, predictions, strict=True))
    groups = sorted({structure.group for structure in structures})
    by_group = {group or "(no group)": _metrics([pair for pair in pairs if pair[0].group == group]) for group in groups}
    on_element: dict[int, list[np.ndarray]] = {}
    for structure, prediction in pairs:
        difference = _difference(FORCES, structure, prediction)
        if difference is not None:
            for number in np.unique(structure.atomic_numbers):
                on_element.setdefault(int(number), []).append(difference[structure.atomic_numbers == number])
    return Errors(
        n_structures=len(pairs),
        total=_metrics(pairs),
        by_group=by_group if len(groups) > 1 else {},
        forces_by_element={
            SYMBOLS[number]: metric
            for number, parts in sorted(on_element.items())
            if (metric := Metric.of(parts, FORCES.logged.factor)) is not None
        },
    )


def errors_of(structure: Structure, prediction: Prediction) -> dict[str, float]:
    """Compute the errors of the prediction for one structure.

    Returns:
        Each error by a name that contains its unit. The error of a single number is prediction − label, such as
        ``error_energy_meV_per_atom``; that of several is a root mean square, such as ``error_forces_rmse_meV_per_A``.
    """
    found: dict[str, float] = {}
    for quantity in QUANTITIES:
        difference, measure = _difference(quantity, structure, prediction), quantity.logged
        if difference is None:
            continue
        values = measure.factor * difference / (len(structure) if measure.per_atom else 1)
        if values.size == 1:
            found[f"error_{quantity.name}_{measure.column}"] = values.item()
        else:
            found[f"error_{quantity.column('rmse')}"] = float(np.sqrt((values**2).mean()))
    return found


def _metrics(pairs: Sequence[tuple[Structure, Prediction]]) -> Metrics:
    found = Metrics()
    for quantity in QUANTITIES:
        differences = [(len(one), _difference(quantity, one, prediction)) for one, prediction in pairs]
        known = [(n_atoms, difference) for n_atoms, difference in differences if difference is not None]
        for measure in quantity.measures:
            parts = [difference / n_atoms if measure.per_atom else difference for n_atoms, difference in known]
            if (metric := Metric.of(parts, measure.factor)) is not None:
                found[measure.key] = metric
    return found


def _difference(quantity: Quantity, structure: Structure, prediction: Prediction) -> np.ndarray | None:
    """Prediction − label of one structure, with one row for it or for each atom; None if either is missing."""
    label, predicted = structure.label(quantity), prediction.of(quantity)
    if label is None or predicted is None:
        return None
    return predicted.numpy() - (label if quantity.of_atoms else np.asarray(label)[None])


class MeanErrors(NamedTuple):
    """The errors of one quantity over a validation set, in the unit of ``quantity.logged``."""

    mae: float
    rmse: float


class ValidationErrors(dict[Quantity, MeanErrors]):
    """Errors over a validation set, as in ``errors[FORCES].mae``. A quantity without labels is missing."""

    def columns(self) -> dict[str, float | None]:
        """The errors as columns of the training log; None for a quantity without labels."""
        return {
            quantity.column(metric): getattr(self[quantity], metric) if quantity in self else None
            for quantity in QUANTITIES
            for metric in MeanErrors._fields
        }


class ErrorSums:
    """The sums from which :class:`ValidationErrors` follow. They can be added over batches and processes.

    Args:
        values: one row for each quantity; the columns are the number of residuals d, Σ|d| and Σd², in the unit of
            ``quantity.logged``. None starts with zeros.
    """

    def __init__(self, values: Float[Tensor, "quantities 3"] | None = None):
        self.values = torch.zeros(len(QUANTITIES), 3, dtype=torch.float64) if values is None else values

    def add(self, graph: AtomicGraph, prediction: Prediction, labels: Labels) -> None:
        """Add the residuals of a batch."""
        for row, quantity in enumerate(QUANTITIES):
            residuals = residual(quantity, prediction, labels, graph) if quantity in labels else None
            if residuals is None:
                continue
            known = residuals[labels.known_rows(quantity, graph)]
            size = quantity.logged.factor * known.detach().to(torch.float64).abs()
            sums = torch.stack([torch.full_like(size.sum(), size.numel()), size.sum(), (size**2).sum()])
            self.values[row] += sums.to(self.values.device)

    def as_tensor(self) -> Float[Tensor, " sums"]:
        """The sums as a flat tensor, which can be added over processes."""
        return self.values.flatten()

    @classmethod
    def from_tensor(cls, flat: Float[Tensor, " sums"]) -> "ErrorSums":
        """The inverse of :meth:`as_tensor`."""
        return cls(flat.reshape(-1, 3).clone())

    def errors(self) -> ValidationErrors:
        """The MAE and RMSE of each quantity with labels."""
        rows = zip(QUANTITIES, self.values.tolist(), strict=True)
        return ValidationErrors(
            {quantity: MeanErrors(absolute / n, (squared / n) ** 0.5) for quantity, (n, absolute, squared) in rows if n}
        )


def validation_sums(potential: Potential, batches: Iterable[tuple[AtomicGraph, Labels]]) -> ErrorSums:
    """Compute the error sums over batches, which are one process's share of a validation set."""
    sums, device, compute = ErrorSums(), potential.device, ChunkedPotential(potential)
    with evaluating(potential):
        for graph, labels in ((graph.to(device), labels.to(device)) for graph, labels in batches):
            prediction = compute(graph, **requested(labels))
            sums.add(graph, prediction, labels)
    return sums
