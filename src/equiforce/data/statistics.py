"""What a model takes from its training set before the first step: species, reference energies, scale, neighbours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float

from equiforce.elements import SYMBOLS, atomic_number, symbols_by_number
from equiforce.errors import InputError
from equiforce.graph import Structure
from equiforce.neighbors import find_pairs
from equiforce.quantities import QUANTITIES, Quantity

MOST_SEARCHED = 1000  # structures; the mean number of neighbours is known to a percent from fewer
IMPLAUSIBLE_BINDING = 20.0  # eV/atom; the strongest bound matter has about 10
SAME_ENERGY = 1e-3  # eV; isolated atoms of one element that differ by more are told
GIVEN, ISOLATED, FITTED = "given", "isolated atoms", "least squares"
ZERO = "zero, for want of energies"
LEAST_SCALE = 1e-3  # eV/Å or eV; data that vary less give no scale


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What the training structures say about the model's constants."""

    species: tuple[str, ...]  # chemical symbols, in order of atomic number
    reference_energies: tuple[float, ...]  # eV, of one atom of each species
    reference_energies_from: str  # in words
    force_rms: float  # eV/Å, over force components; the scale of the energies too
    mean_neighbors: float  # atoms within the cutoff of an atom
    energy_residual_rms: float | None  # eV/atom, what the reference energies leave unexplained; None without energies
    n_structures: int
    n_atoms: int
    n_labels: Mapping[Quantity, int]  # structures that have a label of each quantity
    notes: tuple[str, ...] = ()  # what a user ought to know about the above, in sentences

    def to_dict(self) -> dict[str, Any]:
        """The same in plain types, for JSON; the numbers of labels are called ``n_energies`` and so on."""
        plain: dict[str, Any] = {}
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if name == "n_labels":
                plain |= {_count(quantity): n for quantity, n in value.items()}
            else:
                plain[name] = list(value) if isinstance(value, tuple) else value
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Statistics":
        """The inverse of :meth:`to_dict`; of a quantity that is new since it was written there are no labels."""
        values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in plain.items()}
        n_labels = {quantity: values.pop(_count(quantity), 0) for quantity in QUANTITIES}
        return cls(**values, n_labels=n_labels)


def _count(quantity: Quantity) -> str:
    return f"n_{quantity.plural}"


def compute(
    train: Sequence[Structure],
    isolated: Sequence[Structure],
    cutoff: float,
    reference_energies: Mapping[str, float] | None = None,
    pair_cutoffs: Mapping[str, float] | None = None,
) -> Statistics:
    """The statistics of the structures a model is trained on.

    Args:
        train: the training structures, without isolated atoms.
        isolated: frames of one atom alone, whose energies are the reference energies.
        cutoff: in Å, for the number of neighbours.
        reference_energies: eV by chemical symbol, before isolated atoms and the fit, which give those left out.
        pair_cutoffs: in Å, shorter ones of ordered pairs such as ``H-O``, centre first.

    Raises:
        InputError: there are no training structures, or a reference energy is of no element.
    """
    if not train:
        raise InputError("There is no structure to train on: only isolated atoms, or nothing at all, were read")
    species = symbols_by_number(np.concatenate([s.atomic_numbers for s in train]))
    energies = _reference_energies(train, isolated, species, reference_energies)
    scale, scale_notes = _force_rms(train, energies.residuals)
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


def is_isolated_atom(structure: Structure) -> bool:
    """Whether a frame is there for its element's reference energy: named IsolatedAtom, or one atom in empty space."""
    named = structure.group.lower().replace("_", "").replace("-", "").replace(" ", "") == "isolatedatom"
    return len(structure) == 1 and (named or not structure.pbc.any())


@dataclass(frozen=True)
class _ReferenceEnergies:
    values: Float[np.ndarray, " species"]  # eV
    origin: str
    residuals: Float[np.ndarray, " structures"]  # eV/atom, of the structures that have an energy
    notes: list[str]


