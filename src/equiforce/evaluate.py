"""Predictions of many structures, and how far they are from the reference, with units."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, overload

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from equiforce.ase_atoms import AseAtoms
from equiforce.chunks import ChunkedPotential
from equiforce.elements import SYMBOLS
from equiforce.graph import AtomicGraph, Labels, Prediction, Structure, batch
from equiforce.neighbors import build_graph
from equiforce.potential import Potential, evaluating

MEV = 1e3  # eV -> meV
GPA = 160.21766208  # eV/Å³ -> GPa
UNITS = {
    "energy": "meV",
    "energy_per_atom": "meV/atom",
    "forces": "meV/Å",
    "stress": "meV/Å³",
    "stress_GPa": "GPa",
}


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
    """Energy, forces and stress of each structure, without gradients; the potential stays in the mode that it is in.

    Args:
        potential: the model; evaluated on its own device.
        structures: one structure or several, as :class:`equiforce.Structure` or as ASE's atoms.
        max_edges: the most pairs of atoms in a batch, which bounds the memory; a larger structure is its own batch.
        max_memory: in GB; what would take more is computed in chunks. None is what is available.
        console: shows what memory is needed, and a progress bar, where given.

    Returns:
        The prediction of one structure, or a list in the order of several. Each is on the CPU: ``energy`` [1] and
        ``energies`` [atoms] in eV, ``forces`` [atoms 3] in eV/Å; ``virial`` [1 3 3] in eV and ``stress`` [1 3 3] in
        eV/Å³ where the structure is periodic and has a volume, else None.

    Raises:
        InputError: a structure holds an element that the potential does not know, or does not fit even in chunks.
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
        side_by_side = max(1, min(len(structures), max_edges // (largest.n_edges + largest.n_atoms)))
        plan = compute.plan(batch([largest] * side_by_side))
        console.print(f"memory: {plan.words()}", highlight=False, soft_wrap=True)
    with evaluating(potential):
        for indices, graph, stressed in _batches(potential, structures, max_edges, console):
            prediction = compute(graph.to(potential.device), stress=stressed)
            predictions.update(zip(indices, _split(prediction, graph.atoms_per_structure().tolist()), strict=True))
    return [predictions[index] for index in range(len(structures))]


def has_stress(structure: Structure) -> bool:
    """Whether a stress means anything: it is periodic somewhere and its cell has a volume."""
    return bool(structure.pbc.any() and np.linalg.det(structure.cell) != 0)


def _batches(
    potential: Potential, structures: Sequence[Structure], max_edges: int, console: Console | None
) -> Iterator[tuple[list[int], AtomicGraph, bool]]:
    """Indices, graph and whether it has a stress: molecules and crystals apart, for all of a batch have one or none."""
    waiting: dict[bool, list[tuple[int, AtomicGraph]]] = {True: [], False: []}

    def release(stressed: bool) -> tuple[list[int], AtomicGraph, bool]:
        indices, graphs = zip(*waiting[stressed], strict=True)
        waiting[stressed].clear()
        return list(indices), batch(graphs), stressed

    shown = Console(quiet=True) if console is None else console
    for index, structure in enumerate(track(structures, "predicting", console=shown, disable=console is None)):
        graph, stressed = build_graph(structure, potential.species, potential.cutoff), has_stress(structure)
        # Atoms count too, or lone atoms, which have no edges, would fill a batch without end.
        size = sum(other.n_edges + other.n_atoms for _, other in waiting[stressed])
        if waiting[stressed] and size + graph.n_edges + graph.n_atoms > max_edges:
            yield release(stressed)
        waiting[stressed].append((index, graph))
    yield from (release(stressed) for stressed in (True, False) if waiting[stressed])


def _split(prediction: Prediction, n_atoms: list[int]) -> list[Prediction]:
    """The prediction of a batch as predictions of its structures."""
    ones = [1] * len(n_atoms)
    parts = [
        [None] * len(n_atoms) if value is None else value.detach().cpu().split(sizes)
        for value, sizes in zip(prediction, (ones, n_atoms, n_atoms, ones, ones), strict=True)
    ]
    return [Prediction(*values) for values in zip(*parts, strict=True)]


class Metric(NamedTuple):
    """How far ``n`` predicted numbers are from their labels."""

    mae: float
    rmse: float
    max: float
    bias: float  # the mean of prediction − label
    n: int

    @classmethod
    def of(cls, differences: Sequence[np.ndarray], scale: float) -> "Metric | None":
        """Of prediction − label, times ``scale``; None where there are none."""
        if not differences:
            return None
        all_of_them = scale * np.concatenate([np.ravel(part) for part in differences])
        size = np.abs(all_of_them)
        return cls(
            mae=float(size.mean()),
            rmse=float(np.sqrt((size**2).mean())),
            max=float(size.max()),
            bias=float(all_of_them.mean()),
            n=size.size,
        )


class Metrics(NamedTuple):
    """Errors of a set of structures, in the units of ``UNITS``; None where no structure has the label."""

    energy: Metric | None
    energy_per_atom: Metric | None
    forces: Metric | None
    stress: Metric | None
    stress_GPa: Metric | None  # noqa: N815 (a unit keeps its capital)


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Errors over all structures, of each group (``config_type``) and of the forces on each element."""

    n_structures: int
    total: Metrics
    by_group: dict[str, Metrics]
    forces_by_element: dict[str, Metric]

    def as_dict(self) -> dict:
        """Nested plain values for a JSON file, with a block of units."""

        def plain(metrics: Metrics) -> dict:
            return {name: metric._asdict() for name, metric in metrics._asdict().items() if metric is not None}

        return {
            "n_structures": self.n_structures,
            "units": UNITS,
            "total": plain(self.total),
            "by_group": {group: plain(metrics) for group, metrics in self.by_group.items()},
            "forces_by_element": {element: metric._asdict() for element, metric in self.forces_by_element.items()},
        }

    def table(self) -> Table:
        """A table for the terminal, with the unit of each row."""
        table = Table(title=f"errors over {self.n_structures} structures (prediction − label)")
        for heading in ("", "MAE", "RMSE", "max", "bias"):
            table.add_column(heading, justify="right" if heading else "left")
        table.add_column("unit")
        table.add_column("values", justify="right")

        def add(title: str, metric: Metric | None, unit: str) -> None:
            if metric is not None:
                numbers = [f"{value:.4g}" for value in metric[:4]]
                table.add_row(title, *numbers, unit, str(metric.n))

        for name, metric in self.total._asdict().items():
            add(name.removesuffix("_GPa").replace("_", " "), metric, UNITS[name])
        table.add_section()
        for element, metric in self.forces_by_element.items():
            add(f"forces on {element}", metric, UNITS["forces"])
        for group, metrics in self.by_group.items():
            table.add_section()
            for name in ("energy_per_atom", "forces", "stress"):
                add(f"{group}: {name.replace('_', ' ')}", getattr(metrics, name), UNITS[name])
        return table


def errors(structures: Sequence[Structure], predictions: Sequence[Prediction]) -> Errors:
    """Errors of predictions, over the structures that have the label in question."""
    pairs = list(zip(structures, predictions, strict=True))
    groups = sorted({structure.group for structure in structures})
    by_group = {group or "(no group)": _metrics([pair for pair in pairs if pair[0].group == group]) for group in groups}
    on_element: dict[int, list[np.ndarray]] = {}
    for structure, prediction in pairs:
        if structure.forces is not None:
            difference = prediction.forces.numpy() - structure.forces
            for number in np.unique(structure.atomic_numbers):
                on_element.setdefault(int(number), []).append(difference[structure.atomic_numbers == number])
    return Errors(
        n_structures=len(pairs),
        total=_metrics(pairs),
        by_group=by_group if len(groups) > 1 else {},
        forces_by_element={SYMBOLS[number]: Metric.of(parts, MEV) for number, parts in sorted(on_element.items())},
    )


def _metrics(pairs: Iterable[tuple[Structure, Prediction]]) -> Metrics:
    energy, energy_per_atom, forces, stress = [], [], [], []
    for structure, prediction in pairs:
        if structure.energy is not None:
            energy.append(prediction.energy.numpy() - structure.energy)
            energy_per_atom.append(energy[-1] / len(structure))
        if structure.forces is not None:
            forces.append(prediction.forces.numpy() - structure.forces)
        if structure.stress is not None and prediction.stress is not None:
            stress.append(prediction.stress[0].numpy() - structure.stress)
    return Metrics(
        energy=Metric.of(energy, MEV),
        energy_per_atom=Metric.of(energy_per_atom, MEV),
        forces=Metric.of(forces, MEV),
        stress=Metric.of(stress, MEV),
        stress_GPa=Metric.of(stress, GPA),
    )


class ValidationErrors(NamedTuple):
    """Errors over a validation set; None where nothing has the label. The names are columns of the training log."""

    energy_mae_meV_per_atom: float | None  # noqa: N815
    energy_rmse_meV_per_atom: float | None  # noqa: N815
    forces_mae_meV_per_A: float | None  # noqa: N815
    forces_rmse_meV_per_A: float | None  # noqa: N815
    stress_mae_meV_per_A3: float | None  # noqa: N815
    stress_rmse_meV_per_A3: float | None  # noqa: N815


class ErrorSums:
    """The sums behind :class:`ValidationErrors`, which add up over batches and over processes.

    ``values``: rows are energy per atom, forces and stress; columns the count, Σ|d| and Σd², from meV.
    """

    def __init__(self, values: Float[Tensor, "quantities 3"] | None = None):
        self.values = torch.zeros(3, 3, dtype=torch.float64) if values is None else values

    def add(self, graph: AtomicGraph, prediction: Prediction, labels: Labels) -> None:
        """Count a batch in."""
        if labels.energy is not None:
            self._count(0, (prediction.energy - labels.energy) / graph.atoms_per_structure(), labels.has_energy)
        if labels.forces is not None:
            self._count(1, prediction.forces - labels.forces, labels.has_forces[graph.structure_of_atom])
        if labels.stress is not None:
            # Stress by way of the virial, −V σ, which molecules in the same batch have too.
            difference = prediction.virial / graph.volumes().view(-1, 1, 1) + labels.stress
            self._count(2, difference, labels.has_stress)

    def _count(self, row: int, difference: Tensor, known: Tensor) -> None:
        size = MEV * difference[known].detach().to(torch.float64).abs()
        sums = torch.stack([torch.full_like(size.sum(), size.numel()), size.sum(), (size**2).sum()])
        self.values[row] += sums.to(self.values.device)

    def as_tensor(self) -> Float[Tensor, "9"]:
        """Flat, to be summed over processes."""
        return self.values.flatten()

    @classmethod
    def from_tensor(cls, flat: Float[Tensor, "9"]) -> "ErrorSums":
        """What :meth:`as_tensor` flattened."""
        return cls(flat.reshape(3, 3).clone())

    def errors(self) -> ValidationErrors:
        """MAE and RMSE of each quantity."""
        results: list[float | None] = []
        for n, absolute, squared in self.values.tolist():
            results += [absolute / n, (squared / n) ** 0.5] if n else [None, None]
        return ValidationErrors(*results)


def validation_sums(potential: Potential, batches: Iterable[tuple[AtomicGraph, Labels]]) -> ErrorSums:
    """The error sums of one process's share of the validation set; no prediction is kept."""
    sums, device, compute = ErrorSums(), potential.device, ChunkedPotential(potential)
    with evaluating(potential):
        for graph, labels in ((graph.to(device), labels.to(device)) for graph, labels in batches):
            prediction = compute(graph, forces=labels.forces is not None, stress=labels.stress is not None)
            sums.add(graph, prediction, labels)
    return sums
