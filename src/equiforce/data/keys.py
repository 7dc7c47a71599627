"""The choice of the keys under which each frame of a file has its labels."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from equiforce.data.frames import VIRIAL, Contents, label_names
from equiforce.data.names import FREE_ENERGY, GRADIENT, LENGTHS, force_columns, is_harmless, may_be, may_be_cell, plain
from equiforce.data.stress import ORDERS, full_stress, has_volume
from equiforce.data.values import is_missing, key_in, values_of
from equiforce.errors import InputError
from equiforce.quantities import ENERGY, FORCES, MEV, STRESS, join_words

NOTHING = "none"  # the value of a key option that leaves the label out
SAME = 1e-6  # eV/atom; energies that differ by less are the same
NEGLIGIBLE = 1e-3  # eV/atom; a free energy may differ by so much from an energy beside which it is used
NOT_ENTROPIC = 1.0  # eV/atom; the entropy of electrons is smaller than this
FAR_APART = 1.0  # eV/atom, between energies of two sets; at least this and SPREADS times their spread
SPREADS = 5.0
FEWEST = 3  # frames of a composition for which a spread is known


class Choice(NamedTuple):
    """The keys of the labels of a file, in order of preference, and what is to be said about them."""

    keys: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]
    unused: tuple[str, ...]  # other values of the file that are not well known


def choose_keys(contents: Contents, asked: Mapping[str, str | None], ignored: Collection[str] = ()) -> Choice:
    """Choose the keys of each label that the file has.

    Frames may have a label under different keys, as in files that were joined.

    Args:
        contents: the file.
        asked: the key that the user gave for each label; None if it should be found, ``none`` to leave the label out.
        ignored: keys that are not looked at.

    Raises:
        InputError: two keys for one label differ in a frame, or a value looks like a label or a cell and is not known.
    """
    present = Counter(name for f in contents.frames for name, value in f.values.items() if not is_missing(value))
    for name in ignored:
        present.pop(name, None)
    keys: dict[str, tuple[str, ...]] = {}
    notes: list[str] = []
    for label in label_names():
        given = asked[label]
        names = (
            _variants(contents.keys[label], present) if given is None else [name for name in (given,) if present[name]]
        )
        if given != NOTHING and names:
            _check_same(contents, label, names)
            keys[label] = tuple(names)
    if asked[ENERGY.name] is None:
        keys |= _with_free_energies(contents, keys.get(ENERGY.name, ()), _variants(FREE_ENERGY, present), notes)
    for one, other in ((STRESS.name, VIRIAL), (VIRIAL, STRESS.name)):
        if asked[one] not in (None, NOTHING) and asked[other] is None:
            keys.pop(other, None)
    _refuse_lookalikes(contents, asked, keys, present)
    _refuse_cells(contents, ignored)
    notes += _notes(contents, asked, keys, ignored)
    taken = {name for names in keys.values() for name in names}
    unused = tuple(name for name in present if name not in taken and not is_harmless(name))
    return Choice(keys, tuple(notes), unused)


def _variants(usual: Sequence[str], present: Mapping[str, int]) -> list[str]:
    """The usual names that are present, then those in another case, such as Energy or FORCES."""
    exact = [name for name in usual if name in present]
    known = {name.lower() for name in usual}
    return exact + [name for name in present if name.lower() in known and name not in exact]


def _check_same(contents: Contents, label: str, names: Sequence[str]) -> None:
    """Raise InputError if two keys for one label have different values in a frame."""
    if len(names) == 1:
        return
    for number, frame in enumerate(contents.frames):
        where = contents.frame_name(number)
        found = [(name, values_of(frame, name, where)) for name in names]
        known = [(name, value) for name, value in found if value is not None]
        for other, value in known[1:]:
            one, first = known[0]
            if not _are_same(first, value):
                raise InputError(
                    f"{where}: both {one!r} and {other!r} may be the {label}, but they differ: "
                    f"choose one with --{label}-key {one} or --{label}-key {other}"
                )


def _are_same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two values are equal; six components of a matrix may be in any order."""
    if {one.size, other.size} == {6, 9} and (3, 2) not in (one.shape, other.shape):
        six, nine = (one, other) if one.size == 6 else (other, one)
        return any(_are_same(full_stress(six.ravel(), order).ravel(), nine.ravel()) for order in ORDERS)
    return one.size == other.size and np.allclose(one.ravel(), other.ravel(), rtol=1e-7, atol=1e-6, equal_nan=True)


