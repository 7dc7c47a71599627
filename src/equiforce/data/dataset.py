"""Which structures are trained on, validated and tested with, and in which batches they come."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from equiforce.data.statistics import is_isolated_atom
from equiforce.errors import InputError
from equiforce.graph import AtomicGraph, Labels, Structure, batch, batch_labels
from equiforce.neighbors import build_graph
from equiforce.options import option

SAME_POSITION = 1e-6  # Å
PARTS = ("train", "validation", "test")
SHARE = "fraction if below 1, else number of structures"
_AT_RANDOM = ("there is no split_file", lambda options: options.split_file is None)


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """How the structures are shared out between training, validation and test."""

    train_file: list[str] = option(reason="the training data: files, folders, slices such as a.xyz@:100", factory=list)
    validation_file: list[str] = option(reason="validation structures of their own, instead of a share", factory=list)
    test_file: list[str] = option(reason="test structures of their own, instead of a share", factory=list)
    split_file: str | None = option(None, "the split.json of an earlier run, to use its split again")
    train: float | int | None = option(None, "all that validation and test leave", unit=SHARE, gt=0, only_if=_AT_RANDOM)
    validation: float | int = option(
        0.1,
        "chooses the weights that are kept; taken from the training data, at least one structure",
        unit=SHARE,
        ge=0,
        only_if=("there is neither validation_file nor split_file", lambda o: not (o.validation_file or o.split_file)),
    )
    test: float | int = option(
        0.1,
        "measured once, at the end; taken from the training data",
        unit=SHARE,
        ge=0,
        only_if=("there is neither test_file nor split_file", lambda o: not (o.test_file or o.split_file)),
    )
    seed: int = option(0, "the same split for every seed of the weights", ge=0, only_if=_AT_RANDOM)
    drop_duplicates: bool = option(
        False, "the same structure in training and test is an error unless it may be left out of training"
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """The parts of a data set. Isolated atoms only give reference energies."""

    train: tuple[Structure, ...]
    validation: tuple[Structure, ...]
    test: tuple[Structure, ...]
    isolated: tuple[Structure, ...]
    indices: dict[str, list[int]]  # of each part that was taken from the training data, counted from 0
    fingerprint: str  # of the training data the indices belong to
    notes: tuple[str, ...] = ()  # what a user ought to know about it, in sentences

    def save(self, path: str | Path) -> None:
        """Write the indices as JSON, to be read again as ``split_file``."""
        Path(path).write_text(json.dumps({"fingerprint": self.fingerprint, **self.indices}) + "\n")


def split(
    structures: Sequence[Structure],
    options: SplitOptions,
    validation: Sequence[Structure] | None = None,
    test: Sequence[Structure] | None = None,
) -> Split:
    """Share out structures between training, validation and test.

    Copies of one structure always fall on the same side of a random split.

    Args:
        structures: the training data.
        options: shares, seed, or an index file.
        validation: the structures of ``options.validation_file``.
        test: the structures of ``options.test_file``.

    Raises:
        InputError: too few structures, an index file of other data, or the same structure in training and test.
    """
    alone = np.array([is_isolated_atom(s) for s in structures], dtype=bool)
    usable = np.flatnonzero(~alone)
    copy_of = first_copies(structures)
    if options.drop_duplicates:
        usable = usable[copy_of[usable] == usable]
    if options.split_file is not None:
        indices = _read_indices(Path(options.split_file), structures, alone)
    else:
        indices = _random_indices(usable, copy_of, options, validation is not None, test is not None)
    parts = {name: [structures[i] for i in indices.get(name, [])] for name in PARTS}
    for name, given in (("validation", validation), ("test", test)):
        if given is not None:
            parts[name] = list(given)
            indices.pop(name, None)
    kept, notes = _without_overlap(parts, options.drop_duplicates)
    for name, keep in kept.items():
        if name in indices:
            indices[name] = [i for i, k in zip(indices[name], keep, strict=True) if k]
        parts[name] = [s for s, k in zip(parts[name], keep, strict=True) if k]
    if not parts["train"]:
        raise InputError(f"No structure is left to train on, of {len(structures)} that were read")
    return Split(
        **{name: tuple(part) for name, part in parts.items()},
        isolated=tuple(structures[i] for i in np.flatnonzero(alone).tolist()),
        indices=indices,
        fingerprint=fingerprint(structures),
        notes=tuple(notes),
    )


def first_copies(structures: Sequence[Structure]) -> Int[np.ndarray, " structures"]:
    """For each structure the index of the first that is the same to 1e-6 Å, whatever its labels; often its own."""
    kinds: dict[bytes, list[int]] = {}
    for i, s in enumerate(structures):
        kinds.setdefault(s.atomic_numbers.astype(np.int64).tobytes() + bytes(s.pbc.tolist()), []).append(i)
    copy_of = np.arange(len(structures))
    for members in kinds.values():
        if len(members) == 1:
            continue
        coordinates = [_coordinates(structures[i]) for i in members]
        # near-equal structures have near-equal projections, while rounding, as for a hash, would part some of them
        direction = np.random.default_rng(0).uniform(-1, 1, len(coordinates[0]))
        projections = np.array([x @ direction for x in coordinates])
        within = SAME_POSITION * np.abs(direction).sum()
        order = np.argsort(projections, kind="stable")
        for place, a in enumerate(order):
            for b in order[place + 1 :]:
                if projections[b] - projections[a] > within:
                    break
                if np.abs(coordinates[a] - coordinates[b]).max(initial=0.0) <= SAME_POSITION:
                    copy_of[members[b]] = copy_of[members[a]]
                    break
    _, first, group = np.unique(copy_of, return_index=True, return_inverse=True)
    return first[group]


def drawable(structures: Sequence[Structure], held_out: Sequence[Structure]) -> tuple[list[int], int]:
    """The indices of structures to train on, and how many were left out as copies, of others or of ``held_out``."""
    copy_of = first_copies([*held_out, *structures])[len(held_out) :] - len(held_out)
    real = [i for i, s in enumerate(structures) if not is_isolated_atom(s)]
    usable = [i for i in real if copy_of[i] == i]
    return usable, len(real) - len(usable)


def _coordinates(structure: Structure) -> np.ndarray:
    cell = np.where(structure.pbc[:, None], structure.cell, 0.0)
    return np.concatenate([structure.positions.ravel(), cell.ravel()])


def _random_indices(
    usable: np.ndarray, copy_of: np.ndarray, options: SplitOptions, own_validation: bool, own_test: bool
) -> dict[str, list[int]]:
    n = len(usable)
    wanted = {
        "test": 0 if own_test else _count(options.test, n, "test", least=0),
        "validation": 0 if own_validation else _count(options.validation, n, "validation", least=1),
    }
    left = n - sum(wanted.values())
    wanted["train"] = left if options.train is None else _count(options.train, n, "train", least=1)
    if n and (left < 1 or wanted["train"] > left):
        raise InputError(
            f"{n} structures do not suffice for {wanted['test']} to test, {wanted['validation']} to validate and "
            f"{max(wanted['train'], 1)} to train with: ask for less by `train`, `validation` and `test`, which may be 0"
        )
    groups: dict[int, list[int]] = {}
    for i in usable.tolist():
        groups.setdefault(int(copy_of[i]), []).append(i)
    firsts = list(groups)
    shuffled = iter(np.random.default_rng(options.seed).permutation(len(firsts)).tolist())
    indices: dict[str, list[int]] = {}
    for name, count in wanted.items():
        part: list[int] = []
        while len(part) < count and (place := next(shuffled, None)) is not None:
            part.extend(groups[firsts[place]])
        indices[name] = sorted(part)
    return indices


def _count(share: float | int, n: int, name: str, least: int) -> int:
    """A number of structures from a fraction or a number."""
    if share < 0 or (share >= 1 and share != int(share)):
        raise InputError(f"{name}: {share:g} is neither a fraction between 0 and 1 nor a number of structures")
    if share >= 1:
        return int(share)
    return max(least, int(share * n)) if share > 0 else 0


def _read_indices(path: Path, structures: Sequence[Structure], alone: np.ndarray) -> dict[str, list[int]]:
    """The parts of an index file, isolated atoms left out."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"The index file {path} cannot be read: {error}") from error
    if not isinstance(content, dict) or "train" not in content:
        raise InputError(f'The index file {path} must hold {{"train": [...], "validation": [...], "test": [...]}}')
    if content.get("fingerprint", fingerprint(structures)) != fingerprint(structures):
        raise InputError(
            f"The index file {path} belongs to other training data than these {len(structures)} structures"
        )
    indices = {name: content[name] for name in PARTS if name in content}
    named: dict[int, str] = {}
    for name, part in indices.items():
        for i in part:
            if not isinstance(i, int) or not 0 <= i < len(structures):
                raise InputError(f"The index file {path} names frame {i} in {name!r}, of {len(structures)} from 0 on")
            if i in named:
                raise InputError(f"The index file {path} names frame {i} both in {named[i]!r} and in {name!r}")
            named[i] = name
    return {name: [i for i in part if not alone[i]] for name, part in indices.items()}


