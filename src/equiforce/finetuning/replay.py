"""Replay: structures of the start model's old domain, which are trained on beside the new ones."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from equiforce.data.copies import first_copies
from equiforce.data.dataset import Batches, SplitOptions, split
from equiforce.data.isolated import is_isolated_atom
from equiforce.elements import species_index
from equiforce.errors import InputError
from equiforce.evaluate import predict
from equiforce.graph import Prediction
from equiforce.potential import Potential
from equiforce.quantities import QUANTITIES
from equiforce.structure import Structure

HELD_OUT = 0.1  # of the structures


@dataclass(frozen=True, kw_only=True, eq=False)
class Replay:
    """Structures of the old domain, with labels at the level of the new data."""

    train: tuple[Structure, ...] = ()
    held_out: tuple[Structure, ...] = ()
    n_predicted: int = 0  # structures that the start model has labelled
    n_left_out: int = 0  # isolated atoms, and copies of validation and test structures

    def lines(self, share: float) -> list[str]:
        """What the user should know; ``share`` is that of a batch."""
        if not self.train:
            return []
        n = len(self.train) + len(self.held_out)
        own = f"{self.n_predicted} labelled by the start model" if self.n_predicted else "all with labels of their own"
        return [
            f"replay: {n} structures, {own}; {len(self.train)} for training ({100 * share:.3g} % of a batch on "
            f"average), {len(self.held_out)} held out to measure what is forgotten",
            "the energies of replayed structures are moved by the difference between the reference energies, so that "
            "both levels of theory have the same",
            *([f"{self.n_left_out} replayed structures are left out: {LEFT_OUT}"] if self.n_left_out else []),
        ]


LEFT_OUT = "they are isolated atoms, or copies of validation or test structures"


def make_replay(
    structures: Sequence[Structure],
    moved: Potential,
    shift: Sequence[float],
    new: Sequence[Structure],
    seed: int,
) -> Replay:
    """Label structures of the old domain, and hold a tenth of them out.

    Args:
        structures: the structures; the energies of those that have labels are at the level of the start model.
        moved: the start model with its reference energies moved by ``shift``.
        shift: the difference between the new level of theory and the old one, in eV for each species of ``moved``.
        new: the new validation and test structures, of which no copy may be trained on.
        seed: of the division.

    Raises:
        InputError: there are too few structures.
    """
    kept = _without_copies([s for s in structures if not is_isolated_atom(s, moved.cutoff)], new)
    if len(kept) < 2:
        raise InputError(
            f"start.replay has {len(kept)} usable structure{'' if len(kept) == 1 else 's'}, but at least 2 are needed, "
            "one to train on and one to measure what is forgotten: give more"
        )
    bare = [all(s.label(quantity) is None for quantity in QUANTITIES) for s in kept]
    predicted = iter(predict(moved, [s for s, without in zip(kept, bare, strict=True) if without]))
    labelled = []
    for structure, without in zip(kept, bare, strict=True):
        if without:
            labelled.append(replace(structure, **_labels(next(predicted))))
        elif structure.energy is not None:
            index = species_index(structure.atomic_numbers, moved.species, structure.source)
            labelled.append(replace(structure, energy=structure.energy + float(np.asarray(shift)[index].sum())))
        else:
            labelled.append(structure)
    try:
        parts = split(labelled, SplitOptions(validation=HELD_OUT, test=0, seed=seed), cutoff=moved.cutoff)
    except InputError as error:
        raise InputError(f"start.replay: {error}") from error
    return Replay(
        train=parts.train,
        held_out=parts.validation,
        n_predicted=sum(bare),
        n_left_out=len(structures) - len(kept),
    )


def _labels(prediction: Prediction) -> dict[str, Any]:
    """The predictions for one structure as its labels."""
    found: dict[str, Any] = {}
    for quantity in QUANTITIES:
        if (values := prediction.of(quantity)) is not None:
            row = values.numpy() if quantity.of_atoms else values[0].numpy()
            found[quantity.name] = row if row.ndim else row.item()
    return found


def _without_copies(structures: Sequence[Structure], new: Sequence[Structure]) -> list[Structure]:
    copy_of = first_copies([*new, *structures])[len(new) :]
    return [structure for structure, first in zip(structures, copy_of, strict=True) if first >= len(new)]


class ReplayBatches(Batches):
    """Batches of new structures, among which replayed ones are mixed.

    An epoch is a pass over the new structures. As many replayed ones are added as ``share`` of all demands; they are
    drawn in rounds, each in another order, in which every one occurs once.

    Args:
        new: the new training structures.
        replayed: the others.
        share: the mean share of replayed structures in a batch, between 0 and 1.
        options: those of :class:`equiforce.data.dataset.Batches`; ``seed`` is needed.
    """

    def __init__(
        self,
        new: Sequence[Structure],
        replayed: Sequence[Structure],
        share: float,
        species: Sequence[str],
        cutoff: float,
        *,
        seed: int,
        batch_size: int | None = None,
        max_edges: int | None = None,
        rank: int = 0,
        n_ranks: int = 1,
    ) -> None:
        super().__init__(
            [*new, *replayed],
            species,
            cutoff,
            batch_size=batch_size,
            max_edges=max_edges,
            seed=seed,
            rank=rank,
            n_ranks=n_ranks,
        )
        self.own_seed, self.n_new, self.n_replayed = seed, len(new), len(replayed)
        self.n_drawn = max(1, round(share / (1 - share) * len(new)))

    def order(self, number: int) -> list[int]:
        """The indices of the structures of an epoch in their order."""
        first = number * self.n_drawn
        drawn: list[int] = []
        while len(drawn) < self.n_drawn:
            turn, place = divmod(first + len(drawn), self.n_replayed)
            round_ = np.random.default_rng([self.own_seed, turn, 1]).permutation(self.n_replayed)
            drawn += (self.n_new + round_[place : place + self.n_drawn - len(drawn)]).tolist()
        indices = np.array([*range(self.n_new), *drawn])
        return np.random.default_rng([self.own_seed, number]).permutation(indices).tolist()
