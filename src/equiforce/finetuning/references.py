"""Reference energies for another level of theory: those of the start model, moved as little as the labels demand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from equiforce.data.impossible import findings as impossible_labels
from equiforce.data.statistics import FITTED, GIVEN, ISOLATED, STARTED, in_words, isolated_energies
from equiforce.elements import SYMBOLS, atomic_number
from equiforce.evaluate import predict
from equiforce.potential import Potential
from equiforce.structure import Structure

MOST_FITTED = 1000  # structures whose energies are predicted for the fit, besides one of each composition
MOST_COMPOSITIONS = 1000
MUCH = 1.0  # eV/atom; energies that differ by more after the fit are not those of the same matter
# eV/atom; if reference energies of isolated atoms move the start model farther away than this, learning the difference
# ruins it: 5 eV/atom on acetylacetone left errors of forces of 628 instead of 86 meV/Å (docs/fine-tuning.md)
FAR = 0.5
SMALLEST = 1e-10  # singular values relative to the largest one; as in the fit of data/statistics.py


@dataclass(frozen=True, kw_only=True)
class Refit:
    """The reference energies of a run, and the distance between two levels of theory."""

    species: tuple[str, ...]
    old: Float[np.ndarray, " species"]  # eV, of the start model
    new: Float[np.ndarray, " species"]  # eV, of the potential that is trained
    shift: Float[np.ndarray, " species"]  # eV, which energies of the start model need to be those of the new data
    origin: str  # of the new ones in words
    residual: float | None  # eV/atom, RMS of energies minus those of the moved start model; None without energies
    gap: float = 0.0  # eV/atom, RMS of energies minus those of the start model with the reference energies of the run
    left_out: tuple[str, ...] = ()  # elements whose isolated atoms do not count

    def lines(self) -> list[str]:
        """What the user should know."""
        each = ", ".join(
            f"{symbol} {old:.4f} → {new:.4f} ({new - old:+.4f})"
            for symbol, old, new in zip(self.species, self.old, self.new, strict=True)
        )
        lines = [f"reference energies of the start model → of this run ({self.origin}): {each} eV"]
        if self.residual is not None:
            farther = self.gap > 2 * self.residual and not self.left_out
            with_these = f"; with the reference energies of this run by {1000 * self.gap:.1f}" if farther else ""
            lines.append(
                f"the start model, moved to the energies of the new data, differs from them by "
                f"{1000 * self.residual:.1f} meV/atom (RMSE){with_these}"
            )
        return lines

    def notes(self) -> list[str]:
        """What may be wrong."""
        found = []
        if self.residual is not None and self.residual > MUCH:
            found.append(
                f"even with the best reference energies the start model differs from the new energies by "
                f"{self.residual:.1f} eV/atom: it does not know this matter, or the labels have another unit"
            )
        if self.left_out:
            found.append(
                f"the isolated atoms of {', '.join(self.left_out)} in the data do not count: with their energies the "
                f"start model would be {self.gap:.1f} eV/atom away from the others, because its own reference energies "
                "are not those of isolated atoms, and training would ruin it; potential.reference_energies overrides "
                "this"
            )
        elif self.gap > FAR:
            found.append(
                f"with the reference energies of this run the start model is {self.gap:.1f} eV/atom away from the "
                "energies, which training first has to learn: it may lose what it knows"
            )
        return found


def refit(
    start: Potential,
    train: Sequence[Structure],
    isolated: Sequence[Structure],
    given: Mapping[str, float] | None,
) -> Refit:
    """Fit reference energies to labels of another level of theory.

    The sum over structures of (label - energy of the start model - d n)² / atoms² is least, where n are the numbers of
    atoms of each element and d the changes of reference energies. Where the labels do not determine d, it is smallest.

    Args:
        start: the potential, which knows all elements.
        train: the training structures.
        isolated: frames of isolated atoms, whose energies are reference energies unless they take the start model more
            than ``FAR`` away from the other energies.
        given: reference energies in eV by element, which take precedence over all others.

    Returns:
        The reference energies in the order of the species of ``start``.
    """
    species, old = tuple(start.species), start.atomic_energies.detach().cpu().numpy().copy()
    from_user = {SYMBOLS[atomic_number(symbol)]: float(energy) for symbol, energy in (given or {}).items()}
    from_isolated = {s: e for s, e in isolated_energies(isolated)[0].items() if s in species and s not in from_user}
    chosen = _chosen(train, species)
    counts = _counts(chosen, species)
    n_atoms = counts.sum(axis=1)
    fractions, targets = counts / n_atoms[:, None], _differences(start, chosen) / n_atoms
    shift = _changes(fractions, targets, {}, species, old)
    residual = _rms(targets - fractions @ shift)
    changes = _changes(fractions, targets, from_isolated | from_user, species, old)
    gap = _rms(targets - fractions @ changes)
    left_out: tuple[str, ...] = ()
    if from_isolated and gap > FAR + residual:
        left_out, from_isolated = tuple(from_isolated), {}
        changes = _changes(fractions, targets, from_user, species, old)
    origins = {
        symbol: GIVEN if symbol in from_user else ISOLATED if symbol in from_isolated else FITTED if here else STARTED
        for symbol, here in zip(species, (counts.sum(axis=0) > 0).tolist(), strict=True)
    }
    return Refit(
        species=species,
        old=old,
        new=old + changes,
        shift=shift,
        origin=in_words(origins),
        residual=residual if chosen else None,
        gap=gap,
        left_out=left_out,
    )


def _rms(values: Float[np.ndarray, " structures"]) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else 0.0


def _changes(
    fractions: Float[np.ndarray, "structures species"],
    targets: Float[np.ndarray, " structures"],
    known: Mapping[str, float],
    species: Sequence[str],
    old: Float[np.ndarray, " species"],
) -> Float[np.ndarray, " species"]:
    """The changes of reference energies: to those that are known, and else the smallest among those that fit best."""
    fixed = np.array([symbol in known for symbol in species])
    changes = np.array([known.get(symbol, energy) for symbol, energy in zip(species, old, strict=True)]) - old
    if len(targets) and not fixed.all():
        rest = targets - fractions[:, fixed] @ changes[fixed]
        changes[~fixed] = np.linalg.lstsq(fractions[:, ~fixed], rest, rcond=SMALLEST)[0]
    return changes


def _differences(start: Potential, structures: Sequence[Structure]) -> Float[np.ndarray, " structures"]:
    predicted = [prediction.energy.item() for prediction in predict(start, structures)]
    return np.array([s.energy or 0.0 for s in structures]) - np.array(predicted)


def _counts(structures: Sequence[Structure], species: Sequence[str]) -> Int[np.ndarray, "structures species"]:
    numbers = [SYMBOLS.index(symbol) for symbol in species]
    counts = [np.bincount(s.atomic_numbers, minlength=len(SYMBOLS))[numbers] for s in structures]
    return np.array(counts, dtype=np.int64).reshape(len(structures), len(species))


def _chosen(train: Sequence[Structure], species: Sequence[str]) -> list[Structure]:
    """Structures with sound energies: one of each composition, and others at equal intervals."""
    wrong = set(impossible_labels(train)[1])
    sound = [s for i, s in enumerate(train) if i not in wrong and s.energy is not None]
    if not sound:
        return []
    firsts = np.unique(_counts(sound, species), axis=0, return_index=True)[1]
    even = np.linspace(0, len(sound) - 1, min(len(sound), MOST_FITTED)).astype(int)
    return [sound[i] for i in sorted({*firsts[:MOST_COMPOSITIONS].tolist(), *even.tolist()})]