def _without_overlap(
    parts: dict[str, list[Structure]], drop_duplicates: bool
) -> tuple[dict[str, list[bool]], list[str]]:
    """Which structures of each part stay, so that none is trained on and tested with; and what to tell the user."""
    copy_of = iter(first_copies([s for name in PARTS for s in parts[name]]).tolist())
    kind = {name: [next(copy_of) for _ in parts[name]] for name in PARTS}
    notes: list[str] = []
    kept = {name: [True] * len(parts[name]) for name in PARTS}
    for name, later in (("train", ("validation", "test")), ("validation", ("test",))):
        seen: dict[int, int] = {}
        held_out = {k: s for other in later for k, s in zip(kind[other], parts[other], strict=True)}
        shared = [i for i, k in enumerate(kind[name]) if k in held_out]
        if shared and not drop_duplicates:
            twin = held_out[kind[name][shared[0]]]
            raise InputError(
                f"{parts[name][shared[0]].source} ({name}) and {twin.source} (held out) are the same structure"
                f"{f', and {len(shared) - 1} more of {name} are held out too' if len(shared) > 1 else ''}: an error "
                f"measured on it would mean nothing; leave it out of {name} with --set split.drop_duplicates=true"
            )
        for i, k in enumerate(kind[name]):
            first = seen.setdefault(k, i)
            kept[name][i] = not drop_duplicates or (k not in held_out and first == i)
        if n_copies := len(kind[name]) - len(seen):
            notes.append(f"{n_copies} of {len(kind[name])} {name} structures are copies of others")
        if n_dropped := kept[name].count(False):
            notes.append(f"{n_dropped} {name} structures were left out, as copies of others or of ones held out")
    return kept, notes


