"""Splits structures into training, validation and test sets, and divides a set into batches."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from equiforce.data.copies import first_copies, refuse_contradictions
from equiforce.data.isolated import TYPICAL_CUTOFF, called_isolated, is_isolated_atom
from equiforce.errors import InputError
from equiforce.graph import AtomicGraph, batch
from equiforce.labels import Labels, batch_labels
from equiforce.neighbors import build_graph
from equiforce.options import option
from equiforce.quantities import QUANTITIES
from equiforce.storage.whole import write_text
from equiforce.structure import Structure

PARTS = ("train", "validation", "test")
SHARE = "fraction if below 1, else number of structures"
_RANDOM_SPLIT = ("there is no split_file", lambda options: options.split_file is None)


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """Which structures are for training, for validation and for testing."""

    train_file: list[str] = option(reason="training data: files, folders, slices such as a.xyz@:100", factory=list)
    validation_file: list[str] = option(
        reason="files of validation structures, which are then not taken from the training data", factory=list
    )
    test_file: list[str] = option(
        reason="files of test structures, which are then not taken from the training data", factory=list
    )
    split_file: str | None = option(None, "the split.json of an earlier run, whose split is used again")
    train: float | int | None = option(
        None,
        "size of the training set; default: everything that validation and test leave",
        unit=SHARE,
        gt=0,
        le=10**9,
        only_if=_RANDOM_SPLIT,
    )
    validation: float | int = option(
        0.1,
        "size of the validation set, which chooses the best weights; at least 1, taken from the training data",
        unit=SHARE,
        ge=0,
        le=10**9,
        only_if=("there is neither validation_file nor split_file", lambda o: not (o.validation_file or o.split_file)),
    )
    test: float | int = option(
        0.1,
        "size of the test set, whose errors are computed once at the end; taken from the training data",
        unit=SHARE,
        ge=0,
        le=10**9,
        only_if=("there is neither test_file nor split_file", lambda o: not (o.test_file or o.split_file)),
    )
    seed: int = option(
        0,
        "random seed of the split; not training.seed, so that runs with different weights can share a split",
        ge=0,
        le=2**63 - 1,
        only_if=_RANDOM_SPLIT,
    )
    drop_duplicates: bool = option(
        False, "leaves out copies of structures; if false, a structure that two sets share is an error"
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """The parts of a data set. Isolated atoms serve only as reference energies."""

    train: tuple[Structure, ...]
    validation: tuple[Structure, ...]
    test: tuple[Structure, ...]
    isolated: tuple[Structure, ...]
    indices: dict[str, list[int]]  # for each part taken from the training data, its indices there, counted from 0
    fingerprint: str  # of the training data to which the indices belong
    notes: tuple[str, ...] = ()  # remarks about the split for the user

    def save(self, path: str | Path) -> None:
        """Write the indices as a JSON file that the option ``split_file`` reads."""
        write_text(path, self.to_json())

    def to_json(self) -> str:
        """The text of that file."""
        indices = {name: self.indices[name] for name in PARTS if name in self.indices}
        return json.dumps({"fingerprint": self.fingerprint, **indices}) + "\n"


def split(
    structures: Sequence[Structure],
    options: SplitOptions,
    validation: Sequence[Structure] | None = None,
    test: Sequence[Structure] | None = None,
    cutoff: float = TYPICAL_CUTOFF,
) -> Split:
    """Split structures into a training, a validation and a test set.

    A random split puts all copies of a structure into the same set.

    Args:
        structures: the training data.
        options: the sizes of the sets and the random seed, or an index file.
        validation: the structures of ``options.validation_file``; None takes them from ``structures``.
        test: the structures of ``options.test_file``; None takes them from ``structures``.
        cutoff: of the model in Å, within which isolated atoms have no neighbour.

    Returns:
        The sets, and their indices in ``structures``.

    Raises:
        InputError: there are too few structures, the index file is wrong or belongs to other data, two sets share a
            structure, or copies that are to be left out have contradictory labels.
    """
    isolated = np.array([is_isolated_atom(s, cutoff) for s in structures], dtype=bool)
    usable = np.flatnonzero(~isolated)
    copy_of = first_copies(structures)
    if options.drop_duplicates:
        refuse_contradictions([*(structures[i] for i in usable.tolist()), *(validation or ()), *(test or ())])
        usable = usable[copy_of[usable] == usable]
    if options.split_file is not None:
        indices = _read_indices(Path(options.split_file), structures, isolated)
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
    if structures and isolated.all():
        raise InputError(
            f"all {len(structures)} training structures are isolated atoms, which only have reference energies: add "
            "structures whose atoms are bonded"
        )
    if not parts["train"]:
        raise InputError(
            f"No training structure is left of the {len(structures)} that were read: give more data, or check the split"
        )
    return Split(
        **{name: tuple(part) for name, part in parts.items()},
        isolated=tuple(structures[i] for i in np.flatnonzero(isolated).tolist()),
        indices=indices,
        fingerprint=fingerprint(structures),
        notes=(*called_isolated(structures, cutoff), *notes),
    )


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
            f"{n} structure{' is' if n == 1 else 's are'} not enough for {wanted['test']} test, {wanted['validation']} "
            f"validation and {max(wanted['train'], 1)} training structures: lower split.train, split.validation or "
            "split.test (the last two may be 0)"
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
    """Convert a fraction of ``n`` structures, or a number of structures, to a number of structures."""
    if share < 0 or (share >= 1 and share != int(share)):
        raise InputError(f"split.{name}={share:g} is not allowed: give a fraction between 0 and 1, or a whole number")
    if share >= 1:
        return int(share)
    return max(least, int(share * n)) if share > 0 else 0


def _read_indices(path: Path, structures: Sequence[Structure], isolated: np.ndarray) -> dict[str, list[int]]:
    """Read the indices of each part from an index file, without isolated atoms."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"The index file {path} cannot be read ({error}): correct split.split_file") from error
    if not isinstance(content, dict) or "train" not in content:
        raise InputError(f'The index file {path} must contain {{"train": [...], "validation": [...], "test": [...]}}')
    if content.get("fingerprint", fingerprint(structures)) != fingerprint(structures):
        raise InputError(
            f"The split {path} was made of other training data than these {len(structures)} structures: give the data "
            "of the run that wrote it, or start a run with a new split"
        )
    indices = {name: content[name] for name in PARTS if name in content}
    named: dict[int, str] = {}
    for name, part in indices.items():
        for i in part:
            if not isinstance(i, int) or not 0 <= i < len(structures):
                raise InputError(
                    f"The index file {path} has frame {i} in {name!r}, but the training data have only the frames 0 to "
                    f"{len(structures) - 1}: correct the file"
                )
            if i in named:
                raise InputError(
                    f"The index file {path} has frame {i} both in {named[i]!r} and in {name!r}: remove one"
                )
            named[i] = name
    return {name: [i for i in part if not isolated[i]] for name, part in indices.items()}


