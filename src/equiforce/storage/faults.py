"""What the operating system says when a file cannot be written, as one sentence with the remedy."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from equiforce.errors import InputError

FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the quota on this disk is used up"}
AGAIN = "give the same command again"  # which a caller replaces where another command goes on
REMEDIES = {
    errno.EROFS: "name a place that can be written to",
    errno.EACCES: "name a place that you may write to, or change its permissions",
    errno.EPERM: "name a place that you may write to, or change its permissions",
    errno.ENOENT: "correct the path",
    errno.ENOTDIR: "name another place, because a part of this path is a file and not a folder",
    errno.EISDIR: "name another place, because this one is a folder and not a file",
    errno.EEXIST: "name another place, because this one is a file and not a folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), or name a place on another disk",
    errno.EIO: "check the disk",
}


@contextmanager
def told(path: Path, needed: int | Callable[[], int] | None = None, unchanged: str = "") -> Iterator[None]:
    """Raise an InputError with the remedy instead of an OSError of a file.

    Args:
        path: the file that is written.
        needed: its size in bytes, if it is known, or what computes it.
        unchanged: what is still there, for the end of the sentence.

    Raises:
        InputError: the file cannot be written.
        OSError: of another file.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error.filename, str) and not _is_beside(Path(error.filename), path):
            raise  # of another file, which was read meanwhile
        size = needed() if callable(needed) else needed
        raise InputError(sentence(error, path, size, unchanged)) from error


@contextmanager
def going_on_with(command: str) -> Iterator[None]:
    """Name another command than the same one in what a full disk says."""
    try:
        yield
    except InputError as error:
        if isinstance(error.__cause__, OSError):
            raise InputError(str(error).replace(AGAIN, f"go on with: {command}")) from error.__cause__
        raise


def _is_beside(place: Path, path: Path) -> bool:
    """Whether a place is in the folder of a path, or that folder or one above it."""
    folder = Path(os.path.realpath(path)).parent
    found = Path(os.path.realpath(place))
    return found.parent == folder or found in (folder, *folder.parents)


def sentence(error: OSError, path: Path | str, needed: int | None = None, unchanged: str = "") -> str:
    """Say why a file cannot be written, and what to do."""
    number = error.errno or 0
    reason = FULL.get(number, (error.strerror or str(error)).lower())
    if number in FULL:
        size = f"it needs {in_words(needed)}, and " if needed is not None else ""
        remedy = f"{size}{in_words(free_space(Path(path)))} are free: make room, then {AGAIN}"
        return f"{path} cannot be written because {reason}; {remedy}{unchanged}"
    return f"{path} cannot be written because of this error: {reason}; {REMEDIES.get(number, 'correct it')}{unchanged}"


def free_space(path: Path) -> int | None:
    """The bytes that are free on the disk of a path, or None if it is not known."""
    for place in (path, *path.absolute().parents):
        try:
            return shutil.disk_usage(place).free
        except OSError:
            continue
    return None


def in_words(size: int | None) -> str:
    """A size with its unit, such as 1.2 MB."""
    if size is None:
        return "an unknown number of bytes"
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"


def flush(descriptor: int) -> None:
    """Wait until the content of an open file is on the disk; a file that is no regular one has no disk."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
