"""Writes files whole or not at all: a reader, a crash or a full disk finds the old content or the new one.

A file is written as a draft beside its place, flushed to the disk and renamed. The process that writes a draft holds a
lock on it, so that the drafts of dead processes are known, and removed.
"""

import errno
import fcntl
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from glob import escape
from pathlib import Path

from equiforce.errors import InputError
from equiforce.signals import deferred
from equiforce.storage.faults import flush, told

DRAFT = ".unfinished-"  # how the name of a draft begins; its end is that of the file, which some writers look at
LONGEST_END = 40  # characters of the file's name at the end of the draft's


class _Together:
    """Drafts that become files at the same time."""

    def __init__(self) -> None:
        self.kept = ExitStack()  # closes and removes the drafts
        self.complete: list[tuple[Path, Path, Path]] = []  # each draft, the file that it becomes, and its name


_present: ContextVar[_Together | None] = ContextVar("together", default=None)


@contextmanager
def whole(
    path: Path | str, needed: int | Callable[[], int] | None = None, *, replaces_link: bool = False
) -> Iterator[Path]:
    """Give the path of a draft to write to, which becomes the file if nothing goes wrong.

    Args:
        path: the file. Its folder is created.
        needed: the size in bytes, if it is known, or what computes it, for the message on a full disk.
        replaces_link: whether a symbolic link is replaced; otherwise the file to which it leads is.

    Raises:
        InputError: the file cannot be written. The old one is unchanged then.
    """
    target = Path(os.path.realpath(path))
    if replaces_link and os.path.islink(path):
        target = Path(os.path.realpath(Path(path).parent)) / Path(path).name
    elif os.path.exists(target) and not target.is_file():
        raise InputError(f"{path} is a folder or a device, and not a file that can be replaced: name another file")
    unchanged = f" ({path} is as it was)" if os.path.exists(target) else ""
    with told(Path(path), needed, unchanged), ExitStack() as kept:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_drafts(target.parent, target.name)
        with deferred():  # a draft that exists is removed
            draft, descriptor = _new_draft(target)
            kept.callback(os.close, descriptor)
            kept.callback(draft.unlink, missing_ok=True)
        yield draft
        _complete(draft, descriptor, target)
        if (others := _present.get()) is not None:
            others.complete.append((draft, target, Path(path)))
            others.kept.push(kept.pop_all())
        else:
            draft.replace(target)
            flush_folder(target.parent)


@contextmanager
def together(*outdated: Path) -> Iterator[None]:
    """Let the files that are written within appear only when all of them are complete on the disk.

    They appear in the order in which they were written. The old ones are removed before, in the opposite order, so that
    at no time old and new files are there together.

    Args:
        outdated: further files that are removed, because they would contradict the new ones.

    Raises:
        InputError: a file cannot be removed or renamed.
    """
    drafts = _Together()
    with drafts.kept:
        before = _present.set(drafts)
        try:
            yield
        finally:
            _present.reset(before)
        with deferred():
            _exchange(drafts.complete, outdated)


def _exchange(complete: list[tuple[Path, Path, Path]], outdated: tuple[Path, ...]) -> None:
    """Remove old files, and rename drafts."""
    replaced = [(target, path) for _, target, path in reversed(complete[1:])]
    for target, path in [*zip(outdated, outdated, strict=True), *replaced]:
        with told(path):
            target.unlink(missing_ok=True)
    for draft, target, path in complete:
        with told(path):
            draft.replace(target)
            flush_folder(target.parent)


def write_bytes(path: Path | str, content: bytes, *, replaces_link: bool = False) -> None:
    """Write a file whole or not at all, as in :func:`whole`; raise InputError if it cannot be written."""
    with whole(path, len(content), replaces_link=replaces_link) as draft:
        draft.write_bytes(content)


def write_text(path: Path | str, text: str) -> None:
    """Write a text file in UTF-8 whole or not at all; raise InputError if it cannot be written."""
    write_bytes(path, text.encode("utf-8", errors="surrogateescape"))


def write_pieces(path: Path | str, pieces: Iterable[str]) -> None:
    """Write a long text file, which need not fit into memory, whole or not at all.

    Args:
        path: the file.
        pieces: the parts of the text. On a full disk all are asked for, so that the needed size can be told.

    Raises:
        InputError: it cannot be written.
    """
    contents, sizes = (piece.encode("utf-8", errors="surrogateescape") for piece in pieces), [0]
    with whole(path, lambda: sum(sizes)) as draft, draft.open("wb", buffering=0) as file:
        for content in contents:
            sizes.append(len(content))
            try:
                written = 0
                while written < len(content):  # a full disk takes a part, and says so at the next call
                    written += file.write(content[written:])
            except OSError:
                sizes.extend(map(len, contents))
                raise


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write several files, whose order is that in :func:`together`."""
    with together():
        for path, content in contents.items():
            write_bytes(path, content)


def remove_drafts(folder: Path, name: str = "") -> None:
    """Remove the drafts in a folder whose process has ended, of one file or of all files."""
    for draft in folder.glob(f"{DRAFT}*{escape(_end(name))}"):
        with suppress(OSError):
            descriptor = os.open(draft, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # an error if its process lives
                draft.unlink()
            finally:
                os.close(descriptor)


def _end(name: str) -> str:
    return name[-LONGEST_END:]


def _new_draft(target: Path) -> tuple[Path, int]:
    """Create a draft with a name of its own, and lock it."""
    while True:
        draft = target.with_name(f"{DRAFT}{secrets.token_hex(4)}-{_end(target.name)}")
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            if _is_locked(descriptor) and os.fstat(descriptor).st_nlink:
                return draft, descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # another process removes it, which saw it before it was locked


def _is_locked(descriptor: int) -> bool:
    """Lock a draft; False if another process has locked it to remove it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks; drafts then stay until a person removes them
        return True
    return True


def _complete(draft: Path, descriptor: int, target: Path) -> None:
    """Flush a draft to the disk, and give it the permissions of the file."""
    with draft.open("rb") as written:  # a writer may have made a new file of the same name
        flush(written.fileno())
    with suppress(OSError):
        os.fchmod(descriptor, target.stat().st_mode & 0o777)


def flush_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the file system can do that."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
    finally:
        os.close(descriptor)
