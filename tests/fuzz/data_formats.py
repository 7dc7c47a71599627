"""Small files of data of seven formats, and a strict parser for each, to judge what equiforce reads."""

import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import numpy as np
from ase.data import atomic_numbers
from ase.units import GPa

from tests.data import vasp_files
from tests.data_sets import crystals

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
Expected = list[dict[str, Any]]


class StrictError(Exception):
    """The strict parser refuses a file."""


def number(text: str) -> float:
    if NUMBER.fullmatch(text) is None:
        raise StrictError(text)
    return float(text)


def numbers(words: list[str], *shape: int) -> np.ndarray:
    if len(words) != np.prod(shape, dtype=int):
        raise StrictError(str(words))
    return np.array([number(word) for word in words]).reshape(shape)


def element(text: str) -> int:
    if atomic_numbers.get(text.capitalize(), 0) < 1:
        raise StrictError(text)
    return atomic_numbers[text.capitalize()]


def symmetric(stress: np.ndarray) -> np.ndarray:
    return 0.5 * (stress + stress.T)


def voigt(stress: np.ndarray) -> np.ndarray:
    return stress[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3)


def write_xyz(folder: Path) -> None:
    ase.io.write(folder / "a.xyz", crystals(3))


def strict_xyz(folder: Path) -> Expected:
    lines, frames = (folder / "a.xyz").read_text(encoding="utf-8").split("\n"), []
    while lines:
        if not lines[0].strip():
            lines.pop(0)
            continue
        if re.fullmatch(r"[0-9]{1,9}", lines[0].strip()) is None or len(lines) < int(lines[0]) + 2:
            raise StrictError(lines[0])
        n = int(lines[0])
        frames.append(strict_frame(lines[1], [line.split() for line in lines[2 : n + 2]]))
        lines = lines[n + 2 :]
    return frames


def strict_header(header: str) -> dict[str, str]:
    # words without a key say nothing
    bare = r"""("[^"]*"|'[^']*')|(?<!\S)[A-Za-z][^\s="'{}\[\]\\]*(?!\S)(?!\s*=)"""
    header = re.sub(bare, lambda match: match[1] or "", header).strip()
    text = r"[^\"=\\{}\[\]']*"
    pairs = re.findall(rf"([A-Za-z_]+)=(\"{text}\"|'{text}'|[^\s\"'{{}}\[\]]+)(?:\s+|$)", header)
    values = {key: text.strip("\"'") for key, text in pairs}
    pbc = values.get("pbc", "T").split()
    if len(values) < len(pairs) or not set(pbc) <= {"T", "F"} or len(pbc) not in (1, 3):
        raise StrictError(header)
    if "".join("".join(f"{key}={text}" for key, text in pairs).split()) != "".join(header.split()):
        raise StrictError(header)
    return values


def strict_frame(header: str, rows: list[list[str]]) -> dict[str, Any]:
    values = strict_header(header)
    if "Properties" not in values and {len(row) for row in rows} == {7}:
        rows = [row[:4] for row in rows]  # a note says so
    columns, at = {}, 0
    words = values.get("Properties", "species:S:1:pos:R:3").split(":")
    if len(words) % 3 or not {"species", "pos"} <= set(words[::3]):
        raise StrictError(header)
    for name, kind, count in zip(words[::3], words[1::3], words[2::3], strict=True):
        if name in columns or (kind != ("S" if name == "species" else "R")) or count not in ("1", "3"):
            raise StrictError(header)
        columns[name] = slice(at, at := at + int(count))
    if any(len(row) != at for row in rows):
        raise StrictError("a row has too few or too many words")
    parts = {name: [word for row in rows for word in row[column]] for name, column in columns.items()}
    frame: dict[str, Any] = {
        "numbers": [element(word) for word in parts["species"]],
        "positions": numbers(parts["pos"], len(rows), 3),
        "cell": numbers(values["Lattice"].split(), 3, 3) if "Lattice" in values else np.zeros((3, 3)),
    }
    if "forces" in parts:
        frame["forces"] = numbers(parts["forces"], len(rows), 3)
    if "energy" in values:
        frame["energy"] = number(values["energy"])
    if "stress" in values:
        words = values["stress"].split()
        frame["stress"] = voigt(numbers(words, 6)) if len(words) == 6 else symmetric(numbers(words, 3, 3))
    return frame


def arrays_of(frames: list[ase.Atoms]) -> dict[str, np.ndarray]:
    return {
        "z": frames[0].numbers,
        "R": np.stack([atoms.positions for atoms in frames]),
        "E": np.array([atoms.get_potential_energy() for atoms in frames]),
        "F": np.stack([atoms.get_forces() for atoms in frames]),
        "cell": np.stack([atoms.cell.array for atoms in frames]),
    }


