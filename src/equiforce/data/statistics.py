"""Statistics of the training set that set constants of a potential: species, reference energies, scale, neighbours."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float

from equiforce.data.impossible import findings as impossible_labels
from equiforce.data.isolated import FARTHEST, TYPICAL_CUTOFF, smallest_distance, without_neighbors
from equiforce.elements import SYMBOLS, atomic_number, formula, symbols_by_number
from equiforce.errors import InputError
from equiforce.neighbors import find_pairs
from equiforce.quantities import QUANTITIES, Quantity
from equiforce.structure import Structure

MOST_SEARCHED = 1000  # structures; even fewer give the mean number of neighbours to within a percent
IMPLAUSIBLE_BINDING = 20.0  # eV/atom; the strongest bound matter has about 10
SAME_ENERGY = 1e-3  # eV; isolated atoms of one element that differ by more cause a note
GIVEN, ISOLATED, FITTED = "given", "isolated atoms", "least squares"
ZERO = "zero because there are no energies"
STARTED = "start model"  # of elements that the new energies of a fine-tuning do not determine
LEAST_SCALE = 1e-3  # eV/Å or eV; data that vary less do not determine a scale


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """The constants of a potential that follow from the training structures."""

    species: tuple[str, ...]  # chemical symbols, in order of atomic number
    reference_energies: tuple[float, ...]  # eV, of one atom of each species
    reference_energies_from: str  # their origin in words
    force_rms: float  # eV/Å, root mean square of force components; also the scale of the energies
    mean_neighbors: float  # the mean number of neighbours within the cutoff
    energy_residual_rms: float | None  # eV/atom, of energies minus reference energies; None without energies
    n_structures: int
    n_atoms: int
    n_labels: Mapping[Quantity, int]  # the number of structures with a label of each quantity
    notes: tuple[str, ...] = ()  # remarks about the statistics for the user

    def to_dict(self) -> dict[str, Any]:
        """The statistics as plain types for JSON; the numbers of labels are called ``n_energies`` and so on."""
        plain: dict[str, Any] = {}
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if name == "n_labels":
                plain |= {_count_name(quantity): n for quantity, n in value.items()}
            else:
                plain[name] = list(value) if isinstance(value, tuple) else value
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Statistics":
        """The inverse of :meth:`to_dict`; a quantity that was added later counts as having no labels."""
        values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in plain.items()}
        n_labels = {quantity: values.pop(_count_name(quantity), 0) for quantity in QUANTITIES}
        return cls(**values, n_labels=n_labels)


def _count_name(quantity: Quantity) -> str:
    """The name of the number of labels of a quantity."""
    return f"n_{quantity.plural}"


def compute(
    train: Sequence[Structure],
    isolated: Sequence[Structure],
    cutoff: float,
    reference_energies: Mapping[str, float] | None = None,
    pair_cutoffs: Mapping[str, float] | None = None,
) -> Statistics:
    """Compute the statistics of training structures.

    Args:
        train: the training structures, without isolated atoms.
        isolated: frames of one isolated atom each, whose energies are reference energies.
        cutoff: the cutoff in Å within which neighbours are counted.
        reference_energies: reference energies in eV by chemical symbol, which take precedence. Those of other elements
            come from isolated atoms, or else from a least-squares fit to the energies.
        pair_cutoffs: shorter cutoffs in Å of ordered pairs such as ``H-O``, centre first.

    Returns:
        The statistics.

    Raises:
        InputError: there are no training structures, no atom has a neighbour, or a reference energy belongs to an
            unknown element.
    """
    if not train:
        raise InputError(
            "There is no structure to train on, because only isolated atoms or nothing at all was read: give more data"
        )
    species = symbols_by_number(np.concatenate([s.atomic_numbers for s in train]))
    wrong = set(impossible_labels(train)[1])
    sound = [s for i, s in enumerate(train) if i not in wrong]
    energies = _reference_energies(sound, isolated, species, reference_energies)
    scale, scale_notes = _force_rms(sound, energies.residuals)
    if wrong:
        scale_notes.append(f"{len(wrong)} frames with impossible labels are left out of reference energies and scale")
    mean_neighbors, neighbor_notes = _mean_neighbors(train, cutoff, pair_cutoffs or {})
    residuals = energies.residuals
    return Statistics(
        species=tuple(species),
        reference_energies=tuple(energies.values.tolist()),
        reference_energies_from=energies.origin,
        force_rms=scale,
        mean_neighbors=mean_neighbors,
        energy_residual_rms=float(np.sqrt(np.mean(residuals**2))) if len(residuals) else None,
        n_structures=len(train),
        n_atoms=sum(len(s) for s in train),
        n_labels={quantity: sum(s.label(quantity) is not None for s in train) for quantity in QUANTITIES},
        notes=(*energies.notes, *scale_notes, *neighbor_notes),
    )


@dataclass(frozen=True)
class _ReferenceEnergies:
    values: Float[np.ndarray, " species"]  # eV
    origin: str
    residuals: Float[np.ndarray, " structures"]  # eV/atom, of the structures with an energy
    notes: list[str]


def _reference_energies(
    train: Sequence[Structure],
    isolated: Sequence[Structure],
    species: Sequence[str],
    given: Mapping[str, float] | None,
) -> _ReferenceEnergies:
    from_isolated, notes = isolated_energies(isolated)
    from_user = {SYMBOLS[atomic_number(symbol)]: float(energy) for symbol, energy in (given or {}).items()}
    known = {**from_isolated, **from_user}
    origins = {s: GIVEN if s in from_user else ISOLATED if s in from_isolated else FITTED for s in species}
    free = np.array([origins[symbol] == FITTED for symbol in species])
    values = np.array([known.get(symbol, 0.0) for symbol in species])

    labelled = [s for s in train if s.energy is not None]
    numbers = [SYMBOLS.index(symbol) for symbol in species]
    counts = np.array([np.bincount(s.atomic_numbers, minlength=len(SYMBOLS))[numbers] for s in labelled])
    counts = counts.reshape(len(labelled), len(species))
    # per atom, so that large structures do not outweigh small ones
    fractions = counts / counts.sum(axis=1, keepdims=True)
    targets = np.array([s.energy for s in labelled]) / counts.sum(axis=1)

    if free.any() and not labelled:
        origins.update({symbol: ZERO for symbol in species if origins[symbol] == FITTED})
    elif free.any():
        solution, _, rank, _ = np.linalg.lstsq(fractions[:, free], targets - fractions @ values, rcond=1e-10)
        values[free] = solution
        fitted = [symbol for symbol in species if origins[symbol] == FITTED]
        is_determined = rank == len(fitted)
        notes.append(_fitted(fitted) if is_determined else _undetermined(labelled, counts, len(fitted), int(rank)))
    residuals = targets - fractions @ values
    binding = float(np.abs(residuals).mean()) if len(residuals) else 0.0
    if binding > IMPLAUSIBLE_BINDING:
        notes.append(
            f"With these reference energies ({in_words(origins)}) the mean binding energy is {binding:.1f} eV per "
            "atom, more than any chemical bond explains: they are probably from another method, or in another unit, "
            "than the data"
        )
    return _ReferenceEnergies(values, in_words(origins), residuals, notes)


def in_words(origins: Mapping[str, str]) -> str:
    """The origins in words; if they differ, with their elements: 'isolated atoms (H, O), least squares (C)'."""
    different = list(dict.fromkeys(origins.values()))
    if len(different) == 1:
        return different[0]
    return ", ".join(f"{d} ({', '.join(s for s, origin in origins.items() if origin == d)})" for d in different)


def fitted_elements(reference_energies_from: str, species: Sequence[str]) -> list[str]:
    """The elements whose reference energies are neither given nor those of isolated atoms.

    Args:
        reference_energies_from: the origin in words, as in :class:`Statistics`.
        species: the chemical symbols of the model.
    """
    found: list[str] = []
    for origin in (FITTED, ZERO, STARTED):
        _, here, rest = reference_energies_from.partition(origin)
        if here:
            found += rest[2:].partition(")")[0].split(", ") if rest.startswith(" (") else species
    return found


def isolated_energies(isolated: Sequence[Structure]) -> tuple[dict[str, float], list[str]]:
    """The lowest energy of the isolated atoms of each element, and notes about elements with different energies."""
    found: dict[str, list[float]] = {}
    for structure in isolated:
        if structure.energy is not None:
            found.setdefault(SYMBOLS[int(structure.atomic_numbers[0])], []).append(structure.energy)
    notes = [
        f"The isolated atoms of {symbol} have energies from {min(values):.4f} to {max(values):.4f} eV; "
        "the lowest is the reference energy"
        for symbol, values in found.items()
        if max(values) - min(values) > SAME_ENERGY
    ]
    return {symbol: min(values) for symbol, values in found.items()}, notes


def _fitted(symbols: Sequence[str]) -> str:
    """The note about reference energies that are not those of isolated atoms."""
    return (
        f"There are no isolated atoms of {', '.join(symbols)}, so reference energies are fitted: cohesive and binding "
        "energies will mean nothing, but forces and energy differences are not affected; add a frame of each isolated "
        "atom to avoid this"
    )


def _undetermined(structures: Sequence[Structure], counts: np.ndarray, n_fitted: int, rank: int) -> str:
    """The note about reference energies that the least-squares fit cannot determine."""
    if len(np.unique(counts, axis=0)) == 1:
        because = f"all structures have the composition {formula(structures[0].atomic_numbers)}"
    else:
        because = f"the compositions of the structures tell only {rank} of {n_fitted} reference energies"
    return (
        f"There are no isolated atoms, and {because}, so reference energies are only one of many solutions: cohesive "
        "energies, and energies of other compositions, will mean nothing, but forces and energy differences are not "
        "affected; add a frame of each isolated atom to avoid this"
    )


def _force_rms(train: Sequence[Structure], residuals: np.ndarray) -> tuple[float, list[str]]:
    forces = [s.forces.ravel() for s in train if s.forces is not None]
    # the sum over structures needs no array of all forces
    n_components = sum(len(f) for f in forces)
    rms = float(np.sqrt(sum(float(f @ f) for f in forces) / n_components)) if n_components else 0.0
    if rms > LEAST_SCALE:
        return rms, []
    reason = "All forces are zero" if n_components else "No training structure has forces"
    spread = float(residuals.std()) if len(residuals) else 0.0
    if spread > LEAST_SCALE:
        return spread, [
            f"{reason}: the scale of the model is the standard deviation of the energies per atom, {spread:.4g} eV"
        ]
    return 1.0, [f"{reason} and the energies do not vary: the scale of the model is 1"]


def _mean_neighbors(
    train: Sequence[Structure], cutoff: float, pair_cutoffs: Mapping[str, float]
) -> tuple[float, list[str]]:
    chosen = [train[i] for i in np.unique(np.linspace(0, len(train) - 1, min(len(train), MOST_SEARCHED)).astype(int))]
    n_pairs = sum(_n_pairs(s, cutoff, pair_cutoffs) for s in chosen)
    if n_pairs == 0 and not any(_n_pairs(s, cutoff, pair_cutoffs) for s in train):
        raise InputError(_no_neighbors(chosen, cutoff))
    return n_pairs / sum(len(s) for s in chosen) or 1.0, without_neighbors(train, cutoff)


def _no_neighbors(structures: Sequence[Structure], cutoff: float) -> str:
    """The message that no atom has a neighbour, with the smallest distance and a cutoff that is large enough."""
    smallest = smallest_distance(structures, cutoff)
    what = f"No atom of the training structures has a neighbour within the cutoff of {cutoff:g} Å"
    if smallest is None:
        return f"{what}, and the atoms are more than {FARTHEST:g} Å apart: check the positions and their unit"
    if smallest <= cutoff:
        return "No atom of the training structures has a neighbour within model.pair_cutoffs: set larger ones"
    larger = max(TYPICAL_CUTOFF, math.ceil(2 * smallest))
    return (
        f"{what}, because the smallest distance is {smallest:.2f} Å: check the unit of length, or set "
        f"model.cutoff={larger:g} or more"
    )


def _n_pairs(structure: Structure, cutoff: float, pair_cutoffs: Mapping[str, float]) -> int:
    pairs = find_pairs(structure.positions, structure.cell, structure.pbc, cutoff, structure.source)
    if not pair_cutoffs:
        return len(pairs.distances)
    limits = np.full((len(SYMBOLS), len(SYMBOLS)), cutoff)
    for pair, shorter in pair_cutoffs.items():
        center, _, neighbor = pair.partition("-")
        if center in SYMBOLS and neighbor in SYMBOLS:  # the model raises an error for other pairs
            limits[SYMBOLS.index(center), SYMBOLS.index(neighbor)] = shorter
    numbers = structure.atomic_numbers
    return int((pairs.distances < limits[numbers[pairs.centers], numbers[pairs.neighbors]]).sum())
