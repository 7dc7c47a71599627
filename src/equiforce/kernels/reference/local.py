"""The definition of the operations of strictly local models in plain torch, differentiable to any order."""

from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from equiforce.kernels.reference.convolution import cubic_basis
from equiforce.kernels.spec.couplings import CouplingTable


class Indices(NamedTuple):
    """A coupling table as index tensors."""

    of_terms: tuple[Tensor, ...]  # element of the operator, path, and component of the environment of each term
    of_elements: tuple[Tensor, ...]  # column and row of each element of the operator
    constants: Float[Tensor, "terms 1"]


def weighted_harmonics(
    weights: Float[Tensor, "edges degrees_channels"], harmonics: Float[Tensor, "edges harmonics"]
) -> Float[Tensor, "edges features"]:
    """Compute w Y of each edge, with one weight for each degree and channel."""
    degrees = round(harmonics.shape[1] ** 0.5)
    of_degree = torch.arange(degrees, device=weights.device)
    rows = weights.unflatten(1, (degrees, -1)).repeat_interleave(2 * of_degree + 1, dim=1)
    return (rows * harmonics.unsqueeze(2)).flatten(1)


def environment(
    weights: Float[Tensor, "edges degrees_channels"],
    harmonics: Float[Tensor, "edges harmonics"],
    centers: Int[Tensor, " edges"],
    n_centers: int,
) -> Float[Tensor, "atoms environment"]:
    """Compute Γ_i = sum_j w_ij Y_ij."""
    rows = weighted_harmonics(weights, harmonics)
    return rows.new_zeros(n_centers, rows.shape[1]).index_add(0, centers, rows)


def tensor_product(
    features: Float[Tensor, "edges features"],
    environments: Float[Tensor, "atoms environment"],
    weights: Float[Tensor, "paths channels"],
    centers: Int[Tensor, " edges"],
    table: CouplingTable,
) -> Float[Tensor, "edges results"]:
    """Compute V_ij ⊗ Γ_i as the operator of each centre times the features of its edges."""
    (of_term, path, component), (column, row), constants = _indices(table, features.dtype, features.device)
    channels, elements = table.channels, len(table.elements)
    terms = constants * weights[path] * environments.unflatten(1, (-1, channels))[:, component]
    operators = terms.new_zeros(len(terms), elements, channels).index_add(1, of_term, terms)
    products = operators[centers] * features.unflatten(1, (-1, channels))[:, column]
    results = products.new_zeros(len(products), table.n_components[1], channels)
    return results.index_add(1, row, products).flatten(1)


def lookup(
    values: Float[Tensor, "kinds rows columns"],
    knot_coordinates: Float[Tensor, " edges"],
    kinds: Int[Tensor, " edges"],
) -> Float[Tensor, "edges columns"]:
    """Evaluate the splines of each edge's kind at its knot coordinate."""
    first_row, basis = cubic_basis(knot_coordinates, values.shape[1])
    rows = first_row.unsqueeze(1) + torch.arange(4, device=first_row.device)
    return torch.einsum("eb,ebc->ec", basis, values[kinds.unsqueeze(1), rows])


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # the result is cached for training too, which cannot use inference tensors
def _indices(table: CouplingTable, dtype: torch.dtype, device: torch.device) -> Indices:
    terms = [(number, *term) for number, element in enumerate(table.elements) for term in element.terms]
    of_terms = torch.tensor([term[:3] for term in terms], device=device).unbind(1)
    of_elements = torch.tensor([(e.column, e.row) for e in table.elements], device=device).unbind(1)
    constants = torch.tensor([term[3] for term in terms], dtype=dtype, device=device).unsqueeze(1)
    return Indices(of_terms, of_elements, constants)