def _with_free_energies(
    contents: Contents, plain_keys: Sequence[str], free_keys: Sequence[str], notes: list[str]
) -> dict[str, tuple[str, ...]]:
    """The keys of the energies, with free energies first where they differ: forces are their derivatives."""
    if not free_keys:
        return {ENERGY.name: tuple(plain_keys)} if plain_keys else {}
    _check_same(contents, ENERGY.name, free_keys)
    largest, where, n_plain = 0.0, "", 0
    for number, frame in enumerate(contents.frames):
        name = contents.frame_name(number)
        free, energy = (values_of(frame, key_in(frame, k), name) for k in (free_keys, plain_keys))
        n_plain += free is None and energy is not None
        if free is not None and energy is not None and free.size == energy.size == 1:
            difference = abs(free.item() - energy.item()) / len(frame.atomic_numbers)
            if difference > max(largest, SAME):
                largest, where = difference, name
    one, other = free_keys[0], plain_keys[0] if plain_keys else ""
    choose = f"choose one with --energy-key {one} or --energy-key {other}"
    if largest > NOT_ENTROPIC:
        raise InputError(
            f"{where}: {one!r} and {other!r} differ by {largest:.3g} per atom, too much for the entropy of electrons: "
            f"{choose}"
        )
    if largest > NEGLIGIBLE and n_plain:
        raise InputError(
            f"{contents.path}: {n_plain} frames have {other!r} without {one!r}, and in others these differ by up to "
            f"{largest * MEV:.3g} meV/atom ({where}), so that the energies would not fit together: {choose}"
        )
    if not largest and plain_keys:
        return {ENERGY.name: (*plain_keys, *free_keys)}
    if largest:
        notes.append(
            f"the energy is {one!r}, to which the forces belong; {other!r} differs from it by up to "
            f"{largest * MEV:.3g} meV/atom ({where}): take it with --energy-key {other}"
        )
    else:
        notes.append(f"the energy is {one!r}, because there is no other: leave it out with --energy-key none")
    return {ENERGY.name: (*free_keys, *plain_keys)}


def _refuse_lookalikes(
    contents: Contents, asked: Mapping[str, str | None], keys: Mapping[str, Sequence[str]], present: Mapping[str, int]
) -> None:
    """Raise InputError if frames without a label have another value that looks like it."""
    found: dict[str, str] = {}
    if asked[FORCES.name] is None and FORCES.name not in keys and (columns := force_columns(present)):
        raise InputError(
            f"{contents.path}: {join_words(map(repr, columns), 'and')} look like components of the forces: write them "
            f"under one name, as forces:R:3 in extended xyz, or ignore them with --set data.ignore={','.join(columns)}"
        )
    for label in label_names():
        if asked[label] is not None or (label in (STRESS.name, VIRIAL) and {STRESS.name, VIRIAL} & keys.keys()):
            continue
        if name := _lookalike(contents, label, keys.get(label, ()), present):
            found[label] = name
    if not found:
        return
    names = list(found.values())
    gradients = [repr(name) for name in names if GRADIENT.search(plain(name))]
    looks = [
        f"{name!r} ({present[name]} frames) looks like the "
        + ("gradient of the energy, which is minus the forces" if repr(name) in gradients else label)
        for label, name in found.items()
    ]
    use = " ".join(f"--{label}-key {name}" for label, name in found.items())
    if gradients:
        use += f" if {join_words(gradients, 'and')} already has the sign of forces"
    them = "it" if len(names) == 1 else "them"
    raise InputError(
        f"{contents.path}: {join_words(looks, 'and')}, but may be something else: use {them} with {use}, or ignore "
        f"{them} with --set data.ignore={','.join(names)}"
    )


def _lookalike(contents: Contents, label: str, known: Sequence[str], present: Mapping[str, int]) -> str | None:
    """A value that looks like a label and occurs only in frames without this label."""
    without = [frame for frame in contents.frames if key_in(frame, known) is None]
    for name in present:
        values = [(f.values[name], len(f.atomic_numbers)) for f in without if not is_missing(f.values.get(name))]
        if len(values) == present[name] and may_be(label, name, values):
            return name
    return None


