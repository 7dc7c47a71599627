"""The header of a model file: what it says about the potential, checked before anything is built from it."""

from pathlib import Path
from typing import Any

from equiforce.coverage import Ranges
from equiforce.errors import InputError
from equiforce.model_file import references
from equiforce.model_file.container import FIRST_WITH_CHECKSUM, FORMAT, read
from equiforce.model_file.description import RENAMED, wrong_entry
from equiforce.quantities import ENERGY, FORCES, STRESS

NAME = "model.eqf"  # in the folder of a run
HEADER = {"format": int, "potential": dict, "units": dict, "references": list, "about": dict}


def path_of(model: Path | str) -> Path:
    """The path of a model file; the folder of a run stands for the model file in it.

    Raises:
        InputError: a folder contains no model file.
    """
    path = Path(model)
    try:
        if not path.is_dir():
            return path
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}): correct the path") from error
    if (inside := path / NAME).is_file():
        return inside
    if (path / "split.json").is_file():
        raise InputError(
            f"the run in {path} has not validated yet and therefore has no model: wait, or continue it with equiforce "
            f"train --resume {path}"
        )
    raise InputError(f"the folder {path} has no {NAME}: give a model file, or the folder of a training run")


def read_header(path: Path | str) -> dict[str, Any]:
    """Read and check the header of a model file; old names become the current ones, and ``format`` stays as written.

    Args:
        path: the file, or the folder of a run.

    Raises:
        InputError: there is no such file, it is not a model file or is damaged, or a newer equiforce wrote it.
    """
    path = path_of(path)
    return checked(read(path, weights=False).header, path)


def read_stored_header(path: Path | str) -> dict[str, Any]:
    """Read the header of a model file as it was written, and check only its checksum and that ``format`` is an integer.

    Raises:
        InputError: there is no such file, or it is not a model file or is damaged.
    """
    return read(path, weights=False).header


def checked(header: dict[str, Any], path: Path | str) -> dict[str, Any]:
    """Check all of a header that can be checked without building the potential; old names become the current ones.

    Raises:
        InputError: a part of the header cannot be right, or a newer equiforce wrote it.
    """
    if header["format"] > FORMAT:
        raise InputError(f"{path} was written by a newer equiforce (file format {header['format']}): upgrade equiforce")
    wrong = next((name for name, kind in HEADER.items() if type(header.get(name)) is not kind), None)
    if wrong is not None:
        raise _damage(path, wrong)
    description = {RENAMED.get(name, name): value for name, value in header["potential"].items()}
    if len(description) < len(header["potential"]):
        raise _damage(path, "potential")
    if (wrong := wrong_entry(description)) is not None:
        raise _damage(path, wrong)
    units = header["units"]
    if missing := [quantity.name for quantity in (ENERGY, FORCES, STRESS) if quantity.name not in units]:
        raise InputError(f"{path} is damaged because it lacks the unit of {missing[0]}: train or copy it again")
    if any(units.get(name, unit) != unit for name, unit in references.stored_units().items()):
        raise _damage(path, "units")
    header = {**header, "potential": description}
    ranges_of(header, path)
    cutoff = description["config"].get("cutoff")
    try:
        is_wrong = type(cutoff) not in (int, float) or references.are_wrong(
            header["references"],
            units,
            description["species"],
            cutoff,
            complete=header["format"] >= FIRST_WITH_CHECKSUM,
        )
    except (TypeError, LookupError):  # such as a list instead of an object
        is_wrong = True
    if is_wrong:
        raise InputError(f"{path} is damaged because its reference structures are wrong: train or copy it again")
    return header


def _damage(path: Path | str, name: str) -> InputError:
    return InputError(f"{path} is damaged because {name!r} in its header is missing or wrong: train or copy it again")


def reference_energies_from(path: Path | str) -> str:
    """The origin in words of the reference energies of a model file; empty if it is not known."""
    statistics = read_header(path)["about"].get("statistics")
    return str(statistics.get("reference_energies_from", "")) if isinstance(statistics, dict) else ""


def ranges_of(header: dict[str, Any], path: Path | str) -> Ranges | None:
    """The ranges of the training data in the header of a model file; None if an older equiforce wrote it.

    Raises:
        InputError: the ranges are damaged.
    """
    if (stored := header["about"].get("ranges")) is None:
        return None
    try:
        ranges = Ranges.from_dict(stored)
        numbers = [ranges.cutoff, *ranges.neighbors, *(ranges.volume_per_atom or (0, 0))]
        numbers += [0 if ranges.largest_force is None else ranges.largest_force]
        numbers += [end for intervals in ranges.distances.values() for end in intervals[0]]  # at least one interval
        numbers += [end for intervals in ranges.distances.values() for interval in intervals for end in interval]
        if not all(type(number) in (int, float) for number in numbers):
            raise TypeError("a number is something else")
    except (TypeError, ValueError, LookupError, AttributeError):
        raise InputError(f"{path} is damaged because 'ranges' in its header is wrong: train or copy it again") from None
    return ranges
