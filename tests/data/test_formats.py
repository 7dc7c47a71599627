"""Good data are known by their content, and any other file ends in one sentence with the next step."""

import bz2
import gzip
import json
import lzma
import pickle
import sqlite3
import tarfile
import zipfile
from io import BytesIO

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from equiforce.data.formats import Unreadable, recognise
from equiforce.data.read import ReadOptions, read
from equiforce.data.source import Source
from equiforce.errors import InputError
from tests.data import vasp_files

HEADER = "energy=-1.0"
DUMP = "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n1\nITEM: BOX BOUNDS pp pp pp\n0 5\n0 5\n0 5\n"


@pytest.fixture
def good(tmp_path):
    """The text of a good xyz file of three frames."""
    frames = []
    for number in range(3):
        atoms = bulk("Cu", cubic=True)
        atoms.calc = SinglePointCalculator(atoms, energy=-float(number))
        frames.append(atoms)
    write(tmp_path / "good.xyz", frames, format="extxyz")
    return (tmp_path / "good.xyz").read_text()


def frame(header=HEADER, first="H 0 0 0", count=2):
    return f"{count}\n{header}\n{first}\nH 0 0 1\n"


def archive_of_tar(text):
    file = BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo("a.xyz")
        info.size = len(text)
        archive.addfile(info, BytesIO(text.encode()))
    return file.getvalue()


def archive_of_zip(text):
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.xyz", text)
    return file.getvalue()


def saved(save, value):
    file = BytesIO()
    save(value, file)
    return file.getvalue()


def sqlite(path):
    connection = sqlite3.connect(path)
    connection.execute("create table measurements (energy real)")
    connection.commit()
    connection.close()
    return path.read_bytes()


WRONG = {
    "empty.xyz": ("", "is empty: copy it again"),
    "blank.xyz": ("\n \n", "is empty"),
    "zeros.xyz": (bytes(4000), "is full of zero bytes"),
    "random.xyz": (np.random.default_rng(0).bytes(4000), "is a binary file of an unknown format"),
    "html.xyz": (
        "<!DOCTYPE html>\n<html></html>\n",
        r"is a web page \(HTML\) instead of data: download the file itself",
    ),
    "lfs.xyz": (
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "is a pointer of Git LFS .* 'git lfs pull'",
    ),
    "low.xyz": (frame(count=1), "line 4: frame 1 .* should begin here"),
    "high.xyz": (frame(count=3), "frame 0 .* has 3 atoms, but the file ends after 2"),
    "negative.xyz": (frame(count=-2), "line 1: frame 0 .* should begin here"),
    "none.xyz": ("0\n\n", "the frame has no atoms"),
    "huge_count.xyz": (frame(count=10**20), "has 100000000000000000000 atoms, but the file ends after 2"),
    "nan.xyz": (frame(first="H nan 0 0"), r"atom 0 .* is at \(nan 0 0\) Å"),
    "infinite.xyz": (frame(first="H inf 0 0"), "which is not a valid position"),
    "far.xyz": (frame(first="H 1e300 0 0"), "which is not a valid position"),
    "comma.xyz": (frame(first="H 0,5 0 0"), "line 3: '0,5' is not a coordinate"),
    "symbol.xyz": (frame(first="Xx 0 0 0"), "line 3: there is no element 'Xx'"),
    "number.xyz": (frame(first="8 0 0 0"), "line 3: there is no element '8'"),
    "deuterium.xyz": (frame(first="D 0 0 0"), "line 3: 'D' is an isotope, .* write 'H'"),
    "tritium.txt": (frame(first="T 0 0 0"), "line 3: 'T' is an isotope"),
    "zero_cell.xyz": (frame('Lattice="0 0 0 0 0 0 0 0 0" pbc="T T T"'), "the cell is flat"),
    "nan_cell.xyz": (frame('Lattice="nan 0 0 0 5 0 0 0 5"'), "the cell holds a value that is not finite"),
    "short_cell.xyz": (frame('Lattice="5 5 5 90 90 90"'), "line 2: .* the value of 'Lattice' is not nine numbers"),
    "columns.xyz": (frame("Properties=species:S:1:pos:R:3:forces:R:3"), "line 3: the header names 7 columns"),
    "no_pos.xyz": (frame("Properties=species:S:1:forces:R:3"), "line 2: frame 0 .* needs the columns of elements and"),
    "hdf5.xyz": (b"\x89HDF\r\n\x1a\n\0\0\0", "is an HDF5 file, .* open it with h5py and write it as extended xyz"),
    "array.npy": (saved(lambda value, file: np.save(file, value), np.ones(3)), "is a single array of numpy"),
    "frames.pkl": (pickle.dumps([1, 2]), "is a pickle of Python"),
    "model.pt": (saved(torch.save, {"a": torch.ones(2)}), r"is a file of torch \(\.pt\)"),
    "data.zip": (archive_of_zip(frame()), "is a zip archive: unpack it"),
    "data.tar": (archive_of_tar(frame()), "is a tar archive: unpack it with tar -xf"),
    "data.tar.gz": (gzip.compress(archive_of_tar(frame())), "is a tar archive"),
    "picture.xyz": (b"\x89PNG\r\n\x1a\n\0\0", "is a picture"),
    "paper.dat": (b"%PDF-1.7 text", "is a PDF document"),
    "broken.npz": (b"PK\x03\x04" + bytes(26) + b"R.npy" + bytes(9), "cannot be read as npz"),
    "cut.xyz.gz": (gzip.compress(frame().encode() * 99)[:60], "compressed file that is cut off"),
    "cut.xyz.bz2": (bz2.compress(frame().encode() * 99)[:60], "compressed file that is cut off"),
    "cut.xyz.xz": (lzma.compress(frame().encode() * 99)[:60], "compressed file that is cut off"),
    "other.json": (json.dumps({"a": [1]}), "is a JSON file that is no database of ASE"),
    "table.csv": ("id,energy,x\n1,2,3\n", "is a table with commas, perhaps CSV: open it with pandas"),
    "si.cfg": ("BEGIN_CFG\n Size\n 1\nEND_CFG\n", "is a file of MTP .* name the element of each type"),
    "cp2k.out": (
        " DBCSR| CPU\n CP2K| version\n",
        "is an output of CP2K: .* 'dpdata .*cp2k.out -i cp2k/output -o extxyz",
    ),
    "log.lammps": ("LAMMPS (2 Aug 2023)\n", "is a log of LAMMPS, .* give the dump file"),
    "types.dump": (
        f"{DUMP}ITEM: ATOMS id type x y z\n1 1 0 0 0\n",
        "a dump .* with numbers of types instead of elements",
    ),
    "real.dump": (
        f"ITEM: UNITS\nreal\n{DUMP}ITEM: ATOMS id element x y z\n1 H 0 0 0\n",
        "a dump .* in the units 'real'",
    ),
    "in.lmp": ("\n1 atoms\n1 atom types\n\nAtoms\n\n1 1 0 0 0\n", "a data file of LAMMPS without masses"),
    "INCAR": ("ENCUT = 500\n", r"is an input of VASP .* give the vasprun\.xml or the OUTCAR"),
    "POTCAR": ("  PAW_PBE Cu 05Jan2001\n 11.0\n", "is a POTCAR of VASP, which has no structures"),
    "POSCAR": (vasp_files.poscar().rsplit("\n", 2)[0], "cannot be read as VASP POSCAR/CONTCAR: correct the file"),
    "OUTCAR": (vasp_files.outcar([0])[:300], "cannot be read as VASP OUTCAR file: correct the file, complete it"),
    "vasprun.xml": (vasp_files.vasprun([0])[:300], r"cannot be read as VASP vasprun\.xml file"),
    "words.txt": ("some words\n", "is a text in which no reader finds structures, with the first line 'some words'"),
    "words": ("some words\n", "name its format with --format if ASE reads it"),
}


