"""The state of a simulation on disk, from which it continues as if it had never stopped."""

import hashlib
import io
import json
import operator
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import dict2constraint
from ase.io.jsonio import decode, encode

from equiforce import model_file
from equiforce.calculators.md.options import MDOptions
from equiforce.calculators.md.output import THERMO, TRAJECTORY
from equiforce.errors import InputError
from equiforce.potential import Potential
from equiforce.storage.folders import refuse_unbegun

STATE = "state.npz"
FORMAT = 2  # format 1 had no checksum
CHECKSUM = "checksum"
START = "start/"  # prefix of the arrays of the start structure
HEADER = {
    "step": int,
    "options": dict,
    "model": str,
    "fingerprint": str,
    "device": str,
    "generator": dict,
    "integrator": dict,
    "averages": dict,
    "watch": dict,
    "sizes": dict,
    "start": str,
}


@dataclass(frozen=True, kw_only=True)
class State:
    """The state of a simulation after a step.

    Args:
        header: plain values for JSON, with the names of ``HEADER``.
        start: the structure at the start, with its constraints.
        positions: in Å [atoms 3].
        momenta: in ASE's unit, √(eV·u) [atoms 3].
        cell: in Å [3 3].
        listed: positions in Å [atoms 3] and cell [3 3] at the latest neighbour search. A search at the same place gives
            the same list, in which sums have the same order.
        has_checksum: whether the file from which it was read had a checksum; those of 0.1.0 had none.
    """

    header: Mapping[str, Any]
    start: Atoms
    positions: np.ndarray
    momenta: np.ndarray
    cell: np.ndarray
    listed: tuple[np.ndarray, np.ndarray]
    has_checksum: bool = True

    @property
    def options(self) -> MDOptions:
        """The options of the run."""
        return MDOptions(**{entry.name: self.header["options"][entry.name] for entry in fields(MDOptions)})

    def to_bytes(self) -> bytes:
        """The content of the file, with a checksum over all of it."""
        arrays: dict[str, Any] = {
            START + name: values for name, values in self.start.arrays.items() if values.dtype != object
        }
        arrays |= {"positions": self.positions, "momenta": self.momenta, "cell": self.cell}
        arrays |= {"listed_positions": self.listed[0], "listed_cell": self.listed[1]}
        arrays["header"] = np.array(json.dumps({"format": FORMAT, **self.header, "start": _described(self.start)}))
        buffer = io.BytesIO()
        arrays[CHECKSUM] = np.array(_checksum(arrays))
        np.savez(buffer, **arrays)
        return buffer.getvalue()


def read_state(folder: Path) -> State:
    """Read the state of the run in a folder; nothing in the file is executed.

    Raises:
        InputError: there is no run in the folder, a newer equiforce wrote it, or the file is damaged.
    """
    path = folder / STATE
    refuse_unbegun(folder)
    if not path.is_file():
        raise InputError(
            f"there is no run to continue in {folder}, because it has no {STATE}: name the folder of an equiforce md "
            "run, or start a new run from a structure"
        )
    try:
        return _state_in(path)
    except InputError:
        raise
    # what numpy, zipfile, JSON and ASE raise where bytes are not what they should be
    except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError,
            NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:  # fmt: skip
        raise InputError(damaged(folder)) from error


def damaged(folder: Path) -> str:
    """Say that the state in a folder is damaged, and what to do."""
    return f"{folder / STATE} is damaged: start a new run from the last frame of the trajectory in {folder}"


def _state_in(path: Path) -> State:
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in file.zip.infolist()):  # it never is
            raise ValueError("it is compressed")
        arrays = {name: file[name] for name in file.files}
    found = arrays.pop(CHECKSUM, None)
    header = json.loads(str(arrays["header"]))
    if header["format"] > FORMAT:
        raise InputError(f"{path} was written by a newer equiforce: upgrade equiforce")
    if header["format"] > 1 and str(found) != _checksum(arrays):
        raise ValueError("the checksum is another one")
    if wrong := [name for name, kind in HEADER.items() if type(header[name]) is not kind]:
        raise ValueError(wrong)
    _check_numbers(header)
    start = _rebuilt(header["start"], arrays)
    for name, n_rows in (("positions", None), ("momenta", None), ("cell", 3), ("listed_positions", None),
                         ("listed_cell", 3)):  # fmt: skip
        values = arrays[name]
        if values.dtype != np.float64 or values.shape != (n_rows or len(start), 3) or not np.isfinite(values).all():
            raise ValueError(name)
    return State(
        header=header,
        start=start,
        positions=arrays["positions"],
        momenta=arrays["momenta"],
        cell=arrays["cell"],
        listed=(arrays["listed_positions"], arrays["listed_cell"]),
        has_checksum=header["format"] > 1,
    )


def _check_numbers(header: Mapping[str, Any]) -> None:
    """Raise ValueError if a number of the header is out of its range."""
    options, sizes = header["options"], header["sizes"]
    for entry in fields(MDOptions):
        value = options[entry.name]  # one that is missing is no default
        for bound, limit in entry.metadata["bounds"].items():
            if value is not None and not getattr(operator, bound)(value, limit):
                raise ValueError(entry.name)
    if not 0 <= header["step"] <= options["steps"]:
        raise ValueError("step")
    if set(sizes) != {TRAJECTORY, THERMO} or not all(type(size) is int and size >= 0 for size in sizes.values()):
        raise ValueError("sizes")


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    """A hash of the names, types, shapes and values of arrays."""
    digest = hashlib.sha256()
    for name, values in sorted(arrays.items()):
        digest.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def _described(start: Atoms) -> str:
    constraints = [constraint.todict() for constraint in start.constraints]
    info = {name: value for name, value in start.info.items() if _is_plain(value)}
    text: str = encode({"cell": start.cell.array, "pbc": start.pbc, "info": info, "constraints": constraints})
    return text


def _is_plain(value: Any) -> bool:
    """Whether JSON can hold a value; a frame in a file has no other values either."""
    try:
        encode(value)
    except TypeError:
        return False
    return True


def _rebuilt(described: str, arrays: Mapping[str, np.ndarray]) -> Atoms:
    facts = decode(described)
    own = {name.removeprefix(START): values for name, values in arrays.items() if name.startswith(START)}
    atoms = Atoms(numbers=own["numbers"], positions=own["positions"], cell=facts["cell"], pbc=facts["pbc"])
    for name, values in own.items():
        atoms.set_array(name, values)
    atoms.info = facts["info"]
    atoms.set_constraint([dict2constraint(constraint) for constraint in facts["constraints"]])
    return atoms


def fingerprint(potential: Potential) -> str:
    """A hash of the description and the weights of a potential."""
    digest = hashlib.sha256(json.dumps(model_file.describe(potential), sort_keys=True).encode())
    for name, values in sorted(potential.state_dict().items()):
        digest.update(name.encode())
        digest.update(values.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
