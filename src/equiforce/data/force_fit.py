"""Fits a simple potential to forces alone in less than a second, so that other labels can be compared with them.

The energy is linear in its coefficients: functions of distances for each pair of elements, and of the density, the
dipole and the quadrupole of the neighbours of each atom. Two fits on half of the structures each predict the forces of
the other half, which tells how far they can be trusted.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from equiforce.neighbors import find_pairs
from equiforce.structure import Structure

CUTOFF = 5.0  # Å
MOST_STRUCTURES, MOST_EDGES = 150, 120_000  # that are fitted, which takes about half a second
MOST_ELEMENTS = 6
LARGEST = 2_000  # atoms of a structure
FEWEST_COMPONENTS = 24  # of the forces of half of the structures
N_RADIAL = 12  # functions of the distance for each pair of elements
N_MANY_BODY = 6  # functions of the distance in the sums over neighbours
RESOLVED = 3  # elements; with more, these sums do not distinguish the elements of neighbours
SMOOTHING = 1e-2  # of the density under the square root
RIDGE = 1e-6  # of the mean diagonal element
LEAST_FORCE = 0.02  # eV/Å; the mean size of forces of which the rounding does not matter
OUTLIER = 20.0  # times the median force; a structure with larger forces would spoil the fit
POORLY_PREDICTED = 0.1  # share of the structures that may have a distance which no other structure has


@dataclass(frozen=True, kw_only=True)
class ForceFit:
    """The predictions of potentials that were fitted to the forces alone."""

    structures: tuple[Structure, ...]  # that were fitted
    energies: Float[np.ndarray, " structures"]  # eV, up to a constant for each composition
    forces: tuple[Float[np.ndarray, "_ 3"], ...]  # eV/Å, of the fit to the other half of the structures
    stresses: tuple[Float[np.ndarray, "3 3"] | None, ...]  # eV/Å³; None without a volume
    explained: float  # the share of the square of the forces that the fit to other structures explains, in most of them
    determined: float  # the number of force components for each coefficient of a fit
    coefficients: Float[np.ndarray, " terms"]
    species: tuple[int, ...]  # atomic numbers
    n_radial: int

    def forces_on(self, structure: Structure) -> Float[np.ndarray, "atoms 3"]:
        """Predict the forces in eV/Å on the atoms of another structure of the same elements."""
        return (_terms(structure, self.species, self.n_radial).forces @ self.coefficients).reshape(-1, 3)


def fit(structures: Sequence[Structure], seed: int = 0) -> ForceFit | None:
    """Fit the forces of some of the structures.

    Args:
        structures: the structures.
        seed: of the choice of structures.

    Returns:
        The predictions, or None if there are too few forces.
    """
    chosen = _choose(structures, seed)
    species = sorted({int(z) for s in chosen for z in s.atomic_numbers})
    n_pairs = len(species) * (len(species) + 1) // 2
    n_radial = max(N_RADIAL // 2, min(N_RADIAL, 150 // max(1, n_pairs)))
    terms: list[_Terms] = []
    n_edges = 0
    for s in chosen:
        terms.append(_terms(s, species, n_radial))
        n_edges += terms[-1].n_edges
        if n_edges > MOST_EDGES:
            break
    chosen = chosen[: len(terms)]
    halves = [[i for i in range(len(terms)) if i % 2 == half] for half in (0, 1)]
    labels = np.concatenate([np.asarray(s.forces) for s in chosen]) if chosen else np.zeros((0, 3))
    if sum(3 * len(chosen[i]) for i in halves[1]) < FEWEST_COMPONENTS or not labels.any():
        return None
    coefficients = [_solve([chosen[i] for i in half], [terms[i] for i in half]) for half in halves]
    mean = 0.5 * (coefficients[0] + coefficients[1])
    forces = [(t.forces @ coefficients[1 - i % 2]).reshape(-1, 3) for i, t in enumerate(terms)]
    return ForceFit(
        structures=tuple(chosen),
        energies=np.array([t.energy @ mean for t in terms]),
        forces=tuple(forces),
        stresses=tuple(
            t.virial @ mean / abs(np.linalg.det(s.cell)) if s.pbc.all() else None
            for s, t in zip(chosen, terms, strict=True)
        ),
        determined=len(labels) * 3 / 2 / len(mean),
        explained=_explained(chosen, forces),
        coefficients=mean,
        species=tuple(species),
        n_radial=n_radial,
    )


def _explained(structures: Sequence[Structure], predicted: Sequence[np.ndarray]) -> float:
    """The share of the square of the forces that is predicted, without the structures that are predicted worst."""
    pairs = [(np.asarray(s.forces), p) for s, p in zip(structures, predicted, strict=True)]
    wrong = np.array([np.square(p - forces).sum() for forces, p in pairs])
    right = np.array([np.square(forces).sum() for forces, _ in pairs])
    kept = np.argsort(wrong, kind="stable")[: len(pairs) - int(POORLY_PREDICTED * len(pairs))]
    return float(1 - wrong[kept].sum() / right[kept].sum()) if right[kept].any() else 0.0


def _choose(structures: Sequence[Structure], seed: int) -> list[Structure]:
    """Some structures with forces, at random, of the most frequent elements."""
    with_forces = [s for s in structures if s.forces is not None and 1 < len(s) <= LARGEST]
    sizes = np.array([np.square(np.asarray(s.forces)).mean() for s in with_forces])
    usual = float(np.median(sizes)) if len(sizes) else 0.0
    with_forces = [s for s, size in zip(with_forces, sizes, strict=True) if size <= OUTLIER**2 * usual or not usual]
    order = np.random.default_rng(seed).permutation(len(with_forces))[: 4 * MOST_STRUCTURES]
    some = [with_forces[i] for i in order]
    count = Counter(int(z) for s in some for z in np.unique(s.atomic_numbers))
    frequent = [z for z, _ in count.most_common(MOST_ELEMENTS)]
    return [s for s in some if np.isin(s.atomic_numbers, frequent).all()][:MOST_STRUCTURES]


def _solve(structures: Sequence[Structure], terms: "Sequence[_Terms]") -> np.ndarray:
    matrix = np.concatenate([t.forces for t in terms])
    labels = np.concatenate([np.asarray(s.forces).ravel() for s in structures])
    sizes = np.sqrt(np.square(matrix).mean(axis=0))
    sizes = np.where(sizes > 1e-9 * sizes.max(initial=0.0), sizes, np.inf)
    matrix = matrix / sizes
    normal = matrix.T @ matrix
    normal += (RIDGE * np.trace(normal) / len(normal) + 1e-300) * np.eye(len(normal))
    return np.linalg.solve(normal, matrix.T @ labels) / sizes


@dataclass(frozen=True)
class _Terms:
    """The terms of a structure's energy, whose coefficients are fitted, and their derivatives."""

    energy: Float[np.ndarray, " terms"]
    forces: Float[np.ndarray, "components terms"]
    virial: Float[np.ndarray, "3 3 terms"]  # dE/dε
    n_edges: int