def fingerprint(structures: Sequence[Structure], *, labels: bool = False) -> str:
    """The same for the same structures in the same order; with ``labels``, only if these are the same too."""
    digest = hashlib.sha256()
    for s in structures:
        arrays = [s.atomic_numbers.astype(np.int64), s.positions, s.cell]
        arrays += (
            [np.zeros(0) if x is None else np.asarray(x) for x in (s.energy, s.forces, s.stress)] if labels else []
        )
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


class Batches:
    """The batches of each epoch, the same whenever they are asked for.

    Graphs are built once, when they are first needed, and kept. A batch is shared out over ``n_ranks`` processes; every
    process sees the same number of batches, and ``(None, None)`` where a batch leaves nothing for it.

    Args:
        structures: with labels.
        species: the model's chemical symbols.
        cutoff: in Å.
        batch_size: structures in a batch, over all processes; None where ``max_edges`` decides.
        max_edges: pairs of atoms in a batch, over all processes; a structure that has more is a batch of its own.
        seed: of the order, which depends on it and the number of the epoch alone; None keeps the structures' order.
        rank: which process this is.
        n_ranks: how many there are.
    """

    def __init__(
        self,
        structures: Sequence[Structure],
        species: Sequence[str],
        cutoff: float,
        *,
        batch_size: int | None = None,
        max_edges: int | None = None,
        seed: int | None = None,
        rank: int = 0,
        n_ranks: int = 1,
    ) -> None:
        if (batch_size is None) == (max_edges is None):
            raise InputError("A batch is limited either by batch_size or by max_edges: give one of the two")
        if (batch_size or max_edges or 0) < 1:
            raise InputError("A batch needs room for one structure at least: batch_size and max_edges are at least 1")
        self.structures = structures
        self.species = species
        self.cutoff = cutoff
        self.batch_size = batch_size
        self.max_edges = max_edges
        self.seed = seed
        self.rank = rank
        self.n_ranks = n_ranks
        self._graphs: list[AtomicGraph | None] = [None] * len(structures)

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[AtomicGraph | None, Labels | None]]:
        """This process's share of each batch of an epoch, without the first ``start`` batches."""
        for indices in self._global_batches(number)[start:]:
            own = indices[self.rank :: self.n_ranks]
            if len(own) == 0:
                yield None, None
            else:
                yield batch([self.graph(i) for i in own]), batch_labels([self.structures[i] for i in own])

    def count(self, number: int = 0) -> int:
        """How many batches an epoch has; the same for every epoch unless ``max_edges`` decides."""
        return len(self._global_batches(number))

    def graph(self, index: int) -> AtomicGraph:
        """The graph of one structure."""
        if (graph := self._graphs[index]) is None:
            graph = self._graphs[index] = build_graph(self.structures[index], self.species, self.cutoff)
        return graph

    def largest(self) -> tuple[int, int]:
        """About how many atoms and pairs this process's share of a batch has at most, after the largest structures."""
        order = sorted(range(len(self.structures)), key=lambda i: len(self.structures[i]), reverse=True)
        if self.batch_size is not None:
            share = order[: math.ceil(self.batch_size / self.n_ranks)]
            return sum(len(self.structures[i]) for i in share), sum(self.graph(i).n_edges for i in share)
        alone, limit = self.graph(order[0]), (self.max_edges or 0) / self.n_ranks
        times = min(max(1.0, limit / max(1, alone.n_edges)), len(order))
        return round(times * alone.n_atoms), round(times * alone.n_edges)

    def _global_batches(self, number: int) -> list[list[int]]:
        n = len(self.structures)
        order = range(n) if self.seed is None else np.random.default_rng([self.seed, number]).permutation(n).tolist()
        if self.batch_size is not None:
            return [list(order[first : first + self.batch_size]) for first in range(0, n, self.batch_size)]
        budget = self.max_edges or 0
        batches: list[list[int]] = []
        room = 0
        for i in order:
            n_edges = self.graph(i).n_edges
            if not batches or n_edges > room:
                batches.append([])
                room = budget
            batches[-1].append(i)
            room -= n_edges
        return batches
