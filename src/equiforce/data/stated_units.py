"""The units that headers of files state, which have to be the units in which the files are read."""

import math
import re
from collections.abc import Collection, Mapping

from equiforce.data import units
from equiforce.data.frames import Contents
from equiforce.data.names import plain
from equiforce.data.values import is_missing
from equiforce.errors import InputError

# the words for what has the unit, after which keys in headers are named, such as energy-unit or units_of_length
SUBJECTS = {
    "energy": r"(total_?)?(energy|energies)|e|virials?",
    "length": r"lengths?|distances?|positions?|pos|coord(inate)?s?|lattice|r",
    "forces": r"forces?|f",
    "stress": r"stress(es)?|pressures?",
}
READERS = {"energy": units.energy_in_ev, "length": units.length_in_angstrom} | {
    quantity.name: reader for quantity, reader in units.UNIT_PARSERS.items()
}
GENERAL = re.compile(r"units?(_?(system|style))?")  # of everything in the file
USUAL_SYSTEMS = frozenset({"metal", "ase"})  # eV and Å


def subject_of(name: str) -> str | None:
    """What has the unit that a key states: energy, length, forces or stress; None if the key states no such unit."""
    short = plain(name)
    for subject, words in SUBJECTS.items():
        if re.fullmatch(rf"({words})_?units?|units?_?(of_)?({words})", short):
            return subject
    return None


def states_a_unit(name: str) -> bool:
    """Whether a key states a unit."""
    return subject_of(name) is not None or GENERAL.fullmatch(plain(name)) is not None


def check_stated_units(
    contents: Contents, used: Mapping[str, float], given: Collection[str], ignored: Collection[str] = ()
) -> None:
    """Compare the units that frames state with those in which the file is read.

    Args:
        contents: the file.
        used: the value in eV and Å of the unit of energy, length, forces and stress.
        given: those whose unit the user gave; what the file states about these does not count.
        ignored: keys that are not looked at.

    Raises:
        InputError: a frame states another unit, or one that is unknown.
    """
    names = dict.fromkeys(name for frame in contents.frames for name in frame.values if name not in ignored)
    for name in filter(states_a_unit, names):
        subject = subject_of(name)
        if subject in given or (subject is None and given):
            continue
        for number, frame in enumerate(contents.frames):
            if is_missing(stated := frame.values.get(name)):
                continue
            where = f"{contents.frame_name(number)}: {name!r} is {stated!r}"
            if subject is None:
                _check_general(where, name, str(stated), used)
            else:
                _check(where, subject, str(stated), used)


def _check(where: str, subject: str, stated: str, used: Mapping[str, float]) -> None:
    try:
        factor = READERS[subject](stated)
    except InputError as error:
        raise InputError(f"{where}, but {error}, with --set data.{subject}_unit=UNIT") from error
    if not math.isclose(factor, used[subject], rel_tol=1e-3):
        raise InputError(
            f"{where}, but equiforce would read another unit: add --set data.{subject}_unit={stated} if the file is "
            "right, or give the right unit"
        )


def _check_general(where: str, name: str, stated: str, used: Mapping[str, float]) -> None:
    """Raise InputError if not every word of a general statement, such as "eV, Å", is a unit that is used."""
    for word in re.split(r"[\s,;&]+", stated.strip()):
        if word.lower() in (*USUAL_SYSTEMS, "and"):
            agrees = math.isclose(used["energy"], 1.0) and math.isclose(used["length"], 1.0)
        else:
            agrees = any(_is_used(word, subject, used) for subject in READERS)
        if not agrees:
            raise InputError(
                f"{where}, but equiforce would read eV and Å or the units of the options: give the units of the file "
                f"with --energy-unit and --length-unit, or ignore the key with --set data.ignore={name}"
            )


def _is_used(word: str, subject: str, used: Mapping[str, float]) -> bool:
    try:
        return math.isclose(READERS[subject](word), used[subject], rel_tol=1e-3)
    except InputError:
        return False
