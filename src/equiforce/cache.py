"""Where compiled code is kept: in the user's cache, or in a temporary folder if the cache cannot be written to.

``XDG_CACHE_HOME`` moves the user's cache, for example to a folder that all machines of a cluster see.
"""

import os
import stat
import tempfile
from functools import cache
from pathlib import Path

import platformdirs

from equiforce.errors import InputError


def user_folder(kind: str) -> Path:
    """Return the folder of one kind of compiled code in the user's cache; it may be missing or read-only."""
    return Path(platformdirs.user_cache_dir("equiforce")) / kind


def writable_folder(kind: str) -> Path:
    """Return the folder of one kind of compiled code in the user's cache, or a temporary folder if that is read-only.

    A temporary folder is kept for the next process of the same user. It has links to the files in the user's cache,
    which a login node may have filled.

    Args:
        kind: the name of the folder, such as ``kernels``.

    Raises:
        InputError: no folder can be written to.
    """
    return _writable(user_folder(kind))


@cache
def _writable(wanted: Path) -> Path:
    try:
        return _made_writable(wanted)
    except OSError:
        try:
            folder = _temporary_folder(wanted.name)
        except OSError as error:
            raise InputError(
                f"compiled code cannot be kept, neither in {wanted} nor in a temporary folder ({error}): set "
                "XDG_CACHE_HOME to a folder that can be written to"
            ) from None
    for file in wanted.glob("*") if os.path.isdir(wanted) else ():
        if file.is_file() and not os.path.lexists(folder / file.name):
            _link(folder / file.name, file)
    return folder


def _made_writable(folder: Path) -> Path:
    """Make a folder and return it; raise OSError if it cannot be written to."""
    if not folder.is_absolute():
        raise FileNotFoundError(f"{folder}: the user has no home")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        return folder


def _temporary_folder(kind: str) -> Path:
    """Make or find the user's temporary folder; only a folder that others cannot write to holds code that is run."""
    shared = Path(tempfile.gettempdir()) / f"equiforce-{os.getuid()}"
    shared.mkdir(mode=0o700, exist_ok=True)
    found = shared.lstat()
    if (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == os.getuid()
        and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ):
        return _made_writable(shared / kind)
    return Path(tempfile.mkdtemp(prefix=f"equiforce-{kind}-"))


def _link(link: Path, file: Path) -> None:
    """Link to a file; another process may do the same at the same time."""
    with tempfile.TemporaryDirectory(dir=link.parent) as workshop:
        draft = Path(workshop) / link.name
        draft.symlink_to(file)
        draft.replace(link)