@dataclass(frozen=True)
class _Edges:
    """Pairs of atoms in both directions."""

    centers: np.ndarray
    neighbors: np.ndarray
    vectors: Float[np.ndarray, "edges 3"]
    distances: Float[np.ndarray, " edges"]

    def of(self, chosen: np.ndarray) -> "_Edges":
        return _Edges(self.centers[chosen], self.neighbors[chosen], self.vectors[chosen], self.distances[chosen])


def _terms(structure: Structure, species: Sequence[int], n_radial: int) -> _Terms:
    pairs = find_pairs(structure.positions, structure.cell, structure.pbc, CUTOFF, structure.source)
    cell = np.where(structure.pbc[:, None], structure.cell, 0.0)
    vectors = structure.positions[pairs.neighbors] - structure.positions[pairs.centers] + pairs.shifts @ cell
    edges = _Edges(pairs.centers, pairs.neighbors, vectors, pairs.distances)
    n_atoms, numbers = len(structure), structure.atomic_numbers
    centers, neighbors = numbers[edges.centers], numbers[edges.neighbors]
    energies: list[np.ndarray] = []
    forces: list[np.ndarray] = []
    virials: list[np.ndarray] = []
    for first, second in ((a, b) for a in species for b in species if a <= b):
        some = edges.of(((centers == first) & (neighbors == second)) | ((centers == second) & (neighbors == first)))
        values, slopes = _radial(some.distances, n_radial)
        gradients = 0.5 * slopes[:, None, :] * (some.vectors / some.distances[:, None])[:, :, None]
        _add(energies, forces, virials, some, n_atoms, 0.5 * values.sum(axis=0), gradients)
    kinds: list[int | None] = [*species] if len(species) <= RESOLVED else [None]
    for center, neighbor in ((a, b) for a in species for b in kinds):
        some = edges.of((centers == center) & (True if neighbor is None else neighbors == neighbor))
        for energy, gradients in _many_body(some, n_atoms):
            _add(energies, forces, virials, some, n_atoms, energy, gradients)
    return _Terms(
        np.concatenate(energies),
        np.concatenate(forces, axis=2).reshape(3 * n_atoms, -1),
        np.concatenate(virials, axis=2),
        len(edges.distances),
    )