def _reference_energies(
    train: Sequence[Structure],
    isolated: Sequence[Structure],
    species: Sequence[str],
    given: Mapping[str, float] | None,
) -> _ReferenceEnergies:
    from_isolated, notes = _isolated_energies(isolated)
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
        if rank < free.sum():
            notes.append(_undetermined(counts, species, int(free.sum()), int(rank)))
    residuals = targets - fractions @ values
    binding = float(np.abs(residuals).mean()) if len(residuals) else 0.0
    if binding > IMPLAUSIBLE_BINDING:
        notes.append(
            f"With these reference energies the structures are {binding:.1f} eV per atom away from their free atoms, "
            f"which no chemical bond explains: the reference energies ({_in_words(origins)}) seem to be from another "
            "method, or in another unit, than the data"
        )
    return _ReferenceEnergies(values, _in_words(origins), residuals, notes)


def _in_words(origins: Mapping[str, str]) -> str:
    """One origin, or each with its elements: 'isolated atoms (H, O), least squares (C)'."""
    different = list(dict.fromkeys(origins.values()))
    if len(different) == 1:
        return different[0]
    return ", ".join(f"{d} ({', '.join(s for s, origin in origins.items() if origin == d)})" for d in different)


def _isolated_energies(isolated: Sequence[Structure]) -> tuple[dict[str, float], list[str]]:
    """The energy of each element that has an isolated atom with an energy, the lowest where there are several."""
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


def _undetermined(counts: np.ndarray, species: Sequence[str], n_fitted: int, rank: int) -> str:
    """What least squares cannot know, in words."""
    if len(np.unique(counts, axis=0)) == 1:
        # carbon and hydrogen first, as chemists write it
        atoms = sorted(zip(species, counts[0], strict=True), key=lambda part: (part[0] != "C", part[0] != "H", part[0]))
        formula = "".join(f"{symbol}{n if n > 1 else ''}" for symbol, n in atoms if n)
        because = f"All structures have the composition {formula}, so only one sum of the reference energies"
    else:
        because = f"The compositions of the structures are so alike that only {rank} combination{'s' * (rank != 1)}"
        because += f" of the {n_fitted} fitted reference energies"
    return (
        f"{because} is determined, and the solution of minimum norm is taken: energies of isolated atoms, or of other "
        "compositions, will mean nothing, while forces and energy differences are untouched; "
        "frames of isolated atoms would mend it"
    )


def _force_rms(train: Sequence[Structure], residuals: np.ndarray) -> tuple[float, list[str]]:
    forces = [s.forces.ravel() for s in train if s.forces is not None]
    # a finite set of numbers: summed in one pass, never joined into one array
    n_components = sum(len(f) for f in forces)
    rms = float(np.sqrt(sum(float(f @ f) for f in forces) / n_components)) if n_components else 0.0
    if rms > LEAST_SCALE:
        return rms, []
    lacking = "All forces are zero" if n_components else "No training structure has forces"
    spread = float(residuals.std()) if len(residuals) else 0.0
    if spread > LEAST_SCALE:
        return spread, [f"{lacking}: the spread of the energies per atom, {spread:.4g} eV, is the scale of the model"]
    return 1.0, [f"{lacking} and the energies do not vary: the scale of the model is 1"]


def _mean_neighbors(
    train: Sequence[Structure], cutoff: float, pair_cutoffs: Mapping[str, float]
) -> tuple[float, list[str]]:
    chosen = [train[i] for i in np.unique(np.linspace(0, len(train) - 1, min(len(train), MOST_SEARCHED)).astype(int))]
    n_pairs = sum(_n_pairs(s, cutoff, pair_cutoffs) for s in chosen)
    if n_pairs == 0:
        return 1.0, [f"No atom has a neighbour within {cutoff:g} Å, so that there are no interactions to learn"]
    return n_pairs / sum(len(s) for s in chosen), []


def _n_pairs(structure: Structure, cutoff: float, pair_cutoffs: Mapping[str, float]) -> int:
    pairs = find_pairs(structure.positions, structure.cell, structure.pbc, cutoff, structure.source)
    if not pair_cutoffs:
        return len(pairs.distances)
    limits = np.full((len(SYMBOLS), len(SYMBOLS)), cutoff)
    for pair, shorter in pair_cutoffs.items():
        center, _, neighbor = pair.partition("-")
        if center in SYMBOLS and neighbor in SYMBOLS:  # the model refuses others
            limits[SYMBOLS.index(center), SYMBOLS.index(neighbor)] = shorter
    numbers = structure.atomic_numbers
    return int((pairs.distances < limits[numbers[pairs.centers], numbers[pairs.neighbors]]).sum())
