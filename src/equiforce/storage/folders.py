"""Folders that one process uses at a time: it holds a lock that says which process, and on which machine."""

import errno
import json
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from equiforce.errors import InputError
from equiforce.storage.faults import sentence, told
from equiforce.storage.whole import DRAFT, remove_drafts

LOCK = ".equiforce.lock"
WITHOUT_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP)  # of file systems; filelock itself knows ENOSYS


@contextmanager
def used(folder: Path) -> Iterator[Path]:
    """Use a folder, which is created if it is missing, alone; drafts that dead processes left in it are removed.

    A folder that was created and is still empty at the end is removed. See :func:`held` for locks of dead processes.

    Args:
        folder: the folder.

    Raises:
        InputError: another process uses it, or it cannot be created.
    """
    with _locked(folder) as free:
        if not free:
            raise InputError(
                f"{folder} is in use by {holder(folder / LOCK)}: wait until it has ended, or name another folder"
            )
        yield folder


@contextmanager
def drawn(candidates: Iterable[Path], accepts: Callable[[Path], bool]) -> Iterator[Path]:
    """Use the first of several folders that is free, alone; programs that start together get one each.

    Args:
        candidates: the folders in the order in which they are tried.
        accepts: whether a folder that no other process uses may be taken.
    """
    for folder in candidates:
        if folder.exists() and not folder.is_dir():
            continue
        with _locked(folder) as free:
            if free and accepts(folder):
                yield folder
                return
    raise InputError("all folders that could be drawn exist: name one with -o")


def is_empty(folder: Path) -> bool:
    """Whether a folder has no files but a lock and drafts, or does not exist."""
    names = os.listdir(folder) if folder.is_dir() else []
    return all(name == LOCK or name.startswith(DRAFT) for name in names)


def refuse_unbegun(folder: Path) -> None:
    """Raise InputError if a run is to continue in a folder in which it left nothing but a lock and drafts."""
    if folder.is_dir() and os.listdir(folder) and is_empty(folder):
        raise InputError(
            f"nothing of a run is in {folder} yet, because it was stopped before it began: give the command that "
            "started it again, without --resume"
        )


@contextmanager
def held(lock_file: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a lock, whose file says which process holds it, and yield whether that was possible.

    Args:
        lock_file: its folder must exist. The lock of a process that has ended counts no longer. Where the file system
            has no locks, that of another machine counts until a person deletes it.
        wait: whether to wait until no other process holds it.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        lock = _acquired(lock_file, -1.0 if wait else 0.0)
    except Timeout:  # which is an OSError
        yield False
        return
    except OSError as error:
        raise InputError(sentence(error, lock_file)) from error
    inode = lock_file.stat().st_ino
    try:
        with suppress(OSError):  # on a full disk the lock counts too, and what is written next says what is wrong
            if not _is_soft(lock_file):
                lock_file.write_text(json.dumps(_this_process()), encoding="utf-8")
        yield True
    finally:
        with suppress(OSError):
            # if the file was removed with its folder, that of this name is of another process
            if not _is_soft(lock_file) and lock_file.stat().st_ino == inode:
                os.truncate(lock_file, 0)
        lock.release()


def holder(lock_file: Path) -> str:
    """Which process holds a lock, in words."""
    lines = _lines(lock_file)
    if lines[0].isdecimal():
        return f"process {lines[0]} on {lines[1]} ({lock_file} says so: delete it if that process has ended)"
    try:
        found = json.loads(lines[0])
        return f"process {found['pid']} ({found['command']}) on {found['host']} since {found['since']}"
    except (ValueError, LookupError, TypeError):
        return "another process"


def _acquired(lock_file: Path, timeout: float) -> BaseFileLock:
    existed = lock_file.exists()
    lock: BaseFileLock = FileLock(lock_file, timeout=timeout)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        if not existed:  # the attempt has created it
            lock_file.unlink(missing_ok=True)
        lock = SoftFileLock(lock_file, timeout=timeout)
        lock.acquire()
    return lock


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Lock a folder, and yield whether that was possible."""
    created = _create(folder)
    with held(folder / LOCK) as free:
        try:
            if free:
                remove_drafts(folder)
            yield free
        finally:
            if free:
                _give_back(folder, created)


def _create(folder: Path) -> list[Path]:
    """Create a folder and those above it, and return those that did not exist, the innermost first."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    with told(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return missing


def _give_back(folder: Path, created: list[Path]) -> None:
    """Remove the folders that were created and have nothing in them but the lock, which is held until here."""
    with suppress(OSError):
        if created and is_empty(folder):
            remove_drafts(folder)
            (folder / LOCK).unlink()
        for place in created:  # an error if it is not empty: all that was written stays
            place.rmdir()


def _this_process() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]]),
    }


def _is_soft(lock_file: Path) -> bool:
    """Whether the lock is the existence of the file, which holds a process and a machine.

    filelock falls back to that on a file system without locks.
    """
    return _lines(lock_file)[0].isdecimal()


def _lines(lock_file: Path) -> list[str]:
    """The lines of the file of a lock, at least two."""
    try:
        text = lock_file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        text = ""
    return [*text.splitlines(), "", ""]