@pytest.mark.parametrize("name", WRONG)
def test_files_that_are_no_data_end_in_one_sentence(tmp_path, name):
    content, message = WRONG[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path / name, labels_required=False)
    sentence = str(caught.value)
    assert sentence.startswith(str(tmp_path / name))
    assert "\n" not in sentence
    assert "Error" not in sentence
    assert "Exception" not in sentence


def test_a_database_of_another_program(tmp_path):
    sqlite(tmp_path / "a.db")
    with pytest.raises(InputError, match=r"a\.db is an SQLite database, but none of ASE"):
        read(tmp_path / "a.db")


def test_links_folders_and_other_things_that_are_no_files(tmp_path):
    (tmp_path / "link.xyz").symlink_to("nowhere")
    (tmp_path / "folder.xyz").mkdir()
    for name, message in (("link.xyz", "is a link to a file that does not exist"), ("folder.xyz", "has no file with")):
        with pytest.raises(InputError, match=message):
            read(tmp_path / name)
    with pytest.raises(InputError, match="is neither a file nor a data folder"):
        read("/dev/null")


@pytest.mark.parametrize("encode", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["a.xyz", "a.exyz", "a.XYZ", "a.txt", "a.dat", "a", "a.out", "a.json", "a.db", "a.gz"])
def test_xyz_files_are_known_by_their_content(tmp_path, good, name, encode):
    for data in (good.encode(encode), good.replace("\n", "\r").encode(encode), lzma.compress(good.encode(encode))):
        (tmp_path / name).write_bytes(data)
        assert [-s.energy for s in read(tmp_path / name)] == [0, 1, 2]


def test_umlauts_in_the_encoding_of_old_programs(tmp_path, good):
    (tmp_path / "a.xyz").write_bytes(good.replace("energy=", 'by="Müller" energy=').encode("latin-1"))
    structures = read(tmp_path / "a.xyz")
    assert structures[0].extra["by"] == "Müller"


def test_a_format_that_is_asked_for(tmp_path):
    (tmp_path / "a.b").write_text("1\nwords\n92 0 0 0\n")
    source = Source(str(tmp_path / "a.b"), str(tmp_path / "a.b"))
    assert isinstance(recognise(source), Unreadable)
    assert recognise(source, "xyz") == "extxyz"
    assert recognise(source, "OUTCAR") == "vasp-out"
    with pytest.raises(InputError, match=r"data\.format: there is no format 'vasp-outt' .* did you mean 'vasp-out'\?"):
        read(tmp_path / "a.b", ReadOptions(format="vasp-outt"))
    with pytest.raises(InputError, match="'ase info --formats' lists them"):
        read(tmp_path / "a.b", ReadOptions(format="?"))
    (tmp_path / "a.xyz").write_text(frame())
    with pytest.raises(InputError, match=r"a\.xyz, frame 0 .* cannot be read as VASP OUTCAR file"):
        read(tmp_path / "a.xyz", ReadOptions(format="vasp-out"))
