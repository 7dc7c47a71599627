"""How a file of data is opened: compressed or not, in any common encoding, with any line ends."""

import bz2
import gzip
import io
import lzma
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast
from zlib import error as ZlibError

from equiforce.errors import InputError

ALWAYS_UNPACKED, MOST_TIMES = 2**26, 100  # bytes, and times the size of a compressed file; atoms compress to a tenth
CHUNK = 2**20  # bytes
HEAD = 100_000  # bytes by which a format is recognised
# the first bytes of compressed files, how they are opened, and how a user unpacks them
COMPRESSIONS = (
    (b"\x1f\x8b", gzip.open, "gunzip"),
    (b"BZh", bz2.open, "bunzip2"),
    (b"\xfd7zXZ\0", lzma.open, "unxz"),
)
MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))  # of the byte order


class _Text(io.TextIOWrapper):
    """A text file with the name of the file on disk, beside which ASE looks for others."""

    name = ""


class _Unpacked(io.RawIOBase):
    """The bytes of a compressed file, as many as data can have; a bomb of a few MB would unpack to many GB."""

    def __init__(self, file: io.BufferedIOBase, path: str):
        self.file, self.path = file, path
        self.most = _most_unpacked(path)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            while self.read(CHUNK):
                pass
        return self.file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        n = self.file.readinto(buffer)
        if self.file.tell() > self.most:
            raise _bomb(self.path)
        return n

    def close(self) -> None:
        self.file.close()
        super().close()


def _most_unpacked(path: str) -> int:
    return max(ALWAYS_UNPACKED, MOST_TIMES * os.path.getsize(path))


def _bomb(path: str) -> InputError:
    return InputError(
        f"{path} unpacks to more than {MOST_TIMES} times its size, which no file of atoms does: give the unpacked file "
        "if it is one"
    )


@dataclass(frozen=True, slots=True)
class Source:
    """A file of data, whatever its compression and its encoding.

    Args:
        path: the file, with a slice if the user gave one, as messages name it.
        file: the file on disk.
        with_format: whether the command that reads it has the flag --format, which messages may then name.
    """

    path: str
    file: str
    with_format: bool = True

    def unpack_command(self) -> str | None:
        """The command that unpacks the file; None if it is not compressed."""
        with open(self.file, "rb") as file:
            start = file.read(8)
        return next((command for magic, _, command in COMPRESSIONS if start.startswith(magic)), None)

    def open(self) -> io.BufferedIOBase:
        """Open the file for reading bytes, unpacked."""
        command = self.unpack_command()
        opener = next((opener for _, opener, name in COMPRESSIONS if name == command), open)
        file = cast(io.BufferedIOBase, opener(self.file, "rb"))
        return file if command is None else io.BufferedReader(_Unpacked(file, self.file))

    def head(self) -> bytes:
        """Return the first bytes of the file, unpacked."""
        with self.open() as file:
            return file.read(HEAD)

    def open_text(self) -> io.TextIOWrapper:
        """Open the file for reading lines, unpacked; bytes that are no text in its encoding become a mark."""
        text = _Text(cast(BinaryIO, self.open()), encoding=_encoding(self.head()), errors="replace")
        text.name = self.file
        return text

    def text(self) -> tuple[str, tuple[str, ...]]:
        r"""Return the whole text with line ends \n, and notes about bytes that do not fit its encoding."""
        with self.open() as file:
            data = file.read()
        notes: tuple[str, ...] = ()
        try:
            text = data.decode(_encoding(data))
        except UnicodeDecodeError as error:
            text = data.decode("latin-1")  # the encoding of older programs for a degree sign or an umlaut
            line = len(data[: error.start].splitlines()) or 1
            notes = (f"line {line} is not UTF-8: the file was read as Latin-1",)
        return text.replace("\r\n", "\n").replace("\r", "\n"), notes


def _encoding(data: bytes) -> str:
    return next((encoding for mark, encoding in MARKS if data.startswith(mark)), "utf-8")


def head_text(data: bytes) -> str:
    r"""The first bytes of a file as text with line ends \n; empty if they are binary."""
    text = data.decode(_encoding(data), errors="replace").rstrip("\0")  # zeros at the end are left by a full disk
    return "" if "\0" in text else text.replace("\r\n", "\n").replace("\r", "\n")


@contextmanager
def faults_of(source: Source) -> Iterator[None]:
    """Raise InputError in one sentence where the operating system or a decompressor fails."""
    try:
        yield
    except PermissionError as error:
        raise InputError(f"{source.file} may not be read: change its permissions with chmod u+r") from error
    except (EOFError, ZlibError, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise InputError(f"{source.file} is a compressed file that is cut off or damaged: copy it again") from error
    except OSError as error:
        # bz2 has no error of its own
        what = "cannot be unpacked" if error.errno is None else f"cannot be read ({error.strerror})"
        raise InputError(f"{source.file} {what}: copy the file again") from error


def check_unpacked(source: Source, size: int) -> None:
    """Raise InputError if an archive would unpack to ``size`` bytes, which is more than data can have."""
    if size > _most_unpacked(source.file):
        raise _bomb(source.path)
