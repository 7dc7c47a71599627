"""Files that grow by whole pieces: logs by lines, and trajectories by frames."""

import os
from pathlib import Path

from equiforce.storage.faults import flush, told
from equiforce.storage.whole import write_bytes


class Growing:
    """A file that grows: a piece that does not fit on the disk is taken back, so that no part of it stays.

    The first piece of a new file is written whole or not at all, so that the file is never empty.

    Args:
        path: the file; it is created with its first piece if it is missing.
        size: the bytes to keep of an existing file; None keeps all. If none are kept, the old file stays until the
            first piece replaces it.

    Raises:
        InputError: the file cannot be written.
    """

    def __init__(self, path: Path, size: int | None = None):
        self.path, self.size = path, 0
        self.descriptor: int | None = None  # until the first piece
        self.is_closed = False
        if size != 0 and path.exists():
            self._open(size)

    def _open(self, size: int | None = None) -> None:
        with told(self.path):
            self.descriptor = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
            if size is not None:
                os.truncate(self.descriptor, size)
            self.size = os.lseek(self.descriptor, 0, os.SEEK_END)

    def append(self, piece: str) -> None:
        """Append a piece in one system call, which a kill does not cut in two.

        Raises:
            InputError: the disk is full; the file then ends before the piece.
        """
        content = piece.encode("utf-8", errors="surrogateescape")
        if self.is_closed:
            raise ValueError(f"{self.path} is closed")
        if self.descriptor is None:
            write_bytes(self.path, content)
            self._open()
            return
        try:
            with told(self.path, len(content), f" ({self.path} is complete up to here)"):
                written = 0
                while written < len(content):  # a full disk takes a part, and says so at the next call
                    written += os.write(self.descriptor, content[written:])
        except BaseException:
            os.ftruncate(self.descriptor, self.size)
            os.lseek(self.descriptor, self.size, os.SEEK_SET)
            raise
        self.size += len(content)

    def flush(self) -> int:
        """Wait until all is on the disk, and return the size in bytes."""
        if self.descriptor is not None:
            with told(self.path):
                flush(self.descriptor)
        return self.size

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        if self.descriptor is not None and not self.is_closed:
            os.close(self.descriptor)
        self.is_closed = True

    def __enter__(self) -> "Growing":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def whole_lines(path: Path) -> str:
    """The text of a file up to its last line end; a line that a kill cut in two is left out."""
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    return text[: text.rfind("\n") + 1]
