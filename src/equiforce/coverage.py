"""What the training data cover: distances of pairs, neighbours, forces and volumes; and how a structure leaves them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from equiforce.elements import symbols_by_number
from equiforce.neighbors import find_pairs
from equiforce.structure import Structure

Interval = tuple[float, float]

BIN = 0.02  # Å; the resolution of the distances that occur in the data
GAP = 0.1  # Å; distances that are missing over less than this are missing by chance
STRAY = 0.005  # of the distances of a pair; fewer are the tail of a distribution, and no bond length of their own
MOST_ATOMS = 1_000_000  # atoms whose neighbours are searched; more would take longer than some trainings
# A sound simulation is longer than the data, and leaves their extremes by a little.
CLOSER = 0.07  # of the smallest distance of a pair
FARTHER = 0.15  # of the largest length of a bond
STRONGER = 0.5  # of the largest force
DENSER = 0.1  # of the volume of an atom, and of the number of its neighbours


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """The ranges of the training data, which a model file keeps.

    Args:
        cutoff: within which pairs were counted, in Å.
        distances: the intervals of distances that occur, by pair of elements in alphabetical order, such as ``H-O``,
            in Å. An interval ends where no distance occurs over at least 0.1 Å.
        neighbors: the smallest and largest number of neighbours of an atom.
        largest_force: the largest norm of a force on an atom in eV/Å; None without forces.
        volume_per_atom: the smallest and largest volume of an atom in Å³, of fully periodic structures; None if there
            are none.
    """

    cutoff: float
    distances: Mapping[str, Sequence[Interval]]
    neighbors: tuple[int, int]
    largest_force: float | None
    volume_per_atom: Interval | None

    def to_dict(self) -> dict[str, Any]:
        """The ranges as plain types for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Ranges":
        """The inverse of :meth:`to_dict`."""
        volume = plain["volume_per_atom"]
        return cls(
            cutoff=plain["cutoff"],
            distances={pair: [(low, high) for low, high in found] for pair, found in plain["distances"].items()},
            neighbors=(plain["neighbors"][0], plain["neighbors"][1]),
            largest_force=plain["largest_force"],
            volume_per_atom=None if volume is None else (volume[0], volume[1]),
        )

    def longest_bond(self, pair: str) -> float | None:
        """The end in Å of the first interval of a pair, if the data have a gap after it; None if they have none."""
        intervals = self.distances.get(pair, ())
        if not intervals or intervals[0][1] > self.cutoff - GAP:
            return None
        return intervals[0][1]

    def first_gap(self, pair: str) -> Interval:
        """Where the first interval of a pair ends and the second begins, in Å; without a second, nowhere."""
        intervals = self.distances.get(pair, ())
        return (intervals[0][1], intervals[1][0]) if len(intervals) > 1 else (np.inf, np.inf)

    def rows(self) -> list[tuple[str, str]]:
        """The names and values that ``equiforce info`` shows."""
        distances = "; ".join(f"{pair} {in_words(found)}" for pair, found in self.distances.items()) or "no pair"
        low, high = self.neighbors
        rows = [("distances in the data", f"{distances} Å"), ("neighbours in the data", f"{low} to {high}")]
        if self.largest_force is not None:
            rows.append(("largest force in the data", f"{self.largest_force:.3g} eV/Å"))
        if self.volume_per_atom is not None:
            rows.append(("volume of an atom in the data", "{:.4g} to {:.4g} Å³".format(*self.volume_per_atom)))
        return rows


class Departure(NamedTuple):
    """One way in which a structure leaves the training data."""

    what: str  # the same for later departures of the same kind, such as "distance H-O"
    sentence: str


def in_words(intervals: Sequence[Interval]) -> str:
    """Intervals in words, such as "0.88 to 1.30, 1.86 to 5.00"."""
    return ", ".join(f"{low:.2f} to {high:.2f}" for low, high in intervals)


def pair_of(one: str, other: str) -> str:
    """The name of a pair of elements, in alphabetical order."""
    return "-".join(sorted((one, other)))