def write_npz(folder: Path) -> None:
    np.savez(folder / "a.npz", **arrays_of(crystals(3)), e_unit="eV", r_unit="Ang")


def strict_npz(folder: Path) -> Expected:
    with np.load(folder / "a.npz", allow_pickle=False) as archive:
        if len(set(archive.zip.namelist())) < len(archive.zip.namelist()):
            raise StrictError("two arrays of one name")
        a = {name: archive[name] for name in ("z", "R", "E", "F", "cell") if name in archive}
    return strict_arrays(a)


def strict_arrays(a: dict[str, np.ndarray]) -> Expected:
    if any(v.dtype.kind not in "iuf" or v.dtype.itemsize < 4 for n, v in a.items() if n != "z") or (
        (np.rint(a["z"]) != a["z"]).any() or (a["z"] < 1).any()
    ):
        raise StrictError("not real numbers")
    n, m = len(a["R"]), len(a["z"])
    a.setdefault("cell", np.zeros((3, 3)))
    shapes = {"R": (n, m, 3), "F": (n, m, 3), "E": (n,)}
    if any(a[name].squeeze().shape != shape for name, shape in shapes.items() if name in a) or a["cell"].shape[-2:] != (
        3,
        3,
    ):
        raise StrictError("shapes")
    own = {"positions": a["R"], "cell": np.broadcast_to(a["cell"], (n, 3, 3))}
    own |= {label: a[name] for label, name in (("energy", "E"), ("forces", "F")) if name in a}
    return [{"numbers": a["z"], **{label: np.squeeze(array[i]) for label, array in own.items()}} for i in range(n)]


def write_deepmd(folder: Path) -> None:
    a = arrays_of(crystals(3))
    (folder / "dp" / "set.000").mkdir(parents=True)
    (folder / "dp" / "type.raw").write_text("0\n0\n1\n0\n")
    (folder / "dp" / "type_map.raw").write_text("Cu Ag\n")
    for name, key, width in (("coord", "R", 12), ("force", "F", 12), ("energy", "E", 1), ("box", "cell", 9)):
        np.save(folder / "dp" / "set.000" / f"{name}.npy", a[key].reshape(3, width))


def strict_deepmd(folder: Path) -> Expected:
    types = numbers((folder / "dp" / "type.raw").read_text(encoding="utf-8").split(), 4)
    names = (folder / "dp" / "type_map.raw").read_text(encoding="utf-8").split()
    if not all(t in range(len(names)) for t in types):
        raise StrictError("types")
    a = {}
    for name, key, shape in (
        ("coord", "R", (4, 3)),
        ("force", "F", (4, 3)),
        ("energy", "E", ()),
        ("box", "cell", (3, 3)),
    ):
        array = np.load(folder / "dp" / "set.000" / f"{name}.npy", allow_pickle=False)
        a[key] = array.reshape(len(array), *shape)
    return strict_arrays(a | {"z": np.array([element(names[int(t)]) for t in types])})


def write_outcar(folder: Path) -> None:
    (folder / "OUTCAR").write_text(vasp_files.outcar(range(3)))


def same_layout(text: str, right: str) -> list[list[str]]:
    """The words of the lines of a text that differs from the right one in numbers only."""
    words, expected = ([line.split() for line in t.split("\n")] for t in (text, right))
    if len(words) != len(expected):
        raise StrictError("lines")
    for line, (some, others) in enumerate(zip(words, expected, strict=True)):
        if len(some) != len(others) or any(
            a != b and not (NUMBER.fullmatch(a) and NUMBER.fullmatch(b)) for a, b in zip(some, others, strict=True)
        ):
            raise StrictError(f"line {line}")
    return words


def strict_outcar(folder: Path) -> Expected:
    right = vasp_files.outcar(range(3))
    words = same_layout((folder / "OUTCAR").read_text(encoding="utf-8"), right)
    marks = {
        i
        for i, line in enumerate(right.split("\n"))
        if line.strip().startswith(("direct", "POSITION", "FREE", "in kB"))
    }
    changed = [i for i, (a, b) in enumerate(zip(words, right.split("\n"), strict=True)) if a != b.split()]
    if any(i < min(marks) for i in changed):
        raise StrictError("the header")
    order, frames = sorted(marks), []
    for kb, direct, position, free in zip(*(order[i::4] for i in range(4)), strict=True):
        rows = numbers([w for line in words[position + 2 : position + 4] for w in line], 2, 6)
        pressure = -0.1 * GPa * numbers(words[kb][2:], 6)[[0, 3, 5, 3, 1, 4, 5, 4, 2]].reshape(3, 3)
        cell = numbers([w for line in words[direct + 1 : direct + 4] for w in line[:3]], 3, 3)
        frames.append(
            {"numbers": [8, 1], "positions": rows[:, :3], "forces": rows[:, 3:], "cell": cell, "stress": pressure}
        )
        frames[-1]["energies"] = (number(words[free + 2][4]), number(words[free + 4][6]))
    return frames


