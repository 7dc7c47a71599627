"""Reads data files of LAMMPS.

ASE's reader takes a mass of 1 u for a dummy, and leaves out rows of atoms beyond the number in the header.

The element of an atom type is the word behind its mass, as ASE and many programs write it, its type label, or the
element of that mass.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from ase import Atoms, units
from ase.data import atomic_masses

from equiforce.data.source import Source
from equiforce.elements import SYMBOLS
from equiforce.errors import InputError

STYLES = {  # of atoms: the columns of the type and of the first coordinate
    "atomic": (1, 2),
    "charge": (1, 3),
    "full": (2, 4),
    "molecular": (2, 3),
    "angle": (2, 3),
    "bond": (2, 3),
}
STYLE_OF_COLUMNS = {5: "atomic", 8: "atomic", 6: "charge", 9: "charge", 7: "full", 10: "full"}
N_AXES = 3
TIME = {"metal": 1000 * units.fs, "real": units.fs}  # in both, lengths are Å and masses u
SECTION = re.compile(
    r"(Atoms|Velocities|Masses|Ellipsoids|Lines|Triangles|Bodies|Bonds|Angles|Dihedrals|Impropers"
    r"|[A-Z][\w/ ]* Coeffs|(Atom|Bond|Angle|Dihedral|Improper) Type Labels)"
)
USED = ("Atoms", "Velocities", "Masses", "Atom Type Labels")
HEADER = re.compile(r"(.+?)\s+(atoms|xlo\s+xhi|ylo\s+yhi|zlo\s+zhi|xy\s+xz\s+yz|[abc]vec)")
ROUNDING = 0.5  # u; masses are often written as whole numbers
OF_HYDROGEN = (2.0141, 3.0160)  # u; deuterium and tritium, whose masses are nearer to helium's or are no element's
ISOTOPE = 0.01  # u


class _Row(NamedTuple):
    line: int
    words: list[str]
    comment: str


def read_lammps_data(source: Source, notes: list[str]) -> Atoms:
    """Read the atoms of a data file of LAMMPS, periodic in all directions.

    Args:
        source: the file.
        notes: clauses for the user are appended here.

    Raises:
        InputError: the file is no such file, its elements or the style of its atoms are not known, or a line is wrong.
    """
    with source.open_text() as lines:
        first = next(lines, "")
        header, sections, style = _split(source, lines)
    unit = found[1] if (found := re.search(r"units\s*=\s*(\w+)", first)) else "metal"
    if unit not in TIME:
        raise InputError(f"{source.path} has the units {unit!r} of LAMMPS: write it with units metal (Å, ps, u)")
    if not (rows := sections["Atoms"]):
        raise InputError(f"{source.path} has no section Atoms: give a data file with atoms")
    n_atoms = int(_numbers(source, header["atoms"], 1)[0]) if "atoms" in header else len(rows)
    if n_atoms != len(rows):
        raise InputError(
            f"{source.path} says {n_atoms} atoms, but its section Atoms has {len(rows)} rows: complete it, because it "
            "is cut off or damaged"
        )
    cell = _cell(source, header)
    type_column, first_column = _columns(source, rows[0], style)
    numbers = [_numbers(source, row, first_column + N_AXES, type_column)[first_column:] for row in rows]
    if len({len(row) for row in numbers}) > 1:
        raise InputError(f"{source.path}: the rows of the section Atoms have several lengths: correct them")
    table = np.array(numbers)
    positions = table[:, :N_AXES] + table[:, N_AXES:] @ cell if table.shape[1] > N_AXES else table
    ids = [row.words[0] for row in rows]
    if len(set(ids)) < len(ids):
        raise InputError(f"{source.path}: two atoms have the same ID: number the atoms from 1 on")
    masses, elements = _types(source, sections, notes)
    types = [row.words[type_column] for row in rows]
    unknown = next((kind for kind in types if kind not in elements or (masses and kind not in masses)), None)
    if unknown is not None:
        raise InputError(
            f"{source.path} does not say the element or the mass of atom type {unknown}: give both in the section "
            f"Masses, as in '{unknown} 12.011 # C'"
        )
    atoms = Atoms([elements[kind] for kind in types], positions, cell=cell, pbc=True)
    if masses:
        atoms.set_masses([masses[kind] for kind in types])
    if velocities := {row.words[0]: _numbers(source, row, 1 + N_AXES)[1:] for row in sections["Velocities"]}:
        if velocities.keys() != set(ids):
            raise InputError(f"{source.path}: the sections Atoms and Velocities have different atoms: correct one")
        atoms.set_velocities(np.array([velocities[atom] for atom in ids]) / TIME[unit])
    notes.append("a data file of LAMMPS does not say which directions repeat: all are taken as periodic")
    return atoms[np.argsort([float(atom) for atom in ids], kind="stable")]


def _split(source: Source, lines: Iterator[str]) -> tuple[dict[str, _Row], dict[str, list[_Row]], str]:
    """Return the rows of the header by their keywords, those of the sections, and the style of the atoms."""
    header: dict[str, _Row] = {}
    sections: dict[str, list[_Row]] = {name: [] for name in USED}
    section, style = "", ""
    for number, line in enumerate(lines, 2):
        text, _, comment = (part.strip() for part in line.partition("#"))
        if not text:
            continue
        if SECTION.fullmatch(text):
            section = " ".join(text.split())
            if sections.get(section):
                raise InputError(f"{source.path}, line {number}: a second section {section}: remove one")
            style = comment.split(" ")[0] if section == "Atoms" else style
        elif section in USED:
            sections[section].append(_Row(number, text.split(), comment))
        elif not section and (found := HEADER.fullmatch(text)):
            header[" ".join(found[2].split())] = _Row(number, found[1].split(), comment)
    return header, sections, style


def _numbers(source: Source, row: _Row, at_least: int, text_column: int = -1) -> list[float]:
    """The numbers of a row, 0 for a column that may hold a text."""
    try:
        if len(row.words) < at_least:
            raise ValueError
        return [0.0 if i == text_column else _number(word) for i, word in enumerate(row.words)]
    except ValueError:
        raise InputError(
            f"{source.path}, line {row.line}: {' '.join(row.words)[:60]!r} is not a row of {at_least} numbers or more: "
            "correct it, or complete the file"
        ) from None


def _number(word: str) -> float:
    if "_" in word:  # which float() ignores
        raise ValueError
    return float(word)


def _cell(source: Source, header: dict[str, _Row]) -> np.ndarray:
    """The vectors of the box."""
    if "avec" in header:
        vectors = [header[name] for name in ("avec", "bvec", "cvec") if name in header]
        rows = [_numbers(source, vector, N_AXES)[:N_AXES] for vector in vectors]
        if len(rows) < N_AXES:
            raise InputError(f"{source.path} has avec, but not all of bvec and cvec: complete its header")
        return np.array(rows)
    cell = np.zeros((3, 3))
    for axis, name in enumerate("xyz"):
        if (row := header.get(f"{name}lo {name}hi")) is None:
            raise InputError(f"{source.path} has no line '{name}lo {name}hi': complete its header")
        low, high = _numbers(source, row, 2)[:2]
        cell[axis, axis] = high - low
    if "xy xz yz" in header:
        cell[[1, 2, 2], [0, 0, 1]] = _numbers(source, header["xy xz yz"], N_AXES)[:N_AXES]
    return cell


def _columns(source: Source, row: _Row, style: str) -> tuple[int, int]:
    """The columns of the type and of the first coordinate."""
    n_columns = len(row.words)
    guess = STYLE_OF_COLUMNS.get(n_columns, "")
    # a number of a molecule and a type are whole numbers, and a charge is written with a point
    if guess == "charge" and "." not in row.words[2]:
        guess = ""
    columns = STYLES.get(style or guess)
    if columns is None or n_columns - columns[1] not in (N_AXES, 2 * N_AXES):
        raise InputError(
            f"{source.path}, line {row.line}: an atom has {n_columns} columns, which "
            f"{f'does not fit the style {style!r}' if style else 'fits no style or several'}: write 'Atoms # STYLE' "
            f"above the atoms, where STYLE is one of {', '.join(STYLES)}"
        )
    return columns


def _types(
    source: Source, sections: dict[str, list[_Row]], notes: list[str]
) -> tuple[dict[str, float], dict[str, str]]:
    """The mass and the element of each atom type, under its number and its label."""
    labels = {row.words[0]: row.words[-1] for row in sections["Atom Type Labels"]}
    masses = {row.words[0]: _numbers(source, row, 2, 0)[1] for row in sections["Masses"]}
    elements, guessed = {kind: label for kind, label in labels.items() if label in SYMBOLS[1:]}, []
    for row in sections["Masses"]:
        kind, mass, said = row.words[0], masses[row.words[0]], row.comment.split(" ")[0]
        said = said if said in SYMBOLS[1:] else elements.get(kind, kind if kind in SYMBOLS[1:] else "")
        fits = _element_of(mass)
        if not (said or fits):
            raise InputError(
                f"{source.path}, line {row.line}: {mass:g} u is the mass of no element: write the element of atom type "
                f"{kind} behind it, as in '{kind} {mass:g} # C'"
            )
        if said and abs(mass - atomic_masses[SYMBOLS.index(said)]) > max(ROUNDING, 0.1 * mass) and fits != said:
            notes.append(f"line {row.line}: atom type {kind} is {said}, whose mass is not {mass:g} u: is it right?")
        guessed += [] if said else [f"{kind} = {fits}"]
        elements[kind] = said or fits
    if guessed:
        notes.append(f"the elements of the atom types are those of their masses: {', '.join(guessed)}")
    for kind, label in labels.items():  # rows of atoms may hold either
        for one, other in ((kind, label), (label, kind)):
            elements |= {other: elements[one]} if one in elements else {}
            masses |= {other: masses[one]} if one in masses else {}
    return masses, elements


def _element_of(mass: float) -> str:
    """The element with this mass in u; empty if there is none."""
    if any(abs(mass - heavy) < ISOTOPE for heavy in OF_HYDROGEN):
        return "H"
    differences = np.abs(atomic_masses[1:] - mass)
    nearest = int(np.nan_to_num(differences, nan=np.inf).argmin())
    return SYMBOLS[1 + nearest] if differences[nearest] < ROUNDING else ""
