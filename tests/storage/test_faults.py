"""What a full disk and other faults of a file system say; a small file system of its own is really full."""

import errno
import subprocess
from contextlib import contextmanager

import pytest

from equiforce.errors import InputError
from equiforce.storage.append import Growing
from equiforce.storage.faults import free_space, in_words, sentence
from equiforce.storage.whole import write_bytes


@contextmanager
def small_disk(folder, *options):
    """A file system of 64 kB in memory; only root can make one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", ",".join(["size=64k", *options]), "none", folder]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_said_with_the_sizes_and_the_old_file_stays(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        write_bytes(disk / "a", b"old")
        with pytest.raises(InputError) as caught:
            write_bytes(disk / "a", bytes(100_000))
        said = str(caught.value)
        assert said.startswith(f"{disk / 'a'} cannot be written because the disk is full; it needs 100.0 kB, and ")
        assert "kB are free: make room, then give the same command again" in said
        assert said.endswith(f"({disk / 'a'} is as it was)")
        assert [(path.name, path.read_bytes()) for path in disk.iterdir()] == [("a", b"old")]


def test_a_piece_that_does_not_fit_is_taken_back(tmp_path):
    with small_disk(tmp_path / "disk") as disk, Growing(disk / "log") as log:
        log.append("a line\n")
        with pytest.raises(InputError, match=r"disk is full; it needs 100.0 kB, .* complete up to here"):
            log.append("x" * 100_000)
        log.append("another\n")
        assert (disk / "log").read_text() == "a line\nanother\n"


def test_a_disk_that_is_read_only_is_said(tmp_path):
    with small_disk(tmp_path / "disk", "ro") as disk, pytest.raises(InputError, match="name a place that can be writ"):
        write_bytes(disk / "a", b"")


def test_the_quota_is_said():
    assert "the quota on this disk is used up" in sentence(OSError(errno.EDQUOT, "quota"), "a/b")


def test_the_free_space_is_that_of_the_nearest_folder(tmp_path):
    assert free_space(tmp_path / "not" / "there") == pytest.approx(free_space(tmp_path), rel=0.1)


@pytest.mark.parametrize(
    ("size", "words"), [(5, "5 bytes"), (1500, "1.5 kB"), (2_000_000, "2.0 MB"), (None, "an unknown number of bytes")]
)
def test_sizes_have_units(size, words):
    assert in_words(size) == words