def _add(
    energies: list[np.ndarray],
    forces: list[np.ndarray],
    virials: list[np.ndarray],
    edges: _Edges,
    n_atoms: int,
    energy: np.ndarray,
    gradients: Float[np.ndarray, "edges 3 terms"],
) -> None:
    """Append terms with their energy and its gradients with respect to the vectors of the edges."""
    energies.append(energy)
    forces.append(_sums(gradients, edges.centers, n_atoms) - _sums(gradients, edges.neighbors, n_atoms))
    virials.append(np.einsum("eak,eb->abk", gradients, edges.vectors))


def _radial(distances: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Gaussians that go to zero at the cutoff, and their derivatives [edges n]."""
    means = np.linspace(0.6, CUTOFF - 0.3, n)
    width = means[1] - means[0]
    away = (distances[:, None] - means) / width
    gaussians, phase = np.exp(-0.5 * away**2), np.pi * distances[:, None] / CUTOFF
    envelope, slope = 0.5 * (1 + np.cos(phase)), -0.5 * np.pi / CUTOFF * np.sin(phase)
    return gaussians * envelope, gaussians * (slope - away / width * envelope)


def _many_body(edges: _Edges, n_atoms: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Energies and edge gradients of the root of the density, and of the squares of dipole and quadrupole."""
    values, slopes = _radial(edges.distances, N_MANY_BODY)
    units = edges.vectors / edges.distances[:, None]
    along, sizes, rises = units[:, :, None], values[:, None, :], slopes[:, None, :]
    over = sizes / edges.distances[:, None, None]

    density = _sums(values, edges.centers, n_atoms)
    root = np.sqrt(density + SMOOTHING)
    terms = [((root - np.sqrt(SMOOTHING)).sum(axis=0), (0.5 / root[edges.centers] * slopes)[:, None, :] * along)]

    dipole = _sums(sizes * along, edges.centers, n_atoms)
    own = dipole[edges.centers]
    parallel = np.einsum("eak,ea->ek", own, units)[:, None, :]
    gradient = parallel * rises * along + over * (own - parallel * along)
    terms.append((np.square(dipole).sum(axis=(0, 1)), 2 * gradient))

    directions = units[:, :, None] * units[:, None, :] - np.eye(3) / 3
    quadrupole = _sums(values[:, None, None, :] * directions[..., None], edges.centers, n_atoms)
    own = np.einsum("eabk,eb->eak", quadrupole[edges.centers], units)
    parallel = np.einsum("eak,ea->ek", own, units)[:, None, :]
    gradient = parallel * rises * along + 2 * over * (own - parallel * along)
    terms.append((np.square(quadrupole).sum(axis=(0, 1, 2)), 2 * gradient))
    return terms


def _sums(values: np.ndarray, atoms: np.ndarray, n_atoms: int) -> np.ndarray:
    """Sums of the values of edges over the edges of each atom."""
    sums = np.zeros((n_atoms, *values.shape[1:]))
    if len(atoms):
        order = np.argsort(atoms, kind="stable")
        ordered = atoms[order]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        sums[ordered[starts]] = np.add.reduceat(values[order], starts, axis=0)
    return sums


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Compute the correlation of the ranks of two sets of values, in which single outliers count little."""
    one, other = (np.argsort(np.argsort(values, kind="stable")) for values in (one, other))
    return float(np.corrcoef(one, other)[0, 1])
