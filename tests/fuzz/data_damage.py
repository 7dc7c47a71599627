"""Damages small files of data: words, lines, keys, bytes, arrays and their headers."""

import contextlib
import io
import re
import sqlite3
import warnings
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from tests.fuzz.data_formats import FORMATS

HOSTILE = (
    "1_000.5", "1_0", "1d5", "1.0D-3", "0x1p3", "0x10", "infinity", "-inf", "nan", "١٢", "１.5", "True", "T", "F",
    "None", "1e400", "-1e10", "1e9", "99999999999999999999", "4294967302", "6.9", "-1", "0", "119", "3.0", "***", "1,5",
    '""', "''", "1.2.3", "--1", "+1.5", "1e1_0", "½", "1+2j", "'1.0'", "-", "=", '"', "energy=2.0", "X", "Y", "h", "Og",
    "Lattice", "pbc=F", "1000000000000", "1.0-2.0", "species:S:1", ":", "1e-400", "-0", "1 1",
    "_JSON 1", "\t", "{", "]",
)  # fmt: skip


def damage_words(rng: Random, text: str) -> str:
    """Change a word of a text, or the spaces beside it."""
    found = list(re.finditer(r"[^\s,:=\"<>\[\]{}]+", text))
    if not found:
        return text
    match = rng.choice(found)
    word, other = match[0], rng.choice(found)[0]
    new = rng.choice((
        rng.choice(HOSTILE), rng.choice(HOSTILE), rng.choice(HOSTILE), "", f"{word} {word}", other, f"{word}0",
        f"-{word}",
        word.upper(), word.lower(), f"{word} {rng.choice(HOSTILE)}", f"{word}_0", f'"{word}"', f"{word}={word}",
    ))  # fmt: skip
    return text[: match.start()] + new + text[match.end() :]


def damage_lines(rng: Random, text: str) -> str:
    """Change lines of a text; the last way makes files of VASP that are right, but others."""
    lines = text.split("\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(5 if "vasp." in text or "<modeling>" in text else 6)
    if kind == 0:
        lines.insert(i, lines[i])
    elif kind == 1:
        del lines[i]
    elif kind == 2:
        lines.insert(i, "")
    elif kind == 3:
        lines[i] += " " + rng.choice(HOSTILE)
    elif kind == 4:
        lines[i : i + 2] = [" ".join(lines[i : i + 2])]
    else:
        lines[i], lines[j] = lines[j], lines[i]
    return "\n".join(lines)


def double_key(rng: Random, text: str) -> str:
    """Give a key, a column or an entry twice, with another value."""
    pairs = list(re.finditer(r'("\w+": |\b\w+=|\w+:[RSIL]:\d)("[^"]*"|[^\s,:]*)', text))
    if not pairs:
        return text
    match, other = rng.choice(pairs), rng.choice(pairs)
    between = ":" if re.match(r"\w+:[RSIL]", match[0]) else ", " if match[0].startswith('"') else " "
    value = rng.choice((other[2], rng.choice(HOSTILE), re.sub(r"\d", "7", match[2])))
    return text[: match.end()] + between + match[1] + value + text[match.end() :]


def damage_bytes(rng: Random, content: bytes, kinds: int = 4) -> bytes:
    kind, at = rng.randrange(kinds), rng.randrange(len(content))
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]
    if kind == 2:
        return content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]
    return content[:at] + content[rng.randrange(len(content)) :]


