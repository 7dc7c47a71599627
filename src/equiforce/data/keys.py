"""The choice of the keys under which the labels of a file are found."""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from equiforce.data.frames import VIRIAL, Contents, label_names
from equiforce.data.values import Scales, stress_of, values_of
from equiforce.errors import InputError
from equiforce.quantities import ENERGY, FORCES, STRESS

NOTHING = "none"  # the value of a key option that leaves the label out
# names, in lower case, that programs give to labels and that can mean something else
LOOKALIKES = {
    ENERGY.name: (
        "e", "energies", "total_energy", "totenergy", "tot_energy", "totalenergy", "potential_energy", "free_energy",
        "e_tot", "etot", "dft_total_energy", "scf_energy", "u0", "mp2_energy", "corrected_total_energy", "e0",
    ),
    FORCES.name: ("f", "frc", "dft_force", "force_on_atoms"),
    STRESS.name: ("stresses", "stress_tensor", "dft_stresses"),
    VIRIAL: ("virial_tensor", "virial_stress"),
}  # fmt: skip
GRADIENTS = ("gradient", "gradients", "grad", "energy_gradient", "dedr")


def choose_keys(contents: Contents, asked: Mapping[str, str | None], scales: Scales) -> dict[str, str]:
    """Choose the key of each label that the file has.

    Args:
        contents: the file.
        asked: the key that the user gave for each label; None if it should be found, ``none`` to leave the label out.
        scales: the units, by which stress and virial are compared.

    Raises:
        InputError: two keys for one label differ, or a key looks like a label that was not found.
    """
    present = Counter(name for frame in contents.frames for name, value in frame.values.items() if value is not None)
    keys: dict[str, str] = {}
    for label in label_names():
        given = asked[label]
        candidates = [name for name in (contents.keys[label] if given is None else (given,)) if present[name]]
        if given is None and not candidates:  # in another case, such as Energy or FORCES
            known = {name.lower() for name in contents.keys[label]}
            candidates = [name for name in present if name.lower() in known]
        for other in candidates[1:]:
            _check_same(contents, label, candidates[0], other)
        if candidates and given != NOTHING:
            keys[label] = candidates[0]
    _refuse_lookalikes(contents, asked, keys, present)
    if "stress" in keys and "virial" in keys:
        if asked[VIRIAL] is not None:
            del keys["stress"]
        elif asked[STRESS.name] is None:
            _check_virial(contents, keys, scales)
        keys.pop("virial" if "stress" in keys else "stress", None)
    return keys


def _refuse_lookalikes(
    contents: Contents, asked: Mapping[str, str | None], keys: Mapping[str, str], present: Mapping[str, int]
) -> None:
    """Raise InputError if a label was not found and a key with another name looks like it."""
    missing = [label for label in label_names() if label not in keys and asked[label] is None]
    if {STRESS.name, VIRIAL} & keys.keys():
        missing = [label for label in missing if label not in (STRESS.name, VIRIAL)]
    for label in missing:
        for name in (name for name in present if name not in keys.values()):
            plain, where = name.lower().replace("-", "_"), f"{contents.path}: {name!r} ({present[name]} frames)"
            if plain in LOOKALIKES.get(label, ()):
                raise InputError(
                    f"{where} looks like the {label}, but may be something else: use it with --{label}-key {name}, or "
                    f"ignore it with --{label}-key none"
                )
            if label == FORCES.name and plain in GRADIENTS:
                raise InputError(
                    f"{where} looks like the gradient of the energy, which is minus the forces: store forces, or "
                    "ignore it with --forces-key none"
                )


def _check_same(contents: Contents, label: str, one: str, other: str) -> None:
    """Raise InputError if two keys for one label have different values."""
    for number, frame in enumerate(contents.frames):
        a, b = (values_of(frame, key, contents.frame_name(number)) for key in (one, other))
        same = a is b if a is None or b is None else a.shape == b.shape and np.allclose(a, b, rtol=1e-7, atol=1e-6)
        if not same:
            raise InputError(
                f"{contents.frame_name(number)}: both {one!r} and {other!r} may be the {label}, but they differ: "
                f"choose one with --{label}-key {one} or --{label}-key {other}"
            )


def _check_virial(contents: Contents, keys: dict[str, str], scales: Scales) -> None:
    """Raise InputError if stress and virial of a frame contradict each other."""
    for number in range(len(contents.frames)):
        stress = stress_of(contents, number, {"stress": keys["stress"]}, scales)
        from_virial = stress_of(contents, number, {"virial": keys["virial"]}, scales)
        if stress is None or from_virial is None:
            same = stress is from_virial
        else:
            same = np.allclose(stress, from_virial, rtol=1e-3, atol=1e-5)
        if not same:
            raise InputError(
                f"{contents.frame_name(number)}: {keys['stress']!r} is not −virial/volume of {keys['virial']!r}: "
                f"choose one with --stress-key {keys['stress']} or --virial-key {keys['virial']}"
            )
