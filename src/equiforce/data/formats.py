"""Recognises the format of a file, by its content first, and says what to do with a file that ASE cannot read."""

import re
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from ase.io.formats import UnknownFileTypeError, filetype, ioformats, match_magic

from equiforce.data.source import Source, head_text
from equiforce.data.xyz import is_xyz
from equiforce.errors import InputError

NPZ, XYZ, OUTCAR, VASPRUN, DATABASE, JSON, LMDB = "npz", "extxyz", "vasp-out", "vasp-xml", "db", "json", "aselmdb"
LAMMPS_DATA = "lammps-data"
NO_LABELS = ("vasp", "vasp-xdatcar")  # files of VASP without labels
SHOWN = 60  # characters of a line in a message
NAME_IT = "name its format with --format if ASE reads it ('ase info --formats' lists all), or "

_VECTOR = r"[^\S\n]*-?\d\S*[^\S\n]+\S+[^\S\n]+\S+[^\n]*\n"
_WITH_ASE = (
    "write it as extended xyz with ase.io.write (energies in eV, positions in Å, forces in eV/Å), and read that file"
)


class Unreadable(NamedTuple):
    """What a file is that no reader can read, and the next step."""

    what: str
    step: str


def _dpdata(form: str) -> str:
    return f"convert it with 'pip install dpdata' and 'dpdata FILE -i {form} -o extxyz -O data.xyz', and read data.xyz"


# formats of ASE by their content, where ASE itself looks at the name
CONTENTS = (
    (r"\A\s*vasp\.\d|^ (POTCAR|INCAR):", OUTCAR),
    (r"\A\s*(<\?xml[^>]*>\s*)?<modeling>", VASPRUN),
    (r"^Direct configuration=", "vasp-xdatcar"),
    (rf"\A[^\n]*\n[^\S\n]*-?[\d.]+(e[+-]?\d+)?[^\S\n]*\n({_VECTOR}){{3}}", "vasp"),
    (r"\A\s*(CRYSTAL|SLAB|POLYMER|MOLECULE|ANIMSTEPS\s+\d+)\s*\n", "xsf"),
    (r"^_cell_length_a\s", "cif"),
    (r'\A\s*\{\s*"\d+": *\{(.|\n)*"(numbers|positions)":', JSON),
)

