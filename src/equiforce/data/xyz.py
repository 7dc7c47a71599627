"""The text of xyz files, checked and completed before ASE reads it.

ASE's reader of extended xyz ends a file at a blank line, reads ``lattice=`` in lower case as a remark, takes the next
word as the value of a key without one, takes the last of two energies, cuts atomic numbers to whole ones, and drops
half of a stress that is not symmetric. All would change the physics without a word.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from itertools import dropwhile, islice
from typing import Any, NamedTuple

import numpy as np
from ase.io.extxyz import key_val_str_to_dict

from equiforce.data.frames import usual_keys
from equiforce.data.numbers import ODD, OTHER_SPACE, is_plain
from equiforce.elements import SYMBOLS
from equiforce.errors import InputError

KEYS = {"lattice": "Lattice", "properties": "Properties", "pbc": "pbc"}  # as ASE spells the keys that it understands
SPELLED = re.compile(r"(?<![\w-])(lattice|properties|pbc)(?=\s*=)", re.IGNORECASE)
WITHOUT_VALUE = re.compile(r"(?<!\S)([^\s=\0]+)\s*=(?=\s+[^\s=\0]+\s*=|\s*$)")
EMPTY = re.compile(r"(?<=\S=)(\"\"|''|\{\}|\[\])(?=\s|$)")  # the value of a key without one, too
LATTICE = re.compile(r"(?<![\w\"'-])lattice\"?\s*=\s*[\"'{\[]", re.IGNORECASE)
QUOTED = re.compile(r"\"(?:\\.|[^\"\\])*\"|'[^']*'|\{[^}]*\}|\[[^\]]*\]")
# ASE takes nothing but nine numbers under these keys, and leaves those with a capital letter alone
MATRIX = re.compile(r"(?<![\w-])(stress|virial)(\s*=\s*)(\0|[^\s\0]+)")
SAME_LENGTH = 4  # so many lines, or more, show that all rows have one length
N_MATRIX = 9
PAIR = re.compile(r"(?<!\S)([^\s=\"'{}\[\]]+)\s*=\s*(" + QUOTED.pattern + r"|\S*)")
_NUMBER = r"[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?"
WITHOUT_KEY = re.compile(rf"(?<!\S)[^\s=\0]+\s*=\s*{_NUMBER}\s+{_NUMBER}(?!\S)")
PROPERTY = re.compile(r"(?:[^:]+:[RISL]:[1-9]\d{0,4}(?::|$))+")
RENAMED = {"pos": "positions", "species": "symbols", "Z": "numbers", "charge": "charges"}  # by ASE
TYPES = {"pos": "RI", "species": "S", "Z": "I"}  # those that ASE neither cuts nor converts
WORDS = {"R": "a number", "I": "a whole number", "L": "T or F"}
LONGEST_COUNT = 100  # digits of a number of atoms
LEADING_ZERO = re.compile(r"([\w.-]+)=([\"']?)(0\d+)\2(?!\S)")
COLUMNS = 4  # of an atom at least: its element and three coordinates
SUFFIX = re.compile(r"\.e?(xt)?xyz(\.(gz|bz2|xz))?$", re.IGNORECASE)
ISOTOPES = ("D", "T")
LABELS = frozenset(key for keys in usual_keys().values() for key in keys)


class XyzText(NamedTuple):
    """The text of an xyz file as ASE should read it."""

    text: str
    n_frames: int
    notes: tuple[str, ...]  # what was changed or is not used, each as a clause for the user
    headers: dict[str, dict[str, Any]]  # the values of each header, which takes long to parse

    def parse_header(self, line: str) -> dict[str, Any]:
        """Return the values of a header, for ASE, which changes them."""
        return self.headers.pop(line, None) or parse_header(line)

    def open(self) -> StringIO:
        """Return the text as a file."""
        return StringIO(self.text)


def parse_header(line: str) -> dict[str, Any]:
    """Parse the header of a frame as ASE does, except for what ASE would change.

    Names such as 007 and 2024_05, which ASE would read as numbers, stay texts, and a stress that is not symmetric keeps
    its nine numbers.
    """
    values: dict[str, Any] = key_val_str_to_dict(line)
    names = {key: digits for key, _, digits in LEADING_ZERO.findall(line)}
    values |= {key: digits for key, digits in names.items() if isinstance(values.get(key), int | np.integer)}
    if ODD.search(line):
        odd = {key: text.strip("\"'{}[]") for key, text in PAIR.findall(line) if ODD.search(text)}
        values |= {key: text for key, text in odd.items() if not isinstance(values.get(key), str)}
    stress = values.get("stress")
    if isinstance(stress, np.ndarray) and stress.shape == (3, 3) and (stress != stress.T).any():
        values["stress"] = stress.ravel()
    return values


def is_xyz(path: str, text: str) -> bool:
    """Whether a text begins as an xyz file does.

    The first line is a number of atoms. Unless the name says so, the next one has keys of extended xyz, or the third
    one looks like an atom.

    Args:
        path: the name of the file.
        text: its first lines at least.
    """
    head = [line.split() for line in islice(dropwhile(lambda line: not line.strip(), text.split("\n")), 3)]
    if not head or len(head[0]) != 1 or not (head[0][0].isascii() and head[0][0].isdecimal()):
        return False
    if SUFFIX.search(path) or (len(head) > 1 and SPELLED.search(" ".join(head[1]))):
        return True
    return len(head) == 3 and len(head[2]) >= COLUMNS and head[2][0].capitalize() in (*SYMBOLS[1:], *ISOTOPES)


def complete_xyz(path: str, text: str) -> XyzText:
    """Return the text of an xyz file with every frame between blank lines and with keys as ASE spells them.

    Args:
        path: the file, for messages.
        text: its text.

    Raises:
        InputError: a frame is cut off, a row cannot be an atom, or there is something else where a frame should begin;
            the message names the line, counted from 1.
    """
    lines = text.split("\n")
    frames, changes = [], Counter[str]()
    headers: dict[str, dict[str, Any]] = {}
    if lines[-1] == "":
        lines.pop()
    elif {len(line) for line in lines[-SAME_LENGTH:-1]} == {len(lines[-2])} and len(lines[-1]) < len(lines[-2]):
        changes["the last line is shorter than those before and has no end: the file may be cut off there"] += 1
    for number, start, stop in _frames(path, lines):
        header = _header(lines[start + 1], changes)
        where = f"{path}, line {start + 2}: frame {number} (counted from 0)"
        _check_marks(where, lines[start + 1])
        values = _values(where, header, has_cell=LATTICE.search(lines[start + 1]) is not None)
        rows = lines[start + 2 : stop]
        headers[header.strip()] = values
        columns = _columns(where, values)
        _check_rows(path, number, start + 3, rows, columns, changes)
        frames.append("\n".join([lines[start], header, *rows]))
    notes = tuple(f"{what} ({n} times)" for what, n in changes.items())
    return XyzText("\n".join(frames) + "\n", len(frames), notes, headers)


def fault_in(path: str, text: str, frame: int) -> str | None:
    """Describe the first line of a frame of an xyz file that ASE cannot read; None if no line is wrong by itself."""
    lines = text.split("\n")
    _, start, stop = next(islice(_frames(path, lines), frame, None))
    columns = _columns(path, parse_header(_header(lines[start + 1], Counter())))
    for line, row in enumerate(lines[start + 2 : stop], start + 3):
        if (fault := _fault_of_row(row.split(), columns)) is not None:
            return f"line {line}: {fault}"
    return None


def _fault_of_row(words: Sequence[str], columns: Sequence["Column"]) -> str | None:
    """What is wrong with the words of an atom; None if nothing is."""
    for column in columns:
        for word in words[column.start : column.stop]:
            if not _is_of_type(word, column.type):
                mend = "correct it"
                if column.type == "R" and _is_of_type(plain := re.sub("[dD]", "e", word), "R"):
                    mend = f"write {plain}, because D is an exponent in Fortran only"
                what = "a coordinate" if column.name == "pos" else f"{WORDS[column.type]} of {column.name!r}"
                return f"{word!r} is not {what}: {mend}"
        if column.name == "species":
            symbol = words[column.start].capitalize()
            if symbol in ISOTOPES:
                return f"{symbol!r} is an isotope, and equiforce knows elements only: write 'H'"
            if symbol not in SYMBOLS:
                return f"there is no element {words[column.start]!r}: correct the symbol"
    return None


def _is_of_type(word: str, kind: str) -> bool:
    """Whether ASE and everyone else read a word as a value of a type of extended xyz."""
    if kind == "S":
        return True
    if kind == "L":
        return word in ("T", "F", "True", "False")
    try:
        (float if kind == "R" else int)(word)
    except ValueError:
        return False
    return is_plain(word) and (kind == "R" or abs(int(word)) < 2**31)


def _frames(path: str, lines: Sequence[str]) -> Iterator[tuple[int, int, int]]:
    """Yield the number of each frame, the index of its first line, and of the line after its last."""
    number, start = 0, 0
    while start < len(lines):
        if not (line := lines[start].strip()):
            start += 1
            continue
        if not (line.isascii() and line.isdecimal() and len(line) <= LONGEST_COUNT):
            raise InputError(
                f"{path}, line {start + 1}: frame {number} (counted from 0) should begin here with its number of "
                f"atoms, but the line is {line[:60]!r}: correct the number of the frame before, or remove the line"
            )
        stop = start + 2 + int(line)
        if stop > len(lines):
            raise InputError(
                f"{path}, line {start + 1}: frame {number} (counted from 0) has {line} atoms, but the file ends after "
                f"{max(0, len(lines) - start - 2)} of them: complete or remove the frame"
            )
        yield number, start, stop
        number, start = number + 1, stop


def _header(line: str, changes: Counter[str]) -> str:
    """Return the comment line of a frame with keys as ASE spells them, and without keys that have no value."""
    if "=" not in line:
        return line
    line = EMPTY.sub("", line)
    quoted = QUOTED.findall(line)
    line = QUOTED.sub("\0", line)  # texts may contain anything
    for key in WITHOUT_VALUE.findall(line):
        changes[f"ignored the key {key!r}, which has no value"] += 1
    line = WITHOUT_VALUE.sub("", line)
    for found in SPELLED.findall(line):
        if found != (right := KEYS[found.lower()]):
            changes[f"read {found!r} as {right!r}"] += 1
    line = SPELLED.sub(lambda match: KEYS[match[0].lower()], line)
    for match in MATRIX.finditer(line):
        key, value = match[1], quoted[line[: match.start()].count("\0")] if match[3] == "\0" else match[3]
        if len(re.split(r"[\s,]+", value.strip("\"'{}[] "))) != N_MATRIX:
            line = line[: match.start()] + line[match.start() :].replace(key, key.capitalize(), 1)
            changes[f"read {key!r} as {key.capitalize()!r}, because it is not nine numbers"] += 1
    head, *rest = line.split("\0")
    return head + "".join(text + after for text, after in zip(quoted, rest, strict=True))


def _check_marks(where: str, header: str) -> None:
    """Raise InputError if a text of a header takes in the keys behind it, or a number does not belong to a key."""
    if "=" not in header:
        return
    rest = QUOTED.sub("\0", header.replace('\\"', ""))
    if (mark := re.search(r"[\"'{\[]", rest)) is not None and not _is_apostrophe(rest, mark.start()):
        what = "quotation mark" if mark[0] in "\"'" else "bracket"
        raise InputError(
            f"{where} has a {what} {mark[0]} in its header that is not closed, so that a text takes in the keys behind "
            "it: close it"
        )
    if (lost := WITHOUT_KEY.search(rest)) is not None:
        raise InputError(
            f"{where} has {lost[0]!r} in its header, of which only the first number belongs to the key: write several "
            "numbers in quotation marks, and one number without a space"
        )


def _is_apostrophe(header: str, at: int) -> bool:
    """Whether a mark is within a word of a comment, and no key behind it has a meaning."""
    keys = re.findall(r"([^\s=]+)\s*=", header[at:])
    in_word = header[at] == "'" and header[at - 1 : at].isalnum()
    return in_word and not any(key.lower() in KEYS or key in LABELS for key in keys)


def _values(where: str, header: str, *, has_cell: bool) -> dict[str, Any]:
    """The values of a header; raises InputError if one of them is given twice, or is no cell or periodicity."""
    try:
        values = parse_header(header)
    except Exception as error:  # of several types, as IndexError for a sign of equality without a key
        item = re.search(r"info item (\w+)", str(error))
        why = f"the value of {item[1]!r} is not nine numbers" if item else "of one of its values"
        raise InputError(f"{where} has a header that cannot be read because {why}: correct it") from error
    if has_cell and "Lattice" not in values:
        raise InputError(
            f"{where} has a cell in its header that cannot be read there: write it as "
            'Lattice="ax ay az bx by bz cx cy cz", and correct the key before it'
        )
    given: dict[str, str] = {}
    for key, text in PAIR.findall(header):
        if given.setdefault(key, text) != text:
            raise InputError(f"{where} has {key!r} twice in its header, as {given[key]} and {text}: remove one of them")
    texts = {key for key, value in values.items() if isinstance(value, str)}
    numbers = [text for key, text in given.items() if key not in texts]
    if space := OTHER_SPACE.search("".join([QUOTED.sub("", header), *numbers] if given else numbers)):
        raise InputError(f"{where} has the character {space[0]!r} in a number of its header: correct the number")
    for key in ("Lattice", "stress", "virial"):
        if key in values and not isinstance(values[key], np.ndarray):
            raise InputError(f"{where} has {key}={values[key]!r}, which is not nine numbers: correct it")
    _check_periodicity(where, values, given)
    return values


def _check_periodicity(where: str, values: Mapping[str, Any], given: Mapping[str, str]) -> None:
    if lost := {"T", "F"} & (values.keys() - given.keys()):
        raise InputError(f'{where} has a {min(lost)} without a key in its header: write pbc="T T F" in quotation marks')
    if "pbc" in values:
        pbc = np.asarray(values["pbc"])
        if pbc.shape not in ((), (3,)) or pbc.dtype.kind not in "bi" or not np.isin(pbc, (0, 1)).all():
            raise InputError(f'{where} has pbc={given.get("pbc")}: write pbc="T T T", with T or F for each direction')


class Column(NamedTuple):
    """Neighbouring columns of the rows of a frame, which hold one property."""

    name: str
    type: str  # R, I, S or L, as in extended xyz
    start: int
    stop: int


def _columns(where: str, values: Mapping[str, Any]) -> list[Column]:
    """The columns that a header names, or those of a plain xyz file; raises InputError if they cannot be meant."""
    text = values.get("Properties", "species:S:1:pos:R:3")
    if not isinstance(text, str) or PROPERTY.fullmatch(text) is None or text.endswith(":"):
        raise InputError(
            f"{where} has Properties={text}, which is not a list of name:type:number of columns with the types R, I, S "
            "and L: write Properties=species:S:1:pos:R:3 and what follows"
        )
    words, at = text.split(":"), 0
    columns: list[Column] = []
    for name, kind, count in zip(words[::3], words[1::3], words[2::3], strict=True):
        columns.append(Column(name, kind, at, at := at + int(count)))
    names = [RENAMED.get(column.name, column.name) for column in columns]
    if "positions" not in names or not {"symbols", "numbers"} & set(names):
        raise InputError(
            f"{where} needs the columns of elements and positions in its header: write Properties=species:S:1:pos:R:3 "
            "and what follows"
        )
    if len(set(names)) < len(names):
        twice = next(column.name for i, column in enumerate(columns) if names.index(names[i]) < i)
        raise InputError(f"{where} has the column {twice!r} twice in its header: rename one of them")
    for column in columns:
        n, kinds = column.stop - column.start, TYPES.get(column.name, column.type)
        if column.type not in kinds or (column.name in TYPES and n != (3 if column.name == "pos" else 1)):
            right = f"{column.name}:{kinds[0]}:{3 if column.name == 'pos' else 1}"
            raise InputError(f"{where} has {column.name}:{column.type}:{n} in its header: write {right}")
    both = [column.name for column in columns if column.name in LABELS and column.name in values]
    if both:
        raise InputError(f"{where} has {both[0]!r} in its header and as a column: rename one of them")
    return columns


def _check_rows(
    path: str, number: int, first: int, rows: Sequence[str], columns: Sequence[Column], changes: Counter[str]
) -> None:
    """Raise InputError if a row is no atom, or has a word that Python reads as a number and others do not.

    Args:
        path: the file, for messages.
        number: of the frame.
        first: the line of the first row, counted from 1.
        rows: the rows of the frame.
        columns: what the header names.
        changes: what is not used is noted here.
    """
    lengths = [len(row.split()) for row in rows]
    used = columns[-1].stop
    where = f"frame {number} (counted from 0)"
    if rows and min(lengths) < max(used, COLUMNS):
        line = next(i for i, n in enumerate(lengths) if n < max(used, COLUMNS))
        if lengths[line] >= COLUMNS:
            raise InputError(
                f"{path}, {where}, line {first + line}: the header names {used} columns, but the atom has "
                f"{lengths[line]}: correct it"
            )
        raise InputError(
            f"{path}, line {first + line}: {where} needs an atom here, with an element and three coordinates, but the "
            f"line is {rows[line].strip()[:60]!r}: correct it, or the number of atoms of the frame"
        )
    if rows and max(lengths) > used:
        if min(lengths) < max(lengths) and used > COLUMNS:
            line = lengths.index(max(lengths))
            raise InputError(
                f"{path}, {where}, line {first + line}: the atom has {max(lengths)} words, and others have "
                f"{min(lengths)}: remove what does not belong to it"
            )
        changes[
            f"did not use the columns after the first {used} of each atom, which the header does not name: if they are "
            "forces, write Properties=species:S:1:pos:R:3:forces:R:3 there"
        ] += 1
    names = {column.name for column in columns}
    with_both = {"species", "Z"} <= names
    # the words are looked at one by one only if there may be something to find
    if not with_both and all(column.type != "L" for column in columns) and is_plain("".join(rows)):
        return
    at = {column.name: column.start for column in columns}
    for line, row in enumerate(rows, first):
        words = row.split()
        fault = _fault_of_row(words, columns)
        if space := OTHER_SPACE.search(row):
            fault = f"there is the character {space[0]!r} between numbers: write a space, or the digit that is lost"
        if fault is None and with_both and SYMBOLS.index(words[at["species"]].capitalize()) != int(words[at["Z"]]):
            fault = f"the element is {words[at['species']]!r} and the atomic number {words[at['Z']]}: correct one"
        if fault is not None:
            raise InputError(f"{path}, {where}, line {line}: {fault}")
