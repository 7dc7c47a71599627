"""The stress of a frame in eV/Å³, from the stress or the virial of its file in any order of components."""

import numpy as np
from jaxtyping import Float

from equiforce.ase_atoms import full_matrix
from equiforce.data.frames import VIRIAL, Contents, Frame
from equiforce.data.values import Keys, Scales, fault, key_in, values_of
from equiforce.errors import InputError
from equiforce.quantities import ENERGY, STRESS
from equiforce.structure import Structure

ROUNDING = 1e-3  # of the largest component; a larger asymmetry is said
ASYMMETRY = 0.05  # of the largest component; a larger asymmetry of a stress cannot be rounding
SMALL = 6e-5  # eV/Å³, 0.1 kbar; a smaller asymmetry is that of a stress that is zero but for noise
# for each order of six components, the places of ASE's xx yy zz yz xz xy
ORDERS = {"ase": (0, 1, 2, 3, 4, 5), "vasp": (0, 1, 2, 4, 5, 3), "lammps": (0, 1, 2, 5, 4, 3)}
COMPONENTS = {"ase": "xx yy zz yz xz xy", "vasp": "xx yy zz xy yz zx", "lammps": "xx yy zz xy xz yz"}
SHEAR = 1e-6  # eV/Å³; smaller off-diagonal components are zero


def full_stress(values: Float[np.ndarray, "6"], order: str = "ase") -> Float[np.ndarray, "3 3"]:
    """Make the symmetric matrix from six components in an order of ``ORDERS``."""
    return full_matrix(np.asarray(values)[list(ORDERS[order])])


def in_all_orders(stress: Float[np.ndarray, "3 3"], order: str) -> dict[str, Float[np.ndarray, "3 3"]]:
    """Read the six components of a stress again, in each order.

    Args:
        stress: a stress whose six components were read in ``order``.
        order: one of ``ORDERS``.

    Returns:
        For each order, the stress if the six components of the file are in that order.
    """
    components = np.empty(6)
    components[list(ORDERS[order])] = [stress[i, j] for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))]
    return {name: full_stress(components, name) for name in ORDERS}


def has_volume(frame: Frame) -> bool:
    """Whether a frame has a volume and therefore may have a stress."""
    return bool(np.any(frame.pbc) and np.isfinite(frame.cell).all() and np.linalg.det(frame.cell) != 0)


def stress_key_of(frame: Frame, keys: Keys) -> tuple[str, str] | None:
    """The label, stress or else virial, and the key from which the stress of a frame is taken; None if it has none."""
    for label in (STRESS.name, VIRIAL):
        if (key := key_in(frame, keys.get(label, ()))) is not None:
            return label, key
    return None


def has_six_components(frame: Frame, keys: Keys) -> bool:
    """Whether the stress or virial of a frame is given by six components, not by a matrix."""
    found = stress_key_of(frame, keys)
    return found is not None and np.shape(frame.values[found[1]]) == (6,)


def is_sheared(structure: Structure) -> bool:
    """Whether a structure has a stress with off-diagonal components."""
    return structure.stress is not None and bool(np.abs(np.triu(structure.stress, 1)).max() > SHEAR)


def stress_of(contents: Contents, number: int, keys: Keys, scales: Scales) -> Float[np.ndarray, "3 3"] | None:
    """The stress of a frame in eV/Å³, positive under tension, from its stress or, if it has none, from its virial.

    A stress of zero in a frame without a volume counts as missing.
    """
    frame, where = contents.frames[number], contents.frame_name(number)
    label, key = stress_key_of(frame, keys) or (STRESS.name, None)
    values = values_of(frame, key, where)
    if values is None:
        return None
    if values.shape not in ((6,), (9,), (3, 3)):
        raise fault(
            where,
            f"{key!r} has the shape {values.shape}, but a {label} is (3, 3), (9,) or, as "
            f"{COMPONENTS[scales.stress_order]}, (6,)",
        )
    if not np.isfinite(values).all():
        raise fault(where, f"{key!r} is {values.tolist()}: leave the key out of a frame whose {label} is not known")
    matrix = full_stress(values, scales.stress_order) if values.shape == (6,) else values.reshape(3, 3)
    scale = _scale(frame, label, scales)
    if _asymmetry(matrix, scale) > ASYMMETRY:
        first, second = np.unravel_index(np.abs(matrix - matrix.T).argmax(), (3, 3))
        raise fault(
            where,
            f"{key!r} is not symmetric: its component {'xyz'[first]}{'xyz'[second]} is {matrix[first, second]:.6g} and "
            f"{'xyz'[second]}{'xyz'[first]} is {matrix[second, first]:.6g}: correct it, or leave all of them out with "
            f"--set data.ignore={key}",
        )
    if not has_volume(frame):
        if not matrix.any():
            return None
        raise fault(
            where,
            f"{key!r} is given, but there is no volume and therefore no {label} without a periodic cell: correct the "
            "cell, or leave out each stress of a frame without a volume with --set data.stress_without_volume=ignore",
        )
    return 0.5 * (matrix + matrix.T) * scale


