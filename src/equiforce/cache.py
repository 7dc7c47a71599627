"""Where compiled code is kept: in the user's cache, or in a temporary folder if the cache cannot be used.

``XDG_CACHE_HOME`` moves the user's cache, for example to a folder that all machines of a cluster see. Code that is run
has to be whole and the user's own. So each file ends with a hash of itself, which is compared before the file is
loaded, because a cut file ends the process; and nobody else may be able to write to the file or to put another one in
its place.
"""

import atexit
import errno
import grp
import hashlib
import logging
import os
import pwd
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import platformdirs

from equiforce.errors import InputError

log = logging.getLogger("equiforce")

DRAFT = "draft-"  # how the names of the folders begin in which files are made
ABANDONED = 86_400  # seconds after which a draft belongs to a process that was killed
SMALLEST_ROOM = (
    1_000_000  # bytes; on a disk with less, a compilation failed for lack of room whatever the compiler says
)
FULL = ("No space left on device", "Disk quota exceeded", "NoSpaceLeft")  # as compilers and linkers say it
HASH = hashlib.sha256
ROOT = 0


class DangerousError(OSError):
    """Others could change what is in a folder."""


@cache
def tell_once(message: str) -> None:
    """Write a warning to the log, once in a process."""
    log.warning(message)


def user_folder(kind: str) -> Path:
    """Return the folder of one kind of compiled code in the user's cache; it may be missing or read-only."""
    return Path(platformdirs.user_cache_dir("equiforce")) / kind


def writable_folder(kind: str) -> Path:
    """Return the folder of one kind of compiled code in the user's cache, or a temporary folder if that is of no use.

    The cache is not used if it cannot be written to, or if others can write to it, which is said once. The temporary
    folder ``equiforce-UID`` is kept for the next process of the same user. It has links to the files in a read-only
    cache, which a login node may have filled. If others have prepared a folder of this name, each process has a
    temporary folder of its own, which is removed when it ends.

    Args:
        kind: the name of the folder, such as ``kernels``.

    Raises:
        InputError: no folder can be used.
    """
    return _writable(user_folder(kind))


@cache
def _writable(wanted: Path) -> Path:
    dangers, reasons = [], []
    for make in (_made_writable, _kept_folder, _own_folder):
        try:
            folder = make(wanted)
            break
        except DangerousError as error:
            dangers.append(str(error))
        except OSError as error:
            reasons.append(str(error))
    else:
        raise InputError(
            f"compiled code cannot be kept, neither in {wanted} nor in a temporary folder "
            f"({'; '.join(dangers + reasons)}): set XDG_CACHE_HOME to a folder that you can write to and others cannot"
        )
    for reason in dangers:
        tell_once(
            f"{reason} and could put code there that you would run, so compiled code is kept in {folder}: take the "
            "permission away (chmod go-w), or set XDG_CACHE_HOME to a folder of your own"
        )
    if folder != wanted and os.path.isdir(wanted) and not danger(wanted):
        for file in wanted.glob("*"):
            if file.is_file() and not os.path.lexists(folder / file.name):
                _link(folder / file.name, file)
    return folder


def _made_writable(folder: Path) -> Path:
    """Make a folder and return it; raise OSError if it cannot be written to, or others can write to it too."""
    if not folder.is_absolute():
        raise FileNotFoundError(f"{folder}: the user has no home")
    for step in reversed((folder, *folder.parents)):
        if not step.is_dir():
            step.mkdir(mode=0o755, exist_ok=True)  # also where new folders are by default the group's too
    with tempfile.TemporaryFile(dir=folder):
        return _safe(folder)


def _kept_folder(wanted: Path) -> Path:
    """Make or find the user's temporary folder."""
    shared = Path(tempfile.gettempdir()) / f"equiforce-{os.getuid()}"
    shared.mkdir(mode=0o700, exist_ok=True)
    return _made_writable(_safe(shared) / wanted.name)