def _refuse_cells(contents: Contents, ignored: Collection[str]) -> None:
    """Raise InputError if a frame without a cell has a value that looks like one."""
    for number, frame in enumerate(contents.frames):
        if np.any(frame.cell):
            continue
        named = [name for name in frame.values if name not in ignored and may_be_cell(name, frame.values[name])]
        lengths = [name for name in frame.values if plain(name) in LENGTHS and name not in ignored]
        if len(lengths) == len(LENGTHS) and all(np.size(frame.values[name]) == 1 for name in lengths):
            named += lengths
        if named:
            raise InputError(
                f"{contents.frame_name(number)}: {join_words(map(repr, named), 'and')} may be the cell, but the frame "
                "has no cell under a known name (Lattice in extended xyz, cell in npz): rename it, or ignore it with "
                f"--set data.ignore={','.join(named)}"
            )


def _notes(
    contents: Contents, asked: Mapping[str, str | None], keys: Mapping[str, Sequence[str]], ignored: Collection[str]
) -> Iterator[str]:
    """Notes about values that are not known, about stresses without a volume, and about labels under several keys."""
    n = len(contents.frames)
    every_name = Counter(name for frame in contents.frames for name in frame.values if name not in ignored)
    for label in label_names():
        given = asked[label]
        for name in _variants(contents.keys[label], every_name) if given is None else [given]:
            values = [frame.values[name] for frame in contents.frames if frame.values.get(name) is not None]
            if unknown := sum(map(is_missing, values)):
                yield f"{name!r} is NaN or empty in {unknown} of {n} frames, and counts as missing there"
    stress_keys = [*keys.get(STRESS.name, ()), *keys.get(VIRIAL, ())]
    without = [i for i, frame in enumerate(contents.frames) if not has_volume(frame)]
    if zero := [i for i in without if (key := key_in(contents.frames[i], stress_keys)) and _is_zero(contents, i, key)]:
        yield f"the stress of {len(zero)} of {n} frames, first frame {zero[0]}, is 0 without a volume, and was left out"
    several: list[str] = []
    for label, names in keys.items():
        used = Counter(key for frame in contents.frames if (key := key_in(frame, names)) is not None)
        if len(used) > 1:
            if label == ENERGY.name:
                _check_levels(contents, names)
            several.append(f"{label} from " + join_words([f"{key!r} in {count}" for key, count in used.items()], "and"))
    if several:
        yield (
            f"labels have different keys in different frames ({', '.join(several)}): check that these have the same "
            "units and the same level of theory"
        )


def _is_zero(contents: Contents, number: int, key: str) -> bool:
    values = values_of(contents.frames[number], key, contents.frame_name(number))
    return values is not None and not values.any()


def _check_levels(contents: Contents, names: Sequence[str]) -> None:
    """Raise InputError if energies under two keys are far apart for one composition, as of two levels of theory."""
    sets: dict[tuple[int, ...], dict[str, list[float]]] = {}
    for number, frame in enumerate(contents.frames):
        key = key_in(frame, names)
        value = values_of(frame, key, contents.frame_name(number))
        if key is not None and value is not None and value.size == 1 and len(frame.atomic_numbers) > 1:
            counts = np.bincount(frame.atomic_numbers)
            reduced = tuple((counts // max(1, np.gcd.reduce(counts))).tolist())
            sets.setdefault(reduced, {}).setdefault(key, []).append(value.item() / len(frame.atomic_numbers))
    for by_key in sets.values():
        enough = [(key, np.array(values)) for key, values in by_key.items() if len(values) >= FEWEST]
        for key, values in enough[1:]:
            first, others = enough[0]
            gap = max(values.min() - others.max(), others.min() - values.max())
            if gap > max(FAR_APART, SPREADS * (np.ptp(values) + np.ptp(others))):
                raise InputError(
                    f"{contents.path}: {first!r} and {key!r} are in different frames, but seem to be energies in other "
                    f"units or of other levels of theory, because for one composition they are {np.median(others):.4g} "
                    f"and {np.median(values):.4g} per atom: choose one with --energy-key {first} or --energy-key {key}"
                )