# binary files by their first bytes
BINARIES = (
    (b"\x89HDF", "an HDF5 file, whose layout differs between data sets", f"open it with h5py and {_WITH_ASE}"),
    (b"\x93NUMPY", "a single array of numpy", "name the folder if it is one of DeePMD-kit, or give an npz file"),
    (b"\x80\x02\x8a\nl\xfc", "a file of torch", f"open it with the program that wrote it, and {_WITH_ASE}"),
    (b"\x80", "a pickle of Python", f"open it with Python if you trust it, and {_WITH_ASE}"),
    (b"%PDF", "a PDF document", "give the file of the data"),
    (b"\x89PNG", "a picture", "give the file of the data"),
    (b"Rar!", "a RAR archive", "unpack it, and name a file of it"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it, and name a file of it"),
    (b"PAR1", "a Parquet file", f"open it with pandas and {_WITH_ASE}"),
    (b"\x28\xb5\x2f\xfd", "a file compressed by zstd", "unpack it with unzstd"),
)

# texts of known programs
TEXTS = (
    (r"\Aversion https://git-lfs", "a pointer of Git LFS instead of the file", "fetch the file with 'git lfs pull'"),
    (r"\A\s*<(!doctype )?html", "a web page (HTML) instead of data", "download the file itself"),
    (r"^[ \t]*BEGIN_CFG", "a file of MTP (MLIP), which numbers the types of atoms instead of naming elements",
     f"name the element of each type and {_WITH_ASE}"),
    (r"CP2K\||DBCSR\|", "an output of CP2K", _dpdata("cp2k/output")),
    (r"\bABACUS\b", "an output of ABACUS", _dpdata("abacus/scf")),
    (r"Psi4: An Open-Source", "an output of Psi4", _dpdata("psi4/out")),
    (r"OpenMX", "a file of OpenMX", _dpdata("openmx/md")),
    (r"\A\s*LAMMPS \(", "a log of LAMMPS, which has no positions", "give the dump file, with the column 'element'"),
)  # fmt: skip

# texts by what they look like, if no reader takes them
LOOKS = (
    (r"\A\s*PAW(_\w+)? ", "a POTCAR of VASP, which has no structures", "give the vasprun.xml or the OUTCAR"),
    (r"^[ \t]*(system|encut|prec|ismear|nsw|ibrion)[ \t]*=", "an input of VASP without structures",
     "give the vasprun.xml or the OUTCAR"),
    (r"\A\s*[{\[]", "a JSON file that is no database of ASE", f"open it with Python and {_WITH_ASE}"),
    (r"\A[^\n,]*,[^\n,]*,", "a table with commas, perhaps CSV", f"open it with pandas and {_WITH_ASE}"),
)  # fmt: skip
FLAGS = re.IGNORECASE | re.MULTILINE


def recognise(source: Source, asked: str | None = None) -> str | Unreadable:
    """Recognise the format of a file.

    Args:
        source: the file.
        asked: the format that the user named; None to find it.

    Returns:
        The name of the format, as ASE names it or ``npz``, or what the file is if no reader can read it.

    Raises:
        InputError: there is no format ``asked``.
    """
    data = source.head()
    if not data.strip(b"\0 \t\r\n"):
        return Unreadable("empty" if not data.strip() else "full of zero bytes", "copy it again")
    if asked is not None:
        return _known(asked)
    text, found = head_text(data), _by_bytes(data)
    if found is None and text:
        found = _by_text(source, text)
    if found is None:
        found = _as_ase_guesses(source, data, is_text=bool(text))
    return _look(text) if found is None else found


def _known(asked: str) -> str:
    """The name of the format that the user asked for."""
    name = {"xyz": XYZ, "exyz": XYZ, "outcar": OUTCAR, "vasprun": VASPRUN, "poscar": "vasp"}.get(asked.lower(), asked)
    if name != NPZ and not (name in ioformats and ioformats[name].can_read):
        nearest = get_close_matches(name, [NPZ, *ioformats], n=1, cutoff=0.6)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ": 'ase info --formats' lists them"
        raise InputError(f"data.format: there is no format {asked!r} that can be read{hint}")
    return name


def _by_text(source: Source, text: str) -> str | Unreadable | None:
    if is_xyz(source.file, text):
        return XYZ
    for content, name in CONTENTS:
        if re.search(content, text, FLAGS):
            return name
    for pattern, what, step in TEXTS:
        if re.search(pattern, text[:20_000], FLAGS):
            return Unreadable(what, step)
    if "ITEM: TIMESTEP" in text:
        return _lammps_dump(text)
    return _lammps_data(text) if re.search(r"^[ \t]*\d+[ \t]+atom[ \t]+types", text, FLAGS) else None


def _lammps_data(text: str) -> str | Unreadable:
    if re.search(r"^[ \t]*(Masses|Atom Type Labels)", text, FLAGS):
        return LAMMPS_DATA
    what = "a data file of LAMMPS without masses, so that its elements are not known"
    step = "add the section Masses with the element of each atom type behind its mass, as in '1 12.011 # C'"
    return Unreadable(what, step)


def _lammps_dump(text: str) -> str | Unreadable:
    columns = next((line.split() for line in text.splitlines() if line.startswith("ITEM: ATOMS")), [])
    if not {"element", "mass"} & set(columns):
        return Unreadable(
            "a dump of LAMMPS with numbers of types instead of elements",
            "write it with 'dump_modify ID element ...' and the column 'element'",
        )
    units = re.search(r"ITEM: UNITS\n(\w+)", text)
    if units and units[1] != "metal":
        return Unreadable(f"a dump of LAMMPS in the units {units[1]!r}", "write it with 'units metal', in eV and Å")
    return "lammps-dump-text"


def _by_bytes(data: bytes) -> str | Unreadable | None:
    if data.startswith(b"PK\x03\x04"):
        return _zip(data)
    if data.startswith(b"SQLite format 3\0"):
        if b"CREATE TABLE systems" in data:
            return DATABASE
        return Unreadable("an SQLite database, but none of ASE", f"open it with Python and {_WITH_ASE}")
    if data[16:20] == b"\xde\xc0\xef\xbe":
        return LMDB
    if data[257:262] == b"ustar":
        return Unreadable("a tar archive", "unpack it with tar -xf, and name a file of it")
    return next((Unreadable(what, step) for start, what, step in BINARIES if data.startswith(start)), None)


def _zip(data: bytes) -> str | Unreadable:
    """What a zip archive is, by the names of its first files."""
    if b".npy" in data[:200] or not re.search(rb"data\.pkl|data/|\.\w", data[30:200]):
        return NPZ
    if b"data.pkl" in data or b"/version" in data:
        return Unreadable(
            "a file of torch (.pt), such as a model or the graphs of another program",
            "give the data from which it was made",
        )
    return Unreadable("a zip archive", "unpack it, and name a file of it")


def _as_ase_guesses(source: Source, data: bytes, *, is_text: bool) -> str | None:
    """ASE's guess by content, then one by name; None if there is none that fits a text or binary file."""
    try:
        return str(match_magic(data[:50_000]).name)
    except UnknownFileTypeError:
        pass
    name = Path(source.file).name
    if source.unpack_command() is not None:
        name = Path(name).stem
    if name.lower().endswith(".npz"):
        return NPZ
    for spelled in (name, name.lower()):
        try:
            guess = filetype(spelled, read=False)
        except UnknownFileTypeError:
            continue
        readable = guess in ioformats and ioformats[guess].can_read and (is_text or ioformats[guess].isbinary)
        if readable and guess != JSON:  # a database of JSON is known by its content
            return str(guess)
    return None


def _look(text: str) -> Unreadable:
    """What a file without structures looks like."""
    if not text:
        return Unreadable("a binary file of an unknown format", f"open it with its own program and {_WITH_ASE}")
    for pattern, what, step in LOOKS:
        if re.search(pattern, text, FLAGS):
            return Unreadable(what, step)
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return Unreadable(
        f"a text in which no reader finds structures, with the first line {first[:SHOWN]!r}",
        f"{NAME_IT}write it as extended xyz with its own program or with dpdata "
        "('dpdata FILE -i FORMAT -o extxyz -O data.xyz')",
    )
