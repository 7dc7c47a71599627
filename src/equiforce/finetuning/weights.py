"""The weights of a model for other elements: rows are chosen, and new elements take those of similar ones."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from equiforce.elements import most_similar
from equiforce.errors import InputError
from equiforce.model_file import build_potential, describe
from equiforce.models import Model
from equiforce.models.base import GROUPS, Mapped
from equiforce.potential import Potential


class Adapted(NamedTuple):
    """A potential for other elements, in evaluation mode."""

    potential: Potential
    donors: Mapping[str, str]  # of each element that the first potential lacks: the element whose weights it got
    left_out: tuple[str, ...]  # elements of the first potential that are not needed


def adapted(start: Potential, species: Sequence[str], dtype: str) -> Adapted:
    """Give a potential other elements; the energies of those that it knows stay the same.

    Args:
        start: the potential.
        species: the chemical symbols of the new potential. One that ``start`` lacks gets weights, scale and reference
            energy of the most similar element (:func:`equiforce.elements.most_similar`).
        dtype: of the new weights, ``float32`` or ``float64``.

    Returns:
        The new potential, and what was done.

    Raises:
        InputError: the model does not say which of its weights belong to elements.
    """
    donors = {symbol: most_similar(symbol, start.species) for symbol in species if symbol not in start.species}
    sources = [donors.get(symbol, symbol) for symbol in species]
    index = [start.species.index(symbol) for symbol in sources]
    values = {name: [getattr(start, name)[i].item() for i in index] for name in ("atomic_energies", "scale")}
    config = start.model.config.with_elements(dict(zip(species, sources, strict=True)))
    known = describe(start)
    potential = build_potential(known | {"config": asdict(config), "species": list(species), "dtype": dtype} | values)
    if list(species) != start.species and not isinstance(start.model, Mapped):
        raise InputError(
            f"the model of kind {known['kind']!r} does not say which of its weights belong to elements, so it can only "
            f"be trained further on exactly {', '.join(start.species)}: give it a method weight_map (docs/models.md)"
        )
    cast("nn.Module", potential.model).load_state_dict(_with_rows(start.model, index))
    left_out = tuple(symbol for symbol in start.species if symbol not in species)
    return Adapted(potential.eval().requires_grad_(False), donors, left_out)


def _with_rows(model: Model, index: Sequence[int]) -> dict[str, Tensor]:
    """The weights with the rows of other species, by their indices among the species of the model."""
    weights = dict(cast("nn.Module", model).state_dict())
    if not isinstance(model, Mapped):
        return weights
    chosen = torch.tensor(index)
    for name, of_pairs in model.weight_map().rows.items():
        tensor = weights[name]
        rows = chosen.to(tensor.device)
        if of_pairs == 2:
            n_known = round(len(tensor) ** 0.5)
            rows = (n_known * rows[:, None] + rows[None, :]).flatten()
        weights[name] = tensor[rows]
    return weights


def freeze(model: Model, groups: Sequence[str]) -> list[str]:
    """Exclude groups of weights from training.

    Args:
        model: the model.
        groups: the names of the groups.

    Returns:
        The names of the weights that training does not change any more.

    Raises:
        InputError: there is no such group, the model does not say what its weights belong to, or nothing is left.
    """
    if not groups:
        return []
    if not isinstance(model, Mapped):
        raise InputError("start.freeze needs a model with a method weight_map (docs/models.md): leave it out")
    known = model.weight_map().groups
    if unknown := [group for group in groups if group not in known]:
        raise InputError(f"start.freeze has {', '.join(unknown)}: the groups of weights are {', '.join(known)}")
    parameters = dict(cast("nn.Module", model).named_parameters())
    frozen = [name for group in groups for name in known[group] if parameters[name].requires_grad]
    for name in frozen:
        parameters[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise InputError(
            f"start.freeze={', '.join(groups)} leaves no weight to train: leave out one of {', '.join(GROUPS)}"
        )
    return frozen
