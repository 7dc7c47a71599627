"""Numbers of atoms that a file cannot hold: ASE's readers would take all memory, or read for ever."""

from collections.abc import Iterable

from equiforce.errors import InputError

POSCAR, XDATCAR, DUMP = "vasp", "vasp-xdatcar", "lammps-dump-text"
COUNTED = (POSCAR, XDATCAR, DUMP)  # the formats that need this check
IN_POSCAR = (6, 7)  # lines, counted from 1, that may hold the number of atoms of each element
LONGEST = 100  # digits


def check_counts(path: str, form: str, lines: Iterable[str]) -> None:
    """Check that a file with a line for each atom does not say that it has more atoms than lines.

    Args:
        path: the file, for messages.
        form: the name of its format in ASE, one of ``COUNTED``.
        lines: the lines of the file.

    Raises:
        InputError: the file says that it has more atoms than lines.
    """
    largest, where, number, is_next = 0, 0, 0, False
    for number, line in enumerate(lines, 1):
        if is_next or (form != DUMP and number in IN_POSCAR):
            words = line.split()
            counts = [int(word) for word in words if word.isdecimal() and len(word) < LONGEST]
            if len(counts) == len(words) and sum(counts) > largest:
                largest, where = sum(counts), number
        is_next = form == DUMP and "ITEM: NUMBER OF ATOMS" in line
    if largest > number:
        raise InputError(
            f"{path}, line {where}: there are {largest} atoms, but the file has {number} lines: correct the number "
            "or copy the file again"
        )