def damage_array(rng: Random, array: np.ndarray) -> np.ndarray:
    """Store an array as numbers of another kind or in another shape, or with another number in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind = rng.choice(
            ("f2", "f4", "c16", "i8", "u1", "U8", "?", "O", "S8", "number", "number", "rows", "turn", "add", "M8[s]")
        )
        changed = np.array(array)
        if kind == "number" and array.size and array.dtype.kind in "if":
            changed = changed.astype(float)
            changed.ravel()[rng.randrange(array.size)] = rng.choice(
                (6.9, np.nan, np.inf, -1, 0, 119, 1e10, -1e9, 1e300, 3)
            )
        elif kind == "rows" and array.ndim:
            changed = changed[:-1]
        elif kind == "turn" and array.ndim:
            changed = changed.T
        elif kind == "add":
            changed = np.stack([changed, changed], axis=-1)
        elif kind in ("f2", "f4", "c16", "i8", "u1", "?", "O", "U8", "S8"):
            with contextlib.suppress(ValueError):
                changed = changed.astype(kind)
        return changed


def lying_header(rng: Random, array: np.ndarray) -> bytes:
    """An array whose header says another shape than it has."""
    stream = io.BytesIO()
    shape = rng.choice(((10**12,), (10**6, 10**6), (-1,), (2**63,), (0,), (*array.shape, 2), (10**8, 3)))
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return stream.getvalue() + array.tobytes()


def damage_npz(rng: Random, file: Path) -> None:
    with np.load(file) as archive:
        arrays = {name: archive[name] for name in archive.files}
    name = rng.choice(list(arrays))
    kind = rng.randrange(5)
    if kind == 0:
        file.write_bytes(damage_bytes(rng, file.read_bytes()))
    elif kind == 1:
        with warnings.catch_warnings(), zipfile.ZipFile(file, "a", rng.choice((0, 8))) as archive:
            warnings.simplefilter("ignore")
            where = f"{rng.choice((name, 'x', 'pbc', 'lattice', 'N'))}.npy"
            archive.writestr(where, lying_header(rng, arrays[name]))
    elif kind == 2:
        with zipfile.ZipFile(file, "w", 8) as archive:
            for other, array in arrays.items():
                stream = io.BytesIO()
                np.save(stream, array)
                archive.writestr(f"{other}.npy", lying_header(rng, array) if other == name else stream.getvalue())
    elif kind == 3:
        del arrays[name]
        np.savez(file, **arrays)
    else:
        np.savez(file, **(arrays | {name: damage_array(rng, arrays[name])}))


def damage(rng: Random, name: str, folder: Path) -> None:
    if name == "npz":
        damage_npz(rng, folder / "a.npz")
        return
    if (
        name == "deepmd"
        and (file := rng.choice(sorted((folder / "dp").rglob("*.*w*")) + sorted((folder / "dp").rglob("*.npy")))).suffix
        == ".npy"
    ):
        kind, array = rng.randrange(3), np.load(file)
        if kind == 0:
            file.write_bytes(damage_bytes(rng, file.read_bytes()))
        elif kind == 1:
            file.write_bytes(lying_header(rng, array))
        else:
            np.save(file, damage_array(rng, array))
        return
    if name == "db":
        damage_db(rng, folder / "a.db")
        return
    file = file if name == "deepmd" else folder / FORMATS[name][2]
    if rng.random() < 0.15:
        # a strict parser that compares lines cannot judge parts that are put together anew
        file.write_bytes(damage_bytes(rng, file.read_bytes(), 3 if name in ("outcar", "vasprun") else 4))
        return
    change = rng.choice((damage_words, damage_words, damage_words, damage_lines, double_key))
    file.write_text(change(rng, file.read_text(encoding="utf-8")), encoding="utf-8")


def damage_db(rng: Random, file: Path) -> None:
    if rng.random() < 0.4:
        file.write_bytes(damage_bytes(rng, file.read_bytes()))
        return
    column = rng.choice(
        ("numbers", "positions", "cell", "energy", "forces", "stress", "pbc", "natoms", "key_value_pairs", "data")
    )
    with sqlite3.connect(file) as database:
        (old,) = database.execute(f"SELECT {column} FROM systems WHERE id = 2").fetchone()
        new: Any = rng.choice(
            (None, rng.choice(HOSTILE), 6.9, -1, 2**40, b"", 1e10, '{"energy": 2.0}', '{"forces": "1.0"}')
        )
        if isinstance(old, bytes) and old and rng.random() < 0.7:
            new = damage_bytes(rng, old)
        database.execute(f"UPDATE systems SET {column} = ? WHERE id = 2", (new,))
    database.close()
