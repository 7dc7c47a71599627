"""The state of a simulation on disk, from which it continues as if it had never stopped."""

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import dict2constraint
from ase.io.jsonio import decode, encode

from equiforce import model_file
from equiforce.errors import InputError
from equiforce.potential import Potential

STATE = "state.npz"
FORMAT = 1
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
    """

    header: Mapping[str, Any]
    start: Atoms
    positions: np.ndarray
    momenta: np.ndarray
    cell: np.ndarray
    listed: tuple[np.ndarray, np.ndarray]

    def write(self, folder: Path) -> None:
        """Write the state into a folder; a reader, or a crash, finds the old state or the new one."""
        arrays: dict[str, Any] = {
            START + name: values for name, values in self.start.arrays.items() if values.dtype != object
        }
        arrays |= {"positions": self.positions, "momenta": self.momenta, "cell": self.cell}
        arrays |= {"listed_positions": self.listed[0], "listed_cell": self.listed[1]}
        header = {"format": FORMAT, **self.header, "start": _described(self.start)}
        buffer = io.BytesIO()
        np.savez(buffer, header=np.array(json.dumps(header)), **arrays)
        write_safely(folder / STATE, buffer.getvalue())


def write_safely(path: Path, content: bytes) -> None:
    """Replace a file by new content that is complete on the disk before the old one goes."""
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def read_state(folder: Path) -> State:
    """Read the state of the run in a folder; nothing in the file is executed.

    Raises:
        InputError: there is no run in the folder, a newer equiforce wrote it, or the file is damaged.
    """
    path = folder / STATE
    if not path.is_file():
        raise InputError(
            f"there is no run to continue in {folder}, because it has no {STATE}: name the folder of an equiforce md "
            "run, or start a new run from a structure"
        )
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(str(arrays.pop("header")))
        if header["format"] > FORMAT:
            raise InputError(f"{path} was written by a newer equiforce: upgrade equiforce")
        if wrong := [name for name, kind in HEADER.items() if not isinstance(header[name], kind)]:
            raise ValueError(wrong)
        start = _rebuilt(header["start"], arrays)
        listed = arrays["listed_positions"], arrays["listed_cell"]
        if arrays["positions"].shape != (len(start), 3) or arrays["momenta"].shape != (len(start), 3):
            raise ValueError("positions")
        return State(
            header=header,
            start=start,
            positions=arrays["positions"],
            momenta=arrays["momenta"],
            cell=arrays["cell"],
            listed=listed,
        )
    except InputError:
        raise
    except (OSError, EOFError, ValueError, LookupError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} is damaged: start a new run from the last frame of the trajectory in {folder}"
        ) from error


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
