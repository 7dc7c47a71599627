"""Finds files whose names are not ASCII, from which LAMMPS removes parts when it reads an input."""

import os
from pathlib import Path

from equiforce.errors import InputError

# characters for which LAMMPS reads others; from all other characters that are not ASCII it takes the first byte away
REPLACED = {
    **dict.fromkeys("\u00a0\u202f\u2060\u2063\ufeff" + "".join(map(chr, range(0x2000, 0x200C))), " "),
    **dict.fromkeys("\u02d6\u2064", "+"),
    **dict.fromkeys("\u02d7\u2212", "-"),
}
QUOTES = '"\u2018\u2019\u201c\u201d'  # which LAMMPS reads as quotes


def as_lammps_reads(name: bytes) -> bytes:
    """Compute what is left of a name in a LAMMPS input."""
    text = name.decode(errors="surrogateescape")
    kept = "".join(REPLACED.get(character, character) for character in text).encode(errors="surrogateescape")
    return bytes(byte for byte in kept if byte < 0xC0)


def file_of(path: bytes) -> Path:
    """Find the file or folder whose path LAMMPS has read.

    Args:
        path: the path as LAMMPS reads it.

    Returns:
        The path of the file; ``path`` itself if there is none.

    Raises:
        InputError: the names of several files look alike to LAMMPS.
    """
    found = b"/" if path.startswith(b"/") else b""
    for part in filter(None, path.split(b"/")):
        folder = os.path.join(found, b"")
        if not os.path.lexists(folder + part):
            alike = _alike(folder, part)
            if len(alike) > 1:
                names = " and ".join(os.fsdecode(name) for name in alike)
                raise InputError(
                    f"LAMMPS cannot tell {names} apart, because it removes parts of characters that are not ASCII: "
                    "rename one of them in ASCII"
                )
            if not alike:
                return Path(os.fsdecode(path))
            part = alike[0]  # noqa: PLW2901 - the name that LAMMPS was given
        found = folder + part
    return Path(os.fsdecode(found or path))


def _alike(folder: bytes, part: bytes) -> list[bytes]:
    try:
        return sorted(name for name in os.listdir(folder or b".") if as_lammps_reads(name) == part)
    except OSError:
        return []
