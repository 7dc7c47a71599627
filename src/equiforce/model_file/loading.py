"""Opening a model file: the potential that it describes, with its weights, compared with its references."""

import copy
import warnings
from pathlib import Path
from typing import Any

import torch

from equiforce.elements import atomic_number
from equiforce.errors import InputError, MissingPackageError
from equiforce.model_file.container import FIRST_WITH_CHECKSUM, Content, read
from equiforce.model_file.description import DTYPES, RENAMED, build_potential, fits
from equiforce.model_file.header import checked, path_of
from equiforce.model_file.references import TOLERANCE, TOLERANCE_OF_FORMAT_1, verify
from equiforce.potential import Potential

LONGEST_REASON = 300  # characters of an error that a message quotes


def load(path: Path | str, device: str | torch.device = "cpu", dtype: str | None = None) -> Potential:
    """Load the potential of a model file and check that it reproduces the reference values in the file.

    Args:
        path: the ``.eqf`` file, or the folder of a run.
        device: the device to load the potential onto.
        dtype: ``float32`` or ``float64`` for the weights; None keeps that of the file.

    Returns:
        The potential in evaluation mode. Its weights do not require grad; ``potential.train().requires_grad_()``
        makes all of them trainable.

    Raises:
        InputError: the file cannot be read or is damaged, its model cannot be built, torch cannot compute on the
            device, there is no such dtype, or this machine computes other values than the one that saved the file.

    Warns:
        UserWarning: an older equiforce wrote the file, without a checksum.
    """
    path, device = path_of(path), _usable(device)
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"weights cannot be of dtype {dtype!r}: choose {' or '.join(DTYPES)}")
    content = read(path, weights=True)
    header = checked(content.header, path)
    potential = _potential(header, content, path)
    saved = potential.dtype
    if header["format"] < FIRST_WITH_CHECKSUM:
        warnings.warn(
            f"{path} has no checksum because an older equiforce wrote it (file format {header['format']}), so damage "
            "is noticed only if it changes the reference structures: train again to have one",
            stacklevel=2,
        )
    try:
        potential.model.to(saved if dtype is None else DTYPES[dtype])
        potential.to(device).eval().requires_grad_(False)
        tolerance = max(TOLERANCE[saved], TOLERANCE[potential.dtype])
        if header["format"] == 1:
            tolerance = max(tolerance, TOLERANCE_OF_FORMAT_1)
        verify(potential, header, tolerance, str(path))
    except MissingPackageError as error:
        raise MissingPackageError(f"{path}: {error}") from error
    except InputError as error:
        raise error if str(error).startswith(str(path)) else InputError(f"{path}: {error}") from error
    except Exception as error:
        raise InputError(
            f"{path}: its reference structures cannot be computed here ({_reason(error)}): free memory, or report this "
            "with the versions of torch and equiforce"
        ) from error
    return potential


def _potential(header: dict[str, Any], content: Content, path: Path) -> Potential:
    """Build the potential of a file and set its weights, after their number and shapes have been compared."""
    description, sealed = header["potential"], header["format"] >= FIRST_WITH_CHECKSUM
    prefixes = {old: new for old, new in RENAMED.items() if old in content.slots}
    try:
        has_its_weights = fits(
            description, {prefixes.get(name, name): slot for name, slot in content.slots.items()}, dtypes=sealed
        )
        potential = build_potential(description) if has_its_weights else None
    except MissingPackageError as error:
        raise MissingPackageError(f"{path}: {error}") from error
    except Exception as error:
        raise InputError(
            f"{path} describes a model that this equiforce cannot build ({_reason(error)}): upgrade equiforce, or "
            "train again"
        ) from error
    if potential is not None:
        weights = content.weights
        try:
            potential.load_state_dict(weights)
        except RuntimeError:
            has_its_weights = False
        else:
            has_its_weights = _are_right(potential, description) or not sealed
    if potential is None or not has_its_weights:
        raise InputError(
            f"{path} is damaged because its weights do not fit the model that it describes: train or copy it again"
        )
    return potential


def _are_right(potential: Potential, description: dict[str, Any]) -> bool:
    """Whether all weights are finite, and those that the description repeats are the same there."""
    if not all(bool(value.isfinite().all()) for value in potential.state_dict().values()):
        return False
    charges = [float(atomic_number(symbol)) for symbol in potential.species]
    same = [getattr(potential, name).tolist() == description[name] for name in ("atomic_energies", "scale")]
    return all(same) and (potential.zbl is None or potential.zbl.charges.tolist() == charges)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST_REASON else text[:LONGEST_REASON] + "..."


def load_or_take(model: Path | str | Potential, device: str | torch.device | None = None) -> Potential:
    """Return a potential on a device, from a model file or from a potential.

    Args:
        model: the path of a model file or of a run folder, or a potential.
        device: the device; None keeps the device of a potential, and loads a file onto the CPU.

    Returns:
        The given potential itself if it is on the device; otherwise a copy, so that the given one does not move.

    Raises:
        InputError: the file cannot be loaded (see :func:`load`), or torch cannot compute on the device.
    """
    if not isinstance(model, Potential):
        return load(model, "cpu" if device is None else device)
    if device is None or (place := _usable(device)) == model.device:
        return model
    return copy.deepcopy(model).to(place)


def _usable(device: str | torch.device) -> torch.device:
    """Check that torch can compute on a device of this machine; raises InputError otherwise."""
    try:
        return torch.zeros(1, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"torch cannot compute on '{device}' here: give cpu, or cuda if there is a GPU") from error
