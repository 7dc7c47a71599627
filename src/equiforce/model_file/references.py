"""Reference structures: small ones with the predictions that a potential has to reproduce when its file is opened."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from equiforce.elements import SYMBOLS, atomic_number
from equiforce.errors import InputError
from equiforce.graph import AtomicGraph, Prediction, batch
from equiforce.memory import step_memory
from equiforce.neighbors import build_graph
from equiforce.potential import Potential, evaluating
from equiforce.quantities import ENERGY, FORCES, QUANTITIES, Quantity, requested
from equiforce.structure import Structure

TOLERANCE = {torch.float32: 2e-4, torch.float64: 1e-8}  # of the reference values, by dtype of the weights; see verify
TOLERANCE_OF_FORMAT_1 = 1e-6  # in this format, knots of float64 models were rounded to float32
REFERENCE_ATOMS = 12  # in each reference structure: enough to use every path, and computed in milliseconds
MARGIN = 2.5  # Å of vacuum around the atoms of a periodic reference structure, or half of the cutoff if that is more
# the most that a file may ask a program to compute when it is opened; files for 89 elements need a tenth
MOST_REFERENCES = 2000
MOST_ATOMS = 20_000
MOST_PAIRS = 2**20  # of atoms and images in the boxes that enclose all neighbours
MOST_MEMORY = 2**30  # bytes; several references are computed at once if they need less
# The clusters in which all pairs of elements occur: the vertices of an icosahedron, moved until nothing is symmetric.
# Their distances lie between a quarter and four fifths of the cutoff, where a network is sensitive.
EDGE = 0.36  # of the cutoff of a pair
RATTLE = 0.1  # of the edge
GOLDEN = (1 + math.sqrt(5)) / 2
ICOSAHEDRON = np.array(
    [np.roll([0, a, b * GOLDEN], axis) / 2 for axis in range(3) for a in (1, -1) for b in (1, -1)]
)  # of edge 1


def stored_units() -> dict[str, str]:
    """The units of energy, length and all quantities, in which the file stores reference values."""
    units = {q.name: f"{q.unit}, {q.sign}" if q.sign else q.unit for q in QUANTITIES}
    return {ENERGY.name: ENERGY.unit, "length": "Å", **units}


def references_for(potential: Potential, structures: Sequence[Structure]) -> list[dict[str, Any]]:
    """The references of a potential: pieces of real structures, and clusters in which every pair of elements occurs.

    Raises:
        InputError: a structure contains an element that the potential does not know, or a prediction is not finite.
    """
    pieces = [*small_pieces(structures, potential.cutoff), *clusters(potential)]
    frozen = copy.deepcopy(potential).requires_grad_(False)  # computes tables of splines once, as after it is opened
    references = as_references(frozen, pieces)
    for reference in references:
        for quantity in QUANTITIES:
            if (value := reference[quantity.name]) is not None and not np.isfinite(value).all():
                raise InputError(
                    f"the potential gives {quantity.plural} that are not finite, so it cannot be saved: train it "
                    "again with a lower learning rate"
                )
    return references


def as_reference(potential: Potential, structure: Structure) -> dict[str, Any]:
    """A structure with all predictions of ``potential`` for it, as plain values for JSON."""
    return as_references(potential, [structure])[0]


def as_references(potential: Potential, structures: Sequence[Structure]) -> list[dict[str, Any]]:
    """Structures, each with all predictions of ``potential`` for it, as plain values for JSON."""

    def plain(prediction: Prediction, quantity: Quantity) -> Any:
        values = prediction.of(quantity)
        if values is None:
            return None
        return values.tolist() if quantity.of_atoms else values[0].tolist()

    return [
        {
            "atomic_numbers": structure.atomic_numbers.tolist(),
            "positions": structure.positions.tolist(),
            "cell": structure.cell.tolist(),
            "pbc": structure.pbc.tolist(),
            **{quantity.name: plain(prediction, quantity) for quantity in QUANTITIES},
        }
        for structure, prediction in zip(structures, _predictions(potential, structures), strict=True)
    ]


def _predictions(potential: Potential, structures: Sequence[Structure]) -> list[Prediction]:
    """The predictions for structures, which are computed at once as far as memory allows."""
    graphs = [build_graph(s, potential.species, potential.cutoff).to(potential.device) for s in structures]
    found: dict[int, Prediction] = {}
    for numbers in _batches(potential, graphs):
        chosen = [graphs[number] for number in numbers]
        with evaluating(potential):
            prediction = potential(batch(chosen), **requested(QUANTITIES))
        found |= dict(zip(numbers, prediction.split([graph.n_atoms for graph in chosen]), strict=True))
    return [found[number] for number in range(len(structures))]


def _batches(potential: Potential, graphs: Sequence[AtomicGraph]) -> Iterator[list[int]]:
    """Divide graphs into those with and without a volume, and further if they need much memory."""
    memory = step_memory(potential)
    by_kind: dict[bool, list[int]] = {}
    for number, graph in enumerate(graphs):  # a stress exists only if all structures of a batch have a volume
        by_kind.setdefault(bool((graph.volumes() > 0).all()), []).append(number)
    for numbers in by_kind.values():
        together: list[int] = []
        n_atoms = n_edges = 0
        for number in numbers:
            graph = graphs[number]
            if memory.bytes(graph.n_atoms, graph.n_edges) > MOST_MEMORY:
                raise InputError(f"reference structure {number} needs too much memory")
            if together and memory.bytes(n_atoms + graph.n_atoms, n_edges + graph.n_edges) > MOST_MEMORY:
                yield together
                together, n_atoms, n_edges = [], 0, 0
            together, n_atoms, n_edges = [*together, number], n_atoms + graph.n_atoms, n_edges + graph.n_edges
        yield together


def structure_of(reference: Mapping[str, Any], source: str = "") -> Structure:
    """The structure of a stored reference; ``source`` is its name in messages."""
    return Structure(
        atomic_numbers=np.array(reference["atomic_numbers"]),
        positions=np.array(reference["positions"], dtype=np.float64).reshape(-1, 3),
        cell=np.array(reference["cell"], dtype=np.float64),
        pbc=np.array(reference["pbc"]),
        source=source,
    )


def are_wrong(
    references: Sequence[Any], units: Mapping[str, str], species: Sequence[str], cutoff: float, *, complete: bool
) -> bool:
    """Whether stored references cannot be right, or are more than a program should compute when it opens a file.

    Args:
        references: as they were read.
        units: those of the file, which name the quantities that it stores.
        species: the elements of the potential.
        cutoff: in Å.
        complete: whether every element has to occur.
    """
    known, n_atoms, n_pairs = {atomic_number(symbol) for symbol in species}, 0, 0.0
    stored = [quantity for quantity in QUANTITIES if quantity.name in units]
    seen: set[int] = set()
    if not 0 < len(references) <= MOST_REFERENCES:
        return True
    for reference in references:
        numbers = reference["atomic_numbers"]
        n = len(numbers)
        n_atoms += n
        if n == 0 or n_atoms > MOST_ATOMS or not all(type(z) is int and z in known for z in numbers):
            return True
        seen.update(numbers)
        positions, cell = _array(reference["positions"], (n, 3)), _array(reference["cell"], (3, 3))
        pbc = reference["pbc"]
        if positions is None or cell is None or not (len(pbc) == 3 and all(type(p) is bool for p in pbc)):
            return True
        n_pairs += n * n * _images(cell[np.array(pbc)], cutoff)
        if not n_pairs <= MOST_PAIRS or any(_is_wrong(reference[q.name], q, n) for q in stored):
            return True
    return complete and seen != known


def _is_wrong(value: Any, quantity: Quantity, n_atoms: int) -> bool:
    if value is None:
        return quantity in (ENERGY, FORCES)
    rows = (n_atoms,) if quantity.of_atoms else ()
    return _array(value, (*rows, *quantity.shape)) is None


def _array(value: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """Finite numbers of a shape; None if ``value`` is something else."""
    try:
        array = np.array(value)
    except ValueError:  # rows of different lengths
        return None
    return array if array.dtype.kind in "if" and array.shape == shape and np.isfinite(array).all() else None


def _images(cell: np.ndarray, cutoff: float) -> float:
    """An upper limit of the number of images of a cell within the cutoff of an atom in it."""
    thickness = np.linalg.svd(cell, compute_uv=False)
    least = thickness.min(initial=math.inf)
    return float(np.prod(2 * cutoff / np.maximum(thickness, 1e-3) + 1)) if len(cell) and least < math.inf else 1.0


def verify(potential: Potential, header: Mapping[str, Any], tolerance: float, path: str) -> None:
    """Compute the reference structures again and compare the results with those in the file.

    Quantities that were added to equiforce after the file was written are not compared.

    Args:
        potential: the loaded potential.
        header: the checked header of the file.
        tolerance: the allowed difference, relative to the larger of 1 and the largest force or scale. Energies are
            compared per atom.
        path: the name of the file in messages.

    Raises:
        InputError: a result differs.
    """
    stored = [quantity for quantity in QUANTITIES if quantity.name in header["units"]]
    references = header["references"]
    structures = [structure_of(r, f"{path}, reference structure {number}") for number, r in enumerate(references)]
    for number, (reference, now) in enumerate(zip(references, as_references(potential, structures), strict=True)):
        size = max(1.0, np.abs(reference[FORCES.name]).max(), potential.scale.max().item())
        for quantity in stored:
            if reference[quantity.name] is None and now[quantity.name] is None:
                continue
            divisor = len(reference["atomic_numbers"]) if quantity.logged.per_atom else 1
            # a value that only one of both has is a difference, too
            wanted, found = (np.array(r[quantity.name], dtype=np.float64) for r in (reference, now))
            difference = np.abs(found - wanted).max() / divisor
            if not difference <= tolerance * size:
                raise InputError(
                    f"{path}: this machine gives another {quantity.name} for reference structure {number} than the "
                    f"machine that saved the model (difference {difference:.1e} {quantity.residual_unit}): do not use "
                    "the model here, and report this with the versions of torch and equiforce"
                )


def reference_structures(structures: Sequence[Structure]) -> list[Structure]:
    """A few of the structures that together contain all elements."""
    chosen: list[Structure] = []
    missing = {int(z) for s in structures for z in s.atomic_numbers}
    for structure in structures:
        found = missing & set(structure.atomic_numbers.tolist())
        if found:
            chosen.append(structure)
            missing -= found
    return chosen


def small_pieces(structures: Sequence[Structure], cutoff: float = 2 * MARGIN) -> list[Structure]:
    """Cut reference structures out of structures.

    Args:
        structures: real structures.
        cutoff: of the potential in Å; for a long one, periodic pieces have more vacuum and so not too many neighbours.

    Returns:
        For one atom of each element, its nearest atoms twice: without a cell, and in a small periodic cell.
    """
    pieces: list[Structure] = []
    found: set[int] = set()
    firsts = ((s, i, z) for s in structures for i, z in enumerate(s.atomic_numbers.tolist()))
    for structure, center, element in firsts:
        if element in found:
            continue
        away = np.linalg.norm(structure.positions - structure.positions[center], axis=1)
        nearest = np.sort(np.argsort(away, kind="stable")[:REFERENCE_ATOMS])
        numbers, positions = structure.atomic_numbers[nearest], structure.positions[nearest]
        found.update(numbers.tolist())
        box = np.diag(np.ptp(positions, axis=0) + max(MARGIN, cutoff / 2))
        for cell, periodic in ((np.zeros((3, 3)), False), (box, True)):
            pbc = np.full(3, periodic)
            pieces.append(Structure(atomic_numbers=numbers, positions=positions, cell=cell, pbc=pbc))
    return pieces


def clusters(potential: Potential) -> list[Structure]:
    """Clusters of :data:`REFERENCE_ATOMS` atoms in which every pair of elements lies well within its cutoff.

    Real structures do not contain every pair, and a model may treat each differently. A cluster of n atoms contains
    n (n - 1) / 2 pairs, so 89 elements need less than 100 clusters.
    """
    shorter = potential.model.config.pair_cutoffs or {}
    rng, found = np.random.default_rng(0), []
    for group in _groups(len(potential.species)):
        symbols = [potential.species[index] for index in group]
        reach = min(shorter.get(f"{a}-{b}", potential.cutoff) for a in symbols for b in symbols)
        moved = ICOSAHEDRON + rng.uniform(-RATTLE, RATTLE, ICOSAHEDRON.shape)
        numbers = [SYMBOLS.index(symbols[k % len(symbols)]) for k in range(REFERENCE_ATOMS)]
        found.append(
            Structure(
                atomic_numbers=np.array(numbers),
                positions=np.round(EDGE * reach * moved, 4),
                cell=np.zeros((3, 3)),
                pbc=np.zeros(3, dtype=bool),
            )
        )
    return found


def _groups(n_species: int) -> list[list[int]]:
    """Groups of species so that each pair, also of a species with itself, occurs in a group."""
    missing = np.ones((n_species, n_species), dtype=bool)
    groups = []
    while missing.any():
        group = [int(missing.sum(axis=1).argmax())]
        while len(group) < REFERENCE_ATOMS:
            new = missing[:, np.unique(group)].sum(axis=1)
            if not (new.any() or missing.any()):
                break
            added = int((new if new.any() else missing.sum(axis=1)).argmax())
            missing[added, group] = missing[group, added] = False
            group.append(added)
        groups.append(group)
    return groups
