"""The reference values of a batch by quantity, and the residuals of a prediction."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from equiforce.errors import InputError
from equiforce.graph import AtomicGraph, Prediction
from equiforce.quantities import QUANTITIES, Quantity, Residual
from equiforce.structure import Structure


class Label(NamedTuple):
    """The reference values of one quantity.

    Args:
        values: one row for each structure or atom, in the unit of the quantity; zeros if the value is not known.
        known: whether each structure has the label [structures].
    """

    values: Float[Tensor, "rows ..."]
    known: Bool[Tensor, " structures"]


class Labels(Mapping[Quantity, Label]):
    """The reference values of a batch, for example ``labels[FORCES].values``.

    Args:
        by_quantity: the label of each quantity; a quantity that no structure has is absent.
    """

    def __init__(self, by_quantity: Mapping[Quantity, Label]):
        self._by_quantity = dict(by_quantity)

    def __getitem__(self, quantity: Quantity) -> Label:
        return self._by_quantity[quantity]

    def __iter__(self) -> Iterator[Quantity]:
        return iter(self._by_quantity)

    def __len__(self) -> int:
        return len(self._by_quantity)

    def known_rows(self, quantity: Quantity, graph: AtomicGraph) -> Bool[Tensor, " rows"]:
        """Whether each row of the values of a quantity is known."""
        known = self[quantity].known
        return known[graph.structure_of_atom] if quantity.of_atoms else known

    def to(self, device: torch.device | str) -> "Labels":
        """Move the labels to a device."""
        non_blocking = torch.device(device).type != "cpu"  # a copy to the CPU is waited for, because it is read at once
        return Labels(
            {q: Label(*(part.to(device, non_blocking=non_blocking) for part in label)) for q, label in self.items()}
        )


def batch_labels(structures: Sequence[Structure], dtype: torch.dtype = torch.float64) -> Labels:
    """Join the labels of several structures in the layout of :func:`equiforce.graph.batch`.

    Args:
        structures: the structures in the order of the batch.
        dtype: dtype of the values.

    Returns:
        A label for each quantity that at least one structure has.

    Raises:
        InputError: a label has the wrong shape.
    """
    found: dict[Quantity, Label] = {}
    for quantity in QUANTITIES:
        values = [structure.label(quantity) for structure in structures]
        if all(value is None for value in values):
            continue
        rows = [_rows(structure, quantity, value) for structure, value in zip(structures, values, strict=True)]
        known = torch.tensor([value is not None for value in values])
        found[quantity] = Label(torch.as_tensor(np.concatenate(rows), dtype=dtype), known)
    return Labels(found)


def _rows(structure: Structure, quantity: Quantity, value: float | np.ndarray | None) -> np.ndarray:
    """The rows of one structure; zeros if it has no label."""
    shape = quantity.rows_of(len(structure))
    rows = np.zeros(shape) if value is None else np.asarray(value)
    if rows.shape != shape:
        raise InputError(
            f"{structure.source or 'a structure'}: {quantity.name} has the shape {list(rows.shape)}, but has to have "
            f"{list(shape)}: correct it or leave it out"
        )
    return rows if quantity.of_atoms else rows[None]


def residual(quantity: Quantity, prediction: Prediction, labels: Labels, graph: AtomicGraph) -> Tensor | None:
    """Compute the residuals of a prediction, one row for each structure or atom, as ``quantity.residual`` defines them.

    Args:
        quantity: a quantity that ``labels`` has.
        prediction: the prediction for ``graph``.
        labels: the labels of ``graph``; residuals of unknown rows have no meaning.
        graph: the batch.

    Returns:
        The residuals in ``quantity.residual_unit``, or None if the quantity was not predicted.
    """
    values, known = labels[quantity]
    if quantity.residual is Residual.FROM_VIRIAL:
        if prediction.virial is None:
            return None
        volumes = torch.where(known, graph.volumes(), 1.0).view(-1, 1, 1)
        return -prediction.virial / volumes - values
    predicted = prediction.of(quantity)
    if predicted is None:
        return None
    difference = predicted - values
    if quantity.residual is Residual.PER_ATOM:
        n_atoms = graph.atoms_per_structure()
        return difference / n_atoms.view(-1, *[1] * (difference.dim() - 1))
    return difference
