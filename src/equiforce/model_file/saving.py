"""Writing a model file."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from equiforce.errors import InputError
from equiforce.model_file.container import FORMAT, content_of, packed
from equiforce.model_file.description import DTYPES, describe
from equiforce.model_file.header import checked
from equiforce.model_file.references import references_for, stored_units
from equiforce.potential import Potential
from equiforce.storage.whole import write_bytes
from equiforce.structure import Structure


def save(
    path: Path | str, potential: Potential, references: Sequence[Structure], about: Mapping[str, Any] | None = None
) -> None:
    """Write a model file whole or not at all: a simultaneous reader of ``path`` gets the old file or the new one.

    Args:
        path: the file to write; its name usually ends in ``.eqf``.
        potential: the potential to save.
        references: real structures, or none. Small pieces of them are stored together with their predictions, which
            :func:`load` computes again to check the potential. Clusters in which every pair of elements occurs are
            always added.
        about: statistics, training and errors, which ``equiforce info`` shows; numbers that are not finite are stored
            as null.

    Raises:
        InputError: a structure contains an element that the potential does not know, a prediction is not finite, the
            weights are neither float32 nor float64, the file could not be read again, or it cannot be written.
    """
    if potential.dtype not in DTYPES.values():
        raise InputError(f"{path}: weights of {potential.dtype} cannot be stored: convert them with potential.float()")
    try:
        stored = references_for(potential, references)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    header = {
        "format": FORMAT,
        "potential": describe(potential),
        "units": stored_units(),
        "references": stored,
        "about": _finite(about or {}),
    }
    weights = {name: value.detach().cpu().contiguous() for name, value in potential.state_dict().items()}
    data = packed(header, weights)
    try:
        checked(content_of(io.BytesIO(data), path, weights=False).header, path)
    except InputError as error:
        raise InputError(f"the model is not saved, because its file could not be opened again: {error}") from error
    write_bytes(path, data)


def _finite(value: Any) -> Any:
    """Plain values with null instead of numbers that are not finite."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
