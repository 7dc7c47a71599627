"""What the names of values in files mean: labels, look-alikes of labels, cells, and what is well known and harmless.

A name alone proves little, so the shape of the values counts too.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from equiforce.ase_atoms import GROUPS
from equiforce.data.frames import PREFIXES, VIRIAL
from equiforce.quantities import ENERGY, FORCES, STRESS

FREE_ENERGY = tuple(prefix + "free_energy" for prefix in PREFIXES)
# energies of other kinds, and numbers about energies
NOT_TOTAL = re.compile(
    r"formation|kinetic|fermi|hull|gap|homo|lumo|field|binding|cohesive|atomi[sz]ation|adsorption|interaction|reaction|"
    r"relative|zero_?point|zpe|dispers|solvation|surface|barrier|activation|strain|defect|exchange|correlation|"
    r"nuclear_rep|ewald|entropy|weight|cutoff|encut|converg|error|std|variance|_var$|uncert|unit|per_atom|_id$|predict|"
    r"correction$|shift|offset|level|window|index"
)
NOT_FORCES = re.compile(r"weight|mask|unit|error|std|variance|_var$|uncert|predict|spin|mag")


class Look(NamedTuple):
    """What a label looks like; names are in lower case, with underscores."""

    name: re.Pattern[str]
    excluded: re.Pattern[str]  # parts of names of something else
    has_shape: Callable[[tuple[int, ...], int], bool]  # of the values, with the number of atoms


def _is_number(shape: tuple[int, ...], _: int) -> bool:
    return shape in ((), (1,))


def _is_vector_of_each_atom(shape: tuple[int, ...], n_atoms: int) -> bool:
    return shape == (n_atoms, 3)


def _is_tensor(shape: tuple[int, ...], _: int) -> bool:
    return shape in ((6,), (9,), (3, 3))


LOOKS = {
    ENERGY.name: Look(
        re.compile(r"energ|toten|^e\d?$|^u_?0?$|^e_|^e?_?tot$|^e(tot|pot|scf|dft|ref)|^(dft|ref|qm|xtb|scf|tot)_?e$"),
        NOT_TOTAL,
        _is_number,
    ),
    FORCES.name: Look(
        re.compile(r"forc|frc|grad|^f$|^f_|^dedr|^de_dr|^fxyz|^(dft|ref|qm|xtb|scf)_?f$"),
        NOT_FORCES,
        _is_vector_of_each_atom,
    ),
    STRESS.name: Look(re.compile(r"stress|^sigma$|pressure_tensor"), NOT_FORCES, _is_tensor),
    VIRIAL: Look(re.compile(r"virial|^vir$"), NOT_FORCES, _is_tensor),
}
GRADIENT = re.compile(r"grad|dedr|de_dr")
CELL = re.compile(
    r"((unit|super|sim|simulation|periodic|primitive)_?)?(cell|box|lattice|latt)"
    r"(_?(vectors?|vecs?|matrix|tensor|par(ameter)?s?|lengths?|size|dimensions?|abc|abg|bounds))?|h_?matrix"
)
COMPONENT = re.compile(r"(f|force|forces|frc)_?([xyz])|([xyz])_?(force)")  # of the forces, in a column of its own
LENGTHS = ("a", "b", "c")  # of a cell, one under each name
HARMLESS = frozenset({*GROUPS, "momenta", "velocities", "masses", "move_mask"})


def plain(name: str) -> str:
    """A name in lower case, with underscores."""
    return re.sub(r"[\s./()\[\]-]+", "_", name.strip().lower()).strip("_")


def numbers_in(value: Any) -> np.ndarray | None:
    """A value as an array of numbers; None if it is something else."""
    words = re.split(r"[\s,;]+", value.strip()) if isinstance(value, str) else value
    try:
        array = np.asarray(words)
        return None if array.dtype == bool or array.size == 0 else np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError):
        return None


def may_be(label: str, name: str, values: Iterable[tuple[Any, int]]) -> bool:
    """Whether the values under a name may be a label, by the name and by their shapes.

    Args:
        label: the name of a quantity, or ``virial``.
        name: the name in the file.
        values: the value and the number of atoms of each frame that has it.
    """
    look, short = LOOKS.get(label), plain(name)
    if look is None or not look.name.search(short) or look.excluded.search(short):
        return False
    arrays = [(None if isinstance(value, str) else numbers_in(value), n_atoms) for value, n_atoms in values]
    return all(array is not None and look.has_shape(array.shape, n_atoms) for array, n_atoms in arrays)


def force_columns(names: Iterable[str]) -> list[str]:
    """The three names that look like the components of the forces; empty if there are not three of them."""
    found = {match[2] or match[3]: name for name in names if (match := COMPONENT.fullmatch(plain(name)))}
    return [found[axis] for axis in "xyz"] if len(found) == 3 else []


def may_be_cell(name: str, value: Any) -> bool:
    """Whether a value may be the cell of its frame, by its name and its shape."""
    array = numbers_in(value)
    return CELL.fullmatch(plain(name)) is not None and array is not None and array.size in (1, 3, 6, 9)


def is_harmless(name: str) -> bool:
    """Whether a value is so well known that it need not be named when it is not used."""
    return plain(name) in HARMLESS