def ranges_of(structures: Sequence[Structure], cutoff: float) -> Ranges:
    """Find the ranges of training structures.

    Args:
        structures: the training structures, without isolated atoms; of very many, an even selection is searched.
        cutoff: in Å, the cutoff of the model.
    """
    numbers = np.unique(np.concatenate([s.atomic_numbers for s in structures]))
    symbols = symbols_by_number(numbers)
    seen = np.zeros((len(numbers), len(numbers), int(np.ceil(cutoff / BIN)) + 1), dtype=np.int64)
    fewest, most = [], []
    for structure in _selected(structures):
        index = np.searchsorted(numbers, structure.atomic_numbers)
        pairs = find_pairs(structure.positions, structure.cell, structure.pbc, cutoff, structure.source)
        one, other = index[pairs.centers], index[pairs.neighbors]
        places = np.minimum(one, other), np.maximum(one, other), (pairs.distances / BIN).astype(int)
        np.add.at(seen, places, 1)
        counts = np.bincount(pairs.centers, minlength=len(structure))
        fewest.append(int(counts.min()))
        most.append(int(counts.max()))
    forces = [float(np.linalg.norm(s.forces, axis=1).max()) for s in structures if s.forces is not None]
    volumes = [abs(float(np.linalg.det(s.cell))) / len(s) for s in structures if s.pbc.all()]
    return Ranges(
        cutoff=cutoff,
        distances={
            pair_of(symbols[i], symbols[j]): _intervals(seen[i, j], cutoff) for i, j in np.argwhere(seen.any(axis=2))
        },
        neighbors=(min(fewest), max(most)),
        largest_force=max(forces) if forces else None,
        volume_per_atom=(min(volumes), max(volumes)) if volumes else None,
    )


