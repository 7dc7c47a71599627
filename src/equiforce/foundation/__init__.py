"""Imports potentials that others trained, exactly: the same energies, from their files alone, without their programs.

``published`` knows the published ones by name; a module for each program (``nequix``) reads its files and builds the
potential; ``weights`` sets its matrices; ``source`` says where it comes from. Nothing in a file is executed.
"""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, cast

from equiforce.elements import atomic_number
from equiforce.errors import InputError
from equiforce.foundation import allegro, nequip, nequip_files, nequip_options, nequix, sevennet
from equiforce.foundation.nequip_files import NequipFile
from equiforce.foundation.published import PUBLISHED, source_of
from equiforce.foundation.source import Source
from equiforce.potential import Potential

N_KNOTS = 512  # splines are then about as exact as single precision, and not slower than with 256 (docs/foundation.md)
LARGEST_FILE = 2**30  # bytes
LARGEST_WEIGHT = 1e6  # those of published models are below 200, and one flipped bit can make 1e38


class Format(NamedTuple):
    """How the files of a program are read; ``build`` takes what ``read`` returns."""

    program: str
    read: Callable[[Path], Any]  # its result has the sha256 of the file
    elements_of: Callable[[Any], list[str]]  # the chemical symbols that a file knows
    build: Callable[[Any, Sequence[str], int | None], Potential]  # from the elements to keep, and the number of knots
    with_modal: Callable[[Any, str | None], Any]  # chooses one of several levels of theory
    program_of: Callable[[Any], str] | None = None  # that made a file, where several programs have files of this kind


def _without_modals(content: Any, modal: str | None) -> Any:
    if modal is not None:
        raise InputError("the potential has one level of theory: leave --modal out")
    return content


# of the package of a model's builder: the program, and what builds its models here
NEQUIP_LIKE: Mapping[str, tuple[str, ModuleType]] = {
    "nequip": ("nequip", nequip),
    "allegro": ("nequip-allegro", allegro),
}


def _build_nequip(source: NequipFile, elements: Sequence[str], n_knots: int | None) -> Potential:
    """Build a model of nequip or of nequip-allegro, which have the same files."""
    package, _, builder = str(source.options.get("_target_")).rpartition(".")
    _, module = NEQUIP_LIKE.get(package.partition(".")[0], ("", None))
    if module is None or builder not in module.BUILDERS:
        builders = ", ".join((*nequip.BUILDERS, *allegro.BUILDERS))
        raise InputError(
            f"the model is a {str(source.options.get('_target_'))[:60]!r}, but only {builders} can be imported"
        )
    return cast("Potential", module.build(source, elements, n_knots))


def _program_of_nequip(source: NequipFile) -> str:
    return NEQUIP_LIKE[str(source.options["_target_"]).partition(".")[0]][0]


def _elements_of_nequip(source: NequipFile) -> list[str]:
    return nequip_options.elements_of(source.options)


OF_NEQUIP = Format("nequip", nequip_files.read, _elements_of_nequip, _build_nequip, _without_modals, _program_of_nequip)
FORMATS: Mapping[str, Format] = {  # by the end of a file's name
    ".nqx": Format("nequix", nequix.read, nequix.elements_of, nequix.build, _without_modals),
    ".pth": Format("sevenn", sevennet.read, sevennet.elements_of, sevennet.build, sevennet.with_modal),
    ".nequip.zip": OF_NEQUIP,
    ".ckpt": OF_NEQUIP,
}


class Imported(NamedTuple):
    """An imported potential, and where it comes from."""

    potential: Potential  # float64
    source: Source


def import_potential(
    source: Path | str,
    elements: Sequence[str] | None = None,
    *,
    n_knots: int | None = N_KNOTS,
    modal: str | None = None,
) -> Imported:
    """Import a potential that another program trained.

    Args:
        source: the name of a published potential, or a file: ``.nqx`` of Nequix, ``.pth`` of SevenNet, ``.ckpt`` or
            ``.nequip.zip`` of nequip and nequip-allegro.
        elements: the chemical symbols to keep; None keeps all. Fewer elements make a smaller file, which opens faster.
        n_knots: the number of knots of the splines of the radial functions; None computes the radial networks on every
            edge, which is exact and slow.
        modal: the level of theory, of a potential that has several.

    Raises:
        InputError: there is no such file, it is damaged or of an unknown kind, it has something that equiforce cannot
            express exactly, or it lacks an element.
        OSError: the file cannot be read.
    """
    path = path_of(source)
    found = next((one for end, one in FORMATS.items() if path.name.endswith(end)), None)
    if found is None:
        known = " or ".join(f"{end} of {one.program}" for end, one in FORMATS.items())
        raise InputError(f"{path} is of no kind that can be imported: give a file that ends in {known}")
    if (size := path.stat().st_size) > LARGEST_FILE:
        raise InputError(f"{path} has {size:,} bytes, and no potential that can be imported has so many")
    content = found.read(path)
    try:
        chosen = _chosen(elements, found.elements_of(content))
        potential = found.build(found.with_modal(content, modal), chosen, n_knots)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if not all(bool((weight.abs() <= LARGEST_WEIGHT).all()) for weight in potential.parameters()):
        raise InputError(f"{path} has weights above {LARGEST_WEIGHT:g} or not finite, so it is damaged: get it again")
    program = found.program if found.program_of is None else found.program_of(content)
    return Imported(potential.eval().requires_grad_(False), source_of(path, content.sha256, program))


def path_of(source: Path | str) -> Path:
    """The file of a source: a path, or the name of a published potential whose program has downloaded it.

    Raises:
        InputError: there is no such file.
    """
    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir():
        raise InputError(f"{source} is a folder: give the file of a potential in it")
    if (one := PUBLISHED.get(str(source))) is not None:
        if one.place.is_file():
            return one.place
        raise InputError(
            f"{source} is not on this machine, neither here nor in {one.place.parent}: take it from {one.url} and give "
            "the path of the file"
        )
    nearest = get_close_matches(str(source), PUBLISHED, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"give a file, or one of {', '.join(PUBLISHED)}"
    raise InputError(f"there is no file {source}, and no published potential of this name: {hint}")


def _chosen(elements: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """The elements to keep in order of atomic number."""
    if elements is None:
        return sorted(known, key=atomic_number)
    wanted = sorted(set(elements), key=atomic_number)
    if missing := [symbol for symbol in wanted if symbol not in known]:
        raise InputError(f"the potential does not know {', '.join(missing)}: choose among its {len(known)} elements")
    if not wanted:
        raise InputError("no element is to be kept: give at least one")
    return wanted
