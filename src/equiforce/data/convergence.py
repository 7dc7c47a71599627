"""Frames whose own values say that their electrons did not converge, such as ``scf_converged=F`` in extended xyz."""

import re
from dataclasses import replace
from typing import Any

import numpy as np

from equiforce.data.frames import Contents
from equiforce.data.names import plain
from equiforce.errors import InputError

PART = r"(is|scf|dft|electronic|electronically|electrons)_?"
CONVERGED = re.compile(rf"({PART})*converged(_{PART[:-2]})?|scf_?convergence")
UNCONVERGED = re.compile(rf"({PART})*(un|not_|non_?)converged(_{PART[:-2]})?")
NO, YES = ("f", "false", "no", "0", "0.0"), ("t", "true", "yes", "1", "1.0")
FEW = 5  # frames that are named


def without_unconverged(contents: Contents, *, keep: bool) -> Contents:
    """Leave out the frames of a file that are marked as not converged.

    Args:
        contents: the file.
        keep: whether to keep them, with a note.

    Returns:
        The file without these frames, with a note that names them.

    Raises:
        InputError: no frame is left.
    """
    found = [(number, key) for number in range(len(contents.frames)) if (key := _mark(contents.frames[number].values))]
    if not found:
        return contents
    numbers = contents.numbers or tuple(range(len(contents.frames)))
    named = ", ".join(str(numbers[number]) for number, _ in found[:FEW])
    more = f" and {len(found) - FEW} more" if len(found) > FEW else ""
    which = f"frame{'s' if len(found) > 1 else ''} {named}{more}, whose {found[0][1]!r} says that the electrons did not"
    if keep:
        return replace(contents, notes=(*contents.notes, f"kept {which} converge"))
    bad = {number for number, _ in found}
    left = [number for number in range(len(contents.frames)) if number not in bad]
    if not left:
        raise InputError(
            f"{contents.path}: {found[0][1]!r} says of every frame that its electrons did not converge: converge them, "
            "or keep them with --set data.unconverged=keep"
        )
    return replace(
        contents,
        frames=[contents.frames[number] for number in left],
        numbers=tuple(numbers[number] for number in left),
        notes=(*contents.notes, f"left out {which} converge; --set data.unconverged=keep keeps them"),
    )


def _mark(values: Any) -> str | None:
    """The key that says that a frame is not converged; None if there is none."""
    for key, value in values.items():
        name = plain(key)
        if np.size(value) != 1:
            continue
        word = str(np.asarray(value).reshape(-1)[0]).strip().lower()
        if (CONVERGED.fullmatch(name) and word in NO) or (UNCONVERGED.fullmatch(name) and word in YES):
            return str(key)
    return None