def _selected(structures: Sequence[Structure]) -> list[Structure]:
    n_atoms = sum(len(s) for s in structures)
    every = max(1, -(-n_atoms // MOST_ATOMS))
    return list(structures[::every])


def _intervals(seen: np.ndarray, cutoff: float) -> list[Interval]:
    """The intervals of the bins that occur; empty bins over less than ``GAP``, or after stray distances, are closed."""
    bins = np.flatnonzero(seen)
    wide = np.diff(bins) > GAP / BIN
    wide &= np.cumsum(seen[bins])[:-1] >= STRAY * seen.sum()
    groups = np.split(bins, np.flatnonzero(wide) + 1)
    return [(round(float(g[0]) * BIN, 2), min(cutoff, round(float(g[-1] + 1) * BIN, 2))) for g in groups]


class Coverage:
    """Compares structures of the same atoms with the ranges of the training data.

    Args:
        ranges: the ranges of the training data.
        symbols: the chemical symbol of each atom.
    """

    def __init__(self, ranges: Ranges, symbols: Sequence[str]):
        self.ranges, self.symbols = ranges, list(symbols)
        self.elements = sorted(set(symbols))
        known = {pair: intervals[0][0] for pair, intervals in ranges.distances.items()}
        # a pair that does not occur in the data is outside them at any distance
        self.nearest = np.array(
            [[known.get(pair_of(one, other), np.inf) for other in self.elements] for one in self.elements]
        )
        gaps = [[ranges.first_gap(pair_of(one, other)) for other in self.elements] for one in self.elements]
        self.gaps = np.moveaxis(np.array(gaps), 2, 0)
        self.index = np.array([self.elements.index(symbol) for symbol in symbols])

    def departures(
        self,
        centers: Int[np.ndarray, " edges"],
        neighbors: Int[np.ndarray, " edges"],
        distances: Float[np.ndarray, " edges"],
        forces: Float[np.ndarray, "atoms 3"] | None = None,
        volume: float | None = None,
    ) -> list[Departure]:
        """How the present structure leaves the training data; empty if it does not.

        Args:
            centers: the first atom of each pair within the cutoff; every pair occurs in both directions [edges].
            neighbors: the second atom of each pair [edges].
            distances: in Å [edges].
            forces: in eV/Å [atoms 3]; None is not compared.
            volume: of a fully periodic cell, in Å³; None is not compared.
        """
        found = [
            self._too_close(centers, neighbors, distances),
            self._between(centers, neighbors, distances),
            self._crowded(centers),
        ]
        if forces is not None:
            found.append(self._too_strong(forces))
        if volume is not None:
            found.append(self._dense(volume))
        return [departure for departure in found if departure is not None]

    def _too_close(self, centers: np.ndarray, neighbors: np.ndarray, distances: np.ndarray) -> Departure | None:
        if not len(distances):
            return None
        closeness = distances / self.nearest[self.index[centers], self.index[neighbors]]
        worst = int(closeness.argmin())
        if closeness[worst] >= 1 - CLOSER:
            return None
        one, other = int(centers[worst]), int(neighbors[worst])
        nearest = self.nearest[self.index[one], self.index[other]]
        data = f"below {nearest:.2f} Å" if np.isfinite(nearest) else f"within {self.ranges.cutoff:g} Å"
        return self._apart("distance", one, other, distances[worst], data)

    def _between(self, centers: np.ndarray, neighbors: np.ndarray, distances: np.ndarray) -> Departure | None:
        """A pair in the gap between a bond and the next distance in the data, as after a bond has broken."""
        ends, begins = self.gaps[:, self.index[centers], self.index[neighbors]]
        depth = np.minimum(distances - (1 + FARTHER) * ends, (1 - CLOSER) * begins - distances)
        if not len(depth) or depth.max() <= 0:
            return None
        worst = int(depth.argmax())
        data = f"between {ends[worst]:.2f} and {begins[worst]:.2f} Å"
        return self._apart("bond", int(centers[worst]), int(neighbors[worst]), distances[worst], data)

    def _apart(self, what: str, one: int, other: int, distance: float, data: str) -> Departure:
        one, other = sorted((one, other))
        pair = pair_of(self.symbols[one], self.symbols[other])
        who = f"{self.name(one)} and {self.name(other)}" if one != other else f"{self.name(one)} and its image"
        return Departure(f"{what} {pair}", f"{who} are {distance:.2f} Å apart, and the data have no {pair} {data}")

    def _crowded(self, centers: np.ndarray) -> Departure | None:
        counts = np.bincount(centers, minlength=len(self.symbols))
        low, high = self.ranges.neighbors
        for atom, wrong, what in (
            (int(counts.argmin()), counts.min() < low - max(1, DENSER * low), "few neighbours"),
            (int(counts.argmax()), counts.max() > high + max(1, DENSER * high), "many neighbours"),
        ):
            if wrong:
                data = f"{low} to {high}" if low != high else f"always {low}"
                within = f"within {self.ranges.cutoff:g} Å"
                return Departure(
                    what, f"{self.name(atom)} has {counts[atom]} neighbours {within}, and the data have {data}"
                )
        return None

    def _too_strong(self, forces: np.ndarray) -> Departure | None:
        largest = self.ranges.largest_force
        norms = np.linalg.norm(forces, axis=1)
        atom = int(norms.argmax())
        if largest is None or norms[atom] <= (1 + STRONGER) * largest:
            return None
        return Departure(
            "force", f"the force on {self.name(atom)} is {norms[atom]:.3g} eV/Å, and the data have up to {largest:.3g}"
        )

    def _dense(self, volume: float) -> Departure | None:
        if self.ranges.volume_per_atom is None:  # the numbers of neighbours tell whether a box is crowded
            return None
        low, high = self.ranges.volume_per_atom
        each = volume / len(self.symbols)
        if (1 - DENSER) * low <= each <= (1 + DENSER) * high:
            return None
        return Departure("volume", f"the volume is {each:.4g} Å³ per atom, and the data have {low:.4g} to {high:.4g}")

    def name(self, atom: int) -> str:
        """An atom in messages, such as "atom 3 (O)"."""
        return f"atom {atom} ({self.symbols[atom]})"