def _own_folder(wanted: Path) -> Path:
    """Make a temporary folder that is removed when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix=f"equiforce-{wanted.name}-"))
    atexit.register(_remove, folder, os.getpid())
    return _safe(folder)


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # and not a fork
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def workshop(folder: Path) -> Iterator[Path]:
    """A new folder within a folder, in which files are made before they get their names; it is removed at the end.

    What processes that were killed have left is removed too.
    """
    for old in folder.glob(f"{DRAFT}*"):
        with suppress(FileNotFoundError):  # another process may remove it
            if time.time() - old.lstat().st_mtime > ABANDONED:
                shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=DRAFT, dir=folder, ignore_cleanup_errors=True) as made:
        yield Path(made)


def _link(link: Path, file: Path) -> None:
    """Link to a file; another process may do the same at the same time."""
    with workshop(link.parent) as drafts:
        draft = drafts / link.name
        draft.symlink_to(file)
        draft.replace(link)


def seal(draft: Path, name: str) -> None:
    """Add to a file the hash by which damage is noticed; programs that load it ignore what follows its end.

    Args:
        draft: the file.
        name: the name that it will get, so that it is not taken for another file either.
    """
    found = _hash(draft.read_bytes(), name)
    with draft.open("ab") as file:
        file.write(found)
    draft.chmod(0o755)  # others may not write, whatever new files are by default


def whole(path: Path) -> Path | None:
    """Return the path of a file that is as it was sealed; None if it is missing or damaged, which is said once."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        tell_once(f"{path} cannot be read ({error.strerror}), and is not used")
        return None
    size = HASH().digest_size
    if content[-size:] == _hash(content[:-size], path.name):
        return path
    tell_once(f"{path} is damaged, and is not used")
    return None


def sound(path: Path) -> Path | None:
    """Return the path of a file if it is whole and nobody else could have changed it; else None, as :func:`whole`."""
    try:
        reason = danger(path)
    except OSError:
        return None
    if reason or not path.is_file():
        tell_once(f"{path} is not used, because {reason or 'it is no file'}")
        return None
    return whole(path)


def _hash(content: bytes, name: str) -> bytes:
    return HASH(name.encode() + b"\0" + content).digest()


def danger(path: Path) -> str:
    """Say why others could change a file, or what is in a folder; empty if only its owner and the system can.

    Every folder and link on the way is checked, because who can replace one of them can replace everything behind it.

    Raises:
        OSError: there is nothing at this path.
    """
    path.stat()  # an error if there is nothing, or a loop of links
    for step in _way(path):
        found = step.lstat()
        itself = os.path.samefile(step, path)
        if found.st_uid not in {os.geteuid(), ROOT} and (itself or found.st_uid != _unmapped()):
            return f"{step} belongs to {_name_of(found.st_uid)}"
        # in a folder like /tmp, others cannot replace what is not theirs, but they can add to it
        replaceable = itself or not found.st_mode & stat.S_ISVTX
        if replaceable and not stat.S_ISLNK(found.st_mode) and _others_write(step, found):
            return f"others can write to {step}"
    return ""


def _safe(folder: Path) -> Path:
    if reason := danger(folder):
        raise DangerousError(reason)
    return folder


def _way(path: Path) -> Iterator[Path]:
    """Yield the folders and links on the way to a path, and the path."""
    for step in reversed((path.absolute(), *path.absolute().parents)):
        yield step
        if step.is_symlink():
            yield from _way(step.parent / step.readlink())


def _others_write(path: Path, found: os.stat_result) -> bool:
    if not found.st_mode & stat.S_IWGRP:
        return bool(found.st_mode & stat.S_IWOTH)
    try:  # on many systems each user has a group without other members, to which all of the user's files belong
        owner, group = pwd.getpwuid(found.st_uid).pw_name, grp.getgrgid(found.st_gid)
        lists = os.listxattr(path)
    except (KeyError, OSError):
        return True
    private = group.gr_name == owner and set(group.gr_mem) <= {owner} and "system.posix_acl_access" not in lists
    return not private or bool(found.st_mode & stat.S_IWOTH)


@cache
def _unmapped() -> int | None:
    """The owner that a container shows for users outside of it, such as the system's root; None outside containers."""
    try:
        if Path("/proc/self/uid_map").read_text(encoding="utf-8").split() == ["0", "0", "4294967295"]:
            return None
        return int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="utf-8"))
    except OSError:
        return None


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def lack_of_room(folder: Path, failure: OSError | str) -> str:
    """Say that the disk of a folder is full if that is why something failed there; empty if it is not.

    Args:
        folder: the folder.
        failure: the error, or what a compiler wrote.
    """
    free = shutil.disk_usage(folder).free
    if isinstance(failure, OSError):
        full = failure.errno in (errno.ENOSPC, errno.EDQUOT)
    else:
        full = free < SMALLEST_ROOM or any(words in failure for words in FULL)
    if not full:
        return ""
    if free < SMALLEST_ROOM:
        return f"the disk of {folder} is full ({free / 1e6:.2f} MB are free)"
    return f"a quota or the number of files leaves no room in {folder} ({free / 1e6:,.0f} MB of its disk are free)"