def write_vasprun(folder: Path) -> None:
    (folder / "vasprun.xml").write_text(vasp_files.vasprun(range(3)))


def strict_vasprun(folder: Path) -> Expected:
    text, right = (folder / "vasprun.xml").read_text(encoding="utf-8"), vasp_files.vasprun(range(3))
    symbol = re.compile(r"(?<=<rc><c>)[A-Z][a-z]?(?= </c>)")
    elements = [element(one) for one in symbol.findall(text)]
    text, right = symbol.sub("X", text), symbol.sub("X", right)
    same_layout(text, right)
    head = right.index("<calculation>")
    if text[:head] != right[:head]:
        raise StrictError("the header")
    frames = []
    for step in text.split("<calculation>")[1:]:
        tables = [
            np.array([numbers(row.split(), 3) for row in re.findall(r"<v>(.*)</v>", table)])
            for table in re.findall(r"<varray[^>]*>(.*?)</varray>", step, re.DOTALL)
        ]
        basis, positions, forces, stress = tables
        free = [number(w) for w in re.findall(r'"e_fr_energy"> (\S+)', step)]
        zero = [number(w) for w in re.findall(r'"e_0_energy"> (\S+)', step)]
        frame = {"numbers": elements, "positions": positions % 1 @ basis, "forces": forces, "cell": basis}
        # ASE takes the difference of the last electronic step, to mend an error of VASP
        frame["energies"] = (free[-1], free[-1] + zero[-2] - free[-2])
        frames.append({**frame, "stress": symmetric(-0.1 * GPa * stress), "wraps": True})
    return frames


def write_json(folder: Path) -> None:
    ase.io.write(folder / "a.json", crystals(3))


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise StrictError("a key twice")
    return dict(pairs)


def strict_json(folder: Path) -> Expected:
    content = json.loads((folder / "a.json").read_text(encoding="utf-8"), object_pairs_hook=unique)
    return [strict_row(content[str(i)]) for i in content["ids"]]


def strict_row(row: dict[str, Any]) -> dict[str, Any]:
    def array(key: str, kinds: tuple[type, ...], dtype: str, *shape: int) -> np.ndarray:
        value = row[key]["array"] if "array" in row[key] else row[key]
        found_shape, found_dtype, data = value["__ndarray__"]
        if found_shape != list(shape) or found_dtype != dtype or any(type(x) not in kinds for x in data):
            raise StrictError(key)
        return np.array(data, dtype=dtype).reshape(shape)

    z = array("numbers", (int,), "int64", 4)
    stress = array("stress", (float, int), "float64", 6)
    if type(row["energy"]) not in (float, int) or (z < 1).any():
        raise StrictError("energy")
    return {
        "numbers": z,
        "positions": array("positions", (float, int), "float64", 4, 3),
        "cell": array("cell", (float, int), "float64", 3, 3),
        "energy": row["energy"],
        "forces": array("forces", (float, int), "float64", 4, 3),
        "stress": voigt(stress),
    }


def write_db(folder: Path) -> None:
    with ase.db.connect(folder / "a.db") as database:
        for atoms in crystals(3):
            database.write(atoms)


def strict_db(folder: Path) -> Expected:
    with sqlite3.connect(folder / "a.db") as database:
        query = "SELECT numbers, positions, cell, energy, forces, stress FROM systems ORDER BY id"
        rows = database.execute(query).fetchall()
    frames = []
    for z, positions, cell, energy, forces, stress in rows:
        blobs = (z, positions, cell, forces, stress)
        if not all(isinstance(b, bytes) for b in blobs) or type(energy) not in (float, int):
            raise StrictError("types")
        if [len(b) for b in blobs] != [16, 96, 72, 96, 48]:
            raise StrictError("sizes")
        frames.append({
            "numbers": np.frombuffer(z, np.int32), "positions": np.frombuffer(positions).reshape(4, 3),
            "cell": np.frombuffer(cell).reshape(3, 3), "energy": energy, "forces": np.frombuffer(forces).reshape(4, 3),
            "stress": voigt(np.frombuffer(stress)),
        })  # fmt: skip
    return frames


Format = tuple[Callable[[Path], None], Callable[[Path], Expected], str]
FORMATS: dict[str, Format] = {
    "xyz": (write_xyz, strict_xyz, "a.xyz"),
    "npz": (write_npz, strict_npz, "a.npz"),
    "deepmd": (write_deepmd, strict_deepmd, "dp"),
    "outcar": (write_outcar, strict_outcar, "OUTCAR"),
    "vasprun": (write_vasprun, strict_vasprun, "vasprun.xml"),
    "json": (write_json, strict_json, "a.json"),
    "db": (write_db, strict_db, "a.db"),
}
