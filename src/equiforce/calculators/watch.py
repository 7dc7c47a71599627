"""Says when a simulation leaves the training data: the first time of each kind, and how often."""

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from equiforce import model_file
from equiforce.coverage import FARTHER, Coverage, Departure, Ranges, pair_of
from equiforce.potential import Potential
from equiforce.terminal import Console, note

BONDED = 1.3  # largest length of a bond over the sum of two covalent radii
LOOK_EVERY = 5  # steps; at room temperature a broken bond lasts far longer


def read_ranges(model: str | Path | Potential, console: Console) -> Ranges | None:
    """The ranges of the training data in a model file, or a note that it has none; None for a potential in memory."""
    if isinstance(model, Potential):
        return None
    header = model_file.read_header(model)
    ranges = model_file.ranges_of(header, model)
    if ranges is None:
        remedy = "as with all potentials of other programs" if "source" in header["about"] else "train it again"
        note(
            console,
            f"{model} does not say which distances, forces and volumes its training data have, so that it goes "
            f"unnoticed if atoms leave them: {remedy}",
        )
    return ranges


class Watch:
    """Compares the atoms with the ranges of the training data every few steps.

    A bond is a pair of atoms that the start holds within 1.3 times the sum of their covalent radii, if the data have a
    gap between bonds and other distances of this pair of elements. It is broken where it is longer than in all data.

    Args:
        atoms: the start, after a first calculation.
        ranges: the ranges of the training data; None is never left.
    """

    def __init__(self, atoms: Atoms, ranges: Ranges | None):
        self.coverage = None if ranges is None else Coverage(ranges, atoms.get_chemical_symbols())
        self.first: dict[str, tuple[int, str]] = {}  # the step and the sentence of the first departure of each kind
        self.n_looks = self.n_outside = 0
        if self.coverage is not None:
            self._find_bonds(atoms, self.coverage)

    def _find_bonds(self, atoms: Atoms, coverage: Coverage) -> None:
        graph, elements = atoms.calc.graph, coverage.elements
        centers, neighbors = graph.centers.cpu().numpy(), graph.neighbors.cpu().numpy()
        longest = np.array(
            [[coverage.ranges.longest_bond(pair_of(one, other)) or 0.0 for other in elements] for one in elements]
        )
        limits = longest[coverage.index[centers], coverage.index[neighbors]]
        radii = covalent_radii[atoms.numbers]
        lengths = graph.edge_vectors().norm(dim=1).cpu().numpy()
        bonded = lengths < np.minimum((1 + FARTHER) * limits, BONDED * (radii[centers] + radii[neighbors]))
        bonded &= centers <= neighbors
        self.bonds = centers[bonded], neighbors[bonded], graph.shifts.cpu().numpy()[bonded]
        self.limits = (1 + FARTHER) * limits[bonded]

    def look(self, atoms: Atoms, step: int) -> list[str]:
        """Compare the atoms after a calculation; return a sentence for each kind that has not occurred before."""
        if self.coverage is None:
            return []
        graph = atoms.calc.graph
        departures = self.coverage.departures(
            graph.centers.cpu().numpy(),
            graph.neighbors.cpu().numpy(),
            graph.edge_vectors().norm(dim=1).cpu().numpy(),
            atoms.calc.results["forces"],
            atoms.get_volume() if atoms.pbc.all() and atoms.cell.rank == 3 else None,
        )
        departures += self._broken(atoms, self.coverage)
        found = {departure.what: departure for departure in departures}
        self.n_looks += 1
        self.n_outside += bool(found)
        new = [departure for what, departure in found.items() if what not in self.first]
        self.first |= {departure.what: (step, departure.sentence) for departure in new}
        return [departure.sentence for departure in new]

    def _broken(self, atoms: Atoms, coverage: Coverage) -> list[Departure]:
        centers, neighbors, shifts = self.bonds
        if not len(centers):
            return []
        vectors = atoms.positions[neighbors] + shifts @ atoms.cell.array - atoms.positions[centers]
        stretch = np.linalg.norm(vectors, axis=1) / self.limits
        found: dict[str, Departure] = {}
        for bond in np.flatnonzero(stretch > 1)[np.argsort(-stretch[stretch > 1])]:
            one, other = int(centers[bond]), int(neighbors[bond])
            pair = pair_of(coverage.symbols[one], coverage.symbols[other])
            low, high = coverage.ranges.distances[pair][0]
            sentence = (
                f"the bond between {coverage.name(one)} and {coverage.name(other)} is "
                f"{stretch[bond] * self.limits[bond]:.2f} Å long, and the data have {low:.2f} to {high:.2f} Å"
            )
            found.setdefault(pair, Departure(f"bond {pair}", sentence))
        return list(found.values())

    def began(self) -> str:
        """When the run left the training data first, to be added to a sentence; empty if it did not."""
        return f", after it left the training data at step {min(self.first.values())[0]}" if self.first else ""

    def to_dict(self) -> dict[str, Any]:
        """What has been found, as plain types for JSON."""
        return {"first": self.first, "n_looks": self.n_looks, "n_outside": self.n_outside}

    def restore(self, plain: dict[str, Any]) -> None:
        """Continue from what :meth:`to_dict` returned."""
        self.first = {what: (int(step), str(sentence)) for what, (step, sentence) in plain["first"].items()}
        self.n_looks, self.n_outside = int(plain["n_looks"]), int(plain["n_outside"])
