"""Files are opened whatever their compression, encoding and line ends."""

import bz2
import gzip
import lzma

import pytest

from equiforce.data import source as source_module
from equiforce.data.source import Source, faults_of, head_text
from equiforce.errors import InputError

TEXT = "2\nwater µ\nH 0 0 0\n"


def source(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    return Source(f"{tmp_path / 'a'}@:1", str(tmp_path / "a"))


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_texts_are_the_same_in_every_form(tmp_path, pack, encoding, end):
    file = source(tmp_path, pack(TEXT.replace("\n", end).encode(encoding)))
    assert file.text() == (TEXT, ())
    assert head_text(file.head()) == TEXT
    with file.open_text() as lines:
        assert list(lines) == TEXT.splitlines(keepends=True)
        assert lines.name == file.file


def test_big_endian_utf_16(tmp_path):
    assert source(tmp_path, b"\xfe\xff" + TEXT.encode("utf-16-be")).text() == (TEXT, ())


def test_bytes_that_are_not_utf_8_are_read_as_latin_1_with_a_note(tmp_path):
    file = source(tmp_path, TEXT.encode("latin-1"))
    assert file.text() == (TEXT, ("line 2 is not UTF-8: the file was read as Latin-1",))
    with file.open_text() as lines:
        assert list(lines)[2] == "H 0 0 0\n"


def test_only_line_ends_end_lines(tmp_path):
    text = "1\na\x0cb\x85c\u2028d\n"
    assert source(tmp_path, text.encode()).text()[0] == text


def test_binary_files_have_no_text():
    assert head_text(b"\x89HDF\r\n\x1a\n\0\0 more") == ""
    assert head_text(b"1\n\0\0\0") == "1\n"  # a full disk leaves zeros at the end


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_files_that_are_cut_off(tmp_path, pack):
    data = pack(bytes(range(256)) * 50)
    for wrong in (data[: len(data) // 2], data[:40] + bytes(40) + data[80:]):
        file = source(tmp_path, wrong)
        with pytest.raises(InputError, match=r"/a (is a compressed file that is cut off|cannot be unpacked)"):  # noqa: SIM117
            with faults_of(file):
                file.text()


def test_files_that_may_not_be_read(tmp_path, monkeypatch):
    file = source(tmp_path, b"")
    with (
        pytest.raises(InputError, match=r"/a may not be read: change its permissions with chmod u\+r"),
        faults_of(file),
    ):
        raise PermissionError(13, "Permission denied", file.file)
    with pytest.raises(InputError, match=r"/a cannot be read \(Input/output error\)"), faults_of(file):
        raise OSError(5, "Input/output error", file.file)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_bomb_does_not_fill_the_memory(tmp_path, pack, monkeypatch):
    monkeypatch.setattr(source_module, "ALWAYS_UNPACKED", 200_000)
    file = source(tmp_path, pack(b"1\n\nH 0 0 0\n" * 100_000))
    assert file.head()  # it has a format
    for read in (file.text, lambda: list(file.open_text()), lambda: file.open().seek(0, 2)):
        with pytest.raises(InputError, match="a unpacks to more than 100 times its size, which no file of atoms does"):
            read()
    monkeypatch.setattr(source_module, "ALWAYS_UNPACKED", 2_000_000)
    assert len(file.text()[0]) == 1_100_000
    with file.open() as unpacked:
        assert unpacked.seek(0, 2) == 1_100_000
        assert unpacked.seek(3) == 3
        assert unpacked.read(2) == b"H "
