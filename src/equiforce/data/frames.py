"""What files contain: frames in the units of the file, with all values that may be labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from equiforce.quantities import QUANTITIES

VIRIAL = "virial"  # minus the stress times the volume; some files give it instead of the stress
PREFIXES = ("", "REF_", "ref_", "dft_", "DFT_")  # of the keys of labels in files


@dataclass(frozen=True, slots=True)
class Frame:
    """One structure of a file, with its values that may be labels, by their keys in the file."""

    atomic_numbers: Int[np.ndarray, " atoms"]
    positions: Float[np.ndarray, "atoms 3"]
    cell: Float[np.ndarray, "3 3"]
    pbc: Bool[np.ndarray, "3"]
    values: Mapping[str, Any]
    group: str


@dataclass(frozen=True, slots=True)
class Contents:
    """The frames of one file, with the keys and units that its format implies."""

    path: str
    frames: list[Frame]
    keys: Mapping[str, tuple[str, ...]]  # the possible keys of each label
    energy_unit: str = "eV"  # empty if the file does not state it and its format does not imply it
    length_unit: str = "Å"
    notes: tuple[str, ...] = ()  # what was changed or left out when the file was read
    numbers: tuple[int, ...] | None = None  # of the frames in the file, where some of them were left out
    format: str = ""  # the name of the format, as ASE names it

    def frame_name(self, number: int) -> str:
        """The name of a frame in messages; frames are counted from 0."""
        return f"{self.path}, frame {number if self.numbers is None else self.numbers[number]}"


def label_names() -> list[str]:
    """The names of all labels that a file may have: each quantity, and the virial."""
    return [*(quantity.name for quantity in QUANTITIES), VIRIAL]


def usual_keys() -> dict[str, tuple[str, ...]]:
    """The possible keys of each label in files whose format does not fix them."""
    keys = {quantity.name: quantity.keys for quantity in QUANTITIES} | {VIRIAL: ("virial", "virials")}
    return {label: tuple(prefix + key for prefix in PREFIXES for key in keys[label]) for label in label_names()}