def _scale(frame: Frame, label: str, scales: Scales) -> float:
    """The factor from a stress or virial of a frame to a stress in eV/Å³; 0 for a virial without a volume."""
    if label == STRESS.name:
        return scales.of[STRESS]
    return -scales.of[ENERGY] / (abs(np.linalg.det(frame.cell)) * scales.length**3) if has_volume(frame) else 0.0


def _asymmetry(matrix: Float[np.ndarray, "3 3"], scale: float) -> float:
    """The largest asymmetry of a matrix, relative to its largest component; 0 if it is small in eV/Å³."""
    asymmetry, size = float(np.abs(matrix - matrix.T).max()), float(np.abs(matrix).max())
    return asymmetry / size if abs(scale) * asymmetry > SMALL else 0.0


def asymmetries(contents: Contents, keys: Keys, scales: Scales) -> list[str]:
    """A note about stresses that are a little asymmetric, more than by rounding; their symmetric part is taken."""
    found: list[tuple[float, str]] = []
    for number, frame in enumerate(contents.frames):
        label, key = stress_key_of(frame, keys) or (STRESS.name, None)
        values = values_of(frame, key, contents.frame_name(number))
        if values is None or values.size != 9:
            continue
        if (asymmetry := _asymmetry(values.reshape(3, 3), _scale(frame, label, scales))) > ROUNDING:
            found.append((asymmetry, contents.frame_name(number)))
    if not found:
        return []
    largest, where = max(found)
    return [
        f"the stresses of {len(found)} of {len(contents.frames)} frames are not symmetric, by up to {largest:.2%} of "
        f"their largest component ({where}): their symmetric part is taken"
    ]


def check_virials(contents: Contents, keys: Keys, scales: Scales) -> None:
    """Raise InputError if stress and virial of a frame contradict each other."""
    stress_keys, virial_keys = ({label: keys.get(label, ())} for label in (STRESS.name, VIRIAL))
    for number, frame in enumerate(contents.frames):
        names = [key_in(frame, *labels.values()) for labels in (stress_keys, virial_keys)]
        if None in names or not has_volume(frame):
            continue
        stress = stress_of(contents, number, stress_keys, scales)
        from_virial = stress_of(contents, number, virial_keys, scales)
        if stress is None or from_virial is None or np.allclose(stress, from_virial, rtol=1e-3, atol=1e-5):
            continue
        sides = (has_six_components(frame, stress_keys), has_six_components(frame, virial_keys))
        if sides[0] != sides[1]:
            six, other = (stress, from_virial) if sides[0] else (from_virial, stress)
            for order, matrix in in_all_orders(six, scales.stress_order).items():
                if np.allclose(matrix, other, rtol=1e-3, atol=1e-5):
                    raise InputError(
                        f"{contents.frame_name(number)}: {names[0]!r} and {names[1]!r} are the same stress only if the "
                        f"six components are {COMPONENTS[order]}: add --set data.stress_order={order}"
                    )
        raise InputError(
            f"{contents.frame_name(number)}: {names[0]!r} is not −virial/volume of {names[1]!r}: "
            f"choose one with --stress-key {names[0]} or --virial-key {names[1]}"
        )