def _without_overlap(
    parts: dict[str, list[Structure]], drop_duplicates: bool
) -> tuple[dict[str, list[bool]], list[str]]:
    """Find structures that occur in more than one part, or several times in one.

    Returns:
        For each part, which of its structures stay; and remarks for the user.

    Raises:
        InputError: two parts share a structure, and ``drop_duplicates`` is False.
    """
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
                f"{f', and {len(shared) - 1} more of {name} are held out as well' if len(shared) > 1 else ''}, so "
                f"errors on them would mean nothing: leave copies out of {name} with --set split.drop_duplicates=true"
            )
        for i, k in enumerate(kind[name]):
            first = seen.setdefault(k, i)
            kept[name][i] = not drop_duplicates or (k not in held_out and first == i)
        if n_copies := len(kind[name]) - len(seen):
            notes.append(f"{n_copies} of {len(kind[name])} {name} structures are copies of others")
        if n_dropped := kept[name].count(False):
            notes.append(
                f"{n_dropped} {name} structures were left out because they are copies of others or of held-out ones"
            )
    return kept, notes


def fingerprint(structures: Sequence[Structure], *, labels: bool = False) -> str:
    """A hash of structures and their order, and of their labels if ``labels`` is True."""
    digest = hashlib.sha256()
    for s in structures:
        arrays = [s.atomic_numbers.astype(np.int64), s.positions, s.cell]
        values = [s.label(quantity) for quantity in QUANTITIES] if labels else []
        arrays += [np.asarray(value) for value in values if value is not None]
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


class Batches:
    """The batches of each epoch of a set of structures. The same epoch always has the same batches.

    Graphs are built when they are first needed, and then kept. Each batch is distributed over ``n_ranks`` processes.
    Every process gets the same number of batches; a process without a share of a batch gets ``(None, None)`` for it.

    Args:
        structures: the structures, with labels.
        species: the chemical symbols of the model.
        cutoff: the cutoff of the model in Å.
        batch_size: the number of structures in a batch, over all processes; None if ``max_edges`` is given.
        max_edges: the largest number of edges in a batch, over all processes; a larger structure is its own batch.
        seed: the random seed; it and the number of the epoch determine the order of the structures. None keeps the
            given order.
        rank: the number of this process.
        n_ranks: the number of processes.

    Raises:
        InputError: not exactly one of ``batch_size`` and ``max_edges`` is given, or it is below 1.
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
            raise InputError(
                "The size of a batch follows either from batch_size or from max_edges: give one of the two"
            )
        if (batch_size or max_edges or 0) < 1:
            raise InputError("A batch contains at least one structure: set batch_size or max_edges to at least 1")
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
        """Yield graph and labels of this process's share of each batch of an epoch, from batch ``start`` on."""
        for indices in self._global_batches(number)[start:]:
            own = indices[self.rank :: self.n_ranks]
            if len(own) == 0:
                yield None, None
            else:
                yield batch([self.graph(i) for i in own]), batch_labels([self.structures[i] for i in own])

    def count(self, number: int = 0) -> int:
        """The number of batches in an epoch, which depends on the epoch only with ``max_edges``."""
        return len(self._global_batches(number))

    def graph(self, index: int) -> AtomicGraph:
        """The graph of one structure."""
        if (graph := self._graphs[index]) is None:
            graph = self._graphs[index] = build_graph(self.structures[index], self.species, self.cutoff)
        return graph

    def largest(self) -> tuple[int, int]:
        """An estimate of the largest numbers of atoms and of edges in this process's share of a batch."""
        order = sorted(range(len(self.structures)), key=lambda i: len(self.structures[i]), reverse=True)
        if self.batch_size is not None:
            share = order[: math.ceil(self.batch_size / self.n_ranks)]
            return sum(len(self.structures[i]) for i in share), sum(self.graph(i).n_edges for i in share)
        largest, limit = self.graph(order[0]), (self.max_edges or 0) / self.n_ranks
        n_copies = min(max(1.0, limit / max(1, largest.n_edges)), len(order))
        return round(n_copies * largest.n_atoms), round(n_copies * largest.n_edges)

    def order(self, number: int) -> list[int]:
        """The indices of the structures of an epoch in their order."""
        n = len(self.structures)
        if self.seed is None:
            return list(range(n))
        return np.random.default_rng([self.seed, number]).permutation(n).tolist()

    def _global_batches(self, number: int) -> list[list[int]]:
        order = self.order(number)
        if self.batch_size is not None:
            return [order[first : first + self.batch_size] for first in range(0, len(order), self.batch_size)]
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
